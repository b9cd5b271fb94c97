"""Which DNA letters drive a direction in the latent: input x gradient and integrated gradients, base by base.

A score is <direction, s_g(x)>, the mean over both strands. Attributions are hypothetical contributions (4 per position):
what a base would contribute there; those of the bases that are there are the actual ones.
"""

from __future__ import annotations

from typing import Literal

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from mfd_cli.core.model import MfdModel
from mfd_cli.core.onehot import one_hot, reverse_complement

Method = Literal["input-x-gradient", "integrated-gradients"]
Floats = NDArray[np.float32]


def attribute(
    model: MfdModel, codes: NDArray[np.uint8], direction: Floats, place: slice, *,
    method: Method = "input-x-gradient", steps: int = 32, device: torch.device | str = "cpu", batch_size: int = 64,
) -> Floats:  # fmt: skip
    """Hypothetical contributions (windows, 4, window) of each base to <direction, latent[place]>, both strands averaged.

    `codes` (windows, window) base codes, `direction` (size of the subspace,). At each position the mean over the four
    bases is subtracted: one-hot rows always sum to one, so that the model never saw a change of their sum and its
    gradient in that direction is arbitrary. `steps` are those of the path of integrated gradients.
    """
    model = model.to(device).eval()
    target = torch.from_numpy(np.ascontiguousarray(direction, np.float32)).to(device)
    pieces = []
    for low in range(0, len(codes), batch_size):
        batch = torch.from_numpy(np.ascontiguousarray(codes[low : low + batch_size])).to(device)
        mean = _gradient(model, batch, target, place, method, steps)
        if not model.stranded:  # as in core.predict: the other strand of a stranded pair is another track
            # The other strand, read back: complement the bases (A and T, C and G trade places), flip the positions.
            backward = _gradient(model, reverse_complement(batch), target, place, method, steps).flip(1, 2)
            mean = (mean + backward) / 2
        pieces.append((mean - mean.mean(1, keepdim=True)).cpu().numpy())
    return np.concatenate(pieces) if pieces else np.zeros((0, 4, model.window), np.float32)


def _gradient(model: MfdModel, codes: Tensor, target: Tensor, place: slice, method: Method, steps: int) -> Tensor:
    """Gradient of the score with respect to the bases (batch, 4, window), or its mean along the path from all bases
    equal (a quarter each) to the sequence."""
    bases = one_hot(codes, target.dtype)
    if method == "input-x-gradient":
        return _slope(model, bases, target, place)
    start = torch.full_like(bases, 0.25) * bases.sum(1, keepdim=True)  # an unknown base stays unknown on the path
    total = torch.zeros_like(bases)
    for step in range(steps):
        at = (step + 0.5) / steps  # the midpoint rule
        total += _slope(model, start + at * (bases - start), target, place)
    return total / steps


def _slope(model: MfdModel, bases: Tensor, target: Tensor, place: slice) -> Tensor:
    bases = bases.detach().requires_grad_(True)
    score = (model.latent_of_bases(bases)[:, place].to(target.dtype) @ target).sum()
    return torch.autograd.grad(score, bases)[0]


def actual(hypothetical: Floats, codes: NDArray[np.uint8]) -> Floats:
    """Contribution of the base that is there, (windows, window); 0 at unknown bases."""
    padded = np.concatenate([hypothetical, np.zeros_like(hypothetical[:, :1])], 1)  # row 4: an unknown base
    result: Floats = np.take_along_axis(padded, codes[:, None].astype(np.int64), 1)[:, 0]
    return result


@torch.no_grad()
def mutagenesis(model: MfdModel, codes: NDArray[np.uint8], direction: Floats, place: slice, positions: range) -> Floats:
    """In-silico mutagenesis of one window: change of the score (4, positions) when each base is put at each position."""
    model = model.eval()
    target = torch.from_numpy(np.ascontiguousarray(direction, np.float32))
    window = torch.from_numpy(codes.copy())
    mutated = window.repeat(4 * len(positions), 1)
    for row, (base, position) in enumerate((b, p) for b in range(4) for p in positions):
        mutated[row, position] = base
    everything = torch.cat([mutated, window[None]])
    latents = (model.latent(everything) + model.latent(reverse_complement(everything))) / 2
    scores = latents[:, place] @ target
    return (scores[:-1] - scores[-1]).reshape(4, len(positions)).numpy()
