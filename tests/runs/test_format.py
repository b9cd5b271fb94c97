"""Folders of earlier days (tests/fixtures): those of today's version open, and mean the same; older ones are refused."""

from __future__ import annotations

import json

import numpy as np
import pytest

from kit.places import FIXTURES
from mfd_cli.base.errors import DatasetError, RunError
from mfd_cli.core.predictor import Predictor
from mfd_cli.dataset.folder import open_dataset
from mfd_cli.dataset.manifest import SPLITS
from mfd_cli.runs.at_work import bin_latents
from mfd_cli.runs.folder import load_last, load_run
from mfd_cli.runs.info import describe, verify

FOLDER = FIXTURES / "format-2"


def test_the_dataset_opens() -> None:
    dataset = open_dataset(FOLDER / "dataset")
    assert {split: len(dataset.split(split)) for split in SPLITS} == {"train": 312, "validation": 93, "test": 156}
    assert [track.id for track in dataset.tracks] == ["T1", "T2", "T3", "T4", "T5"]
    assert dataset.tracks[0].metadata["Target"] == "CTCF" and dataset.tracks[0].positives == 78
    assert dataset.genome.lengths == {"chr1": 40_000, "chr2": 20_000, "chr10": 12_000}
    assert dataset.genome.digest() == dataset.manifest["genome_digest"]


def test_the_run_gives_the_same_logits() -> None:
    dataset, run = open_dataset(FOLDER / "dataset"), load_run(FOLDER / "run")
    latents = bin_latents(run, dataset, dataset.split("test"))[::40]
    expected = json.loads((FOLDER / "numbers.json").read_text())
    assert np.allclose(latents, expected["latents"], atol=1e-4)
    assert np.allclose(Predictor(run.model).head.logits(latents), expected["logits"], atol=1e-5)


def test_the_state_opens_and_everything_is_verified() -> None:
    stored = load_last(FOLDER / "run")
    assert stored is not None and stored[1]["step"] == 9 and any(name.startswith("optimiser/") for name in stored[0])
    assert describe(FOLDER / "run")["tracks"] == 5
    assert "as it was written" in verify(FOLDER / "run") and "as it was written" in verify(FOLDER / "dataset")


def test_version_1_is_refused_with_the_command_that_makes_it_again() -> None:
    """It had no bins without a peak, and probabilities among the bins that were chosen."""
    old = FIXTURES / "format-1"
    with pytest.raises(DatasetError, match=r"is mfd-dataset version 1, not mfd-dataset version 2") as dataset:
        open_dataset(old / "dataset")
    assert dataset.value.hint == "run mfd preprocess --force to make the dataset again"
    with pytest.raises(RunError, match="is mfd-run version 1, not mfd-run version 2") as run:
        load_run(old / "run")
    assert run.value.hint == "run mfd train again"
