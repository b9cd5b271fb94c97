"""Applying a trained model: the only place where a model meets windows outside training.

Both strands are averaged in the latent: the head is linear, so that is the average of the logits and of every part.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any, Literal, Protocol

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from mfd_cli.base.arrays import Bools, Bytes, Floats, Ints
from mfd_cli.base.errors import ConfigError
from mfd_cli.base.notebook import one_line
from mfd_cli.base.threads import ahead
from mfd_cli.core.head import HeadWeights
from mfd_cli.core.incremental import CentrePass, Seen
from mfd_cli.core.model import MfdModel
from mfd_cli.core.onehot import other_strand
from mfd_cli.core.stretches import STRETCH, Batch, blocks_of, stretches_of
from mfd_cli.core.trunk_pass import TrunkPass
from mfd_cli.core.trunks import TrunkBackbone
from mfd_cli.genome.sequence import Genome

Strands = Literal["both", "forward"]
Precision = Literal["float32", "tf32", "bf16"]


class Passed(Protocol):
    """A pass over stretches, against which substitutions are measured: base codes (stretches, length), latents (stretches x
    bins, latent), and how many bins each has."""

    @property
    def codes(self) -> Tensor: ...

    @property
    def latents(self) -> Tensor: ...

    @property
    def bins(self) -> int: ...


class Pass(Protocol):
    """A backbone and the last norm for inference: `CentrePass` of our own network, `TrunkPass` of others'."""

    def latents(self, codes: Tensor, mirrored: bool = False) -> Tensor: ...

    def reference(self, codes: Tensor, first: int, last: int, mirrored: bool = False) -> Any: ...

    def alternates(
        self, reference: Any, row: Tensor, position: Tensor, base: Tensor, seen: Seen | None = None
    ) -> Tensor: ...


@dataclass(frozen=True)
class Head:
    """Output weights as arrays, computed once: bias (tracks,), shared (latent,), groups name -> (tracks, size).

    `added` (tracks,) marks tracks that came after the others: products with their weights are computed apart, since the last
    bits of a matrix product depend on how many columns it has.
    """

    bias: Floats
    shared: Floats
    groups: Mapping[str, Floats]
    slices: Mapping[str, slice]
    added: Bools | None = None

    def __repr__(self) -> str:
        sizes = ", ".join(f"{weights.shape[1]} {group}" for group, weights in self.groups.items())
        return one_line(self, f"{len(self.bias):,} tracks, weights of {len(self.shared)} latents: {sizes}")

    def matrix(self) -> Floats:
        """Return the weights (tracks, latent) of one linear layer: logits are `latents @ matrix().T + bias`."""
        total = np.tile(self.shared, (len(self.bias), 1))
        for group, weights in self.groups.items():
            total[:, self.slices[group]] += weights
        return total

    def logits(self, latents: Floats) -> Floats:
        """Return the logits (bins, tracks) of latents (bins, latent)."""
        return self._product(latents, self.matrix()) + self.bias

    def shared_part(self, latents: Floats) -> Floats:
        """Return <u, s> (bins,), what all tracks have in common, of latents (bins, latent)."""
        return latents @ self.shared

    def group_part(self, group: str, latents: Floats) -> Floats:
        """Return a_i,g <c_i,g, s_g> (bins, tracks), a group's part of each track's logit, of latents (bins, latent)."""
        return self._product(latents[:, self.slices[group]], self.groups[group])

    def _product(self, latents: Floats, weights: Floats) -> Floats:
        """Latents (bins, size) times weights (tracks, size), as (bins, tracks)."""
        if self.added is None or not self.added.any():
            return latents @ weights.T
        product = np.empty((len(latents), len(weights)), np.float32)
        for chosen in (~self.added, self.added):
            product[:, chosen] = latents @ weights[chosen].T
        return product


def head_of(model: MfdModel) -> Head:
    """Return the output weights of a model's own tracks, as copies."""
    weights: HeadWeights = model.head.weights()
    # `bias` is the parameter itself, whose memory an array on the CPU would share.
    bias, shared = as_array(weights.bias.clone()), as_array(weights.shared.clone())
    groups = {group: as_array(w.clone()) for group, w in weights.groups.items()}
    return Head(bias, shared, groups, model.slices, model.added)


class Predictor:
    """A model's weights as they are now, folded for inference on a device, and what they say of windows.

    The model is read only: its mode, its device and whether its parameters learn stay what they were, and what happens to
    it later does not reach the predictor. `precision` is that of the backbone: float32, or where speed matters more than the
    last digits tf32 (CUDA) or bf16.
    """

    def __init__(
        self,
        model: MfdModel,
        device: str | torch.device = "cpu",
        batch_size: int = 256,
        precision: Precision = "float32",
    ) -> None:
        self.device, self.precision = torch.device(device), precision
        if precision == "tf32" and self.device.type != "cuda":
            raise ConfigError("tf32 is a format of CUDA GPUs", hint="--precision float32 or bf16")
        self.window, self.left, self.slices = model.window, model.left, model.slices
        self.length, self.margin = model.length, model.backbone.margin
        # A model that sees its padding would see other bases in its place in the middle of a stretch.
        self.most_bins = 1 if model.backbone.sees_padding else STRETCH
        self.block = model.backbone.block
        """Bins of the blocks that the genome is read in, where a bin depends on its place in what is read; else 1."""
        self.latent = model.settings.latent
        self.prefetch = self.device.type == "cuda"
        """Whether a thread cuts the next stretches while these are read."""
        self.batch_size = windows_at_once(model, batch_size, self.device)
        # The other strand's latent belongs to a stranded track's partner: such a model is read on the forward strand alone.
        self.strands: Strands = "forward" if model.stranded else "both"
        dtype = torch.bfloat16 if precision == "bf16" else torch.float32
        with torch.no_grad():
            self.backbone = inference_pass(model, dtype, self.device)
            self.head = head_of(model)

    def __repr__(self) -> str:
        tracks = f"{len(self.head.bias):,} tracks from {self.latent} latents"
        how = f"windows of {self.window} bp, strands {self.strands}, {self.precision} on {self.device}"
        return one_line(self, f"{tracks}, {how}")

    @torch.inference_mode()
    def latents(self, codes: Bytes, strands: Strands | None = None) -> Floats:
        """Return the latents (windows, latent) of base codes (windows, `window`), each window from `left` bp before its bin on;
        of codes of stretches, which are longer, (stretches x bins, latent).

        With `both` the latents of the window and of its reverse complement are averaged: the default, but for a model with
        stranded tracks.
        """
        pieces, size = [], self.stretches_at_once(codes.shape[1])
        for low in range(0, len(codes), size):
            pieces.append(as_array(self.latents_of(self.placed(codes[low : low + size]), strands)))
        return np.concatenate(pieces) if pieces else np.zeros((0, self.latent), np.float32)

    def latents_at(
        self, starts: Ints, cut: Callable[[Ints, int], Tensor], report: Callable[[int], None] | None = None
    ) -> Floats:
        """Return the latents (bins, latent) of bins at `starts` (bins,), in any order, whole bins apart or not: places on a
        contig, or on the line of all contigs (genome/grid.py).

        Neighbours are read together, in one pass over a stretch, where the model gives the same numbers so.
        `cut(firsts, length)` returns the base codes (stretches, length) on the device, from `left` bp before the bins at
        `firsts` on. `report` is told how many bins are done.
        """
        latents, done = np.empty((len(starts), self.latent), np.float32), 0
        pieces = ((batch, cut(batch.firsts, self.length(batch.bins))) for batch in self.batches_of(starts))
        for batch, codes in ahead(pieces) if self.prefetch else pieces:
            read = as_array(self.latents_of(codes))
            latents[batch.index] = read[batch.row * batch.bins + batch.place]
            done += len(batch.index)
            if report:
                report(done)
        return latents

    def batches_of(self, starts: Ints) -> Iterator[Batch]:
        """Yield the stretches that hold all bins at `starts` (bins,), in any order, in batches that fit the device.

        Of a model that sees its padding each is a single bin, or one of the blocks that the genome is read in.
        """
        blocks = blocks_of(starts, self.block) if self.block > 1 else None
        for stretches in blocks or stretches_of(starts, self.most_bins, 2 * self.margin):
            yield from stretches.batches(self.stretches_at_once(self.length(stretches.bins)))

    def stretches_at_once(self, length: int) -> int:
        """Return how many stretches of so many bp a batch takes: as many bases as a batch of windows has."""
        return max(self.batch_size * self.window // length, 1)

    def cutter(self, genome: Genome, contig: str) -> Callable[[Ints, int], Tensor]:
        """Return what cuts stretches of a contig for `latents_at`; beyond its ends bases are unknown."""

        def cut(firsts: Ints, length: int) -> Tensor:
            begins = (firsts - self.left).tolist()
            return self.placed(np.stack([genome.codes(contig, begin, begin + length) for begin in begins]))

        return cut

    def placed(self, values: NDArray[Any]) -> Tensor:
        """Return an array on the device. A GPU copies it while it computes; the host does not wait."""
        tensor = torch.from_numpy(np.ascontiguousarray(values))
        return tensor.pin_memory().to(self.device, non_blocking=True) if self.device.type == "cuda" else tensor

    @torch.inference_mode()
    def latents_of(self, codes: Tensor, strands: Strands | None = None) -> Tensor:
        """Return the latents (windows, latent) of one batch of base codes that is on the device already, as a tensor there.

        Of stretches, whose codes are longer than `window`, (stretches x bins, latent).
        """
        both = (strands or self.strands) == "both"
        with float32_products(self.precision == "tf32"):
            # One pass over both strands: the batch is doubled, not the number of launches.
            latents = self.backbone.latents(torch.cat([codes, other_strand(codes)]) if both else codes, mirrored=both)
        return mean_of_strands(latents, len(latents) // (2 * len(codes))) if both else latents

    @torch.inference_mode()
    def reference(self, codes: Tensor, first: int, last: int) -> tuple[Passed, Tensor]:
        """Return a pass over stretches (stretches, bases), and their latents (stretches x bins, latent).

        Substitutions at the indexes `first` to `last` of a stretch can be measured against that pass (`substituted`).
        """
        if self.strands == "forward":
            with float32_products(self.precision == "tf32"):
                passed = self.backbone.reference(codes, first, last)
            return passed, passed.latents
        codes, end = torch.cat([codes, other_strand(codes)]), codes.shape[1] - 1
        with float32_products(self.precision == "tf32"):
            passed = self.backbone.reference(codes, min(first, end - last), max(last, end - first), mirrored=True)
        return passed, mean_of_strands(passed.latents, passed.bins)

    @torch.inference_mode()
    def substituted(
        self, reference: Passed, row: Tensor, position: Tensor, base: Tensor, seen: Seen | None = None
    ) -> Tensor:
        """Return the latents (bins, latent) of bins of a reference with one base of their stretch exchanged.

        `row` (variants,) is the stretch's number, `position` the index in it, `base` the code of the new base; `seen` says
        which bins are wanted with which variant (default: the first of its stretch with each).
        """
        if self.strands == "both":
            variant, place = seen or Seen.alone(row)
            opposite = reference.bins - 1 - place  # the other strand's bins come in the opposite order
            seen = Seen(torch.cat([variant, variant + len(row)]), torch.cat([place, opposite]))
            row, base = torch.cat([row, row + len(reference.codes) // 2]), torch.cat([base, 3 - base])
            position = torch.cat([position, reference.codes.shape[1] - 1 - position])
        with float32_products(self.precision == "tf32"):
            latents = self.backbone.alternates(reference, row, position, base, seen)
        return mean_of_strands(latents) if self.strands == "both" else latents


def inference_pass(model: MfdModel, dtype: torch.dtype, device: torch.device) -> Pass:
    """Return a model's backbone and last norm for inference, with copies of their weights as they are now."""
    backbone, settings = model.backbone, model.settings
    if isinstance(backbone, TrunkBackbone):
        return TrunkPass(backbone, model.norm, dtype, device)
    return CentrePass(backbone, model.norm, settings.window, settings.kmer, dtype, device)


def windows_at_once(model: MfdModel, wanted: int, device: torch.device) -> int:
    """Return how many windows a pass takes where `wanted` is asked for; fewer on a CPU, and of a trunk, whose windows are long:
    as many bases as so many windows of our own network have, but one window at a time on a CPU."""
    if isinstance(model.backbone, TrunkBackbone):
        return max(wanted * USUAL_WINDOW // model.window, 1) if device.type == "cuda" else 1
    return wanted if device.type == "cuda" else min(wanted, cached_windows(model))


USUAL_WINDOW = 2176
"""bp of the windows that a batch size counts."""
CACHED_VALUES = 2**21
"""float32 values in 8 MiB, the cache that a thread may count on."""
FEWEST_AT_ONCE = 4
"""Windows per pass: for fewer, starting the layers takes longer than computing them."""


def cached_windows(model: MfdModel) -> int:
    """Return how many windows a pass takes, both strands, for its widest layer to stay in a processor's cache: 8 MiB a thread.

    Measured on two cores: 1.3 to 1.6 times as fast as batches of 256 at width 64, no difference at width 768.
    """
    values = model.settings.window * model.settings.width // 2
    return max(torch.get_num_threads() * CACHED_VALUES // (2 * values), FEWEST_AT_ONCE)


def mean_of_strands(latents: Tensor, bins: int = 1) -> Tensor:
    """Return the means (windows, latent) of latents (2 x windows, latent) that hold all forward strands first.

    In stretches of several `bins` the other strand's bins come in the opposite order.
    """
    forward, reverse = latents.chunk(2)
    if bins > 1:
        reverse = reverse.unflatten(0, (-1, bins)).flip(1).flatten(0, 1)
    return (forward + reverse) / 2


@contextmanager
def float32_products(tf32: bool) -> Iterator[None]:
    """Let CUDA round the factors of float32 products to tf32 in the block, or not; for convolutions torch does by default."""
    before = torch.backends.cuda.matmul.allow_tf32, torch.backends.cudnn.allow_tf32
    torch.backends.cuda.matmul.allow_tf32, torch.backends.cudnn.allow_tf32 = tf32, tf32
    try:
        yield
    finally:
        torch.backends.cuda.matmul.allow_tf32, torch.backends.cudnn.allow_tf32 = before


def as_array(tensor: Tensor) -> Floats:
    """Return a tensor as a float32 array, which shares its memory where it can."""
    return tensor.detach().float().cpu().numpy()
