"""Which DNA letters drive a direction in the latent: input x gradient, integrated gradients, in-silico mutagenesis.

A score is <direction, s_g(x)>, the mean over both strands. Attributions are hypothetical contributions (4 per position):
what a base would contribute there; those of the bases that are there are the actual ones.
"""

from __future__ import annotations

from typing import Literal

import numpy as np
import torch
from torch import Tensor

from mfd_cli.base.arrays import Bytes, Floats
from mfd_cli.core.model import MfdModel, in_evaluation
from mfd_cli.core.onehot import one_hot, other_strand
from mfd_cli.core.path_gradients import mean_along_path
from mfd_cli.core.predictor import Predictor
from mfd_cli.genome.sequence import UNKNOWN

Method = Literal["input-x-gradient", "integrated-gradients", "mutagenesis"]
METHODS = ("input-x-gradient", "integrated-gradients", "mutagenesis")
MUTATED_AT_ONCE = 2048
"""Substitutions of a window that are computed together."""


def attribute(
    model: MfdModel,
    codes: Bytes,
    direction: Floats,
    subspace: slice,
    *,
    method: Method = "input-x-gradient",
    steps: int = 32,
    device: torch.device | str = "cpu",
    batch_size: int = 64,
) -> Floats:
    """Return hypothetical contributions (windows, 4, window) of each base to <direction, latent[subspace]>.

    Both strands are averaged. `codes` (windows, window) base codes, `direction` (size of the subspace,). At each position the
    mean over the four bases is subtracted: one-hot rows always sum to one, so that the model never saw a change of their sum
    and its gradient in that direction is arbitrary. `steps` are those of the path of integrated gradients.
    """
    if method == "mutagenesis":
        return mutagenesis(Predictor(model, device), codes, direction, subspace)
    target = torch.from_numpy(np.ascontiguousarray(direction, np.float32)).to(device)
    pieces = []
    with in_evaluation(model, device):
        for low in range(0, len(codes), batch_size):
            batch = torch.from_numpy(np.ascontiguousarray(codes[low : low + batch_size])).to(device)
            mean = _gradient(model, batch, target, subspace, method, steps)
            if not model.stranded:  # as in core.predictor: the other strand of a stranded pair is another track
                # The other strand, read back: complement the bases (A and T, C and G trade places), flip the positions.
                backward = _gradient(model, other_strand(batch), target, subspace, method, steps).flip(1, 2)
                mean = (mean + backward) / 2
            pieces.append((mean - mean.mean(1, keepdim=True)).cpu().numpy())
    return np.concatenate(pieces) if pieces else np.zeros((0, 4, model.window), np.float32)


def _gradient(model: MfdModel, codes: Tensor, direction: Tensor, subspace: slice, method: Method, steps: int) -> Tensor:
    """Return the gradient of the score with respect to the bases (batch, 4, window), or its mean along the path from all bases
    equal (a quarter each) to the sequence."""
    bases = one_hot(codes, direction.dtype)
    if method == "input-x-gradient":
        return _gradient_at(model, bases, direction, subspace)
    start = torch.full_like(bases, 0.25) * bases.sum(1, keepdim=True)  # an unknown base stays unknown on the path
    return mean_along_path(lambda at: _gradient_at(model, at, direction, subspace), start, bases, steps)


def _gradient_at(model: MfdModel, bases: Tensor, direction: Tensor, subspace: slice) -> Tensor:
    """Return the gradient of the score at these bases, one-hot or between (batch, 4, window), in the same shape."""
    bases = bases.detach().requires_grad_(True)
    score = (model.latent_of_bases(bases)[:, subspace].to(direction.dtype) @ direction).sum()
    return torch.autograd.grad(score, bases)[0]


def actual(hypothetical: Floats, codes: Bytes) -> Floats:
    """Return the contribution of the base that is there, (windows, window); 0 at unknown bases.

    `hypothetical` is (windows, 4, window), `codes` (windows, window).
    """
    padded = np.concatenate([hypothetical, np.zeros_like(hypothetical[:, :1])], 1)  # row 4: an unknown base
    result: Floats = np.take_along_axis(padded, codes[:, None].astype(np.int64), 1)[:, 0]
    return result


@torch.inference_mode()
def mutagenesis(predictor: Predictor, codes: Bytes, direction: Floats, subspace: slice) -> Floats:
    """Return the contributions by in-silico mutagenesis: the score (windows, 4, window) with each base at each position, minus
    the mean over the four. Only what a substitution changes is computed (see core/incremental.py)."""
    if not len(codes):
        return np.zeros((0, 4, predictor.window), np.float32)
    direction = np.ascontiguousarray(direction, np.float32)
    return np.stack([_mutated(predictor, window, direction, subspace) for window in codes])


def _mutated(predictor: Predictor, window: Bytes, direction: Floats, subspace: slice) -> Floats:
    """Return the score of one window (window,) with each base at each position, minus the mean over the four: (4, window)."""
    width = len(window)
    reference, own = predictor.reference(predictor.placed(window[None]), 0, width - 1)
    scores = np.full((4, width), float(own.float().cpu().numpy()[0, subspace] @ direction), np.float32)
    bases, positions = np.divmod(np.arange(4 * width), width)
    substituted = bases != window[positions]  # the base that is there has the window's own score
    bases, positions = bases[substituted], positions[substituted]
    for low in range(0, len(bases), MUTATED_AT_ONCE):
        part = slice(low, low + MUTATED_AT_ONCE)
        row, position, base = (predictor.placed(v[part]) for v in (np.zeros_like(bases), positions, bases))
        latents = predictor.substituted(reference, row, position, base).float().cpu().numpy()
        scores[bases[part], positions[part]] = latents[:, subspace] @ direction
    result: Floats = scores - scores.mean(0)
    result[:, window >= UNKNOWN] = 0
    return result


@torch.no_grad()
def scores_of(
    model: MfdModel, codes: Bytes, direction: Floats, subspace: slice, device: torch.device | str = "cpu"
) -> tuple[Floats, Floats]:
    """Return <direction, latent[subspace]> of windows, and of the same with all bases equal, where paths of gradients begin.

    Both strands are averaged; (windows,) each.
    """
    target = torch.from_numpy(np.ascontiguousarray(direction, np.float32))
    bases = one_hot(torch.from_numpy(np.ascontiguousarray(codes)), torch.float32)
    start = torch.full_like(bases, 0.25) * bases.sum(1, keepdim=True)
    scores = []
    with in_evaluation(model, device):
        for windows in (bases, start):
            strands = (windows,) if model.stranded else (windows, windows.flip(1, 2))
            latents = torch.stack([model.latent_of_bases(one.to(device)).cpu() for one in strands]).mean(0)
            scores.append((latents[:, subspace] @ target).numpy())
    return scores[0], scores[1]


def convergence_error(contributions: Floats, score: Floats, baseline: Floats) -> Floats:
    """Return how far the contributions (windows, window) of a path are from adding up to the score less that of the baseline,
    as a share of that difference: (windows,). Integrated gradients add up in the limit of many steps."""
    difference = score - baseline
    error: Floats = np.abs(contributions.sum(1) - difference) / np.maximum(np.abs(difference), 1e-6)
    return error
