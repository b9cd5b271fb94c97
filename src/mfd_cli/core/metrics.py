"""Exact ranking metrics for every track at once, and correlations for signal tracks."""

from __future__ import annotations

import math

import numpy as np
import torch
from torch import Tensor

from mfd_cli.base.arrays import Bools, Floats, Reals


def auroc_auprc(scores: Tensor, labels: Tensor) -> tuple[Tensor, Tensor]:
    """Return the area under the ROC curve and the average precision of every track, each (tracks,) float64.

    `scores` (bins, tracks) float, `labels` (bins, tracks) bool, or float 0/1 with NaN where not measured. Tied scores
    are one step of the curve, as in scikit-learn. NaN where a track has no positive or no negative.
    """
    guesses = scores.to("cpu", torch.promote_types(scores.dtype, torch.float32)).numpy()  # NumPy has no bfloat16
    truths = labels.cpu().numpy()
    areas = [_areas(guesses[:, track], truths[:, track]) for track in range(scores.shape[1])]
    both = torch.tensor(areas, dtype=torch.float64).reshape(-1, 2)
    return both[:, 0], both[:, 1]


def _areas(scores: Floats, labels: Bools | Reals) -> tuple[float, float]:
    """Return both areas of one track.

    The curves have their corners at the scores of positives, so it is enough to know where those stand among all: scores are
    sorted without their labels, which NumPy does with vector instructions, several times as fast as an order is found.
    """
    if labels.dtype != np.bool_:
        known = ~np.isnan(labels)
        if not known.all():
            scores, labels = scores[known], labels[known]
    every, hits = np.sort(scores), np.sort(scores[labels == 1])
    positives, negatives = len(hits), len(every) - len(hits)
    if not positives or not negatives:
        return math.nan, math.nan
    below, up_to = np.searchsorted(every, hits, "left"), np.searchsorted(every, hits, "right")
    hits_below, hits_up_to = np.searchsorted(hits, hits, "left"), np.searchsorted(hits, hits, "right")
    # The negatives below each positive, and half of those with its score.
    passed = (below - hits_below + up_to - hits_up_to) / 2
    precision = (positives - hits_below) / (len(every) - below)
    return float(passed.sum() / (positives * negatives)), float(precision.mean())


def correlation(a: Tensor, b: Tensor) -> Tensor:
    """Return Pearson's correlation of matching columns (bins, tracks) over bins where both are known, (tracks,) float64."""
    known = ~(torch.isnan(a) | torch.isnan(b))
    count = known.sum(0).clamp_min(1)
    a, b = torch.where(known, a, 0.0).double(), torch.where(known, b, 0.0).double()
    a, b = torch.where(known, a - a.sum(0) / count, 0.0), torch.where(known, b - b.sum(0) / count, 0.0)
    scale = (a.pow(2).sum(0) * b.pow(2).sum(0)).sqrt()
    return torch.where(scale > 0, (a * b).sum(0) / scale.clamp_min(1e-300), torch.full_like(scale, torch.nan))


def deviance_explained(guess: Tensor, truth: Tensor, counts: Tensor) -> Tensor:
    """Return 1 - deviance / deviance of the column's own mean, (tracks,) float64, over the bins where both are known.

    It is at most 1, and 0 for a guess as good as the mean. The deviance is Poisson's in columns that `counts` (tracks,)
    marks, and the squared error in others.
    """
    known = ~(torch.isnan(guess) | torch.isnan(truth))
    guess, truth = torch.where(known, guess, 1.0).double(), torch.where(known, truth, 1.0).double()
    mean = torch.where(known, truth, 0.0).sum(0) / known.sum(0).clamp_min(1)

    def deviance(rate: Tensor) -> Tensor:
        poisson = 2 * (torch.special.xlogy(truth, truth) - torch.special.xlogy(truth, rate) - truth + rate)
        return torch.where(known, torch.where(counts, poisson, (truth - rate).pow(2)), 0.0).sum(0)

    most = deviance(mean.expand_as(truth))
    return torch.where(most > 0, 1 - deviance(guess) / most.clamp_min(1e-300), torch.full_like(most, torch.nan))


def average_ranks(values: Tensor) -> Tensor:
    """Return average ranks down each column (bins, tracks) as float64; NaN stays NaN. Pearson of these is Spearman."""
    result = torch.full(values.shape, torch.nan, dtype=torch.float64)
    for column in range(values.shape[1]):
        known = ~torch.isnan(values[:, column])
        _, inverse, counts = values[known, column].unique(return_inverse=True, return_counts=True)
        end = counts.cumsum(0).double()
        result[known, column] = (end - (counts - 1) / 2)[inverse]
    return result
