"""Which share of a logit's variance each of its parts has."""

from __future__ import annotations

from collections.abc import Mapping

import numpy as np

from mfd_cli.base.arrays import Doubles, Floats
from mfd_cli.base.long_array import LongArray


def covariance_of(values: LongArray) -> Doubles:
    """Return the covariance (size, size) of the columns of values (rows, size)."""
    shift, total, products = None, np.zeros(values.shape[1]), np.zeros((values.shape[1], values.shape[1]))
    for _, block in values.blocks():
        # Sums of squares lose their digits where the mean is large: they are taken about the mean of the first block.
        shift = block.mean(0, dtype=np.float64) if shift is None else shift
        centred = block - shift
        total += centred.sum(0)
        products += centred.T @ centred
    return (products - np.outer(total, total) / max(len(values), 1)) / max(len(values) - 1, 1)


def variance_shares(covariance: Doubles, weights: Floats, parts: Mapping[str, Floats]) -> dict[str, Floats]:
    """Return the share of the variance of each track's logit that each part has over bins: Cov(part, total) / Var(total).

    `covariance` (latent, latent) is that of the latents over bins; `weights` (tracks, latent) make the total; `parts` name ->
    (tracks, latent) weights that sum to it. The shares (tracks,) then sum to one; a share can be negative (a part that works
    against the total).
    """
    with_total = covariance @ weights.T  # (latent, tracks): covariance of each latent with each track's logit
    variance = np.einsum("ik,ki->i", weights, with_total)
    with np.errstate(divide="ignore", invalid="ignore"):
        return {name: np.einsum("ik,ki->i", part, with_total) / variance for name, part in parts.items()}


def whole_latent(part: Floats, subspace: slice, latent: int) -> Floats:
    """Return weights (tracks, size) of one subspace as weights (tracks, latent) of the whole latent, zero elsewhere."""
    wide = np.zeros((len(part), latent), part.dtype)
    wide[:, subspace] = part
    return wide
