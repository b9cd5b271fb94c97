"""Batches made on the device: the border post between arrays and tensors, the one file in data that knows torch.

The genome and the packed labels live on the device when they fit; a batch is an index vector. When they do not, a thread
gathers the bytes of the next batches in pinned memory. Windows, shift and strand are drawn here, per example, from
(seed, epoch) only: batches do not depend on device or memory.
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

Memory = Literal["auto", "device", "host"]


class Batch(NamedTuple):
    """codes (batch, window) uint8; peaks (batch, tracks) 0/1 float32; signal (batch, tracks) on the model's scale, NaN
    where not measured; measured (batch or 1, peak tracks + signal tracks) float32."""

    codes: Tensor
    peaks: Tensor
    signal: Tensor
    measured: Tensor


class Partners(NamedTuple):
    """Stranded pairs: the place of each track's partner (its own where it has none), and the sign between them."""

    place: Ints
    sign: Floats


class GenomeOnDevice:
    """Base codes of all contigs in one tensor, with room around each, so that a window is one gather."""

    def __init__(self, dataset: Dataset, window: int, left: int, device: torch.device, shift: int = 0) -> None:
        self.window, self.left, self.device = window, left, device
        codes, offsets = dataset.genome.flat(pad=window + shift)
        self.offsets = np.array([offsets[name] for name in dataset.contigs], np.int64)
        # A view of every window, one base apart: no memory of its own, and indexing it gathers whole rows.
        self.windows = torch.from_numpy(codes).to(device).unfold(0, window, 1)

    def positions(self, bins: Bins) -> Ints:
        """Return where the window of each bin starts in the flat genome, (bins,)."""
        starts: Ints = self.offsets[bins.contig] + bins.start - self.left
        return starts


class Rows(NamedTuple):
    """A batch as bytes, where its data live: codes (batch, window) uint8, packed peaks, signal, packed measured or None."""

    codes: Tensor
    peaks: Tensor
    signal: Tensor
    measured: Tensor | None

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
    ) -> None:
        self.genome, self.scale, self.device, self.bins, self.partners = genome, scale, device, bins, partners
        self.counts = torch.as_tensor(scale.counts, device=device)
        self.peak_tracks, self.signal_tracks = len(dataset.peak_tracks), len(dataset.signal_tracks)
        self.positions = torch.from_numpy(genome.positions(bins)).to(genome.device)
        self.peaks, self.signal = self._place(bins.peaks), self._place(bins.signal)
        self.measured = None if bins.measured is None else self._place(bins.measured)

    def _place(self, values: NDArray[np.generic]) -> Tensor:
        return torch.from_numpy(np.require(values, requirements=["C", "W"])).to(self.genome.device)

    def __len__(self) -> int:
        return len(self.positions)

    def batch(self, index: Tensor, shift: Tensor | None = None, reverse: Tensor | None = None) -> Batch:
        """Return the bins of an index (batch,): windows moved by `shift` (batch,) bp, backwards where `reverse` is set."""
        return self._expanded(self.rows(index, shift).on(self.device), reverse)

    def stream(self, draws: Iterable[Draw], prefetch: bool) -> Iterator[Batch]:
        """Yield the batches of these draws. With `prefetch` a thread gathers their bytes ahead; they are the same batches."""
        if not prefetch:
            yield from (self.batch(*draw) for draw in draws)
            return
        pin = self.device.type == "cuda" and self.genome.device.type == "cpu"
        gathered = ((draw, self.rows(draw.bins, draw.shift)) for draw in draws)
        for draw, rows in ahead((draw, rows.pinned() if pin else rows) for draw, rows in gathered):
            yield self._expanded(rows.on(self.device), draw.reverse)

    def rows(self, index: Tensor, shift: Tensor | None = None) -> Rows:
        """Return the bytes of the bins of an index (batch,), where the data live."""
        index = index.to(self.genome.device)
        starts = self.positions[index]
        if shift is not None:
            starts = starts + shift.to(starts.device)
        # index_select copies whole rows; indexing with a tensor goes byte by byte and takes ten times as long on a CPU.
        measured = None if self.measured is None else self.measured.index_select(0, index)
        codes = self.genome.windows.index_select(0, starts)
        return Rows(codes, self.peaks.index_select(0, index), self.signal.index_select(0, index), measured)

    def _expanded(self, rows: Rows, reverse: Tensor | None) -> Batch:
        """Bytes to numbers, on the device."""
        codes, tracks = rows.codes, self.peak_tracks + self.signal_tracks
        if reverse is not None:
            reverse = reverse.to(self.device)[:, None]
            codes = torch.where(reverse, other_strand(codes), codes)
        signal, measured = rows.signal, torch.ones(1, tracks, device=self.device)
        if rows.measured is not None:
            measured = bits(rows.measured, tracks)
        if reverse is not None and self.partners is not None:
            signal, measured = self._swapped(signal, measured, reverse, self.partners)
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

    def in_order(self, batch_size: int) -> Iterator[Batch]:
        """Yield all bins once, as they lie on the genome, in batches."""
        for index in torch.arange(len(self)).split(batch_size):
            yield self.batch(index)


def bits(packed: Tensor, count: int) -> Tensor:
    """Return packed bits (batch, bytes) as 0/1 float32 (batch, count), least significant bit first."""
    places = torch.arange(8, dtype=torch.uint8, device=packed.device)
    return ((packed[:, :, None] >> places) & 1).flatten(1)[:, :count].float()


class Draw(NamedTuple):
    """One training batch: which bins, moved by how much, on which strand; each (batch,)."""

    bins: Tensor
    shift: Tensor
    reverse: Tensor


def draw_epoch(count: int, batch_size: int, seed: int, epoch: int, shift: int, reverse: bool) -> list[Draw]:
    """Return the batches of one epoch: a function of these numbers alone.

    All have min(batch_size, count) windows; the rest of the epoch, fewer than that, is left out. Another epoch leaves out
    others, and no step sees a batch so small that its statistics are noise.
    """
    rng = np.random.default_rng([seed, epoch])
    order = rng.permutation(count)
    shifts = rng.integers(-shift, shift, size=count, endpoint=True)
    strands = rng.random(count) < 0.5 if reverse else np.zeros(count, bool)
    size = min(batch_size, count)
    return [
        Draw(*(torch.from_numpy(values[low : low + size]) for values in (order, shifts, strands)))
        for low in range(0, count - size + 1, size)
    ]
