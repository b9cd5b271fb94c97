"""How long a training lasts where nobody said, and what its curve says of one that would be longer."""

from __future__ import annotations

from pathlib import Path

from mfd_cli.engine.curve import read_curve
from mfd_cli.settings.config import Config

BINS = 1_500_000
"""Training bins, counted as often as they are used, of a training whose length is not set: docs/training.md has the figures."""
MOST_EPOCHS = 20
"""How often each bin is used at most: more often, a network learns few bins by heart."""
FEW_BINS, EPOCHS_OF_FEW = 300_000, 60
"""Unless all of them together are fewer than it takes to learn single sites; then this is the most."""


def epochs_of(config: Config, bins_an_epoch: int) -> int:
    """Return the epochs of a training: those that are set, or as many as make BINS, from one to MOST_EPOCHS.

    Where that makes fewer than FEW_BINS, as many as make these, up to EPOCHS_OF_FEW.
    """
    if config.train.epochs is not None:
        return config.train.epochs
    bins = max(bins_an_epoch, 1)
    most = max(MOST_EPOCHS, min(-(-FEW_BINS // bins), EPOCHS_OF_FEW))
    return min(-(-BINS // bins), most)


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
