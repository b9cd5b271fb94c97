"""Batches made on the device: the border post between arrays and tensors.

The genome and the packed labels live on the device when they fit; a batch is an index vector. When they do not, a thread
gathers the bytes of the next batches in pinned memory. Batches do not depend on device or memory.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from typing import Literal, NamedTuple

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from mfd_cli.base.arrays import Floats, Ints
from mfd_cli.base.threads import ahead
from mfd_cli.core.losses import SignalScale
from mfd_cli.core.onehot import other_strand
from mfd_cli.dataset.folder import Bins, Dataset
from mfd_cli.genome.grid import BIN
from mfd_cli.runs.draws import NO_BIN, Draw, Tiling

Memory = Literal["auto", "device", "host"]


class Batch(NamedTuple):
    """Stretches and the labels of their bins, one stretch's after the other: codes (stretches, length) uint8; peaks
    (bins, tracks) 0/1 float32; signal (bins, tracks) on the model's scale, NaN where not measured; measured (bins or 1, peak
    tracks + signal tracks) float32."""

    codes: Tensor
    peaks: Tensor
    signal: Tensor
    measured: Tensor


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
        starts: Ints = self.offsets[bins.contig] + bins.start - self.left
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
    wanted = sum(dataset.genome.lengths.values()) + bins.peaks.nbytes + bins.signal.nbytes
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
    ) -> None:
        self.genome, self.scale, self.device, self.bins, self.partners = genome, scale, device, bins, partners
        self.tiling, self.length = Tiling.of(bins, stretch), genome.window + (stretch - 1) * BIN
        self.counts = torch.as_tensor(scale.counts, device=device)
        self.peak_tracks, self.signal_tracks = len(dataset.peak_tracks), len(dataset.signal_tracks)
        self.positions = torch.from_numpy(genome.positions(bins)).to(genome.device)
        self.peaks, self.signal = self._place(bins.peaks), self._place(bins.signal)
        self.measured = None if bins.measured is None else self._place(bins.measured)

    def _place(self, values: NDArray[np.generic]) -> Tensor:
        return torch.from_numpy(np.require(values, requirements=["C", "W"])).to(self.genome.device)

    def __len__(self) -> int:
        return len(self.positions)

    def batch(self, rows: Tensor, shift: Tensor | None = None, reverse: Tensor | None = None) -> Batch:
        """Return the stretches of a draw: rows (stretches, bins), moved by `shift` (stretches,) bp, backwards where `reverse`
        (stretches,) is set."""
        return self._expanded(self.rows(rows, shift, reverse).on(self.device), reverse)

    def stream(self, draws: Iterable[Draw], prefetch: bool) -> Iterator[Batch]:
        """Yield the batches of these draws. With `prefetch` a thread gathers their bytes ahead; they are the same batches."""
        if not prefetch:
            yield from (self.batch(*draw) for draw in draws)
            return
        pin = self.device.type == "cuda" and self.genome.device.type == "cpu"
        gathered = ((draw, self.rows(*draw)) for draw in draws)
        for draw, rows in ahead((draw, rows.pinned() if pin else rows) for draw, rows in gathered):
            yield self._expanded(rows.on(self.device), draw.reverse)

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
        measured = None if self.measured is None else self.measured.index_select(0, index)
        return Rows(
            self.genome.stretches(starts, self.length),
            self.peaks.index_select(0, index),
            self.signal.index_select(0, index),
            measured,
            labelled,
        )

    def _expanded(self, rows: Rows, reverse: Tensor | None) -> Batch:
        """Bytes to numbers, on the device."""
        codes, tracks = rows.codes, self.peak_tracks + self.signal_tracks
        signal, measured = rows.signal, torch.ones(1, tracks, device=self.device)
        if rows.measured is not None:
            measured = bits(rows.measured, tracks)
        if reverse is not None:
            reverse = reverse.to(self.device)[:, None]
            codes = torch.where(reverse, other_strand(codes), codes)
            if self.partners is not None:
                of_bins = reverse.repeat_interleave(self.tiling.size, 0)
                signal, measured = self._swapped(signal, measured, of_bins, self.partners)
        if rows.labelled is not None:
            measured = measured * rows.labelled
            signal = signal.masked_fill(~rows.labelled, torch.nan)
        return Batch(codes, bits(rows.peaks, self.peak_tracks), self.scale.forward(signal), measured)

    def _swapped(self, signal: Tensor, measured: Tensor, reverse: Tensor, partners: Partners) -> tuple[Tensor, Tensor]:
        """Signals with the strands of every pair exchanged in the windows that are read backwards."""
        other = torch.as_tensor(partners.place - self.peak_tracks, device=self.device)[self.peak_tracks :]
        sign = torch.as_tensor(partners.sign, device=self.device)[self.peak_tracks :]
        signal = torch.where(reverse, signal[:, other] * sign, signal)
        if self.measured is not None:
            place = torch.as_tensor(partners.place, device=self.device)
            measured = torch.where(reverse, measured[:, place], measured)
        return signal, measured

    def in_order(self, bins: int) -> Iterator[Batch]:
        """Yield all bins once, as they lie on the genome, about so many at a time."""
        for rows in self.tiling.in_order(bins):
            yield self.batch(rows)


def bits(packed: Tensor, count: int) -> Tensor:
    """Return packed bits (batch, bytes) as 0/1 float32 (batch, count), least significant bit first."""
    places = torch.arange(8, dtype=torch.uint8, device=packed.device)
    return ((packed[:, :, None] >> places) & 1).flatten(1)[:, :count].float()
