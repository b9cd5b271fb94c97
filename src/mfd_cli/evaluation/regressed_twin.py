"""The free twin with a regression: what a run without metadata, and the textbook afterwards, say of held-out tracks."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import torch

from mfd_cli.base.long_array import LongArray
from mfd_cli.core.losses import curvature
from mfd_cli.core.mixed_head import AXIS_BINS
from mfd_cli.core.predictor import Predictor
from mfd_cli.core.regression import regressed
from mfd_cli.core.shares import covariance_of
from mfd_cli.genome.grid import evenly
from mfd_cli.runs.folder import Run


def regressed_twin(run: Run, latents: LongArray, axes: bool = False) -> Run:
    """Return a run with a free head as one whose model has parts, found in its weights; training tracks are predicted alike.

    `latents` (bins, latent) are those that the run has of some bins; with `axes` the parts lie along axes found in them, as a
    mixed head's do, which is more than the textbook does. ConfigError for another head, or a run without factors.
    """
    head = Predictor(run.model).head
    counts = torch.from_numpy(np.asarray(run.signal_scale.counts, bool))
    weight, total = run.config.objective.signal_weight, np.zeros(len(run.tracks))
    for _, block in latents.blocks():
        logits = torch.from_numpy(head.logits(np.asarray(block)))
        total += len(block) * curvature(logits, run.peak_tracks, weight, counts).double().numpy()
    measured = np.array([track.measured for track in run.tracks], float)
    information = measured * total / max(len(latents), 1)
    some = latents.rows(evenly(len(latents), AXIS_BINS)) if axes else None
    return replace(run, model=regressed(run.model, covariance_of(latents), information, some))
