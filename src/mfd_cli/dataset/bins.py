"""Labelled bins in memory: every bin of a split, of which only those with data take more than their place."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TypeVar

import numpy as np
from numpy.typing import NDArray

from mfd_cli.base.arrays import Bools, Bytes, Floats, Ints
from mfd_cli.base.notebook import one_line
from mfd_cli.genome.grid import evenly

Value = TypeVar("Value", bound=np.generic)
NO_DATA = -1
"""In place of a row: no track has a peak in the bin, and no signal was measured there."""


@dataclass(frozen=True)
class Bins:
    """Bins of one split, in genome order.

    `contig` (n,) int32 is an index into the genome's contigs, `start` (n,) int64 is 0-based, `row` (n,) int32 says where the
    bin's data are, or NO_DATA. Data are `rows_of_peaks` (rows, ceil(peak tracks / 8)) uint8 packed bits, and `rows_of_signal`
    (rows, signal tracks) float32, NaN where not measured. `mask` (n,) int32 says which of the `masks` (masks, ceil(peak tracks
    / 8)), packed bits, tells where peak tracks were measured in the bin; both are None where all were measured everywhere.
    """

    contig: NDArray[np.int32]
    start: Ints
    row: NDArray[np.int32]
    rows_of_peaks: Bytes
    rows_of_signal: Floats
    mask: NDArray[np.int32] | None = None
    masks: Bytes | None = None

    def __len__(self) -> int:
        return len(self.start)

    def __repr__(self) -> str:
        return one_line(self, f"{len(self):,} bins, {int((self.row != NO_DATA).sum()):,} with data")

    @property
    def peaks(self) -> Bytes:
        """The packed labels of the peak tracks, (n, ceil(peak tracks / 8)), gathered anew each time."""
        return _gathered(self.rows_of_peaks, self.row, 0)

    @property
    def signal(self) -> Floats:
        """The signals, (n, signal tracks), NaN where not measured, gathered anew each time."""
        return _gathered(self.rows_of_signal, self.row, np.nan)

    def labels(self, tracks: Ints) -> Bools:
        """Return (n, tracks) in which bins these peak tracks (tracks,) have a peak."""
        return _gathered(_bits(self.rows_of_peaks, tracks), self.row, False)

    def measured(self, tracks: Ints) -> Bools | None:
        """Return (n, tracks) in which bins these peak tracks (tracks,) were measured; None where all were, in every bin."""
        return None if self.mask is None or self.masks is None else _bits(self.masks, tracks)[self.mask]

    def signals(self, places: Ints) -> Floats:
        """Return (n, places) the signals of some signal tracks, by their places (places,); NaN where not measured."""
        return _gathered(self.rows_of_signal[:, places], self.row, np.nan)

    def taken(self, index: Ints) -> Bins:
        """Return the bins of an index, each at most once, with no other bin's data."""
        row = self.row[index]
        there = row != NO_DATA
        mine = np.full(len(row), NO_DATA, np.int32)
        mine[there] = np.arange(int(there.sum()))
        mask = None if self.mask is None else self.mask[index]
        data = self.rows_of_peaks[row[there]], self.rows_of_signal[row[there]]
        return Bins(self.contig[index], self.start[index], mine, *data, mask, self.masks)

    def thinned(self, most: int) -> Bins:
        """Return at most this many of the bins, evenly spaced."""
        return self if len(self) <= most else self.taken(evenly(len(self), most))

    def occupied(self, tracks: Bools) -> Bools:
        """Return (n,) whether any of these peak tracks (peak tracks,) has a peak in the bin."""
        any_peak = (self.rows_of_peaks & pack_bits(tracks[None])).any(1)
        return np.append(any_peak, False)[self.row]  # NO_DATA takes the last one


def _gathered(rows: NDArray[Value], index: NDArray[np.int32], absent: float) -> NDArray[Value]:
    """The rows of an index, and `absent` where it is NO_DATA."""
    result = np.full((len(index), rows.shape[1]), absent, rows.dtype)
    there = index != NO_DATA
    result[there] = rows[index[there]]
    return result


def _bits(packed: Bytes, tracks: Ints) -> Bools:
    """The bits of some tracks, (rows, tracks), of packed ones."""
    return (packed[:, tracks // 8] >> (tracks % 8).astype(np.uint8) & 1).astype(bool)


def bit_of(column: int) -> np.uint8:
    """Return a byte with the bit of a peak track set: the least significant one is that of the first track."""
    return np.uint8(1 << column % 8)


def pack_bits(labels: Bools) -> Bytes:
    """Return (bins, tracks) booleans as (bins, ceil(tracks / 8)) bytes, least significant bit first."""
    return np.packbits(labels, axis=1, bitorder="little")


def unpack_bits(packed: Bytes, tracks: int) -> Bools:
    """Return the (bins, tracks) booleans that `pack_bits` packed."""
    return np.unpackbits(packed, axis=1, count=tracks, bitorder="little").astype(bool)
