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

from mfd_cli.base.arrays import Ints
from mfd_cli.dataset.folder import Bins
from mfd_cli.genome.grid import BIN, evenly

NO_BIN = -1
"""In the place of a bin that has no labels: it is read with its stretch and nothing is asked of it."""


class Draw(NamedTuple):
    """One training batch. `rows` (stretches, bins) are indexes of labelled bins, or NO_BIN; each stretch is moved by `shift`
    (stretches,) bp and read backwards where `reverse` (stretches,) is set."""

    rows: Tensor
    shift: Tensor
    reverse: Tensor


@dataclass(frozen=True)
class Tiling:
    """Labelled bins in genome order as stretches of `size` neighbours: `contig` and `number` (start / 128), (bins,) each.

    The stretches tile every contig from an offset on. One in which no bin has labels is not read.
    """

    contig: NDArray[np.int32]
    number: Ints
    size: int = 1

    @classmethod
    def of(cls, bins: Bins, size: int = 1) -> Tiling:
        """Return the tiling of the bins of a split."""
        return cls(bins.contig, bins.start // BIN, size)

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
        shifts = rng.integers(-shift, shift, size=len(rows), endpoint=True)
        strands = rng.random(len(rows)) < 0.5 if reverse else np.zeros(len(rows), bool)
        for low in range(0, self.fewest - per_step + 1, per_step):
            part = slice(low, low + per_step)
            yield Draw(*(torch.from_numpy(values) for values in (rows[order[part]], shifts[part], strands[part])))

    def in_order(self, bins: int) -> Iterator[Tensor]:
        """Yield all stretches once, as they lie on the genome, about so many bins at a time: rows as in a draw."""
        yield from torch.from_numpy(self.rows()).split(max(bins // self.size, 1))


def thinned_in_stretches(bins: Bins, most: int, size: int) -> Bins:
    """Return at most this many of the bins, evenly spaced, in whole stretches of `size`; as they are where they are few."""
    if size == 1 or len(bins) <= most:
        return bins.thinned(most)
    rows = Tiling.of(bins, size).rows()
    chosen = rows[evenly(len(rows), max(most // size, 1))].flatten()
    return bins.taken(chosen[chosen != NO_BIN])
