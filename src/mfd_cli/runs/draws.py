"""Which stretches of the genome a training reads, in which order: a function of the seed and the epoch alone."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from functools import cached_property
from typing import NamedTuple

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from mfd_cli.base.arrays import Bools, Doubles, Ints
from mfd_cli.dataset.bins import Bins
from mfd_cli.genome.grid import BIN, evenly

NO_BIN = -1
"""In the place of a bin that has no labels: it is read with its stretch and nothing is asked of it."""
BY_PEAKS = 0.5
"""The share of stretches that are drawn by their peaks where a training draws so; the others come as they lie on the genome, so
that no weight is above 2."""


class Draw(NamedTuple):
    """One training batch. `rows` (stretches, bins) are indexes of labelled bins, or NO_BIN; each stretch is moved by `shift`
    (stretches,) bp and read backwards where `reverse` (stretches,) is set. `weight` (stretches,) float32 is what the loss of
    each counts for, 1 on average, or None where all count alike."""

    rows: Tensor
    shift: Tensor
    reverse: Tensor
    weight: Tensor | None = None


@dataclass(frozen=True)
class Tiling:
    """Labelled bins in genome order as stretches of `size` neighbours: `contig` and `number` (start / 128), (bins,) each.

    The stretches tile every contig from an offset on. One in which no bin has labels is not read. Where `occupied` (bins,) is
    given, stretches are drawn by how many of their bins it marks, and weigh as much less as they are drawn more often.
    """

    contig: NDArray[np.int32]
    number: Ints
    size: int = 1
    occupied: Bools | None = None

    @classmethod
    def of(cls, bins: Bins, size: int = 1, occupied: Bools | None = None) -> Tiling:
        """Return the tiling of the bins of a split."""
        return cls(bins.contig, bins.start // BIN, size, occupied)

    def __len__(self) -> int:
        """Return the bins that have labels."""
        return len(self.number)

    @cached_property
    def fewest(self) -> int:
        """How many stretches there are at least, whatever the offset: what every epoch has."""
        return min(int(self._owner(offset)[-1]) + 1 for offset in range(self.size)) if len(self) else 0

    def rows(self, offset: int = 0) -> Ints:
        """Return the stretches (stretches, size) as indexes of labelled bins, NO_BIN where a place has none."""
        owner = self._owner(offset)
        rows = np.full((owner[-1] + 1 if len(owner) else 0, self.size), NO_BIN)
        rows[owner, (self.number + offset) % self.size] = np.arange(len(self))
        return rows

    def _owner(self, offset: int) -> Ints:
        """The stretch of every bin, counted along the genome."""
        if self.size == 1:
            return np.arange(len(self))
        tile = (self.number + offset) // self.size
        new = (np.diff(tile) != 0) | (np.diff(self.contig) != 0)
        return np.concatenate([[0], np.cumsum(new)])[: len(self)]

    def epoch(self, per_step: int, seed: int, epoch: int, shift: int, reverse: bool) -> Iterator[Draw]:
        """Yield the batches of one epoch, of `per_step` stretches each: a function of these numbers alone.

        The rest of the epoch, fewer than that, is left out. Another epoch leaves out others and cuts the genome elsewhere, and
        no step sees a batch so small that its statistics are noise.
        """
        rng = np.random.default_rng([seed, epoch])
        rows = self.rows(int(rng.integers(self.size)) if self.size > 1 else 0)
        order = rng.permutation(len(rows))
        weights: Doubles | None = None
        if self.occupied is not None:
            drawn, weights = by_peaks(np.where(rows == NO_BIN, False, self.occupied[rows]).sum(1), rng)
            order, weights = drawn[order], weights[order]
        shifts = rng.integers(-shift, shift, size=len(rows), endpoint=True)
        strands = rng.random(len(rows)) < 0.5 if reverse else np.zeros(len(rows), bool)
        for low in range(0, self.fewest - per_step + 1, per_step):
            part = slice(low, low + per_step)
            weight = None if weights is None else torch.from_numpy(weights[part].astype(np.float32))
            chosen, shift_of, strand = (
                torch.from_numpy(values) for values in (rows[order[part]], shifts[part], strands[part])
            )
            yield Draw(chosen, shift_of, strand, weight)

    def in_order(self, bins: int) -> Iterator[Tensor]:
        """Yield all stretches once, as they lie on the genome, about so many bins at a time: rows as in a draw."""
        yield from torch.from_numpy(self.rows()).split(max(bins // self.size, 1))


def by_peaks(occupied: Ints, rng: np.random.Generator) -> tuple[Ints, Doubles]:
    """Draw as many stretches as there are, with replacement, and return their numbers and weights, (stretches,) each.

    `occupied` (stretches,) counts the bins of each that have a peak. A stretch is drawn with probability q, half of which is
    1 / stretches and half in proportion to that count, and weighs 1 / (stretches q): the mean of anything over the draws, so
    weighed, is expected to be its mean over all stretches. Systematic sampling (Madow 1949): one random number, so that a
    stretch is drawn as often as expected, give or take one.
    """
    count, total = len(occupied), int(occupied.sum())
    share = BY_PEAKS if total else 0.0
    times = (1 - share) + share * occupied * count / max(total, 1)  # how often each is expected
    edges = np.cumsum(times)
    drawn = np.searchsorted(edges, np.arange(count) + rng.random(), side="right")
    drawn = np.minimum(drawn, count - 1)  # the last edge is `count` but for rounding
    return drawn, 1 / times[drawn]


def thinned_in_stretches(bins: Bins, most: int, size: int) -> Bins:
    """Return at most this many of the bins, evenly spaced, in whole stretches of `size`; as they are where they are few."""
    if size == 1 or len(bins) <= most:
        return bins.thinned(most)
    size = min(size, most)
    rows = Tiling.of(bins, size).rows()
    chosen = rows[evenly(len(rows), most // size)].flatten()
    return bins.taken(chosen[chosen != NO_BIN])
