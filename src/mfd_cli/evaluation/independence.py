"""How independent the subspaces are, measured after training by fresh probes, each beside what chance gives.

Probes are fitted on the first two thirds of the bins and measured on the last third, so that neighbouring windows are not
in both. Chance is the same probe on latents of one group that are shifted against the other's along the genome: their
dependence is gone, what is smooth along the genome stays. Intervals are 95 %, of a block bootstrap over stretches of the last
third; they say how much the bins matter, not what another training would give.
"""

from __future__ import annotations

import warnings
from collections.abc import Callable, Mapping, Sequence
from itertools import combinations, pairwise, permutations
from typing import Any, Protocol

import numpy as np
import torch

from mfd_cli.base.arrays import Bools, Ints, Reals
from mfd_cli.core.metadata import MetadataEncoder
from mfd_cli.core.model import MfdModel
from mfd_cli.core.predictor import head_of
from mfd_cli.genome.grid import evenly
from mfd_cli.runs.folder import Run

MOST_BINS = 8000
NOTHING = 1e-6
"""Logits (or latents) whose standard deviation is below this do not vary: float32 is no more exact."""
MOST_COMPONENTS = 16
"""Principal components of a group's contributions that are probed."""
LEAST_VARIANCE = 0.01
"""Share of a group's variance below which a component is left out: trees and canonical correlations, which know no scale, would
find in it what hardly moves a logit."""
SHIFTS = 5
"""Shifted copies that make the chance level of a probe."""
BLOCKS = 30
"""Stretches of the measured bins that are resampled for intervals."""
FEWEST_TRACKS = 8
"""Tracks below which weights are not compared: a nearest neighbour among fewer is chance."""
UNTRAINED_SEEDS = 5
"""Untrained networks whose weights say what the table alone gives."""


class Probe(Protocol):
    """What scikit-learn's regressors offer."""

    def fit(self, x: Reals, y: Reals) -> Any: ...
    def predict(self, x: Reals) -> Reals: ...


def independence(latents: Mapping[str, Reals], seed: int = 0, weighed: bool = False) -> list[dict[str, Any]]:
    """Return one row per measure: measure, probe, from, to, value, low, high (interval), chance (mean over shifts), worst.

    `latents` maps each group to (bins, size) in genome order; columns that do not vary are left out, and at least one of each
    group must vary. No rows for fewer than two groups. Measures: r2 (the share of the variance of a group's latents that is
    predicted from another's; `worst` is the R2 of the best predicted dimension, times its share of the largest one's variance),
    accuracy of telling true pairs from shuffled ones (chance 0.5), canonical correlation (the first, fitted on one part and
    measured on the other). All dimensions count alike, or, where they are `weighed`, each by its variance.
    """
    latents = {group: thin(values, weighed) for group, values in latents.items()}
    rows = []
    for source, target in permutations(latents, 2):
        for name in PROBES:
            rows.append({"from": source, "to": target, **predictability(name, latents[source], latents[target], seed)})
    for a, b in combinations(latents, 2):
        rows.append({"from": a, "to": b, **pair_accuracy(latents[a], latents[b], seed)})
        rows.append({"from": a, "to": b, **canonical_correlation(latents[a], latents[b])})
    order = ("measure", "probe", "from", "to", "value", "low", "high", "chance", "worst")
    return [{name: row[name] for name in order} for row in rows]


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


def varying(values: Reals) -> Bools:
    """Return which columns of (bins, size) vary."""
    return np.asarray(values, np.float64).std(0) > NOTHING


def thin(values: Reals, weighed: bool) -> Reals:
    """Return at most MOST_BINS rows, evenly spaced, of the columns that vary there, standardised.

    Where they are `weighed` all columns are divided by the scale of the largest one: a probe sees a small one small.
    """
    values = np.asarray(values, np.float64)[evenly(len(values), MOST_BINS)]
    values = values[:, varying(values)]
    scale = values.std(0)
    return (values - values.mean(0)) / (scale.max() if weighed else scale)


def shifted(values: Reals) -> list[Reals]:
    """Return SHIFTS copies of (bins, size), rotated along the genome by at least a tenth of its length."""
    return [np.roll(values, len(values) * (i + 1) // (SHIFTS + 1), 0) for i in range(SHIFTS)]


def halves(count: int) -> tuple[slice, slice]:
    """Return where among so many bins probes are fitted, and where they are measured."""
    edge = count * 2 // 3
    return slice(0, edge), slice(edge, count)


def _linear(seed: int) -> Probe:
    from sklearn.linear_model import RidgeCV

    return RidgeCV(alphas=(1.0, 30.0, 1000.0))


def _forest(seed: int) -> Probe:
    from sklearn.ensemble import ExtraTreesRegressor

    return ExtraTreesRegressor(40, min_samples_leaf=5, max_features="sqrt", random_state=seed, n_jobs=1)


def _perceptron(seed: int) -> Probe:
    from sklearn.neural_network import MLPRegressor

    settings = {"alpha": 1e-2, "batch_size": 256, "early_stopping": True, "max_iter": 40}
    return MLPRegressor(hidden_layer_sizes=(64,), random_state=seed, **settings)


PROBES: dict[str, Callable[[int], Probe]] = {"linear": _linear, "forest": _forest, "perceptron": _perceptron}


def predictability(name: str, source: Reals, target: Reals, seed: int) -> dict[str, Any]:
    """Return the R2 of predicting one group's latents (bins, size) from another's, beside the same for shifted copies.

    `worst`: what is explained of one dimension over the variance of the largest, of the dimension where that is most.
    """
    seen, held = halves(len(source))

    def errors(values: Reals) -> tuple[Reals, Reals]:
        """Squared errors of the probe, and of the mean: (measured bins, size) each."""
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")  # a perceptron that has not converged is a weak probe, not an error
            guess = PROBES[name](seed).fit(source[seen], values[seen]).predict(source[held])
        guess = np.asarray(guess).reshape(values[held].shape)
        return (values[held] - guess) ** 2, (values[held] - values[seen].mean(0)) ** 2

    def r2(pair: tuple[Reals, Reals], rows: Any = slice(None)) -> float:
        """R2 of all dimensions together: each counts by its variance."""
        total = pair[1][rows].sum()
        return float(1 - pair[0][rows].sum() / total) if total > 0 else 0.0

    own = errors(target)
    copies = shifted(target) if name == "linear" else shifted(target)[:1]  # the slow ones are steadier: one will do
    resampled = [r2(own, rows) for rows in resamples(len(own[0]), seed)]
    explained, total = (own[1] - own[0]).sum(0), own[1].sum(0)
    low, high = np.quantile(resampled, [0.025, 0.975])
    return {
        "measure": "r2",
        "probe": name,
        "value": r2(own),
        "low": float(low),
        "high": float(high),
        "chance": float(np.mean([r2(errors(copy)) for copy in copies])),
        "worst": float((explained / total.max()).max()) if total.max() > 0 else 0.0,
    }


def resamples(count: int, seed: int, times: int = 200) -> list[Ints]:
    """Return the rows of each of so many bootstraps over contiguous stretches of `count` bins."""
    rng, edges = np.random.default_rng(seed), np.linspace(0, count, min(BLOCKS, count) + 1).astype(np.int64)
    stretches = [np.arange(low, high) for low, high in pairwise(edges)]
    return [
        np.concatenate([stretches[i] for i in rng.integers(len(stretches), size=len(stretches))]) for _ in range(times)
    ]


def pair_accuracy(a: Reals, b: Reals, seed: int) -> dict[str, Any]:
    """Return how often boosted trees on products of principal components tell true pairs from pairs of different bins."""
    from sklearn.decomposition import PCA
    from sklearn.ensemble import HistGradientBoostingClassifier

    seen, held = halves(len(a))
    a, b = (PCA(min(8, part.shape[1]), random_state=seed).fit(part[seen]).transform(part) for part in (a, b))

    def examples(rows: slice) -> tuple[Reals, Bools]:
        other = np.random.default_rng(seed).permutation(len(b[rows]))
        pairs = [
            np.hstack([a[rows], second, *(a[rows, i : i + 1] * second for i in range(min(4, a.shape[1])))])
            for second in (b[rows], b[rows][other])
        ]
        return np.vstack(pairs), np.arange(2 * len(b[rows])) < len(b[rows])

    model = HistGradientBoostingClassifier(max_iter=60, max_depth=4, random_state=seed).fit(*examples(seen))
    inputs, labels = examples(held)
    right = (model.predict(inputs) == labels).reshape(2, -1).mean(0)
    low, high = np.quantile([right[rows].mean() for rows in resamples(len(right), seed)], [0.025, 0.975])
    return {
        "measure": "accuracy",
        "probe": "shuffled pairs",
        "value": float(right.mean()),
        "low": float(low),
        "high": float(high),
        "chance": 0.5,
        "worst": np.nan,
    }


def canonical_correlation(a: Reals, b: Reals) -> dict[str, Any]:
    """Return the first canonical correlation, its directions fitted on one part of the bins and measured on the other."""
    seen, held = halves(len(a))

    def first(x: Reals, y: Reals) -> tuple[Reals, Reals]:
        """Both canonical variables on the measured bins."""
        whiten = [_whitener(part[seen]) for part in (x, y)]
        u, _, v = np.linalg.svd((x[seen] @ whiten[0]).T @ (y[seen] @ whiten[1]), full_matrices=False)
        return x[held] @ whiten[0] @ u[:, 0], y[held] @ whiten[1] @ v[0]

    def r(pair: tuple[Reals, Reals], rows: Any = slice(None)) -> float:
        one, two = pair[0][rows], pair[1][rows]
        return abs(float(np.corrcoef(one, two)[0, 1])) if one.std() > 0 and two.std() > 0 else 0.0

    own = first(a, b)
    low, high = np.quantile([r(own, rows) for rows in resamples(len(own[0]), 0)], [0.025, 0.975])
    return {
        "measure": "canonical correlation",
        "probe": "first",
        "value": r(own),
        "low": float(low),
        "high": float(high),
        "chance": float(np.mean([r(first(a, copy)) for copy in shifted(b)])),
        "worst": np.nan,
    }


def _whitener(x: Reals, ridge: float = 1e-3) -> Reals:
    """(size, size) that makes the columns of x uncorrelated with unit variance, shrunk a little."""
    values, vectors = np.linalg.eigh(x.T @ x / len(x) + ridge * np.eye(x.shape[1]))
    whitener: Reals = vectors / np.sqrt(values)
    return whitener


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
