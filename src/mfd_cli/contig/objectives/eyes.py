"""SimCLR on eyes: the two eyes of a person are the views. Where both exist, this is the rival that knows who is who."""

from __future__ import annotations

from collections.abc import Iterator

import numpy as np
import torch
from torch import Tensor

from mfd_cli.base.arrays import Bools, Doubles, Ints
from mfd_cli.base.errors import ConfigError
from mfd_cli.contig.batches import EYE, FIXED, Batch, PairedSplit, fixed_batches
from mfd_cli.contig.objectives.views import Pair, view_loss, view_skills
from mfd_cli.contig.step import Aim, changed_pictures
from mfd_cli.contig.trainer import Trainer


class TwoEyes:
    """An image of each eye of a person, told apart from those of other persons. Who has no image of the other eye is passed
    over."""

    def check(self, trainer: Trainer) -> None:
        """Raise ConfigError where persons of fewer than two families have an image of both eyes."""
        for name, people in (("train", trainer.training), ("validation", trainer.validation)):
            share = people.share
            both = np.unique(share.images.owner[other_eyes(people, np.zeros(len(share.images.owner)))[1]])
            if len(np.unique(share.family[both])) < 2:
                raise ConfigError(
                    f"objective.kind is simclr-eyes, and {len(both):,} of the {len(share.persons):,} {name} persons have an "
                    "image of each eye",
                    hint='the column eye of the manifest says which eye an image is of; objective.kind = "simclr" does '
                    "without",
                )

    def loss(self, trainer: Trainer, batch: Batch) -> Aim:
        """Return the loss of the persons of a batch who have both eyes."""
        drawn = np.random.default_rng([trainer.config.train.seed, trainer.step, EYE]).random(len(batch.images))
        (one, other, family), images = _paired(trainer.training, batch, drawn)
        if not len(family):
            model = trainer.model
            nothing = torch.stack([parameter.sum() for parameter in model.parameters()]).sum() * 0.0
            return Aim(nothing, nothing.detach(), nothing.expand(0, model.features), images)
        return view_loss(
            trainer, (changed_pictures(trainer, one), changed_pictures(trainer, other, again=1), family), images
        )

    def skills(self, trainer: Trainer) -> tuple[Doubles, Ints]:
        """Return the skill on each validation person who has both eyes, of pictures as they are."""
        return view_skills(trainer, _fixed)


def _fixed(trainer: Trainer) -> Iterator[Pair]:
    """The two eyes of the persons of the fixed batches, always of the same images."""
    config, model = trainer.config, trainer.average
    batches = fixed_batches(config, trainer.validation, config.train.validation_persons)
    for number, (_, batch) in enumerate(batches):
        drawn = np.random.default_rng([config.train.seed, number, EYE, FIXED]).random(len(batch.images))
        (one, other, family), _ = _paired(trainer.validation, batch, drawn)
        if len(family):
            yield model.standardised(one.to(trainer.device)), model.standardised(other.to(trainer.device)), family


def _paired(people: PairedSplit, batch: Batch, drawn: Doubles) -> tuple[Pair, Tensor]:
    """The pictures of a batch, as bytes, beside one of the other eye, of those who have one; and which images these are, first
    those of the batch."""
    partner, known = other_eyes(people, drawn, batch.images.numpy())
    kept, other = torch.from_numpy(known), people.share.pictures(partner[known])
    images = torch.cat([batch.images[kept], torch.from_numpy(partner[known])])
    return (batch.pictures[kept], torch.from_numpy(other), batch.family[kept]), images


def other_eyes(people: PairedSplit, drawn: Doubles, images: Ints | None = None) -> tuple[Ints, Bools]:
    """Return for each of some images (default: all) one of the same person's other eye (images,), and whether there is one.

    `drawn` (images,) from 0 to 1 says which, where there are several.
    """
    share = people.share
    images = np.arange(len(share.images.owner)) if images is None else images
    eye = np.array([{"left": 1, "right": 2}.get(name, 0) for name in share.images.eye], np.int64)
    owner = share.images.owner
    order = np.lexsort((np.arange(len(owner)), eye, owner))
    key = owner[order] * 3 + eye[order]
    wanted = owner[images] * 3 + (3 - eye[images])
    low, high = np.searchsorted(key, wanted, "left"), np.searchsorted(key, wanted, "right")
    known = (eye[images] > 0) & (high > low)
    place = np.minimum(low + (drawn * (high - low)).astype(np.int64), len(order) - 1)
    return order[place], known
