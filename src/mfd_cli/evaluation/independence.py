"""How independent the subspaces are, measured after training: what a group contributes to the logits, for the probes of
core/probes.py, and what output weights tell of other groups' factors.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
import torch

from mfd_cli.base.arrays import Ints, Reals
from mfd_cli.core.metadata import MetadataEncoder
from mfd_cli.core.model import MfdModel
from mfd_cli.core.predictor import head_of
from mfd_cli.core.probes import NOTHING
from mfd_cli.runs.folder import Run

MOST_COMPONENTS = 16
"""Principal components of a group's contributions that are probed."""
LEAST_VARIANCE = 0.01
"""Share of a group's variance below which a component is left out: trees and canonical correlations, which know no scale, would
find in it what hardly moves a logit."""
FEWEST_TRACKS = 8
"""Tracks below which weights are not compared: a nearest neighbour among fewer is chance."""
UNTRAINED_SEEDS = 5
"""Untrained networks whose weights say what the table alone gives."""


def contributions(latents: Reals, weights: Reals, most: int = MOST_COMPONENTS) -> Reals:
    """Return the first principal components (bins, at most `most`) of what a group contributes to the tracks' logits.

    Latents that no weight uses do not count, and those that move the logits most count most: this, not the latents, is
    what predictions, scores and explanations are made of. A component's variance is what it contributes to that of the logits,
    summed over different rows of weights. (bins, 0) where the group moves no logit: it has no factors, or all tracks have
    the same weights.
    """
    distinct = np.unique(np.asarray(weights, np.float64).round(6), axis=0)
    logits = np.asarray(latents, np.float64) @ distinct.T
    logits -= logits.mean(0)
    values, vectors = np.linalg.eigh(logits.T @ logits / len(logits))
    if values.max() < NOTHING**2:
        return np.empty((len(logits), 0))
    chosen = np.flatnonzero(values > LEAST_VARIANCE * values.sum())[::-1][:most]  # the largest come last
    return logits @ vectors[:, chosen]


# -- weights -----------------------------------------------------------------------------------------------------------


def weight_leakage(
    run: Run,
    weights: Mapping[str, Reals],
    untrained: Sequence[Mapping[str, Reals]],
    group_of: Mapping[str, str],
) -> list[dict[str, Any]]:
    """Return whether training made a group's output weights tell the level of a factor that is not the group's.

    A nearest-neighbour classifier, each track left out in turn, among the training tracks that share their levels of the
    group's own first factor with at least one other track; the weights are taken relative to the mean of that level, so
    that only what differs within it counts. Its accuracy says first of all how the table is made: factors that go together
    show in the weights of each other's networks before any training. So `excess` is the accuracy less the mean of the same
    for `untrained` networks of the same table, whose standard deviation is `untrained_sd`. Rows: group, factor, within, tracks,
    accuracy, untrained, untrained_sd, excess. No row where fewer than eight tracks can be compared.

    `weights`, and each of two or more `untrained`, map each group to (tracks, size), `group_of` each factor to its group.
    """
    metadata, rows = run.model.metadata, run.model.rows
    result: list[dict[str, Any]] = []
    for group, values in weights.items():
        own = next((factor for factor, home in group_of.items() if home == group), None)
        if own is None:
            continue
        stratum = first_level(metadata, own, rows)
        sizes = np.bincount(stratum[run.model.trained], minlength=stratum.max() + 1)
        compared = np.flatnonzero(run.model.trained & (sizes[stratum] > 1))
        if len(compared) < FEWEST_TRACKS:
            continue
        near, *of_untrained = (
            nearest_neighbour(relative_to_stratum(np.asarray(each, np.float64)[compared], stratum[compared]))
            for each in (values, *(network[group] for network in untrained))
        )
        for factor in (factor for factor, home in group_of.items() if home != group):
            levels = first_level(metadata, factor, rows)[compared]
            if len(np.unique(levels)) > 1:
                accuracy, null = neighbour_accuracy(near, levels), [neighbour_accuracy(n, levels) for n in of_untrained]
                expected = float(np.mean(null))
                found = {"accuracy": accuracy, "untrained": expected, "untrained_sd": float(np.std(null, ddof=1))}
                row = {"group": group, "factor": factor, "within": own, "tracks": len(compared)}
                result.append(row | found | {"excess": accuracy - expected})
    return result


def untrained_weights(run: Run, seeds: int = UNTRAINED_SEEDS) -> list[dict[str, Reals]]:
    """Return the groups' output weights, group -> (tracks, size), of so many networks of the run's table that saw no data."""
    model, found = run.model, []
    bias = np.zeros(len(model.rows), np.float32)
    for seed in range(seeds):
        with torch.random.fork_rng(devices=[]):
            torch.manual_seed(seed)
            fresh = MfdModel(model.settings, model.metadata, model.factors, model.rows, model.trained, bias)
        found.append(dict(head_of(fresh).groups))
    return found


def relative_to_stratum(values: Reals, stratum: Ints) -> Reals:
    """Return values (rows, size) less the mean of the rows of their stratum (rows,)."""
    relative = values.copy()
    for number in np.unique(stratum):
        relative[stratum == number] -= values[stratum == number].mean(0)
    return relative


def first_level(metadata: MetadataEncoder, factor: str, rows: Sequence[Mapping[str, str]]) -> Ints:
    """Return (rows,) index of the (first) level of each row; the number of levels where a row has none."""
    member = metadata.membership(factor, rows)
    return np.where(member.any(1), member.argmax(1), member.shape[1])


def nearest_neighbour(x: Reals) -> Ints:
    """Return (rows,) index of the closest other row of x (rows, size)."""
    squares = (x**2).sum(1)
    distance = squares[:, None] + squares[None] - 2 * x @ x.T
    np.fill_diagonal(distance, np.inf)
    return distance.argmin(1)


def neighbour_accuracy(near: Ints, levels: Ints) -> float:
    """Return how often a row and its nearest neighbour have the same level; both (rows,)."""
    return float((levels[near] == levels).mean())
