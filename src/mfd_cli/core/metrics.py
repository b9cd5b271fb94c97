"""Exact ranking metrics for every track at once, and correlations for signal tracks."""

from __future__ import annotations

import torch
from torch import Tensor


def auroc_auprc(scores: Tensor, labels: Tensor, chunk: int = 64) -> tuple[Tensor, Tensor]:
    """Return the area under the ROC curve and the average precision of every track, each (tracks,) float64.

    `scores` (bins, tracks) float, `labels` (bins, tracks) bool, or float 0/1 with NaN where not measured. Tied scores
    are one step of the curve, as in scikit-learn. NaN where a track has no positive or no negative.
    """
    if not scores.numel():
        nothing = torch.full((scores.shape[1],), torch.nan, dtype=torch.float64)
        return nothing, nothing
    pieces = [
        _areas(scores[:, low : low + chunk], labels[:, low : low + chunk]) for low in range(0, scores.shape[1], chunk)
    ]
    return torch.cat([auroc for auroc, _ in pieces]).cpu(), torch.cat([auprc for _, auprc in pieces]).cpu()


def _areas(scores: Tensor, labels: Tensor) -> tuple[Tensor, Tensor]:
    """Return both areas of some tracks, from the corners of their curves: one corner per run of equal scores."""
    known = torch.ones_like(labels, dtype=torch.bool) if labels.dtype == torch.bool else ~torch.isnan(labels)
    ordered, order = scores.masked_fill(~known, -torch.inf).sort(dim=0, descending=True)
    known = known.gather(0, order)
    positive = (labels.gather(0, order) == 1) & known
    hits = positive.cumsum(0).double()  # true positives down to each rank
    called = known.cumsum(0).double()
    positives, total = hits[-1], called[-1]
    negatives = total - positives
    last = torch.ones_like(positive)  # the last bin of each run of equal scores: where the curves have their corners
    last[:-1] = ordered[1:] != ordered[:-1]
    gained, hits_before = _since_last_corner(hits, last)
    auprc = (gained * hits / called.clamp_min(1)).sum(0) / positives
    missed, _ = _since_last_corner(called - hits, last)
    auroc = (missed * (hits + hits_before) / 2).sum(0) / (positives * negatives)  # trapezoids
    undefined = (positives == 0) | (negatives == 0)
    nothing = torch.full_like(auroc, torch.nan)
    return torch.where(undefined, nothing, auroc), torch.where(undefined, nothing, auprc)


def _since_last_corner(counts: Tensor, last: Tensor) -> tuple[Tensor, Tensor]:
    """Return what running counts (bins, tracks) gained since the last corner, at corners, and what they were there.

    `last` marks the corners; elsewhere nothing is gained.
    """
    nothing = torch.zeros_like(counts)
    corner = torch.where(last, counts, nothing).cummax(0).values
    before = torch.cat([nothing[:1], corner[:-1]])
    return torch.where(last, counts - before, nothing), before


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
