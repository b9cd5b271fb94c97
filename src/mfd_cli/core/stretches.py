"""Which stretches of the genome to read for a set of bins, so that neighbours share what they have in common."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass

import numpy as np

from mfd_cli.base.arrays import Ints
from mfd_cli.genome.grid import BIN, off_line, on_line

STRETCH = 32
"""Bins of the longest stretch. With a margin of 8 bins a side it costs 1.5 bins a bin, where a window costs 17; longer ones
gain little, and their layers leave the cache."""
SIZES = (1, 2, 4, 8, 16, 24, STRETCH)
"""Bins of the stretches that are read: of few lengths, so that many are read in one batch."""


@dataclass(frozen=True)
class Batch:
    """Stretches of one length that are read together: `bins` is how many each has, `firsts` (stretches,) the starts of their
    first bins, bp.

    `row`, `place` and `index` (wanted bins,) say of each bin that is wanted the stretch, in ascending order, the place in it,
    and which of the bins that were asked for it is.
    """

    bins: int
    firsts: Ints
    row: Ints
    place: Ints
    index: Ints


@dataclass(frozen=True)
class Stretches:
    """Stretches of one length: `firsts` (stretches,) are the starts of their first bins, bp; `bins` is how many each has.

    `owner`, `place` and `index` (wanted bins,) say which bins are wanted: the stretch, the place in it, and which of the bins
    that were asked for it is. `owner` is in ascending order.
    """

    bins: int
    firsts: Ints
    owner: Ints
    place: Ints
    index: Ints

    def batches(self, size: int) -> Iterator[Batch]:
        """Yield them in batches of at most `size` stretches."""
        for first in range(0, len(self.firsts), size):
            low, high = np.searchsorted(self.owner, [first, first + size])
            mine = slice(low, high)
            firsts, row = self.firsts[first : first + size], self.owner[mine] - first
            yield Batch(self.bins, firsts, row, self.place[mine], self.index[mine])


def stretches_of(starts: Ints, most: int, gap: int) -> Iterator[Stretches]:
    """Yield stretches, of at most `most` bins, that hold every bin of `starts` (bins,), 0-based bp, in any order.

    Bins at different distances from the 128-bp grid are in different stretches. Up to `gap` bins that nobody asked for are
    read where that is cheaper than another stretch: its two margins cost as much.
    """
    if not len(starts):
        return
    order = np.lexsort((starts, starts % BIN))
    number, phase = starts[order] // BIN, starts[order] % BIN
    apart = (np.diff(number) > gap + 1) | (np.diff(phase) != 0)
    run = np.concatenate([[0], np.cumsum(apart)])  # neighbours that may share stretches have the same number
    ahead = number - number[np.searchsorted(run, run)]  # bins from the first of the run
    # A run is cut every `most` bins; a stretch begins at the first wanted bin of its piece.
    begins = np.unique(np.stack([run, ahead // most], 1), axis=0, return_index=True)[1]
    piece = np.repeat(np.arange(len(begins)), np.diff([*begins, len(order)]))
    first = number[begins]
    count = np.maximum.reduceat(number, begins) - first + 1
    sizes = np.array([*(size for size in SIZES if size < most), most])
    size = sizes[np.searchsorted(sizes, count)]
    for bins in np.unique(size).tolist():
        chosen, mine = np.flatnonzero(size == bins), np.flatnonzero(size[piece] == bins)
        firsts = first[chosen] * BIN + phase[begins[chosen]]
        yield Stretches(
            bins, firsts, np.searchsorted(chosen, piece[mine]), number[mine] - first[piece[mine]], order[mine]
        )


def blocks_of(starts: Ints, bins: int) -> Iterator[Stretches]:
    """Yield blocks of `bins` bins that hold every bin of `starts` (bins,), places on the line of all contigs.

    Blocks lie still: they begin at multiples of `bins` bins of their contig, those of bins off the 128-bp grid as far off it.
    So a bin is in the same place of the same block whatever else is asked for.
    """
    if not len(starts):
        return
    contig, start = off_line(starts)
    block, place = np.divmod(start // BIN, bins)
    firsts = on_line(contig, block * bins * BIN + start % BIN)
    order = np.argsort(firsts, kind="stable")
    found, owner = np.unique(firsts[order], return_inverse=True)
    yield Stretches(bins, found, owner, place[order], order)
