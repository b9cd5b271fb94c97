"""Which share of a logit's variance each of its parts has."""

from __future__ import annotations

from collections.abc import Mapping

import numpy as np

from mfd_cli.base.arrays import Floats


def variance_shares(latents: Floats, weights: Floats, parts: Mapping[str, Floats]) -> dict[str, Floats]:
    """Return the share of the variance of each track's logit that each part has over bins: Cov(part, total) / Var(total).

    `latents` (bins, latent); `weights` (tracks, latent) make the total; `parts` name -> (tracks, latent) weights that
    sum to it. The shares (tracks,) then sum to one; a share can be negative (a part that works against the total).
    """
    centred = latents - latents.mean(0, dtype=np.float64)
    covariance = centred.T @ centred / max(len(latents) - 1, 1)
    with_total = covariance @ weights.T  # (latent, tracks): covariance of each latent with each track's logit
    variance = np.einsum("ik,ki->i", weights, with_total)
    with np.errstate(divide="ignore", invalid="ignore"):
        return {name: np.einsum("ik,ki->i", part, with_total) / variance for name, part in parts.items()}


def whole_latent(part: Floats, subspace: slice, latent: int) -> Floats:
    """Return weights (tracks, size) of one subspace as weights (tracks, latent) of the whole latent, zero elsewhere."""
    wide = np.zeros((len(part), latent), part.dtype)
    wide[:, subspace] = part
    return wide
