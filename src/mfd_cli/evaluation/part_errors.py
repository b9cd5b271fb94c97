"""How far the parts of a prediction lie from the truth, told without knowing the truth. Of a mixed head.

A part is wrong for two reasons, and both leave a trace:

- The model misses something, such as a motif that it has not learnt. Tracks in which that is at work, those of the same target,
  have peaks in the same bins where none was expected. With e = label - probability, w = p (1 - p), and s_k K_k the covariance
  over tracks of what is missed in term k, sums over bins are about

      sum e_i e_j = sum w_i w_j (exp(sum_k s_k K_k,ij) - 1)        for tracks i, j that differ

  as it is for rare peaks whose logits lack something normal. The s_k are those that fit best, none below 0: moments of pairs
  of relatives (Haseman & Elston 1972). The noise of a track by itself is not in any pair.
- The weights are split between terms in a way that they do not determine: the posterior variance of the mixed head.

What real tracks have in common in a bin beyond the sequence, such as open chromatin, counts as missed: it is, by a model of
sequence. The residual's error cannot be told from noise.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np

from mfd_cli.base.arrays import Doubles
from mfd_cli.base.long_array import LongArray
from mfd_cli.core.mixed_head import MixedHead
from mfd_cli.core.part_variances import part_variances
from mfd_cli.core.predictor import Head
from mfd_cli.dataset.bins import Bins
from mfd_cli.genome.grid import evenly
from mfd_cli.runs.at_work import labels_of
from mfd_cli.runs.folder import Run
from mfd_cli.settings.names import RESIDUAL

MOST_BINS = 20_000
"""Bins that are read, spread evenly."""
REFITS, SWEEPS = 20, 200
"""Rounds of making the equations linear, and of solving them."""
MOST = 10.0
"""Variance of what is missed, at most: the exponential of more says nothing."""


def part_errors(run: Run, head: Head, latents: LongArray, bins: Bins) -> list[dict[str, Any]]:
    """Return one row per peak track and group: how much its part varies over bins, and how far it lies from the truth.

    `deviation` and `error` are standard deviations of the logit, `reliability` the correlation with the truth that follows
    from them. `latents` (bins, latent) are those of the labelled `bins`. No rows for a head that is not mixed, or fewer than
    two peak tracks that train.
    """
    own = run.model.head
    seen = np.flatnonzero(run.model.trained[: run.peak_tracks])
    if not isinstance(own, MixedHead) or len(seen) < 2:
        return []
    index = evenly(len(bins), MOST_BINS)
    some = latents.rows(index)
    labels = labels_of(run, bins.taken(index), seen).double().numpy()
    probability = 1 / (1 + np.exp(-head.logits(some)[:, seen].astype(float)))
    kernels = [own.kernels[term.name].numpy()[np.ix_(seen, seen)] for term in own.terms]
    missed = dict(zip((term.name for term in own.terms), missed_variances(labels, probability, kernels)))
    moved = some - some.mean(0)
    groups, rows = [name for name in head.groups if name != RESIDUAL], list[dict[str, Any]]()
    split = part_variances(own, {group: [group] for group in groups})
    for group in groups:
        kernel = np.zeros((len(run.tracks), len(run.tracks)))
        for term in (term for term in own.terms if term.group == group):
            kernel += missed[term.name] * own.kernels[term.name].numpy()
        known = split.deviations(group, moved).astype(float) ** 2
        error = np.sqrt(relative_variance(kernel, own.centre[group].numpy()) + known.mean(0))
        deviation = head.group_part(group, moved).std(0)
        for track in range(run.peak_tracks):
            size = float(np.hypot(deviation[track], error[track]))
            rows.append(
                {
                    "track": run.tracks[track].id,
                    "part": group,
                    "deviation": float(deviation[track]),
                    "error": float(error[track]),
                    "reliability": float(deviation[track]) / size if size else float("nan"),
                }
            )
    return rows


def means_of_parts(run: Run, rows: Sequence[Mapping[str, Any]]) -> dict[str, dict[str, float]]:
    """Return the means over training tracks of what `part_errors` says, part -> name -> mean; no part that is nothing."""
    trained = {track.id for track, used in zip(run.tracks, run.model.trained) if used}
    names, result = ("deviation", "error", "reliability"), {}
    for part in dict.fromkeys(row["part"] for row in rows):
        own = [row for row in rows if row["part"] == part and row["track"] in trained]
        own = [row for row in own if not np.isnan(row["reliability"])]
        if own:
            result[part] = {name: float(np.mean([row[name] for row in own])) for name in names}
    return result


def relative_variance(kernel: Doubles, centre: Doubles) -> Doubles:
    """Return the variance (tracks,) of an effect of covariance `kernel` (tracks, tracks), relative to its mean by `centre`."""
    relative = np.eye(len(centre)) - centre
    return ((relative @ kernel) * relative).sum(1)


def missed_variances(labels: Doubles, probability: Doubles, kernels: Sequence[Doubles]) -> Doubles:
    """Return the variances (terms,) of what a model misses in each term, of logits.

    `labels` (bins, tracks) are 0, 1 or NaN, beside the predicted `probability`; `kernels` (tracks, tracks) say how alike two
    tracks are in a term. What is missed in all tracks alike is fitted beside them.
    """
    there = ~np.isnan(labels)
    weight = np.where(there, probability * (1 - probability), 0)
    off = np.where(there, labels - probability, 0)
    pairs = np.triu_indices(labels.shape[1], 1)
    found, expected = ((x.T @ x)[pairs] for x in (off, weight))
    alike = np.stack([np.ones(len(found)), *(kernel[pairs] for kernel in kernels)])
    worth = 1 / np.maximum(expected, np.finfo(float).tiny)
    variances = np.zeros(len(alike))
    for _ in range(REFITS):
        grown = np.exp(np.minimum(variances @ alike, MOST))
        slope = expected * grown * alike
        left = found - expected * (grown - 1)
        matrix = (slope * worth) @ slope.T
        variances = nonnegative(matrix, (slope * worth) @ left + matrix @ variances, variances)
    return variances[1:]


def nonnegative(matrix: Doubles, side: Doubles, start: Doubles) -> Doubles:
    """Return the x >= 0 that minimises x' matrix x / 2 - side' x, by coordinate descent from `start`."""
    x = start.copy()
    for _ in range(SWEEPS):
        for k in range(len(x)):
            if matrix[k, k] > 0:
                x[k] = max(0.0, x[k] + (side[k] - matrix[k] @ x) / matrix[k, k])
    return x
