"""Supervised: what a table says of persons or images. On planted truth it is the ceiling."""

from __future__ import annotations

import numpy as np
import torch
from torch import Tensor

from mfd_cli.base.arrays import Doubles, Floats, Ints
from mfd_cli.base.errors import ConfigError
from mfd_cli.contig.batches import Batch, fixed_batches
from mfd_cli.contig.core.label_loss import label_loss
from mfd_cli.contig.core.networks import ContigModel
from mfd_cli.contig.core.views import Told
from mfd_cli.contig.objectives.objective import joined
from mfd_cli.contig.run import LABELS
from mfd_cli.contig.step import Aim, changed_pictures
from mfd_cli.contig.trainer import Trainer
from mfd_cli.contig.training_labels import TrainingLabels
from mfd_cli.settings.names import BIOLOGICAL


class Supervised:
    """Labels told from a picture. Images without any are passed over."""

    def check(self, trainer: Trainer) -> None:
        """Raise ConfigError where no validation image has a label."""
        if np.isnan(_labels(trainer).validation).all():
            raise ConfigError(
                "no validation person has a label, so that nothing would say when to stop",
                hint="objective.labels needs rows of training and validation persons",
            )

    def loss(self, trainer: Trainer, batch: Batch) -> Aim:
        """Return the mean over the images that have a label."""
        feature = trainer.model.feature(changed_pictures(trainer, batch.pictures))
        found, known = _told(trainer, trainer.model, feature, batch, _labels(trainer).training)
        count = known.sum().clamp_min(1)
        loss, chance = ((each * known).sum() / count for each in (found.loss, found.chance))
        return Aim(loss, chance, feature, batch.images)

    @torch.no_grad()
    def skills(self, trainer: Trainer) -> tuple[Doubles, Ints]:
        """Return the skill on each validation person whose image has a label."""
        model, config, skills, families = trainer.average, trainer.config, list[Doubles](), list[Ints]()
        for _, batch in fixed_batches(config, trainer.validation, config.train.validation_persons):
            feature = model.feature(model.standardised(batch.pictures.to(trainer.device)))
            found, known = _told(trainer, model, feature, batch, _labels(trainer).validation)
            skills.append((found.chance - found.loss)[known].double().cpu().numpy())
            families.append(batch.family.numpy()[known.cpu().numpy()])
        return joined(skills, families)


def _labels(trainer: Trainer) -> TrainingLabels:
    """The labels that the training was set up with."""
    assert trainer.labels is not None
    return trainer.labels


def _told(trainer: Trainer, model: ContigModel, feature: Tensor, batch: Batch, values: Floats) -> tuple[Told, Tensor]:
    """The loss of each image of a batch, and which have a label."""
    of_batch = torch.from_numpy(values[batch.images.numpy()]).to(feature.device)
    shares = [column.shares for column in _labels(trainer).columns]
    return label_loss(model.heads[LABELS](model.parts(feature)[BIOLOGICAL]), of_batch, shares)
