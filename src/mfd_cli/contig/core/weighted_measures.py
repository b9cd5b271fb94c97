"""Measures of a prediction in many weighted samples at once: what a bootstrap asks for, without a loop over its draws.

Everywhere `weights` (draws, rows) say how often a row is in a draw, and what comes back is (draws,); NaN where a draw has not
what a measure needs. With weights of whole numbers each is what scikit-learn or SciPy say of the repeated rows.
"""

from __future__ import annotations

import numpy as np

from mfd_cli.base.arrays import Bools, Doubles, Ints


def auroc(scores: Doubles, positive: Bools, weights: Doubles) -> Doubles:
    """Return the area under the ROC curve: the share of pairs in which the positive row (rows,) has the higher of the `scores`
    (rows,), ties counting half."""
    hits, misses = _by_score(scores, positive, weights)
    below = np.cumsum(misses, 1) - misses
    return _ratio((hits * (below + misses / 2)).sum(1), hits.sum(1) * misses.sum(1))


def auprc(scores: Doubles, positive: Bools, weights: Doubles) -> Doubles:
    """Return the average precision, as scikit-learn defines it."""
    hits, misses = (part[:, ::-1] for part in _by_score(scores, positive, weights))
    found, shown = np.cumsum(hits, 1), np.cumsum(hits + misses, 1)
    precision = np.divide(found, shown, out=np.zeros_like(found), where=shown > 0)
    return _ratio((hits * precision).sum(1), hits.sum(1))


def quadratic_kappa(truth: Ints, guess: Ints, levels: int, weights: Doubles) -> Doubles:
    """Return Cohen's kappa with quadratic weights of grades from 0 to `levels` - 1."""
    table = _table(truth, guess, levels, weights)
    expected = table.sum(2)[:, :, None] * table.sum(1)[:, None, :]
    apart = (np.arange(levels)[:, None] - np.arange(levels)[None, :]) ** 2
    total = table.sum((1, 2))
    return 1 - _ratio((apart * table).sum((1, 2)) * total, (apart * expected).sum((1, 2)))


def balanced_accuracy(truth: Ints, guess: Ints, levels: int, weights: Doubles) -> Doubles:
    """Return the mean over classes of the share of their rows that are told right; classes that a draw lacks do not count."""
    table = _table(truth, guess, levels, weights)
    own, right = table.sum(2), table[:, np.arange(levels), np.arange(levels)]
    recall = np.divide(right, own, out=np.zeros_like(own), where=own > 0)
    return _ratio(recall.sum(1), (own > 0).sum(1).astype(np.float64))


def mean(values: Doubles, weights: Doubles) -> Doubles:
    """Return the weighted mean of values (rows,)."""
    return _ratio(weights @ values, weights.sum(1))


def r_squared(truth: Doubles, guess: Doubles, weights: Doubles) -> Doubles:
    """Return 1 less the squared error over that of the draw's own mean."""
    middle = mean(truth, weights)
    spread = weights @ truth**2 - weights.sum(1) * middle**2
    return 1 - _ratio(weights @ (truth - guess) ** 2, spread)


def pearson(one: Doubles, other: Doubles, weights: Doubles) -> Doubles:
    """Return the correlation of two columns, each (rows,) or of its own in each draw (draws, rows)."""
    total = weights.sum(1, keepdims=True)
    centred = [values - _ratio((weights * values).sum(1), total[:, 0])[:, None] for values in (one, other)]
    cross = (weights * centred[0] * centred[1]).sum(1)
    squares = [(weights * values**2).sum(1) for values in centred]
    return _ratio(cross, np.sqrt(squares[0] * squares[1]))


def spearman(one: Doubles, other: Doubles, weights: Doubles) -> Doubles:
    """Return the correlation of ranks, those of ties being their mean."""
    return pearson(_ranks(one, weights), _ranks(other, weights), weights)


def _by_score(scores: Doubles, positive: Bools, weights: Doubles) -> tuple[Doubles, Doubles]:
    """The weight of positive and of negative rows at each different score (draws, scores), the lowest first."""
    order, starts = _groups(scores)
    sorted_weights = weights[:, order]
    hits = np.add.reduceat(sorted_weights * positive[order], starts, 1)
    return hits, np.add.reduceat(sorted_weights, starts, 1) - hits


def _ranks(values: Doubles, weights: Doubles) -> Doubles:
    """The rank of each row in each draw (draws, rows)."""
    order, starts = _groups(values)
    together = np.add.reduceat(weights[:, order], starts, 1)
    middle = np.cumsum(together, 1) - together + (together + 1) / 2
    which = np.searchsorted(values[order][starts], values)
    return np.asarray(middle[:, which])


def _groups(values: Doubles) -> tuple[Ints, Ints]:
    """The order of values (rows,), and where each different one begins in it."""
    order = np.argsort(values, kind="stable")
    ordered = values[order]
    return order, np.flatnonzero(np.concatenate([[True], ordered[1:] != ordered[:-1]]))


def _table(truth: Ints, guess: Ints, levels: int, weights: Doubles) -> Doubles:
    """The weight of each pair of a true and a guessed class (draws, levels, levels)."""
    cell = np.eye(levels * levels)[truth * levels + guess]
    return np.asarray((weights @ cell).reshape(len(weights), levels, levels))


def _ratio(above: Doubles, below: Doubles) -> Doubles:
    """Their quotient, NaN where there is nothing to divide by."""
    return np.divide(above, below, out=np.full(np.shape(above), np.nan), where=below > 0)
