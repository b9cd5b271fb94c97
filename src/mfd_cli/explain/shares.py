"""What the variance of the logits is made of: the parts of the tracks' weights, their shares, and intervals over the genome.

Shares are Cov(part, total) / Var(total). Intervals are of a block bootstrap over the measured bins: it resamples their contigs,
or stretches of them where there are fewer than eight. They leave out training: another seed may give a share outside of them.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping

import numpy as np

from mfd_cli.base.arrays import Ints, Reals
from mfd_cli.core.decompose import Decomposition
from mfd_cli.core.predictor import Head
from mfd_cli.core.shares import whole_latent
from mfd_cli.dataset.bins import Bins
from mfd_cli.settings.names import RESIDUAL, SHARED

FEWEST_CONTIGS, STRETCHES = 8, 20
DRAWS = 400
"""Resamplings of the genome behind an interval."""
OVERSHOOT = 0.0005
"""What a share may be below 0 or above 1 and still read as 0.0 % or 100.0 %."""


def share_remarks(shares: Iterable[float]) -> list[str]:
    """Return a sentence on shares below 0 and above 100 %, where one of these is one; NaN is none."""
    if not any(share < -OVERSHOOT or share > 1 + OVERSHOOT for share in shares):
        return []
    return [
        "A share below 0% is that of a part that works against the rest of the prediction, one above 100% that of a part that "
        "others work against: the shares of all parts add up to 100%."
    ]


def factor_parts(head: Head, decomposition: Decomposition) -> dict[str, Reals]:
    """Return the weights (tracks, latent) of the shared part, of every factor and of what else a mixed head has; they add up to
    those of the total."""
    latent = len(head.shared)
    parts: dict[str, Reals] = {SHARED: np.broadcast_to(head.shared, (len(head.bias), latent))}
    for name, weights in decomposition.factors.items():
        parts[name] = whole_latent(weights, head.slices[decomposition.group_of[name]], latent)
    return parts


def group_parts(head: Head, taken: Mapping[str, object]) -> dict[str, Reals]:
    """Return the weights (tracks, latent) of every group, the sum of its factors' weights.

    A group whose name is `taken` is called `group NAME`.
    """
    return {
        group if group not in taken else f"group {group}": whole_latent(weights, head.slices[group], len(head.shared))
        for group, weights in head.groups.items()
        if group != RESIDUAL  # it is one of the parts already
    }


def resampling_units(bins: Bins) -> Ints:
    """Return (bins,) the unit that is resampled: the contig, or one of STRETCHES stretches where there are few contigs."""
    contigs = np.unique(bins.contig)
    if len(contigs) >= FEWEST_CONTIGS:
        return np.searchsorted(contigs, bins.contig)
    return np.arange(len(bins)) * STRETCHES // max(len(bins), 1)


def share_draws(
    latents: Reals, unit: Ints, weights: Reals, parts: Mapping[str, Reals], seed: int = 0
) -> dict[str, Reals]:
    """Return each part's share of the variance of each track's logit, (1 + DRAWS, tracks): over all bins, then resampled.

    `latents` (bins, latent), `unit` (bins,) what is resampled together, `weights` and parts (tracks, latent).

    Shares depend on the latents through their covariance, and sums of products add up over units: a draw costs one weighted
    sum of matrices.
    """
    units = int(unit.max()) + 1
    wide = np.concatenate([latents.astype(np.float64), np.ones((len(latents), 1))], 1)
    moments = np.stack([wide[unit == number].T @ wide[unit == number] for number in range(units)])
    rng = np.random.default_rng(seed)
    counts = [np.ones(units), *(np.bincount(rng.integers(0, units, units), minlength=units) for _ in range(DRAWS))]
    matrix = weights.astype(np.float64)
    drawn: dict[str, list[Reals]] = {name: [] for name in parts}
    for count in counts:
        total = np.tensordot(count, moments, 1)
        mean = total[:-1, -1] / total[-1, -1]
        covariance = total[:-1, :-1] / total[-1, -1] - np.outer(mean, mean)
        with_total = covariance @ matrix.T
        variance = np.einsum("ik,ki->i", matrix, with_total)
        for name, part in parts.items():
            with np.errstate(divide="ignore", invalid="ignore"):
                drawn[name].append(np.einsum("ik,ki->i", part, with_total) / variance)
    return {name: np.stack(values) for name, values in drawn.items()}


def interval(draws: Reals) -> tuple[float, float, float]:
    """Return the mean over tracks and its 95 % interval, from draws (1 + DRAWS, tracks) of some tracks.

    A track whose logit does not vary has no shares (NaN) and is left out; NaN where that is so of all.
    """
    known = ~np.isnan(draws)
    counts = known.sum(1)
    means = np.where(counts > 0, np.where(known, draws, 0).sum(1) / np.maximum(counts, 1), np.nan)
    if np.isnan(means[0]):
        return np.nan, np.nan, np.nan
    low, high = np.nanquantile(means[1:], [0.025, 0.975]).tolist() if counts[1:].any() else (np.nan, np.nan)
    return float(means[0]), low, high
