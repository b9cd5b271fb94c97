"""SimCLR: two changes of one picture are the views (Chen et al., ICML 2020)."""

from __future__ import annotations

from collections.abc import Callable, Iterator

import numpy as np
import torch
from torch import Tensor

from mfd_cli.base.arrays import Doubles, Ints
from mfd_cli.contig.batches import CHANGE, FIXED, Batch, fixed_batches
from mfd_cli.contig.core.augment import changed
from mfd_cli.contig.core.views import nt_xent
from mfd_cli.contig.objectives.objective import joined
from mfd_cli.contig.run import VIEWS
from mfd_cli.contig.step import Aim, change_of, changed_pictures
from mfd_cli.contig.trainer import Trainer

Pair = tuple[Tensor, Tensor, Tensor]
"""Standardised pictures (persons, 3, side, side) of both views, and the families (persons,)."""


class TwoChanges:
    """Two changes of one picture, told apart from those of other persons' pictures."""

    def check(self, trainer: Trainer) -> None:
        """Do nothing: a cohort has pictures."""

    def loss(self, trainer: Trainer, batch: Batch) -> Aim:
        """Return the loss of two changes of each picture."""
        one, other = (changed_pictures(trainer, batch.pictures, again) for again in (0, 1))
        return view_loss(trainer, (one, other, batch.family), torch.cat([batch.images, batch.images]))

    def skills(self, trainer: Trainer) -> tuple[Doubles, Ints]:
        """Return the skill on each validation person, of two changes that are always the same."""
        return view_skills(trainer, self._fixed)

    def _fixed(self, trainer: Trainer) -> Iterator[Pair]:
        """Two changes of the fixed batches, drawn once for a seed."""
        config, change = trainer.config, change_of(trainer.config)
        batches = fixed_batches(config, trainer.validation, config.train.validation_persons)
        for number, (_, batch) in enumerate(batches):
            pictures = trainer.average.standardised(batch.pictures.to(trainer.device))
            seeds = ([config.train.seed, number, CHANGE, FIXED, again] for again in (0, 1))
            one, other = (changed(pictures, change, np.random.default_rng(seed)) for seed in seeds)
            yield one, other, batch.family


def view_loss(trainer: Trainer, pair: Pair, images: Tensor) -> Aim:
    """Return the mean loss of a batch of pairs, and of guessing; `images` are the training images (rows) of the first views and
    then of the second."""
    one, other, family = pair
    model = trainer.model
    # Both views go through the network as one batch: its norms then see them together.
    feature = model.feature(torch.cat([one, other]))
    first, second = model.image_projection(VIEWS, feature).chunk(2)
    found = nt_xent(first, second, family.to(trainer.device), trainer.config.objective.view_temperature)
    return Aim(found.loss.mean(), found.chance.mean(), feature, images)


@torch.no_grad()
def view_skills(trainer: Trainer, pairs: Callable[[Trainer], Iterator[Pair]]) -> tuple[Doubles, Ints]:
    """Return the skill on each validation person of whom there is a pair (persons,), and their families."""
    model, skills, families = trainer.average, list[Doubles](), list[Ints]()
    for one, other, family in pairs(trainer):
        z = model.image_projection(VIEWS, model.feature(torch.cat([one, other])))
        first, second = z.chunk(2)
        found = nt_xent(first, second, family.to(trainer.device), trainer.config.objective.view_temperature)
        skills.append((found.chance - found.loss.double()).cpu().numpy())
        families.append(family.numpy())
    return joined(skills, families)
