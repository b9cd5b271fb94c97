"""Applying a trained model: the only place where a model meets windows outside training.

Both strands are averaged in the latent: the head is linear, so that is the average of the logits and of every part.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any, Literal

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from mfd_cli.core.head import ConditionedHead, HeadWeights
from mfd_cli.core.incremental import CentrePass, Reference
from mfd_cli.core.model import MfdModel
from mfd_cli.core.onehot import reverse_complement
from mfd_cli.errors import ConfigError, RunError

Strands = Literal["both", "forward"]
Precision = Literal["float32", "tf32", "bf16"]
Floats = NDArray[np.float32]


@dataclass(frozen=True)
class Head:
    """Output weights as arrays, computed once: bias (tracks,), shared (latent,), groups name -> (tracks, size)."""

    bias: Floats
    shared: Floats
    groups: Mapping[str, Floats]
    slices: Mapping[str, slice]

    def matrix(self) -> Floats:
        """(tracks, latent): logits are `latents @ matrix().T + bias`."""
        return self.shared + np.concatenate(list(self.groups.values()), 1)

    def logits(self, latents: Floats) -> Floats:
        """(bins, latent) to (bins, tracks)."""
        return latents @ self.matrix().T + self.bias

    def shared_part(self, latents: Floats) -> Floats:
        """(bins, latent) to (bins,): what all tracks have in common."""
        return latents @ self.shared

    def group_part(self, group: str, latents: Floats) -> Floats:
        """(bins, latent) to (bins, tracks): what a group contributes to each track's logit."""
        return latents[:, self.slices[group]] @ self.groups[group].T


class Predictor:
    """A model in evaluation mode on a device, with its weights as they are now.

    `precision` is that of the backbone: float32, or where speed matters more than the last digits tf32 (CUDA) or bf16.
    """

    def __init__(
        self, model: MfdModel, device: str | torch.device = "cpu", batch_size: int = 256,
        precision: Precision = "float32",
    ) -> None:  # fmt: skip
        self.model = model.to(device).eval()
        self.device, self.precision = torch.device(device), precision
        if precision == "tf32" and self.device.type != "cuda":
            raise ConfigError("tf32 is a format of CUDA GPUs", hint="--precision float32 or bf16")
        self.window, self.left, self.slices = model.window, model.left, model.slices
        self.batch_size = batch_size if self.device.type == "cuda" else min(batch_size, cached_windows(model))
        # The other strand's latent belongs to a stranded track's partner: such a model is read on the forward strand alone.
        self.strands: Strands = "forward" if model.stranded else "both"
        settings, dtype = model.settings, torch.bfloat16 if precision == "bf16" else torch.float32
        with torch.no_grad():
            self.backbone = CentrePass(model.backbone, model.norm, settings.window, settings.kmer, dtype)
            weights: HeadWeights = model.head.weights()
        self.head = Head(
            _array(weights.bias), _array(weights.shared), {g: _array(w) for g, w in weights.groups.items()}, self.slices
        )

    @torch.inference_mode()
    def latents(self, codes: NDArray[np.uint8], strands: Strands | None = None) -> Floats:
        """Latents (windows, latent) of base codes (windows, `window`), each window `left` bp before its bin.

        With `both` the latents of the window and of its reverse complement are averaged: the default, but for a model with
        stranded tracks.
        """
        pieces = []
        for low in range(0, len(codes), self.batch_size):
            pieces.append(_array(self.latents_of(self.placed(codes[low : low + self.batch_size]), strands)))
        return np.concatenate(pieces) if pieces else np.zeros((0, self.model.settings.latent), np.float32)

    def placed(self, values: NDArray[Any]) -> Tensor:
        """An array on the device."""
        return torch.from_numpy(np.ascontiguousarray(values)).to(self.device)

    @torch.inference_mode()
    def latents_of(self, codes: Tensor, strands: Strands | None = None) -> Tensor:
        """The same for one batch of codes that is on the device already, as a tensor there."""
        both = (strands or self.strands) == "both"
        with float32_products(self.precision == "tf32"):
            # One pass over both strands: the batch is doubled, not the number of launches.
            latents = self.backbone.latents(torch.cat([codes, reverse_complement(codes)]) if both else codes)
        return mean_of_strands(latents) if both else latents

    @torch.inference_mode()
    def reference(self, codes: Tensor, first: int, last: int) -> tuple[Reference, Tensor]:
        """A pass over windows (windows, bases) that substitutions at the indexes `first` to `last` can be measured against,
        and the latents (windows, latent)."""
        if self.strands == "forward":
            with float32_products(self.precision == "tf32"):
                found = self.backbone.reference(codes, first, last)
            return found, found.latents
        codes, end = torch.cat([codes, reverse_complement(codes)]), self.window - 1
        with float32_products(self.precision == "tf32"):
            found = self.backbone.reference(codes, min(first, end - last), max(last, end - first))
        return found, mean_of_strands(found.latents)

    @torch.inference_mode()
    def substituted(self, reference: Reference, row: Tensor, position: Tensor, base: Tensor) -> Tensor:
        """Latents (variants, latent) of windows of a reference with one base exchanged.

        `row` (variants,) is the window's number, `position` the index in it, `base` the code of the new base.
        """
        if self.strands == "both":
            windows = len(reference.codes) // 2
            row, base = torch.cat([row, row + windows]), torch.cat([base, 3 - base])
            position = torch.cat([position, self.window - 1 - position])
        with float32_products(self.precision == "tf32"):
            latents = self.backbone.alternates(reference, row, position, base)
        return mean_of_strands(latents) if self.strands == "both" else latents


def cached_windows(model: MfdModel) -> int:
    """Windows per pass, both strands, whose widest layer stays in a processor's cache: 8 MiB a thread.

    Measured on two cores: 1.3 to 1.6 times as fast as batches of 256 at width 64, no difference at width 768.
    """
    values = model.settings.window * model.settings.width // 2
    return max(torch.get_num_threads() * 2**21 // (2 * values), 4)


def mean_of_strands(latents: Tensor) -> Tensor:
    """(2 x windows, latent), forward strands first, to (windows, latent)."""
    forward, reverse = latents.chunk(2)
    return (forward + reverse) / 2


@contextmanager
def float32_products(tf32: bool) -> Iterator[None]:
    """Whether CUDA may round the factors of float32 products to tf32; for convolutions torch does it by default."""
    before = torch.backends.cuda.matmul.allow_tf32, torch.backends.cudnn.allow_tf32
    torch.backends.cuda.matmul.allow_tf32, torch.backends.cudnn.allow_tf32 = tf32, tf32
    try:
        yield
    finally:
        torch.backends.cuda.matmul.allow_tf32, torch.backends.cudnn.allow_tf32 = before


def _array(tensor: Tensor) -> Floats:
    return tensor.detach().float().cpu().numpy()


@torch.no_grad()
def estimate_from_metadata(
    model: MfdModel, rows: Sequence[Mapping[str, str]], values: Tensor, known: Tensor, ridge: float = 1.0
) -> Tensor:
    """Values (known tracks, ...) of some of the model's tracks, estimated for other metadata rows: (rows, ...) float32.

    Ridge regression on the metadata codes, around the mean: the bias and the gain of a track that nobody trained on.
    `known` (tracks,) marks the model's tracks that have a value. An unseen level counts as the mean level.
    """
    told = [row for row, used in zip(model.rows, known.tolist()) if used]

    def codes(chosen: Sequence[Mapping[str, str]]) -> Tensor:
        encoded = model.metadata.encode(chosen, unseen="mean").values()
        return torch.from_numpy(np.concatenate([*encoded, np.zeros((len(chosen), 1), np.float32)], 1)).double()

    x, y = codes(told), values.detach().double().cpu()
    mean, middle = x.mean(0), y.mean(0)
    gram = (x - mean).T @ (x - mean) + ridge * torch.eye(x.shape[1], dtype=torch.float64)
    slopes = torch.linalg.solve(gram, (x - mean).T @ (y - middle).reshape(len(y), -1))
    guess = (codes(rows) - mean) @ slopes
    return (guess.reshape(len(rows), *y.shape[1:]) + middle).float()


@torch.no_grad()
def fill_held_out(model: MfdModel, kinds: Sequence[str]) -> None:
    """Set the bias (and gain) of every held-out track to the estimate from the training tracks of its kind, in place."""
    trained = torch.from_numpy(model.trained)
    for kind in dict.fromkeys(kinds):
        of_kind = torch.tensor([other == kind for other in kinds])
        held, known = of_kind & ~trained, of_kind & trained
        if not held.any() or not known.any():
            continue
        rows = [row for row, wanted in zip(model.rows, held.tolist()) if wanted]
        head = model.head
        head.bias[held] = estimate_from_metadata(model, rows, head.bias[known], known).to(head.bias.device)
        gain = getattr(head, "gain", None)
        if gain is not None:
            gain[:, held] = estimate_from_metadata(model, rows, gain[:, known].T, known).T.to(gain.device)


@torch.no_grad()
def head_of_rows(model: MfdModel, rows: Sequence[Mapping[str, str]], kinds: Sequence[str], of: Sequence[str]) -> Head:
    """Output weights of experiments given by metadata rows, whether anybody made them or not.

    `kinds` (peaks, signal) of the model's tracks, `of` those wanted, one per row: a bias comes from tracks of its kind.
    Raises ConfigError for a free head, which has no weights but those of its own tracks.
    """
    head = model.head
    if not isinstance(head, ConditionedHead):
        raise ConfigError("this model has a free head: it knows only its own tracks", hint="train without --head free")
    codes = {n: torch.from_numpy(v).to(head.bias.device) for n, v in model.metadata.encode(rows, unseen="mean").items()}
    bias, gains = torch.zeros(len(rows)), torch.ones(len(head.groups), len(rows))
    for kind in dict.fromkeys(of):
        chosen = torch.tensor([wanted == kind for wanted in of])
        known = torch.from_numpy(model.trained) & torch.tensor([other == kind for other in kinds])
        if not known.any():
            raise ConfigError(f"the model has no training track of kind {kind}")
        own = [row for row, wanted in zip(rows, chosen.tolist()) if wanted]
        bias[chosen] = estimate_from_metadata(model, own, head.bias[known], known)
        if head.gain is not None:
            free = estimate_from_metadata(model, own, head.gain[:, known].T, known).T
            gains[:, chosen] = 2 * torch.sigmoid(free)
    groups = {}
    for index, group in enumerate(head.groups):
        own_codes = {name: codes[name] for name in head.factors_of[group]}
        weights = head.group_weights(group, own_codes) if own_codes else torch.zeros(len(rows), head.groups[group])
        groups[group] = _array(weights.cpu() * gains[index][:, None])
    return Head(_array(bias), _array(head.weights().shared), groups, model.slices)


def device_of(gpus: int, local: int = 0) -> torch.device:
    """The device for `--gpus N`: 0 is the CPU, otherwise the CUDA device number `local`. RunError where there is none."""
    if gpus == 0:
        return torch.device("cpu")
    if not torch.cuda.is_available():
        raise RunError("no CUDA GPU is available here", hint="--gpus 0 runs on the CPU")
    if gpus > torch.cuda.device_count():
        raise RunError(f"--gpus {gpus}: there are {torch.cuda.device_count()} here")
    return torch.device("cuda", local)


def variance_shares(latents: Floats, weights: Floats, parts: Mapping[str, Floats]) -> dict[str, Floats]:
    """Share of the variance of each track's logit that each part has over these bins: Cov(part, total) / Var(total).

    `latents` (bins, latent); `weights` (tracks, latent) make the total; `parts` name -> (tracks, latent) weights that
    sum to it. The shares (tracks,) then sum to one; a share can be negative (a part that works against the total).
    """
    centred = latents - latents.mean(0, dtype=np.float64)
    covariance = centred.T @ centred / max(len(latents) - 1, 1)
    with_total = covariance @ weights.T  # (latent, tracks): covariance of each latent with each track's logit
    variance = np.einsum("ik,ki->i", weights, with_total)
    with np.errstate(divide="ignore", invalid="ignore"):
        return {name: np.einsum("ik,ki->i", part, with_total) / variance for name, part in parts.items()}


def whole_latent(part: Floats, place: slice, latent: int) -> Floats:
    """Weights (tracks, size) of one subspace as weights over the whole latent, zero elsewhere."""
    wide = np.zeros((len(part), latent), part.dtype)
    wide[:, place] = part
    return wide
