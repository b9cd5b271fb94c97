"""Batches made on the device: the border post between arrays and tensors.

The genome and the packed labels live on the device when they fit; a batch is an index vector. When they do not, a thread
gathers the bytes of the next batches in pinned memory. Batches do not depend on device or memory.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from typing import Any, Literal, NamedTuple

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from mfd_cli.base.arrays import Bools, Floats, Ints
from mfd_cli.base.threads import ahead
from mfd_cli.core.losses import SignalScale
from mfd_cli.core.onehot import other_strand
from mfd_cli.dataset.bins import NO_DATA, Bins
from mfd_cli.dataset.folder import Dataset
from mfd_cli.genome.grid import BIN
from mfd_cli.runs.draws import NO_BIN, Draw, Tiling

Memory = Literal["auto", "device", "host"]


class Batch(NamedTuple):
    """Stretches and the labels of their bins, one stretch's after the other: codes (stretches, length) uint8; peaks
    (bins, tracks) 0/1 float32; signal (bins, tracks) on the model's scale, NaN where not measured; measured (bins or 1, peak
    tracks + signal tracks) float32; weight (bins, 1) float32, what the loss of each bin counts for, or None where all
    count alike."""

    codes: Tensor
    peaks: Tensor
    signal: Tensor
    measured: Tensor
    weight: Tensor | None = None


class Partners(NamedTuple):
    """Stranded pairs: the place of each track's partner (its own where it has none), and the sign between them."""

    place: Ints
    sign: Floats


class GenomeOnDevice:
    """Base codes of all contigs in one tensor, with room around each, so that a window, or a stretch of many bins, is one
    gather."""

    def __init__(
        self, dataset: Dataset, window: int, left: int, device: torch.device, shift: int = 0, stretch: int = 1
    ) -> None:
        """`stretch` is the most bins that are read in one piece, `shift` how far windows are moved, bp."""
        self.window, self.left, self.device = window, left, device
        codes, offsets = dataset.genome.flat(pad=window + (stretch - 1) * BIN + shift)
        self.offsets = np.array([offsets[name] for name in dataset.contigs], np.int64)
        self.codes = torch.from_numpy(codes).to(device)

    def positions(self, bins: Bins) -> Ints:
        """Return where the window of each bin starts in the flat genome, (bins,)."""
        return self.starts(bins.contig, bins.start)

    def starts(self, contig: NDArray[Any], start: Ints) -> Ints:
        """Return where the windows of bins begin in the flat genome, (bins,): by the numbers of contigs, and 0-based starts."""
        starts: Ints = self.offsets[contig] + start - self.left
        return starts

    def stretches(self, starts: Ints | Tensor, length: int) -> Tensor:
        """Return the base codes (stretches, length) from places (stretches,) of the flat genome on."""
        # A view of every stretch, one base apart, takes no memory of its own, and index_select copies whole rows of it;
        # indexing with a tensor goes byte by byte and takes ten times as long on a CPU.
        return self.codes.unfold(0, length, 1).index_select(0, torch.as_tensor(starts, device=self.device))


class Rows(NamedTuple):
    """A batch as bytes, where its data live: codes (stretches, length) uint8, packed peaks, signal, packed measured or None,
    and which of the bins have labels, (bins, 1) bool, or None where all have."""

    codes: Tensor
    peaks: Tensor
    signal: Tensor
    measured: Tensor | None
    labelled: Tensor | None

    def pinned(self) -> Rows:
        """Return the rows in memory that a GPU can read while it computes."""
        return Rows(*(None if values is None else values.pin_memory() for values in self))  # type: ignore[arg-type]

    def on(self, device: torch.device) -> Rows:
        """Return the rows on a device; the host goes on while pinned memory is copied."""
        return Rows(*(None if v is None else v.to(device, non_blocking=True) for v in self))  # type: ignore[arg-type]


def home_of(dataset: Dataset, bins: Bins, device: torch.device, memory: Memory) -> torch.device:
    """Return where genome and labels are kept: on the device if `memory` says so or, for `auto`, if they fill less than half
    of what is free there; else in the host's memory."""
    if device.type == "cpu" or memory != "auto":
        return torch.device("cpu") if memory == "host" else device
    labels = bins.rows_of_peaks.nbytes + bins.rows_of_signal.nbytes + bins.start.nbytes + bins.row.nbytes
    wanted = sum(dataset.genome.lengths.values()) + labels
    return device if wanted < torch.cuda.mem_get_info(device)[0] // 2 else torch.device("cpu")


class LabelledBins:
    """The bins of one split with their labels, ready to be indexed. They live where the genome does."""

    def __init__(
        self,
        genome: GenomeOnDevice,
        bins: Bins,
        dataset: Dataset,
        scale: SignalScale,
        device: torch.device,
        partners: Partners | None = None,
        stretch: int = 1,
        occupied: Bools | None = None,
    ) -> None:
        """`occupied` (bins,) marks the bins by which stretches are drawn, see `Tiling`."""
        self.genome, self.scale, self.device, self.bins, self.partners = genome, scale, device, bins, partners
        self.tiling, self.length = Tiling.of(bins, stretch, occupied), genome.window + (stretch - 1) * BIN
        self.counts = torch.as_tensor(scale.counts, device=device)
        self.peak_tracks, self.signal_tracks = len(dataset.peak_tracks), len(dataset.signal_tracks)
        self.positions = torch.from_numpy(genome.positions(bins)).to(genome.device)
        # One row more, for all bins without data.
        peaks, signal = bins.rows_of_peaks, bins.rows_of_signal
        self.peaks = self._place(np.concatenate([peaks, np.zeros_like(peaks, shape=(1, peaks.shape[1]))]))
        self.signal = self._place(np.concatenate([signal, np.full_like(signal, np.nan, shape=(1, signal.shape[1]))]))
        self.row = self._place(np.where(bins.row == NO_DATA, len(peaks), bins.row))
        self.mask = None if bins.mask is None else self._place(bins.mask)
        self.masks = None if bins.masks is None else self._place(bins.masks)

    def _place(self, values: NDArray[np.generic]) -> Tensor:
        return torch.from_numpy(np.require(values, requirements=["C", "W"])).to(self.genome.device)

    def __len__(self) -> int:
        return len(self.positions)

    def batch(
        self,
        rows: Tensor,
        shift: Tensor | None = None,
        reverse: Tensor | None = None,
        weight: Tensor | None = None,
    ) -> Batch:
        """Return the stretches of a draw: rows (stretches, bins), moved by `shift` (stretches,) bp, backwards where `reverse`
        (stretches,) is set, each bin with the `weight` (stretches,) of its stretch."""
        return self._expanded(self.rows(rows, shift, reverse).on(self.device), reverse, weight)

    def stream(self, draws: Iterable[Draw], prefetch: bool) -> Iterator[Batch]:
        """Yield the batches of these draws. With `prefetch` a thread gathers their bytes ahead; they are the same batches."""
        if not prefetch:
            yield from (self.batch(*draw) for draw in draws)
            return
        pin = self.device.type == "cuda" and self.genome.device.type == "cpu"
        gathered = ((draw, self.rows(draw.rows, draw.shift, draw.reverse)) for draw in draws)
        for draw, rows in ahead((draw, rows.pinned() if pin else rows) for draw, rows in gathered):
            yield self._expanded(rows.on(self.device), draw.reverse, draw.weight)

    def rows(self, rows: Tensor, shift: Tensor | None = None, reverse: Tensor | None = None) -> Rows:
        """Return the bytes of a draw, where the data live: bases as they lie on the genome, labels in the order of reading."""
        home = self.genome.device
        first = (
            (rows != NO_BIN).int().argmax(1)
        )  # the first bin of each stretch that has labels says where the stretch is
        starts = self.positions[rows.gather(1, first[:, None])[:, 0].to(home)]
        starts = starts + ((0 if shift is None else shift) - BIN * first).to(home)
        if reverse is not None:
            rows = torch.where(reverse[:, None], rows.flip(1), rows)
        index = rows.flatten()
        # A draw is made on the host: looking at it there keeps no device waiting.
        labelled = None if bool((index != NO_BIN).all()) else (index != NO_BIN)[:, None].to(home)
        index = index.clamp(min=0).to(home)
        data, measured = self.row.index_select(0, index), None
        if self.mask is not None and self.masks is not None:
            measured = self.masks.index_select(0, self.mask.index_select(0, index))
        return Rows(
            self.genome.stretches(starts, self.length),
            self.peaks.index_select(0, data),
            self.signal.index_select(0, data),
            measured,
            labelled,
        )

    def _expanded(self, rows: Rows, reverse: Tensor | None, weight: Tensor | None = None) -> Batch:
        """Bytes to numbers, on the device."""
        codes, signal = rows.codes, rows.signal
        if reverse is not None:
            reverse = reverse.to(self.device)[:, None]
            codes = torch.where(reverse, other_strand(codes), codes)
            if self.partners is not None:
                signal = self._swapped(signal, self._of_bins(reverse), self.partners)
        measured = torch.ones(1, self.peak_tracks, device=self.device)
        if rows.measured is not None:
            measured = bits(rows.measured, self.peak_tracks)
        if rows.labelled is not None:
            measured = measured * rows.labelled
            signal = signal.masked_fill(~rows.labelled, torch.nan)
        if self.signal_tracks:
            measured = torch.cat([measured.expand(len(signal), -1), (~signal.isnan()).float()], 1)
        if weight is not None:
            weight = self._of_bins(weight.to(self.device)[:, None])
        return Batch(codes, bits(rows.peaks, self.peak_tracks), self.scale.forward(signal), measured, weight)

    def _of_bins(self, values: Tensor) -> Tensor:
        """What is said of stretches (stretches, 1), said of their bins (bins, 1)."""
        return values.repeat_interleave(self.tiling.size, 0)

    def _swapped(self, signal: Tensor, reverse: Tensor, partners: Partners) -> Tensor:
        """Signals with the strands of every pair exchanged in the bins that are read backwards."""
        other = torch.as_tensor(partners.place - self.peak_tracks, device=self.device)[self.peak_tracks :]
        sign = torch.as_tensor(partners.sign, device=self.device)[self.peak_tracks :]
        return torch.where(reverse, signal[:, other] * sign, signal)

    def in_order(self, bins: int) -> Iterator[Batch]:
        """Yield all bins once, as they lie on the genome, about so many at a time."""
        for rows in self.tiling.in_order(bins):
            yield self.batch(rows)


def bits(packed: Tensor, count: int) -> Tensor:
    """Return packed bits (batch, bytes) as 0/1 float32 (batch, count), least significant bit first."""
    places = torch.arange(8, dtype=torch.uint8, device=packed.device)
    return ((packed[:, :, None] >> places) & 1).flatten(1)[:, :count].float()
