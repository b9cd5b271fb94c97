"""Predictions that are linear in what is known of a bin: a model's in its latents, and those that it is compared with."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Protocol

import numpy as np

from mfd_cli.base.arrays import Floats, Ints
from mfd_cli.base.long_array import LongArray


class Scores(Protocol):
    """One column of scores per track or experiment, not computed before somebody asks for some of them."""

    @property
    def bias(self) -> Floats:
        """Return (columns,): NaN where nothing is said of a column."""

    def logits(self, columns: Ints) -> Floats:
        """Return the scores of some columns (n,), as (n, bins)."""

    def of(self, columns: Ints) -> Scores:
        """Return the scores of some columns alone."""


@dataclass(frozen=True)
class Prediction:
    """Logits `inputs @ weights.T + bias`, one column per track; not computed before somebody asks for some of them.

    `inputs` (bins, size), `weights` (columns, size), `bias` (columns,): NaN where it says nothing of a track.
    """

    inputs: LongArray
    weights: Floats
    bias: Floats

    def logits(self, columns: Ints) -> Floats:
        """Return the logits of some columns (n,), as (n, bins)."""
        weights, bias = self.weights[columns], self.bias[columns, None]
        logits = np.empty((len(columns), len(self.inputs)), np.float32)
        for part, block in self.inputs.blocks():
            logits[:, part] = weights @ block.T + bias
        return logits

    def of(self, columns: Ints) -> Prediction:
        """Return the prediction of some columns alone."""
        return Prediction(self.inputs, self.weights[columns], self.bias[columns])
