"""How long a training lasts where nobody said, and what its curve says of one that would be longer."""

from __future__ import annotations

from pathlib import Path

from mfd_cli.runs.curve import read_curve
from mfd_cli.settings.config import Config

BINS = 1_500_000
"""Training bins, counted as often as they are used, of a training whose length is not set: docs/training.md has the figures."""
MOST_EPOCHS = 60
"""The length that is proposed for few bins, which a network would learn by heart."""


def epochs_of(config: Config, bins_an_epoch: int) -> int:
    """Return the epochs of a training: those that are set, or as many as make BINS, from one to MOST_EPOCHS."""
    if config.train.epochs is not None:
        return config.train.epochs
    return min(max(-(-BINS // max(bins_an_epoch, 1)), 1), MOST_EPOCHS)


def gain_line(metrics: Path) -> str:
    """Return a sentence on what the second half of a training gained, the measure of what a longer one could; "" if unknown.

    `metrics` is metrics.jsonl of its run: the best validations of either half are compared.
    """
    lines = read_curve(metrics) if metrics.exists() else []
    half = lines[-1]["windows"] / 2 if lines else 0
    first = [line["skill"] for line in lines if line["windows"] <= half and "loss" in line]
    if not first:
        return ""
    gain = max(line["skill"] for line in lines) - max(first)
    if gain <= 0:
        return "the second half of the training gained nothing in validation: a longer one is not expected to"
    return (
        f"the second half of the training raised the validation's skill by {gain:.4f}: twice as long, "
        "with --epochs, is expected to gain less than that again"
    )
