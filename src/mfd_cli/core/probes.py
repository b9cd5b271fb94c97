"""Fresh probes of what one group of latents says of another, after training, each beside what chance gives.

Probes are fitted on the first rows and measured on the others. Of bins along the genome those are two thirds and the last
third, so that neighbouring windows are not in both. Chance is the same probe on latents of one group that are shifted against
the other's along the rows: their dependence is gone, what is smooth along the genome stays. Intervals are 95 %, of a block
bootstrap over stretches of the measured rows; they say how much the rows matter, not what another training would give.
"""

from __future__ import annotations

import warnings
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from itertools import combinations, pairwise, permutations
from typing import Any, Protocol

import numpy as np

from mfd_cli.base.arrays import Bools, Ints, Reals
from mfd_cli.genome.grid import evenly

MOST_BINS = 8000
NOTHING = 1e-6
"""Logits (or latents) whose standard deviation is below this do not vary: float32 is no more exact."""
SHIFTS = 5
"""Shifted copies that make the chance level of a probe."""
BLOCKS = 30
"""Stretches of the measured bins that are resampled for intervals."""


class Probe(Protocol):
    """What scikit-learn's regressors offer."""

    def fit(self, x: Reals, y: Reals) -> Any: ...
    def predict(self, x: Reals) -> Reals: ...


def independence(
    latents: Mapping[str, Reals], seed: int = 0, weighed: bool = False, layout: Layout | None = None
) -> list[dict[str, Any]]:
    """Return one row per measure: measure, probe, from, to, value, low, high (interval), chance (mean over shifts), worst.

    `latents` maps each group to (bins, size) in genome order; columns that do not vary are left out, and at least one of each
    group must vary. No rows for fewer than two groups. Measures: r2 (the share of the variance of a group's latents that is
    predicted from another's; `worst` is the R2 of the best predicted dimension, times its share of the largest one's variance),
    accuracy of telling true pairs from shuffled ones (chance 0.5), canonical correlation (the first, fitted on one part and
    measured on the other). All dimensions count alike, or, where they are `weighed`, each by its variance. `layout` says which
    of at most MOST_BINS rows probes are fitted on; by default that of bins along the genome.
    """
    latents = {group: thin(values, weighed) for group, values in latents.items()}
    rows: list[dict[str, Any]] = []
    layout = layout or along_the_genome(len(next(iter(latents.values()), ())))
    for source, target in permutations(latents, 2):
        for name in PROBES:
            rows.append(
                {"from": source, "to": target, **predictability(name, latents[source], latents[target], seed, layout)}
            )
    for a, b in combinations(latents, 2):
        rows.append({"from": a, "to": b, **pair_accuracy(latents[a], latents[b], seed, layout)})
        rows.append({"from": a, "to": b, **canonical_correlation(latents[a], latents[b], layout)})
    order = ("measure", "probe", "from", "to", "value", "low", "high", "chance", "worst")
    return [{name: row[name] for name in order} for row in rows]


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


@dataclass(frozen=True)
class Layout:
    """Which rows probes are fitted on, the first ones, and which stretches of the others, on which they are measured, are
    resampled as one: indices among those."""

    fitted: slice
    measured: slice
    stretches: Sequence[Ints]

    def resamples(self, seed: int, times: int = 200) -> list[Ints]:
        """Return the measured rows of each of so many bootstraps over the stretches."""
        rng, stretches = np.random.default_rng(seed), self.stretches
        return [
            np.concatenate([stretches[i] for i in rng.integers(len(stretches), size=len(stretches))])
            for _ in range(times)
        ]


def along_the_genome(count: int) -> Layout:
    """Return the layout of so many bins: two thirds, and the last third in BLOCKS contiguous stretches."""
    edge = count * 2 // 3
    edges = np.linspace(0, count - edge, min(BLOCKS, count - edge) + 1).astype(np.int64)
    return Layout(slice(0, edge), slice(edge, count), [np.arange(low, high) for low, high in pairwise(edges)])


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


def predictability(name: str, source: Reals, target: Reals, seed: int, layout: Layout) -> dict[str, Any]:
    """Return the R2 of predicting one group's latents (bins, size) from another's, beside the same for shifted copies.

    `worst`: what is explained of one dimension over the variance of the largest, of the dimension where that is most.
    """
    seen, held = layout.fitted, layout.measured

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
    resampled = [r2(own, rows) for rows in layout.resamples(seed)]
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


def pair_accuracy(a: Reals, b: Reals, seed: int, layout: Layout) -> dict[str, Any]:
    """Return how often boosted trees on products of principal components tell true pairs from pairs of different bins."""
    from sklearn.decomposition import PCA
    from sklearn.ensemble import HistGradientBoostingClassifier

    seen, held = layout.fitted, layout.measured
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
    low, high = np.quantile([right[rows].mean() for rows in layout.resamples(seed)], [0.025, 0.975])
    return {
        "measure": "accuracy",
        "probe": "shuffled pairs",
        "value": float(right.mean()),
        "low": float(low),
        "high": float(high),
        "chance": 0.5,
        "worst": np.nan,
    }


def canonical_correlation(a: Reals, b: Reals, layout: Layout) -> dict[str, Any]:
    """Return the first canonical correlation, its directions fitted on one part of the bins and measured on the other."""
    seen, held = layout.fitted, layout.measured

    def first(x: Reals, y: Reals) -> tuple[Reals, Reals]:
        """Both canonical variables on the measured bins."""
        whiten = [_whitener(part[seen]) for part in (x, y)]
        u, _, v = np.linalg.svd((x[seen] @ whiten[0]).T @ (y[seen] @ whiten[1]), full_matrices=False)
        return x[held] @ whiten[0] @ u[:, 0], y[held] @ whiten[1] @ v[0]

    def r(pair: tuple[Reals, Reals], rows: Any = slice(None)) -> float:
        one, two = pair[0][rows], pair[1][rows]
        return abs(float(np.corrcoef(one, two)[0, 1])) if one.std() > 0 and two.std() > 0 else 0.0

    own = first(a, b)
    low, high = np.quantile([r(own, rows) for rows in layout.resamples(0)], [0.025, 0.975])
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
