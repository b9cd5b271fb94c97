"""Families drawn again and again, with replacement: what an interval over persons is made of."""

from __future__ import annotations

import numpy as np

from mfd_cli.base.arrays import Doubles, Ints


def family_draws(family: Ints, draws: int, seed: int) -> Doubles:
    """Return how often each person is there in each draw of families (draws, persons); relatives come and go together."""
    _, which = np.unique(family, return_inverse=True)
    count = int(which.max()) + 1
    rng = np.random.default_rng([seed, count])
    drawn = rng.integers(0, count, (draws, count))
    times = np.stack([np.bincount(row, minlength=count) for row in drawn]) if draws else np.zeros((0, count))
    return times[:, which].astype(np.float64)
