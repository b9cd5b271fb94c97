"""Batches of persons with an image each: which, in what order, and what is left out at random."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass

import numpy as np
import torch
from torch import Tensor

from mfd_cli.base.arrays import Ints
from mfd_cli.contig.config import ContigConfig
from mfd_cli.contig.data.cohort import Cohort, Share

ORDER, IMAGE, CHANGE, DROP, FIXED, SHUFFLE, EYE = range(1, 8)
"""What tells the random numbers of one purpose from those of another, of the same seed."""


@dataclass(frozen=True)
class PairedSplit:
    """A split as batches are taken of it. `row` (persons,) says whose genetic data go with whose images: in the control
    `shuffled`, another person's, who has the same modalities."""

    cohort: Cohort
    share: Share
    row: Ints

    @classmethod
    def of(cls, cohort: Cohort, split: str, shuffled: int | None = None, join: str | None = None) -> PairedSplit:
        """Return a split of a cohort; with a seed in `shuffled`, its pairs are permuted.

        With `join` it has only persons with all modalities of the cohort (`inner`), or with any (`outer`).
        """
        share = cohort.share(split)
        if join is not None:
            share = share.only(share.joined(tuple(cohort.columns), join))
        row = np.arange(len(share.persons))
        if shuffled is not None:
            row = _permuted(share, np.random.default_rng([shuffled, SHUFFLE]))
        return cls(cohort, share, row)

    def __len__(self) -> int:
        return len(self.share.persons)


def _permuted(share: Share, rng: np.random.Generator) -> Ints:
    """Another person of a split for each (persons,), among those who have the same modalities."""
    pattern = np.stack(list(share.has.values()), 1)
    row = np.arange(len(pattern))
    for one in np.unique(pattern, axis=0):
        own = np.flatnonzero((pattern == one).all(1))
        row[own] = own[rng.permutation(len(own))]
    return row


@dataclass(frozen=True)
class Batch:
    """Some persons with an image each: `pictures` bytes (persons, 3, side, side), the `family` (persons,) of relatives, and
    which `images` (rows of the split) these are.

    Of each modality the standardised `inputs` (those who have it, inputs), and in `rows` (those who have it,) which of the
    persons they are; None where that is everybody. So nothing that is computed sees the row of somebody who lacks it.
    """

    pictures: Tensor
    inputs: dict[str, Tensor]
    family: Tensor
    rows: dict[str, Tensor | None]
    images: Tensor

    def of(self, name: str, values: Tensor) -> Tensor:
        """Return what those have who have a modality, of values (persons, ...)."""
        rows = self.rows[name]
        return values if rows is None else values[rows.to(values.device)]


def batch_of(people: PairedSplit, persons: Ints, images: Ints) -> Batch:
    """Return these persons (rows of the split), each with the image at the same place of `images`."""
    share, whose = people.share, people.row[persons]
    inputs, rows = dict[str, Tensor](), dict[str, Tensor | None]()
    for name in people.cohort.columns:
        having = np.flatnonzero(share.has[name][whose])
        inputs[name] = torch.from_numpy(people.cohort.inputs(share, name, whose[having]))
        rows[name] = None if len(having) == len(whose) else torch.from_numpy(having)
    pictures, family = torch.from_numpy(share.pictures(images)), torch.from_numpy(share.family[persons])
    return Batch(pictures, inputs, family, rows, torch.from_numpy(images))


def size_of(config: ContigConfig, persons: int) -> int:
    """Return how many persons a batch has: as many as are asked for, or all."""
    return min(config.train.batch_size, persons)


def training_batches(config: ContigConfig, people: PairedSplit, step: int, total: int) -> Iterator[Batch]:
    """Yield the batches from `step` to the end. Each epoch deals the persons anew, each with an image that is drawn anew."""
    size = size_of(config, len(people))
    per_epoch = len(people) // size
    images_of = people.share.images_of()
    counts = np.array([len(rows) for rows in images_of])
    first = np.array([rows[0] for rows in images_of])
    while step < total:
        epoch, done = divmod(step, per_epoch)
        order = np.random.default_rng([config.train.seed, epoch, ORDER]).permutation(len(people))
        drawn = np.random.default_rng([config.train.seed, epoch, IMAGE]).random(len(people))
        images = first + (drawn * counts).astype(np.int64)
        for number in range(done, per_epoch):
            persons = order[number * size : (number + 1) * size]
            yield batch_of(people, persons, images[persons])
            step += 1
            if step == total:
                return


def fixed_batches(config: ContigConfig, people: PairedSplit, most: int) -> Iterator[tuple[Ints, Batch]]:
    """Yield persons of a split (rows) and their batch, at most `most` persons, always the same with the same images."""
    rng = np.random.default_rng([config.train.seed, FIXED])
    chosen = np.sort(rng.permutation(len(people))[:most])
    images = fixed_images(config, people)
    size = size_of(config, len(chosen))
    for low in range(0, len(chosen) - size + 1, size):
        persons = chosen[low : low + size]
        yield persons, batch_of(people, persons, images[persons])


def fixed_images(config: ContigConfig, people: PairedSplit) -> Ints:
    """Return one image of each person (rows of images), drawn once for a seed."""
    drawn = np.random.default_rng([config.train.seed, FIXED, IMAGE]).random(len(people))
    return np.array([rows[int(place * len(rows))] for rows, place in zip(people.share.images_of(), drawn)], np.int64)


def kept_inputs(config: ContigConfig, step: int, name: str, number: int, shape: tuple[int, ...]) -> Tensor | None:
    """Return what the inputs of modality `name`, the `number`-th, are multiplied by in a step; None where all are kept.

    0 for those that it goes without, for the others so much that the mean is 1.
    """
    share = config.modalities[name].dropout
    if not share:
        return None
    rng = np.random.default_rng([config.train.seed, step, DROP, number])
    kept = rng.random(shape, np.float32) >= share
    return torch.from_numpy(kept / np.float32(1 - share))
