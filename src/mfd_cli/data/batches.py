"""Batches made on the device: the border post between arrays and tensors, the one file in data that knows torch.

The genome and the packed labels live on the device when they fit; a batch is an index vector. Windows, shift and strand
are drawn here, per example, from (seed, epoch) only: the order of batches does not depend on device or memory.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import NamedTuple

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from mfd_cli.core.losses import SignalScale
from mfd_cli.core.onehot import reverse_complement
from mfd_cli.data.dataset import Bins, Dataset


class Batch(NamedTuple):
    """codes (batch, window) uint8; peaks (batch, tracks) 0/1 float32; signal (batch, tracks) on the model's scale, NaN
    where not measured; measured (batch or 1, peak tracks + signal tracks) float32."""

    codes: Tensor
    peaks: Tensor
    signal: Tensor
    measured: Tensor


class Partners(NamedTuple):
    """Stranded pairs: the place of each track's partner (its own where it has none), and the sign between them."""

    place: NDArray[np.int64]
    sign: NDArray[np.float32]


class GenomeOnDevice:
    """Base codes of all contigs in one tensor, with room around each, so that a window is one gather."""

    def __init__(self, dataset: Dataset, window: int, left: int, device: torch.device, shift: int = 0) -> None:
        self.window, self.left = window, left
        codes, offsets = dataset.genome.flat(pad=window + shift)
        self.offsets = np.array([offsets[name] for name in dataset.contigs], np.int64)
        # A view of every window, one base apart: no memory of its own, and indexing it gathers whole rows.
        self.windows = torch.from_numpy(codes).to(device).unfold(0, window, 1)

    def positions(self, bins: Bins) -> NDArray[np.int64]:
        """Where the window of each bin starts in the flat genome."""
        starts: NDArray[np.int64] = self.offsets[bins.contig] + bins.start - self.left
        return starts


class LabelledBins:
    """The bins of one split with their labels, ready to be indexed."""

    def __init__(
        self, genome: GenomeOnDevice, bins: Bins, dataset: Dataset, scale: SignalScale, device: torch.device,
        partners: Partners | None = None,
    ) -> None:  # fmt: skip
        self.genome, self.scale, self.device, self.bins, self.partners = genome, scale, device, bins, partners
        self.counts = torch.as_tensor(scale.counts, device=device)
        self.peak_tracks, self.signal_tracks = len(dataset.peak_tracks), len(dataset.signal_tracks)
        self.positions = torch.from_numpy(genome.positions(bins)).to(device)
        self.peaks, self.signal = self._place(bins.peaks), self._place(bins.signal)
        self.measured = None if bins.measured is None else self._place(bins.measured)

    def _place(self, values: NDArray[np.generic]) -> Tensor:
        """On the device where there is room for it (half of what is free), else in host memory."""
        tensor = torch.from_numpy(np.require(values, requirements=["C", "W"]))
        if self.device.type == "cuda" and tensor.nbytes < torch.cuda.mem_get_info(self.device)[0] // 2:
            return tensor.to(self.device)
        return tensor

    def __len__(self) -> int:
        return len(self.positions)

    def batch(self, index: Tensor, shift: Tensor | None = None, reverse: Tensor | None = None) -> Batch:
        """The bins of an index (batch,): windows moved by `shift` (batch,) bp, backwards where `reverse` is set."""
        starts = self.positions[index.to(self.device)]
        if shift is not None:
            starts = starts + shift.to(self.device)
        codes = self.genome.windows[starts]  # (batch, window)
        if reverse is not None:
            codes = torch.where(reverse.to(self.device)[:, None], reverse_complement(codes), codes)
        peaks = bits(self._rows(self.peaks, index), self.peak_tracks)
        signal = self._rows(self.signal, index)
        tracks = self.peak_tracks + self.signal_tracks
        measured = torch.ones(1, tracks, device=self.device)
        if self.measured is not None:
            measured = bits(self._rows(self.measured, index), tracks)
        if reverse is not None and self.partners is not None:
            signal, measured = self._swapped(signal, measured, reverse.to(self.device)[:, None], self.partners)
        return Batch(codes, peaks, self.scale.forward(signal), measured)

    def _swapped(self, signal: Tensor, measured: Tensor, reverse: Tensor, partners: Partners) -> tuple[Tensor, Tensor]:
        """Signals with the strands of every pair exchanged in the windows that are read backwards."""
        other = torch.as_tensor(partners.place - self.peak_tracks, device=self.device)[self.peak_tracks :]
        sign = torch.as_tensor(partners.sign, device=self.device)[self.peak_tracks :]
        signal = torch.where(reverse, signal[:, other] * sign, signal)
        if self.measured is not None:
            place = torch.as_tensor(partners.place, device=self.device)
            measured = torch.where(reverse, measured[:, place], measured)
        return signal, measured

    def _rows(self, values: Tensor, index: Tensor) -> Tensor:
        return values[index.to(values.device)].to(self.device, non_blocking=True)

    def in_order(self, batch_size: int) -> Iterator[Batch]:
        """All bins once, as they lie on the genome."""
        for index in torch.arange(len(self)).split(batch_size):
            yield self.batch(index)


def bits(packed: Tensor, count: int) -> Tensor:
    """Packed bits (batch, bytes) as 0/1 float32 (batch, count), least significant bit first."""
    places = torch.arange(8, dtype=torch.uint8, device=packed.device)
    return ((packed[:, :, None] >> places) & 1).flatten(1)[:, :count].float()


class Draw(NamedTuple):
    """One training batch: which bins, moved by how much, on which strand; each (batch,)."""

    bins: Tensor
    shift: Tensor
    reverse: Tensor


def draw_epoch(count: int, batch_size: int, seed: int, epoch: int, shift: int, reverse: bool) -> list[Draw]:
    """The batches of one epoch: a function of these numbers alone. The last incomplete batch is left out."""
    rng = np.random.default_rng([seed, epoch])
    order = rng.permutation(count)
    shifts = rng.integers(-shift, shift, size=count, endpoint=True)
    strands = rng.random(count) < 0.5 if reverse else np.zeros(count, bool)
    size = min(batch_size, count)
    return [
        Draw(*(torch.from_numpy(values[low : low + size]) for values in (order, shifts, strands)))
        for low in range(0, count - size + 1, size)
    ]
