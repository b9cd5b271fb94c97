"""Whether predicted probabilities are right: how often there is a peak where a model says that there is one in a hundred.

Peaks are rare, so nearly all cells (bins of tracks) have a small probability, and what matters of it is its logarithm. Cells
are therefore counted in classes of equal width on the logit scale, whose edges are fixed: classes with as many cells each
would put all probabilities above a few per cent in the last one or two. Fixed edges also need one pass over the cells.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import numpy as np
import torch

from mfd_cli.base.arrays import Doubles
from mfd_cli.enrichment.models import Likelihood, newton

LARGEST = 16
"""Logits beyond this, up or down, are counted with those at the edge: one in nine million."""
PER_CLASS, CLASSES_PER_UNIT = 16, 2
"""A class of the table is half a unit of the logit wide. Slope and intercept are fitted to a sixteenth of that: as to cells."""


class Reliability:
    """Counts of cells of peak tracks by their predicted logit: how many, their mean probability, how many have a peak.

    >>> counts = Reliability()
    >>> counts.add(torch.tensor([-2.0, -2.0, -2.0, 1.0]), torch.tensor([0.0, 1.0, torch.nan, 1.0]))
    >>> [(row["cells"], row["peaks"], round(row["predicted"], 3), row["observed"]) for row in counts.rows()]
    [(2, 1, 0.119, 0.5), (1, 1, 0.731, 1.0)]
    """

    def __init__(self) -> None:
        self.tracks = 0
        # Of each narrow class: cells, their probabilities added up, cells with a peak.
        self.counts = np.zeros((3, 2 * LARGEST * CLASSES_PER_UNIT * PER_CLASS))

    def add(self, logits: torch.Tensor, labels: torch.Tensor) -> None:
        """Count the cells of one more track: logits (bins,), labels (bins,) 0 or 1, NaN where not measured."""
        known = ~labels.isnan()
        if not known.all():
            logits, labels = logits[known], labels[known]
        classes = self.counts.shape[1]
        narrow = ((logits + LARGEST) * (CLASSES_PER_UNIT * PER_CLASS)).clamp(0, classes - 1).long()
        self.counts[0] += np.bincount(narrow.numpy(), minlength=classes)
        self.counts[1] += np.bincount(narrow.numpy(), torch.sigmoid(logits).numpy(), classes)
        self.counts[2] += np.bincount(narrow[labels == 1].numpy(), minlength=classes)
        self.tracks += 1

    def rows(self) -> list[dict[str, Any]]:
        """Return the reliability curve, a row per class that has cells, from the smallest probability to the largest.

        `from`, `to` (probabilities), `cells`, `peaks` (cells that have one), `predicted` (mean probability), `observed` (the
        share of cells with a peak).
        """
        cells, probability, peaks = self.counts.reshape(3, -1, PER_CLASS).sum(2)
        edges = 1 / (1 + np.exp(-(np.arange(len(cells) + 1) / CLASSES_PER_UNIT - LARGEST)))
        edges[[0, -1]] = 0, 1
        return [
            {
                "from": float(edges[i]),
                "to": float(edges[i + 1]),
                "cells": int(cells[i]),
                "peaks": int(peaks[i]),
                "predicted": float(probability[i] / cells[i]),
                "observed": float(peaks[i] / cells[i]),
            }
            for i in np.flatnonzero(cells)
        ]

    def summary(self) -> dict[str, float]:
        """Return what the curve says in numbers; NaN where there is no peak, or nothing but peaks.

        `predicted_over_observed`: mean probability over the share of cells with a peak. `expected_calibration_error`: the mean
        over cells of how far the two lie apart in the cell's class. `slope` and `intercept` of a logistic regression of peaks
        on the predicted logit: 1 and 0 where it is right; a slope below 1 says that small probabilities are too small and
        large ones too large.
        """
        cells, probability, peaks = self.counts.sum(1)
        apart = sum(row["cells"] * abs(row["predicted"] - row["observed"]) for row in self.rows())
        intercept, slope = self._recalibration()
        return {
            "tracks": self.tracks,
            "cells": int(cells),
            "predicted_over_observed": float(probability / peaks) if peaks else np.nan,
            "expected_calibration_error": float(apart / cells) if cells else np.nan,
            "slope": slope,
            "intercept": intercept,
        }

    def _recalibration(self) -> tuple[float, float]:
        """Intercept and slope of a logistic regression of peaks on the predicted logit; NaN where it has no maximum."""
        cells, probability, peaks = self.counts[:, self.counts[0] > 0]
        share = np.clip(probability / np.maximum(cells, 1), 1e-300, 1 - 1e-15)
        logit = np.log(share) - np.log1p(-share)

        def likelihood(at: Doubles) -> Likelihood:
            eta = at[0] + at[1] * logit
            wanted = 1 / (1 + np.exp(-eta))
            design = np.stack([np.ones_like(logit), logit])
            weight = cells * wanted * (1 - wanted)
            log = float(peaks @ eta - cells @ np.logaddexp(0, eta))
            return Likelihood(log, design @ (peaks - cells * wanted), (design * weight) @ design.T)

        if not 0 < peaks.sum() < cells.sum():
            return np.nan, np.nan
        at, _, converged = newton(likelihood, np.array([0.0, 1.0]))
        return (float(at[0]), float(at[1])) if converged else (np.nan, np.nan)


def calibration_lines(summary: Mapping[str, Any]) -> list[str]:
    """Return what is said of the summary of a `Reliability`, a line, or none where there is no peak. None stands for NaN."""
    ratio, slope = summary["predicted_over_observed"], summary["slope"]
    if ratio is None:
        return []
    line = f"calibration {ratio:.2f} (mean predicted over observed) over all cells of {summary['tracks']} rated training tracks"
    return [line if slope is None else f"{line}, slope {slope:.2f} (1 is right, below 1 is too sure)"]
