"""Peaks to labelled bins, by interval arithmetic.

Bins tile every contig from its first base; only whole bins exist. A global bin index counts through the contigs in the
order of the genome. A peak labels every bin that it overlaps by at least `min_overlap` bp; one that reaches no bin that
way (narrow, or split between two) labels the bin that holds its midpoint, so that no peak is lost.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from functools import cached_property

import numpy as np
from numpy.typing import NDArray

from mfd_cli.base.arrays import Bools, Ints

BIN = 128
"""Bases of a bin."""
SHIFT = 7
"""BIN is 2^SHIFT: shifts are much faster than divisions."""
APART = BIN << 30
"""bp from the start of one contig to that of the next on the line of them all (`on_line`): none has neighbours on another."""


def on_line(contig: Ints, start: Ints) -> Ints:
    """Return places on one line on which all contigs lie, of 0-based starts, which may be a little below 0."""
    return contig * APART + start


def off_line(place: Ints) -> tuple[Ints, Ints]:
    """Return the number of the contig and the 0-based start of each place on the line."""
    contig = (place + APART // 2) // APART
    return contig, place - contig * APART


@dataclass(frozen=True)
class BinGrid:
    """The bins of a genome: how many each contig has and where they begin in the global count."""

    lengths: Mapping[str, int]

    @cached_property
    def counts(self) -> dict[str, int]:
        """Whole bins per contig."""
        return {name: length // BIN for name, length in self.lengths.items()}

    @cached_property
    def offsets(self) -> dict[str, int]:
        """Global index of each contig's first bin."""
        edges = np.cumsum([0, *self.counts.values()]).tolist()
        return dict(zip(self.lengths, edges))

    @property
    def total(self) -> int:
        """Bins of the whole genome."""
        return sum(self.counts.values())

    def positions(self, index: Ints) -> tuple[NDArray[np.int32], Ints]:
        """Return the contig index and the 0-based start of bins, by their global index (n,), (n,) each."""
        first = np.array(list(self.offsets.values()), np.int64)
        # Of contigs that begin at the same number the last one has the bin: the others have none.
        contig = np.searchsorted(first, index, side="right") - 1
        return contig.astype(np.int32), (index - first[contig]) * BIN


def labelled_bins(start: Ints, end: Ints, bins: int, min_overlap: int) -> tuple[Ints, int]:
    """Return the indices of the bins of one contig that these peaks label, sorted and unique; and how many peaks label none.

    Only a peak whose midpoint lies in the incomplete stretch after the last whole bin labels nothing.
    """
    # The first and last bin with enough overlap: end - 128 b >= min_overlap, and 128 (b + 1) - start >= min_overlap.
    first = (start + min_overlap + BIN - 1 >> SHIFT) - 1
    last = np.minimum(end - min_overlap >> SHIFT, bins - 1)
    # A peak narrower than min_overlap overlaps no bin enough, whatever first and last say.
    reaches = (end - start >= min_overlap) & (last >= first)
    if not reaches.all():
        middle = start + end >> SHIFT + 1
        first, last = np.where(reaches, first, middle), np.where(reaches, last, middle)
    inside = first < bins
    if inside.all():
        return expand(first, last), 0
    return expand(first[inside], last[inside]), int((~inside).sum())


def expand(first: Ints, last: Ints) -> Ints:
    """Return all whole numbers from each `first` to its `last`, both included, sorted and unique."""
    if (np.diff(first) < 0).any():
        order = np.argsort(first, kind="stable")
        first, last = first[order], last[order]
    # What an earlier range has covered is cut off the later ones: then their numbers are sorted and unique as they come.
    first = np.concatenate([first[:1], np.maximum(first[1:], np.maximum.accumulate(last)[:-1] + 1)])
    not_empty = last >= first
    if not not_empty.all():
        first, last = first[not_empty], last[not_empty]
    counts = last - first + 1
    ends = np.cumsum(counts)
    return np.repeat(first - ends + counts, counts) + np.arange(ends[-1] if len(ends) else 0, dtype=np.int64)


def inside_bins(start: Ints, end: Ints, bins: int) -> Bools:
    """Return which bins of a contig lie wholly inside the union of these intervals, (bins,)."""
    # Plus one where an interval begins, minus one where it ends: the running sum is how many cover a base.
    covered = np.zeros(bins * BIN + 1, np.int32)
    np.add.at(covered, np.minimum(start, bins * BIN), 1)
    np.add.at(covered, np.minimum(end, bins * BIN), -1)
    inside: Bools = np.asarray((np.cumsum(covered[:-1]).reshape(bins, BIN) > 0).all(1))
    return inside


def touched_bins(start: Ints, end: Ints, bins: int) -> Bools:
    """Return which bins of a contig overlap any of these intervals by a base or more, (bins,)."""
    touched = np.zeros(bins, bool)
    index = expand(start // BIN, (end - 1) // BIN)
    touched[index[index < bins]] = True
    return touched


def covering_bins(start: int, end: int) -> Iterator[int]:
    """Yield the starts of the bins that cover an interval, centred on it, whatever the grid; one bin for 128 bp or less.

    The first may be below 0 and the last end beyond the contig.
    """
    count = max(-(-(end - start) // BIN), 1)
    first = (start + end) // 2 - count * BIN // 2
    return (first + BIN * number for number in range(count))


def evenly(count: int, most: int) -> Ints:
    """Return the indices of at most `most` evenly spaced items of `count`, from the first to the last; each once, in order."""
    return np.linspace(0, count - 1, min(most, count)).round().astype(np.int64)
