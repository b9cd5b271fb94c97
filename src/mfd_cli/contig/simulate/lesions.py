"""Lesions of the retina: small bright spots, more of them where a person's rare variants say so."""

from __future__ import annotations

import numpy as np

from mfd_cli.base.arrays import Doubles

USUAL = 1.0
"""Logarithm of the number of spots in an eye of a person with the mean latent."""
SLOPE = 0.9
"""How much that changes with the latent, per sd."""
MOST = 16
"""No eye has more spots."""
SPOT = np.array([0.96, 0.88, 0.62])
"""Their colour."""
WIDTH = 0.05
"""Their sd, where the picture reaches from -1 to 1."""
REACH = 0.85
"""How far from the middle they lie, at most."""


def spots_of(lesions: Doubles, rng: np.random.Generator) -> Doubles:
    """Return where the spots of the two eyes of each person lie (eyes, MOST, 2), across and down, NaN where there is none.

    `lesions` (persons,) are the latents.
    """
    rate = np.exp(USUAL + SLOPE * np.repeat(lesions, 2))
    count = np.minimum(rng.poisson(np.minimum(rate, 10 * MOST)), MOST)
    angle = rng.uniform(0, 2 * np.pi, (len(rate), MOST))
    radius = REACH * np.sqrt(rng.random((len(rate), MOST)))
    places = np.stack([radius * np.cos(angle), radius * np.sin(angle)], 2)
    return np.where((np.arange(MOST) < count[:, None])[..., None], places, np.nan)


def with_spots(seen: Doubles, spots: Doubles) -> Doubles:
    """Return pictures (eyes, side, side, 3) with spots (eyes, MOST, 2)."""
    side = seen.shape[1]
    axis = (np.arange(side) + 0.5) / side * 2 - 1
    across = np.exp(-(((axis - spots[..., :1]) / WIDTH) ** 2) / 2)  # (eyes, MOST, side)
    down = np.exp(-(((axis - spots[..., 1:]) / WIDTH) ** 2) / 2)
    on = np.einsum("esy,esx->eyx", np.nan_to_num(down), np.nan_to_num(across))
    covered = np.minimum(on, 1.0)[..., None]
    return np.asarray(seen + covered * (SPOT - seen), np.float64)
