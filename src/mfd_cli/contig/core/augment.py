"""Pictures changed at random while a network learns: one warp and one step of colour for a whole batch, on its device."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor


@dataclass(frozen=True)
class Change:
    """Largest rotation (degrees), shift (share of the side) and change of size; sds of brightness, contrast and colour gain."""

    rotate: float
    shift: float
    scale: float
    brightness: float
    contrast: float
    colour: float


def changed(pictures: Tensor, change: Change, rng: np.random.Generator) -> Tensor:
    """Return standardised pictures (images, 3, side, side), each rotated, shifted, resized and recoloured in its own way.

    The numbers are drawn on the host, so that a resumed training, and one on another device, draws the same.
    """
    count = len(pictures)
    angle = np.deg2rad(rng.uniform(-change.rotate, change.rotate, count))
    size = np.exp(rng.uniform(-change.scale, change.scale, count))
    across, down = rng.uniform(-2 * change.shift, 2 * change.shift, (2, count))
    cosine, sine = np.cos(angle) / size, np.sin(angle) / size
    warp = np.stack([np.stack([cosine, -sine, across], 1), np.stack([sine, cosine, down], 1)], 1)
    grid = F.affine_grid(
        torch.from_numpy(warp.astype(np.float32)).to(pictures.device), list(pictures.shape), align_corners=False
    )
    moved = F.grid_sample(pictures, grid, padding_mode="border", align_corners=False)
    gain = np.exp(
        rng.normal(0, 1, (count, 3, 1, 1)) * change.colour + rng.normal(0, 1, (count, 1, 1, 1)) * change.contrast
    )
    lift = rng.normal(0, change.brightness, (count, 1, 1, 1))
    numbers = torch.from_numpy(np.concatenate([gain, np.broadcast_to(lift, gain.shape)]).astype(np.float32))
    gains, lifts = numbers.to(pictures.device).chunk(2)
    return moved * gains + lifts
