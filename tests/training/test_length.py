"""How long a training lasts by default, how often it is validated, and what is said of one that would be longer."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from kit import tiny
from mfd_cli.training.length import BINS, EPOCHS_OF_FEW, FEW_BINS, MOST_EPOCHS, epochs_of, gain_line


@pytest.mark.parametrize(
    ("bins", "epochs"),
    [
        (100_000, 15),
        (16_000, MOST_EPOCHS),
        (FEW_BINS // 30, 30),
        (800, EPOCHS_OF_FEW),
        (20_000_000, 1),
        (BINS, 1),
        (BINS - 1, 2),
    ],
)
def test_the_length_follows_from_the_bins(bins: int, epochs: int) -> None:
    config = tiny.config(train={"epochs": None})
    assert epochs_of(config, bins) == epochs
    assert epochs_of(tiny.config(train={"epochs": 7}), bins) == 7


@pytest.mark.parametrize(
    ("skills", "said"),
    [
        ([0.5, 0.6, 0.7, 0.75], "by 0.1500: twice as long"),
        ([0.5, 0.75, 0.7, 0.72], "gained nothing"),
        ([0.7], ""),
    ],
)
def test_what_a_longer_training_would_gain(tmp_path: Path, skills: list[float], said: str) -> None:
    file = tmp_path / "metrics.jsonl"
    lines = [{"step": i + 1, "windows": 100 * (i + 1), "skill": skill, "loss": 1.0} for i, skill in enumerate(skills)]
    file.write_text("".join(json.dumps(line) + "\n" for line in lines))
    assert said in gain_line(file) and bool(said) == bool(gain_line(file))


def test_without_validation_bins_nothing_is_said_of_a_gain(tmp_path: Path) -> None:
    file = tmp_path / "metrics.jsonl"
    file.write_text("".join(json.dumps({"step": n, "windows": n, "skill": 0.0}) + "\n" for n in (10, 20, 30)))
    assert gain_line(file) == ""
