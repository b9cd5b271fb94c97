"""The tasks: what a head says, what that costs, how a probe is fitted, and what is measured. To add one: write it, list it."""

from __future__ import annotations

from typing import Protocol

import numpy as np
import torch
import torch.nn.functional as F
from scipy.special import expit, log_softmax, softmax
from torch import Tensor

from mfd_cli.base.arrays import Doubles
from mfd_cli.contig.core import weighted_measures as measure
from mfd_cli.contig.finetune.logistic import Linear, binary, multinomial, ridge
from mfd_cli.contig.finetune.target import CLASSIFICATION, MULTILABEL, ORDINAL, REGRESSION, Target

Measures = dict[str, Doubles]
"""By name, in each weighted sample (draws,)."""


class Task(Protocol):
    """A kind of question. `outputs` (units, width) are what a head says of each, `values` (units, columns) the answers."""

    main: str

    def width(self, target: Target) -> int:
        """Return how many outputs a head has."""

    def loss(self, outputs: Tensor, values: Tensor) -> Tensor:
        """Return what each unit costs (units,), in nats."""

    def fit(self, features: Doubles, values: Doubles, target: Target, strength: float) -> Linear:
        """Return a linear probe of standardised features (units, features)."""

    def measures(self, outputs: Doubles, values: Doubles, target: Target, weights: Doubles) -> Measures:
        """Return every measure in weighted samples (draws, units)."""

    def told(self, outputs: Doubles, target: Target) -> dict[str, list[object]]:
        """Return the columns of predictions.parquet: what is said of each unit."""


class Classification:
    """One of several classes: logits."""

    main = "auroc"

    def width(self, target: Target) -> int:
        """Return the number of classes."""
        return len(target.levels)

    def loss(self, outputs: Tensor, values: Tensor) -> Tensor:
        """Return the cross entropy."""
        return F.cross_entropy(outputs, values[:, 0].long(), reduction="none")

    def fit(self, features: Doubles, values: Doubles, target: Target, strength: float) -> Linear:
        """Return a multinomial logistic regression."""
        return multinomial(features, values[:, 0].astype(np.int64), len(target.levels), strength)

    def measures(self, outputs: Doubles, values: Doubles, target: Target, weights: Doubles) -> Measures:
        """Return AUROC (of each class against the others, and the mean), average precision, balanced accuracy, and loss."""
        truth, chance = values[:, 0].astype(np.int64), softmax(outputs, 1)
        classes = range(len(target.levels))
        each = [measure.auroc(chance[:, k], truth == k, weights) for k in classes]
        precision = [measure.auprc(chance[:, k], truth == k, weights) for k in classes]
        loss = -log_softmax(outputs, 1)[np.arange(len(truth)), truth]
        return {
            "auroc": mean_of_known(each),
            "auprc": mean_of_known(precision),
            "balanced accuracy": measure.balanced_accuracy(truth, outputs.argmax(1), len(classes), weights),
            "log loss": measure.mean(loss, weights),
            **{f"auroc {level}": area for level, area in zip(target.levels, each)},
        }

    def told(self, outputs: Doubles, target: Target) -> dict[str, list[object]]:
        """Return the class that is most likely, and the probability of each."""
        chance = softmax(outputs, 1)
        said: dict[str, list[object]] = {"predicted": [target.levels[k] for k in outputs.argmax(1).tolist()]}
        return said | {f"p {level}": chance[:, k].tolist() for k, level in enumerate(target.levels)}


class Multilabel:
    """Several questions of yes or no: a logit each. Unknown answers count nowhere."""

    main = "auroc macro"

    def width(self, target: Target) -> int:
        """Return the number of questions."""
        return len(target.columns)

    def loss(self, outputs: Tensor, values: Tensor) -> Tensor:
        """Return the mean binary cross entropy of the known answers."""
        known = ~torch.isnan(values)
        each = F.binary_cross_entropy_with_logits(
            outputs, torch.where(known, values, 0.0).to(outputs.dtype), reduction="none"
        )
        return (each * known).sum(1) / known.sum(1).clamp_min(1)

    def fit(self, features: Doubles, values: Doubles, target: Target, strength: float) -> Linear:
        """Return a logistic regression for each question."""
        parts = []
        for number in range(values.shape[1]):
            known = ~np.isnan(values[:, number])
            parts.append(binary(features[known], values[known, number].astype(np.int64), strength))
        return np.concatenate([weight for weight, _ in parts]), np.concatenate([bias for _, bias in parts])

    def measures(self, outputs: Doubles, values: Doubles, target: Target, weights: Doubles) -> Measures:
        """Return AUROC and average precision: the mean over questions, and of all answers as if they were to one."""
        known = ~np.isnan(values)
        rows, _ = np.nonzero(known)
        scores, truth = expit(outputs)[known], values[known] == 1
        areas, precisions = list[Doubles](), list[Doubles]()
        for number in range(values.shape[1]):
            some = known[:, number]
            of = (outputs[some, number], values[some, number] == 1, weights[:, some])
            areas.append(measure.auroc(*of))
            precisions.append(measure.auprc(*of))
        return {
            "auroc macro": mean_of_known(areas),
            "auroc micro": measure.auroc(scores, truth, weights[:, rows]),
            "auprc macro": mean_of_known(precisions),
            "auprc micro": measure.auprc(scores, truth, weights[:, rows]),
            **{f"auroc {name}": area for name, area in zip(target.columns, areas)},
        }

    def told(self, outputs: Doubles, target: Target) -> dict[str, list[object]]:
        """Return the probability of each yes."""
        return {f"p {name}": expit(outputs[:, k]).tolist() for k, name in enumerate(target.columns)}


class Ordinal:
    """A grade of K: K - 1 logits, each of a grade above one of them, decided at probability one half, which is logit 0."""

    main = "quadratic kappa"

    def width(self, target: Target) -> int:
        """Return the number of grades, less one."""
        return len(target.levels) - 1

    def loss(self, outputs: Tensor, values: Tensor) -> Tensor:
        """Return the sum of the binary cross entropies."""
        above = (values > torch.arange(outputs.shape[1], device=outputs.device)).to(outputs.dtype)
        return F.binary_cross_entropy_with_logits(outputs, above, reduction="none").sum(1)

    def fit(self, features: Doubles, values: Doubles, target: Target, strength: float) -> Linear:
        """Return a logistic regression for each border between grades."""
        grades = values[:, 0]
        parts = [binary(features, (grades > k).astype(np.int64), strength) for k in range(self.width(target))]
        return np.concatenate([weight for weight, _ in parts]), np.concatenate([bias for _, bias in parts])

    def measures(self, outputs: Doubles, values: Doubles, target: Target, weights: Doubles) -> Measures:
        """Return Cohen's kappa with quadratic weights, and Spearman's correlation with the expected grade."""
        truth, guess = values[:, 0].astype(np.int64), (outputs > 0).sum(1)
        return {
            "quadratic kappa": measure.quadratic_kappa(truth, guess, len(target.levels), weights),
            "spearman": measure.spearman(values[:, 0], expit(outputs).sum(1), weights),
        }

    def told(self, outputs: Doubles, target: Target) -> dict[str, list[object]]:
        """Return the grade that is decided, and the expected place among the grades."""
        decided = [target.levels[k] for k in (outputs > 0).sum(1).tolist()]
        return {"predicted": decided, "expected place": expit(outputs).sum(1).tolist()}


class Regression:
    """A number, standardised."""

    main = "r2"

    def width(self, target: Target) -> int:
        """Return 1."""
        return 1

    def loss(self, outputs: Tensor, values: Tensor) -> Tensor:
        """Return half the squared error."""
        return 0.5 * (outputs[:, 0] - values[:, 0]) ** 2

    def fit(self, features: Doubles, values: Doubles, target: Target, strength: float) -> Linear:
        """Return a ridge regression."""
        return ridge(features, values[:, 0], strength)

    def measures(self, outputs: Doubles, values: Doubles, target: Target, weights: Doubles) -> Measures:
        """Return R squared, the mean absolute error in the label's own unit, and Pearson's correlation."""
        truth, guess = values[:, 0], outputs[:, 0]
        return {
            "r2": measure.r_squared(truth, guess, weights),
            "mae": target.sd * measure.mean(np.abs(truth - guess), weights),
            "pearson": measure.pearson(truth, guess, weights),
        }

    def told(self, outputs: Doubles, target: Target) -> dict[str, list[object]]:
        """Return the number in the label's own unit."""
        return {"predicted": [f"{value:g}" for value in (outputs[:, 0] * target.sd + target.mean).tolist()]}


def mean_of_known(each: list[Doubles]) -> Doubles:
    """Return the mean of those that are known in each draw (draws,); NaN where none is."""
    table = np.stack(each)
    known = ~np.isnan(table)
    total, count = np.where(known, table, 0.0).sum(0), known.sum(0)
    return np.divide(total, count, out=np.full(len(total), np.nan), where=count > 0)


TASKS: dict[str, Task] = {
    CLASSIFICATION: Classification(),
    MULTILABEL: Multilabel(),
    ORDINAL: Ordinal(),
    REGRESSION: Regression(),
}
