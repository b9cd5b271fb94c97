"""Measures in many weighted samples: those of scikit-learn and SciPy on the rows that a sample repeats."""

from __future__ import annotations

import numpy as np
import pytest
from scipy import stats
from sklearn import metrics

from mfd_cli.contig.core import weighted_measures as measure
from mfd_cli.contig.core.family_draws import family_draws

RNG = np.random.default_rng(4)
ROWS = 60
SCORES = RNG.normal(size=ROWS).round(1)  # with ties
POSITIVE = RNG.random(ROWS) < 0.3 + 0.3 * (SCORES > 0)
GRADES = RNG.integers(0, 5, ROWS)
GUESS = np.clip(GRADES + RNG.integers(-1, 2, ROWS), 0, 4)
NUMBERS = SCORES + RNG.normal(size=ROWS).round(1)
WEIGHTS = np.concatenate([np.ones((1, ROWS)), RNG.integers(0, 4, (6, ROWS))]).astype(float)
REPEATED = [np.repeat(np.arange(ROWS), row.astype(int)) for row in WEIGHTS]

CASES = {
    "auroc": (
        measure.auroc(SCORES, POSITIVE, WEIGHTS),
        lambda rows: metrics.roc_auc_score(POSITIVE[rows], SCORES[rows]),
    ),
    "auprc": (
        measure.auprc(SCORES, POSITIVE, WEIGHTS),
        lambda rows: metrics.average_precision_score(POSITIVE[rows], SCORES[rows]),
    ),
    "kappa": (
        measure.quadratic_kappa(GRADES, GUESS, 5, WEIGHTS),
        lambda rows: metrics.cohen_kappa_score(GRADES[rows], GUESS[rows], weights="quadratic"),
    ),
    "balanced accuracy": (
        measure.balanced_accuracy(GRADES, GUESS, 5, WEIGHTS),
        lambda rows: metrics.balanced_accuracy_score(GRADES[rows], GUESS[rows]),
    ),
    "r2": (measure.r_squared(NUMBERS, SCORES, WEIGHTS), lambda rows: metrics.r2_score(NUMBERS[rows], SCORES[rows])),
    "pearson": (measure.pearson(NUMBERS, SCORES, WEIGHTS), lambda rows: stats.pearsonr(NUMBERS[rows], SCORES[rows])[0]),
    "spearman": (
        measure.spearman(NUMBERS, SCORES, WEIGHTS),
        lambda rows: stats.spearmanr(NUMBERS[rows], SCORES[rows])[0],
    ),
    "mean": (measure.mean(NUMBERS, WEIGHTS), lambda rows: NUMBERS[rows].mean()),
}


@pytest.mark.parametrize("name", list(CASES))
def test_each_is_the_measure_of_the_repeated_rows(name: str) -> None:
    ours, theirs = CASES[name]
    assert ours.tolist() == pytest.approx([theirs(rows) for rows in REPEATED], abs=1e-12)


def test_a_sample_that_lacks_something_has_no_measure() -> None:
    weights = np.stack([POSITIVE.astype(float), np.zeros(ROWS), np.ones(ROWS)])
    assert np.isnan(measure.auroc(SCORES, POSITIVE, weights)).tolist() == [True, True, False]
    assert np.isnan(measure.auprc(SCORES, POSITIVE, weights)).tolist() == [False, True, False]
    assert np.isnan(measure.quadratic_kappa(GRADES, GUESS, 5, weights)).tolist() == [False, True, False]
    assert np.isnan(measure.pearson(np.ones(ROWS), SCORES, weights)).all()
    assert np.isnan(measure.r_squared(np.zeros(ROWS), SCORES, weights)).all()


def test_a_class_that_a_sample_lacks_does_not_count() -> None:
    rows = np.flatnonzero(GRADES != 3)
    weights = (GRADES != 3).astype(float)[None, :]
    recalls = [(GUESS[rows][GRADES[rows] == k] == k).mean() for k in (0, 1, 2, 4)]
    assert measure.balanced_accuracy(GRADES, GUESS, 5, weights)[0] == pytest.approx(np.mean(recalls))


def test_families_come_and_go_together() -> None:
    family = np.array([7, 7, 2, 5, 5, 5, 9])
    drawn = family_draws(family, 2000, 3)
    assert drawn.shape == (2000, 7) and (drawn[:, 0] == drawn[:, 1]).all() and (drawn[:, 3] == drawn[:, 5]).all()
    one_each = drawn[:, [0, 2, 3, 6]]
    assert (one_each.sum(1) == 4).all() and one_each.mean(0) == pytest.approx(np.ones(4), abs=0.1)
    assert np.array_equal(drawn, family_draws(family, 2000, 3)) and not np.array_equal(
        drawn, family_draws(family, 2000, 4)
    )
    assert family_draws(family, 0, 3).shape == (0, 7)
