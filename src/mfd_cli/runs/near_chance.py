"""Whether a run's model predicts hardly better than chance, by what was measured of it before. Nothing is measured here."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from mfd_cli.runs.card import evaluations_of
from mfd_cli.runs.folder import Run

LEAST_AUROC = 0.55
"""Mean AUROC below which a model is near chance, which has 0.5."""
LEAST_PEARSON = 0.1
"""Mean correlation of signals below which a model that has learnt no peaks is near chance, which has 0."""
SPLITS = ("test", "validation")
"""Splits that say how good a model is on bins that it was not trained on, what says most first."""


def near_chance(run: Run) -> str | None:
    """Return a sentence that warns of a model near chance; None where it is better, or nobody has measured it.

    It goes by the evaluation of these weights on the test bins, else by that on the validation bins, else by the validation of
    the training. Raises RunError where an evaluation cannot be read.
    """
    means = {
        summary["split"]: summary["training_tracks"] for summary in evaluations_of(run.path, run.digest)[0].values()
    }
    for split in SPLITS:
        if split in means:
            return _sentence(means[split].get("auroc"), means[split].get("pearson"), split)
    validation: Mapping[str, Any] = run.about.get("validation", {})
    return _sentence(validation.get("auroc_mean"), validation.get("pearson_mean"), "validation")


def _sentence(auroc: float | None, pearson: float | None, split: str) -> str | None:
    if auroc is not None:
        near, figure, chance = auroc < LEAST_AUROC, f"AUROC {auroc:.3f}", "0.5"
    elif pearson is not None:
        near, figure, chance = pearson < LEAST_PEARSON, f"correlation {pearson:.3f}", "0"
    else:
        return None
    if not near:
        return None
    return (
        f"this model is near chance ({figure} on the {split} bins, chance has {chance}): "
        "what it says of factors, letters and variants is not to be trusted"
    )
