"""How far the prediction of an experiment may lie from what the experiment would have shown. Of a mixed head.

The weights of an experiment that nobody did are expected from the metadata of others. By how much they would differ has a
variance: what is not known of its levels' effects, and what is peculiar to each track. What the network has not learnt of the
sequence is not in it.
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from mfd_cli.base.long_array import LongArray
from mfd_cli.core.mixed_head import MixedHead
from mfd_cli.core.part_variances import part_variances
from mfd_cli.core.predictor import Head
from mfd_cli.core.unseen import alike_rows
from mfd_cli.genome.grid import evenly
from mfd_cli.runs.folder import Run
from mfd_cli.runs.support import Row
from mfd_cli.settings.names import SHARED

MOST_BINS = 20_000
"""Bins that are read, spread evenly."""
WHOLE = "whole"
"""The part that is all of an experiment."""


def experiment_errors(run: Run, rows: Sequence[Row], head: Head, latents: LongArray) -> list[dict[str, float]]:
    """Return for each metadata row how much its logit varies over bins (`deviation`), how far the experiment's own may lie from
    it (`error`), both as standard deviations, and the correlation of the two that follows (`reliability`). Empty ones where the
    head is not mixed.

    `head` are the output weights of the rows, `latents` (bins, latent) those of the bins that are predicted.
    """
    own = run.model.head
    if not isinstance(own, MixedHead):
        return [{} for _ in rows]
    known = part_variances(own, {WHOLE: [SHARED, *own.groups]}, alike_rows(run.model, own, rows))
    some = latents.rows(evenly(len(latents), MOST_BINS))
    moved = some - some.mean(0)
    deviations = (moved @ head.matrix().T).std(0)
    errors = np.sqrt(np.square(known.deviations(WHOLE, moved)).mean(0))
    return [
        {
            "deviation": float(deviation),
            "error": float(error),
            "reliability": float(deviation / size) if (size := np.hypot(deviation, error)) else float("nan"),
        }
        for deviation, error in zip(deviations, errors)
    ]
