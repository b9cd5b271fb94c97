"""Cutting shards: the labels of chosen bins from the intermediate files of all tracks, and what is counted on the way."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import Any

import numpy as np
from numpy.typing import NDArray

from mfd_cli.base.arrays import Bools, Bytes, Doubles, Floats, Ints
from mfd_cli.dataset.bins import bit_of, unpack_bits
from mfd_cli.dataset.choose_bins import bins_of_bed
from mfd_cli.dataset.inputs import Inputs
from mfd_cli.experiments.track import Track
from mfd_cli.genome.grid import inside_bins


@dataclass(frozen=True)
class Labels:
    """The labels of every bin of the genome, track by track, in the order of the sources.

    `arrays` are the intermediate files: of a peak track the sorted global indices of its bins, of a signal track (bins,) the
    means, NaN where the file says nothing. `assayed` (bins,) says, for the tracks that have a BED of it, where they were
    measured.
    """

    inputs: Inputs
    arrays: Sequence[NDArray[Any]]
    assayed: Mapping[int, Bools]

    def with_data(self) -> Bools:
        """Return (bins,) where any track has a peak where it was measured, or any signal was measured."""
        there = np.zeros(self.inputs.grid.total, bool)
        for index in self.inputs.of_kind("peaks"):
            labelled = np.asarray(self.arrays[index])
            there[labelled[self.assayed[index][labelled]] if index in self.assayed else labelled] = True
        for index in self.inputs.of_kind("signal"):
            known = ~np.isnan(self.arrays[index])
            there |= known & self.assayed[index] if index in self.assayed else known
        return there

    def assayed_peaks(self) -> dict[int, Bools]:
        """Return, by the number of the peak track, where those were measured that were not measured everywhere."""
        numbered = enumerate(self.inputs.of_kind("peaks"))
        return {column: self.assayed[index] for column, index in numbered if index in self.assayed}

    def cut(self, chosen: Ints) -> tuple[Bytes, Floats]:
        """Return the labels of these bins (sorted global indices): packed peaks, and signal, NaN where not measured.

        Not measured is not zero, and not one either: what a file says of where its track was not measured is left out.
        """
        packed, signal = self._peaks(chosen), self._signal(chosen)
        for column, index in enumerate(self.inputs.of_kind("peaks")):
            if index in self.assayed:
                packed[~self.assayed[index][chosen], column // 8] &= ~bit_of(column)
        for column, index in enumerate(self.inputs.of_kind("signal")):
            if index in self.assayed:
                signal[~self.assayed[index][chosen], column] = np.nan
        return packed, signal

    def _peaks(self, chosen: Ints) -> Bytes:
        """(chosen, ceil(peak tracks / 8)) packed bits. They are set one track at a time: (chosen, tracks) booleans would take
        eight times the memory."""
        peaks = self.inputs.of_kind("peaks")
        packed = np.zeros((len(chosen), -(-len(peaks) // 8)), np.uint8)
        for column, index in enumerate(peaks):
            labelled = self.arrays[index]
            low, high = np.searchsorted(labelled, [chosen[0], chosen[-1] + 1])
            here = labelled[low:high]
            rows = np.searchsorted(chosen, here)
            hit = rows[chosen[np.minimum(rows, len(chosen) - 1)] == here]
            packed[hit, column // 8] |= bit_of(column)
        return packed

    def _signal(self, chosen: Ints) -> Floats:
        """(chosen, signal tracks) float32."""
        signals = self.inputs.of_kind("signal")
        if not signals:
            return np.zeros((len(chosen), 0), np.float32)
        return np.stack([self.arrays[index][chosen] for index in signals], 1)

    def measured_contigs(self, index: int) -> tuple[str, ...] | None:
        """Return the contigs on which a track was measured; None where it was measured in every bin."""
        known = self.assayed.get(index)
        if self.inputs.sources[index].kind == "signal":
            there = ~np.isnan(self.arrays[index])
            known = there if known is None else there & known
        if known is None or known.all():
            return None
        grid = self.inputs.grid
        here = {name: slice(grid.offsets[name], grid.offsets[name] + count) for name, count in grid.counts.items()}
        return tuple(name for name, bins in here.items() if known[bins].any())


def labels_from(inputs: Inputs, arrays: Sequence[NDArray[Any]]) -> Labels:
    """Return the labels of intermediate files, with the tracks' BEDs of where they were measured."""
    assayed = {
        index: bins_of_bed(source.assayed, inputs.grid, inside_bins)[0]
        for index, source in enumerate(inputs.sources)
        if source.assayed is not None
    }
    return Labels(inputs, arrays, assayed)


@dataclass
class TrainingTotals:
    """What is counted over the training bins (global indices), per track: bins with a peak, sum of the signal, bins where the
    track was measured."""

    labels: Labels
    training: Ints
    positives: Ints = field(init=False)
    signal: Doubles = field(init=False)
    measured: Ints = field(init=False)

    def __post_init__(self) -> None:
        tracks, peaks = len(self.labels.arrays), len(self.labels.inputs.of_kind("peaks"))  # peak tracks come first
        self.positives, self.measured = np.zeros(tracks, np.int64), np.zeros(tracks, np.int64)
        self.signal = np.zeros(tracks)
        for index in range(peaks):
            known = self.labels.assayed.get(index)
            self.measured[index] = len(self.training) if known is None else int(known[self.training].sum())

    def add(self, peaks: Bytes, signal: Floats) -> None:
        """Count some more training bins that have data."""
        count = len(self.labels.inputs.of_kind("peaks"))
        self.positives[:count] += unpack_bits(peaks, count).sum(0)
        known = ~np.isnan(signal)
        self.signal[count:] += np.where(known, signal, 0).sum(0, dtype=np.float64)
        self.measured[count:] += known.sum(0)

    def tracks(self) -> list[Track]:
        """Return the rows of tracks.arrow."""
        tracks = []
        for index, source in enumerate(self.labels.inputs.sources):
            measured = self.labels.measured_contigs(index)
            counts = int(self.positives[index]), int(self.measured[index])
            track = Track(source.id, source.kind, dict(source.row), *counts, assayed=measured)
            if self.measured[index] and source.kind == "signal":
                track = replace(track, mean_signal=float(self.signal[index] / self.measured[index]))
            tracks.append(track)
        return tracks
