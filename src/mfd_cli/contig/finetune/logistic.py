"""Linear models of frozen features from scikit-learn, as weights and biases; also of answers that are all the same."""

from __future__ import annotations

import warnings

import numpy as np
from sklearn.exceptions import ConvergenceWarning
from sklearn.linear_model import LogisticRegression, Ridge

from mfd_cli.base.arrays import Doubles, Ints

STEPS = 1000
"""Of the solver, at most."""
Linear = tuple[Doubles, Doubles]
"""Weights (outputs, features) and biases (outputs,)."""


def binary(features: Doubles, positive: Ints, strength: float) -> Linear:
    """Return the logistic regression of yes and no (rows,), with the penalty `strength`; where all answers are the same, their
    odds with half an answer added to each side."""
    yes = int(positive.sum())
    if yes in (0, len(positive)):
        odds = np.log((yes + 0.5) / (len(positive) - yes + 0.5))
        return np.zeros((1, features.shape[1])), np.array([odds])
    model = _fitted(features, positive, strength)
    return np.asarray(model.coef_, np.float64), np.asarray(model.intercept_, np.float64)


def multinomial(features: Doubles, classes: Ints, levels: int, strength: float) -> Linear:
    """Return the logits of `levels` classes. One that no row has gets half a row's share, whatever the features."""
    weight, bias = np.zeros((levels, features.shape[1])), np.full(levels, np.log(0.5 / (len(classes) + 0.5)))
    present = np.unique(classes)
    if len(present) < 2:
        bias[present] = 0.0
    elif len(present) == 2:
        slope, offset = binary(features, (classes == present[1]).astype(np.int64), strength)
        weight[present[1]], bias[present[0]], bias[present[1]] = slope[0], 0.0, offset[0]
    else:
        model = _fitted(features, classes, strength)
        weight[present], bias[present] = model.coef_, model.intercept_
    return weight, bias


def ridge(features: Doubles, values: Doubles, strength: float) -> Linear:
    """Return the ridge regression of numbers (rows,)."""
    model = Ridge(alpha=strength).fit(features, values)
    return np.asarray(model.coef_, np.float64)[None, :], np.array([float(model.intercept_)])


def _fitted(features: Doubles, classes: Ints, strength: float) -> LogisticRegression:
    """The model after STEPS at most: one that has not arrived by then is judged on validation units like any other."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", ConvergenceWarning)
        return LogisticRegression(C=1 / strength, max_iter=STEPS).fit(features, classes)
