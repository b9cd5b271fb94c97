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
    `shuffled`, another person's."""

    cohort: Cohort
    share: Share
    row: Ints

    @classmethod
    def of(cls, cohort: Cohort, split: str, shuffled: int | None = None) -> PairedSplit:
        """Return a split of a cohort; with a seed in `shuffled`, its pairs are permuted."""
        share = cohort.share(split)
        count = len(share.persons)
        row = np.arange(count) if shuffled is None else np.random.default_rng([shuffled, SHUFFLE]).permutation(count)
        return cls(cohort, share, row)

    def __len__(self) -> int:
        return len(self.share.persons)


@dataclass(frozen=True)
class Batch:
    """Some persons with an image each: `pictures` bytes (persons, 3, side, side), standardised `inputs` of each modality
    (persons, inputs), the `family` (persons,) that relatives share, and `images` (persons,), rows of the split's images."""

    pictures: Tensor
    inputs: dict[str, Tensor]
    family: Tensor
    images: Ints


def batch_of(people: PairedSplit, persons: Ints, images: Ints) -> Batch:
    """Return these persons (rows of the split), each with the image at the same place of `images`."""
    share = people.share
    inputs = {
        name: torch.from_numpy(people.cohort.dosages(share, name, people.row[persons]))
        for name in people.cohort.columns
    }
    return Batch(torch.from_numpy(share.pictures(images)), inputs, torch.from_numpy(share.family[persons]), images)


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
