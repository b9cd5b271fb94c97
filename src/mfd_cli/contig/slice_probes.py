"""How independent the slices of a feature are: what fresh probes find of one in the other, and of technical factors in each.

Probes are fitted on the images of two thirds of the families, in a seeded order, and measured on those of the others; no family
is divided. Intervals are 95 %, over resampled families. Chance is the same probe on shifted slices, or on permuted labels.
"""

from __future__ import annotations

import warnings
from collections.abc import Callable, Mapping
from itertools import pairwise
from pathlib import Path
from typing import Any

import numpy as np

from mfd_cli.base.arrays import Doubles, Floats, Ints, Reals
from mfd_cli.core.probes import MOST_BINS, PROBES, SHIFTS, Layout, Probe, independence, thin, varying
from mfd_cli.report.dots import DotPanel, draw_dots

COLUMNS = ("measure", "probe", "from", "to", "factor", "value", "low", "high", "chance", "worst")
"""What independence.tsv has. Rows of slices have no factor, those of factors no other slice (to) and no worst dimension."""
R2, BALANCED = "r2", "balanced accuracy"
FEWEST = 10
"""Images of a level, on which a probe is fitted as on which it is measured, without which nothing is said of the level."""
FEWEST_IMAGES = 60
"""Fewer say nothing about independence."""


def probed_slices(
    slices: Mapping[str, Floats], targets: Mapping[str, Doubles], numbers: frozenset[str], family: Ints, seed: int
) -> list[dict[str, Any]]:
    """Return the rows of independence.tsv.

    `slices` has the features (images, size) of each slice, `targets` of each factor the place of the level of every image, or,
    for those of `numbers`, its number (images,); NaN where there is none. `family` (images,) numbers that relatives share.
    """
    rows = list[dict[str, Any]]()
    order, layout = family_layout(family, seed)
    varied = {name: values[order] for name, values in slices.items() if varying(values[order]).any()}
    if len(varied) > 1 and len(order) >= FEWEST_IMAGES and layout.stretches:
        rows += [{**row, "factor": ""} for row in independence(varied, seed, layout=layout)]
    for factor, target in targets.items():
        for name in slices:
            rows += factor_rows(factor, name, slices[name], target, factor in numbers, family, seed)
    return rows


def family_layout(family: Ints, seed: int) -> tuple[Ints, Layout]:
    """Return an order of rows (at most MOST_BINS), families whole and one after the other as a seed deals them, and which of
    them probes are fitted on: about two thirds, up to the end of a family."""
    names, which = np.unique(family, return_inverse=True)
    dealt = np.random.default_rng([seed, len(names)]).permutation(len(names))
    place = np.empty(len(names), np.int64)
    place[dealt] = np.arange(len(names))
    order = np.argsort(place[which], kind="stable")
    ends = np.cumsum(np.bincount(place[which], minlength=len(names)))
    ends = ends[: max(int(np.searchsorted(ends, MOST_BINS, side="right")), 1)]  # whole families
    count = int(ends[-1])
    edge = int(ends[np.searchsorted(ends, count * 2 / 3)]) if len(ends) > 1 else count
    bounds = [edge, *ends[ends > edge].tolist()]
    stretches = [np.arange(low, high) - edge for low, high in pairwise(bounds)]
    return order[:count], Layout(slice(0, edge), slice(edge, count), stretches)


def factor_rows(
    factor: str, source: str, features: Floats, target: Doubles, number: bool, family: Ints, seed: int
) -> list[dict[str, Any]]:
    """Return a row for each probe of a factor (images,) from a slice (images, size); none where too few images can be used."""
    known = np.flatnonzero(~np.isnan(target))
    if not len(known) or not varying(features[known]).any():
        return []
    order, layout = family_layout(family[known], seed)
    known = known[order]
    if not number:
        known, layout = _with_common_levels(known, target, family, layout, seed)
    labels = target[known]
    if len(known) < FEWEST_IMAGES or len(np.unique(labels)) < 2 or not layout.stretches:
        return []
    inputs = thin(features[known], weighed=False)
    rng = np.random.default_rng([seed, 1])
    rows = []
    for probe in PROBES:
        copies = SHIFTS if probe == "linear" else 1  # the slow ones are steadier: one will do
        measure = _r2 if number else _balanced
        value, low, high = measure(probe, inputs, labels, layout, seed)
        chance = [measure(probe, inputs, rng.permutation(labels), layout, seed)[0] for _ in range(copies)]
        facts: dict[str, Any] = {
            "measure": R2 if number else BALANCED,
            "probe": probe,
            "from": source,
            "to": "",
            "factor": factor,
        }
        facts |= {"value": value, "low": low, "high": high, "chance": float(np.mean(chance)), "worst": np.nan}
        rows.append(facts)
    return rows


def _with_common_levels(known: Ints, target: Doubles, family: Ints, layout: Layout, seed: int) -> tuple[Ints, Layout]:
    """The rows of levels that have enough images in both parts, and their layout."""
    labels = target[known]
    parts = [np.unique(labels[part], return_counts=True) for part in (layout.fitted, layout.measured)]
    common = set(np.unique(labels).tolist())
    for levels, counts in parts:
        common &= set(levels[counts >= FEWEST].tolist())
    kept = np.isin(labels, sorted(common))
    if not kept.any() or kept.all():
        return known[kept], layout
    order, layout = family_layout(family[known[kept]], seed)
    return known[kept][order], layout


def _balanced(probe: str, inputs: Reals, labels: Doubles, layout: Layout, seed: int) -> tuple[float, float, float]:
    """How often the level of an image is told, every level weighing the same, with its interval."""
    guess = _fitted(CLASSIFIERS[probe](seed), inputs, labels, layout)
    truth = labels[layout.measured]
    right = (guess == truth).astype(np.float64)
    levels, which = np.unique(truth, return_inverse=True)

    def mean(rows: Ints) -> float:
        counts = np.bincount(which[rows], minlength=len(levels))
        sums = np.bincount(which[rows], right[rows], len(levels))
        return float((sums[counts > 0] / counts[counts > 0]).mean())

    low, high = np.quantile([mean(rows) for rows in layout.resamples(seed)], [0.025, 0.975])
    return mean(np.arange(len(truth))), float(low), float(high)


def _r2(probe: str, inputs: Reals, labels: Doubles, layout: Layout, seed: int) -> tuple[float, float, float]:
    """Which share of a number's variance is told, with its interval."""
    standard = (labels - labels.mean()) / max(float(labels.std()), 1e-12)
    guess = _fitted(PROBES[probe](seed), inputs, standard, layout)
    truth = standard[layout.measured]
    errors, whole = (truth - guess) ** 2, (truth - standard[layout.fitted].mean()) ** 2

    def share(rows: Ints) -> float:
        return float(1 - errors[rows].sum() / whole[rows].sum()) if whole[rows].sum() > 0 else 0.0

    low, high = np.quantile([share(rows) for rows in layout.resamples(seed)], [0.025, 0.975])
    return share(np.arange(len(truth))), float(low), float(high)


def _fitted(probe: Probe, inputs: Reals, labels: Doubles, layout: Layout) -> Doubles:
    """What a probe, fitted on the first rows, says of the measured ones."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # a perceptron that has not converged is a weak probe, not an error
        guess = probe.fit(inputs[layout.fitted], labels[layout.fitted]).predict(inputs[layout.measured])
    return np.asarray(guess, np.float64).reshape(-1)


def _linear(seed: int) -> Probe:
    from sklearn.linear_model import LogisticRegression

    return LogisticRegression(class_weight="balanced", max_iter=1000)


def _forest(seed: int) -> Probe:
    from sklearn.ensemble import ExtraTreesClassifier

    settings = {"min_samples_leaf": 5, "max_features": "sqrt", "class_weight": "balanced", "n_jobs": 1}
    return ExtraTreesClassifier(40, random_state=seed, **settings)


def _perceptron(seed: int) -> Probe:
    from sklearn.neural_network import MLPClassifier

    settings = {"alpha": 1e-2, "batch_size": 256, "early_stopping": True, "max_iter": 40}
    return MLPClassifier(hidden_layer_sizes=(64,), random_state=seed, **settings)


CLASSIFIERS: dict[str, Callable[[int], Probe]] = {"linear": _linear, "forest": _forest, "perceptron": _perceptron}
TITLES = {
    R2: "R2 of predicting one slice from the other, or a number",
    BALANCED: "level of a factor told from a slice: balanced accuracy",
    "accuracy": "accuracy, true or shuffled pairs of slices",
    "canonical correlation": "first canonical correlation of the slices",
}


def probe_lines(rows: list[dict[str, Any]]) -> list[str]:
    """Return a line for each factor and slice: what its probes find, and chance."""
    lines = []
    for factor, source, measure in dict.fromkeys(
        (row["factor"], row["from"], row["measure"]) for row in rows if row["factor"]
    ):
        own = [row for row in rows if (row["factor"], row["from"], row["measure"]) == (factor, source, measure)]
        values = ", ".join(f"{row['probe']} {row['value']:.2f}" for row in own)
        chance = np.mean([row["chance"] for row in own])
        lines.append(f"{factor} from the {source} slice, {measure}: {values} (chance {chance:.2f})")
    return lines


def draw_probes(path: Path, rows: list[dict[str, Any]]) -> None:
    """Write the picture of independence.tsv as PNG and SVG."""
    panels = []
    for measure in dict.fromkeys(row["measure"] for row in rows):
        own = [row for row in rows if row["measure"] == measure]
        labels = [f"{row['from']} → {row['factor'] or row['to']}, {row['probe']}" for row in own]
        panels.append(DotPanel(TITLES[measure], labels, own))
    draw_dots(path, panels)
