"""A probe: the features stay as they are, and a linear model tells the label from them."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import torch

from mfd_cli.base.arrays import Bools, Doubles
from mfd_cli.contig.finetune.target import Target
from mfd_cli.contig.finetune.tasks import TASKS

STRENGTHS = tuple(float(10.0**power) for power in range(-2, 5))
"""Penalties that are tried; the one with the least loss on validation units is kept."""


@dataclass(frozen=True)
class Probe:
    """What tells a label from features: less `mean`, over `sd` (features,), times `weight` (outputs, features), and `bias`."""

    mean: Doubles
    sd: Doubles
    weight: Doubles
    bias: Doubles
    strength: float
    validation: float

    def outputs(self, features: Doubles) -> Doubles:
        """Return what is said (units, outputs) of features (units, features)."""
        return np.asarray(((features - self.mean) / self.sd) @ self.weight.T + self.bias)


def fit_probe(features: dict[str, Doubles], target: Target, kept: Bools) -> Probe:
    """Fit a probe of `features`, by split (units, features), on the training units that are `kept` (units,)."""
    task, training = TASKS[target.task], features["train"][kept]
    mean, sd = training.mean(0), training.std(0)
    sd = np.where(sd > 1e-8, sd, 1.0)  # a feature that is the same in all says nothing
    standard, answers = (training - mean) / sd, target.values["train"][kept]
    best: Probe | None = None
    for strength in STRENGTHS:
        weight, bias = task.fit(standard, answers, target, strength)
        probe = Probe(mean, sd, weight, bias, strength, 0.0)
        loss = validation_loss(probe.outputs(features["validation"]), target)
        if best is None or loss < best.validation:
            best = Probe(mean, sd, weight, bias, strength, loss)
    assert best is not None
    return best


def validation_loss(outputs: Doubles, target: Target) -> float:
    """Return the mean loss on the validation units."""
    values = torch.from_numpy(target.values["validation"])
    return float(TASKS[target.task].loss(torch.from_numpy(outputs), values).mean())
