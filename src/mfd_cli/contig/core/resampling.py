"""Families drawn again and again: what tells how sure a mean over persons is."""

from __future__ import annotations

import numpy as np

from mfd_cli.base.arrays import Doubles, Ints

RESAMPLED = 1000
"""Draws of families for an interval."""


def family_weights(family: Ints, seed: int) -> Doubles:
    """Return how often each person is drawn (draws, persons) where families are drawn again and again, with replacement."""
    _, which = np.unique(family, return_inverse=True)
    count = int(which.max()) + 1
    rng = np.random.default_rng([seed, count])
    drawn = rng.integers(0, count, (RESAMPLED, count))
    times = np.stack([np.bincount(row, minlength=count) for row in drawn])
    return times[:, which].astype(np.float64)


def interval(values: Doubles) -> tuple[float, float]:
    """Return the 95 % percentile interval of resampled values (draws,)."""
    low, high = np.quantile(values, (0.025, 0.975))
    return float(low), float(high)
