"""`mfd train` on worlds that are small in one way: few bins, batches of few windows, one track, one group, signals only."""

from __future__ import annotations

import json
import re
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from kit import harm, tiny
from mfd_cli.genome.sequence import Genome

CPU = ("train", "--gpus", "0", "--threads", "1")
CONDITIONED = "model.head=conditioned"  # whose penalties need more than two windows
WITHOUT_TECHNICAL = re.sub(r"\[factors.assay\].*?\n\n", "", tiny.TOML, flags=re.DOTALL)
ONE_GROUP = WITHOUT_TECHNICAL.replace("[model]", "[model]\ngroups = {biological = 1}")


def curve(folder: Path) -> list[dict[str, Any]]:
    """The lines of metrics.jsonl."""
    return [json.loads(line) for line in (folder / "run/metrics.jsonl").read_text().splitlines()]


def of_bins(training: int) -> Genome:
    """A genome whose dataset has so many training bins (four fifths of the bins of chr1)."""
    bins = -(-training * 5 // 4)
    assert bins * 4 // 5 == training
    sequences = tiny.genome().sequences
    return Genome({"chr1": sequences["chr1"][: bins * 128], "chr2": sequences["chr2"]})


@pytest.mark.parametrize(
    ("words", "message"),
    [
        (
            ["train.batch_size=1", CONDITIONED],
            "train.batch_size is 1: the penalty distance needs at least 4 windows in a batch",
        ),
        (
            ["train.batch_size=1", "model.head=free"],
            "train.batch_size is 1: batch norm needs at least 2 windows in a batch",
        ),
        (
            ["train.batch_size=3", CONDITIONED],
            "train.batch_size is 3: the penalty distance needs at least 4 windows in a batch",
        ),
        (
            ["train.batch_size=2", CONDITIONED, "objective.penalties.covariance.weight=1"],
            "train.batch_size is 2: the penalty covariance needs at least 3 windows in a batch",
        ),
    ],
)
def test_a_batch_too_small_to_learn_from_is_refused(tmp_path: Path, words: list[str], message: str) -> None:
    folder = tiny.written_project(tmp_path)
    done = harm.in_process([*CPU, *(word for value in words for word in ("--set", value))], folder)
    assert done.code == 2 and message in done.told and "Traceback" not in done.told
    assert not (folder / "run").exists()


@pytest.mark.parametrize(
    "words",
    [
        ["train.batch_size=2"],
        ["train.batch_size=4", CONDITIONED],
        ["train.batch_size=3", CONDITIONED, "objective.penalties.covariance.weight=1"],
        ["train.batch_size=2", CONDITIONED, "objective.penalties.distance.weight=0"],
    ],
)
def test_the_smallest_batches_train(tmp_path: Path, words: list[str]) -> None:
    folder = tiny.written_project(tmp_path, world=of_bins(40))
    done = harm.in_process([*CPU, *(word for value in words for word in ("--set", value))], folder)
    assert done.code == 0, done.told
    assert all(np.isfinite(value) for line in curve(folder) for value in line.values())


@pytest.mark.parametrize("training", [33, 65, 31, 5, 4])
def test_no_number_of_training_bins_is_unlucky(tmp_path: Path, training: int) -> None:
    """k x batch + 1 of them, fewer than a batch, or as few as a batch may have at least."""
    folder = tiny.written_project(tmp_path, world=of_bins(training))
    done = harm.in_process(CPU, folder)
    assert done.code == 0, done.told
    size = min(32, training)
    assert curve(folder)[-1]["step"] == 2 * (training // size)


def test_too_few_training_bins_are_said(tmp_path: Path) -> None:
    folder = tiny.written_project(tmp_path, world=of_bins(3))
    done = harm.in_process([*CPU, "--set", CONDITIONED], folder)
    assert done.code == 2 and "3 training bins" in done.told and "at least 4 windows" in done.told
    assert not (folder / "run").exists()


@pytest.mark.parametrize(
    ("toml", "of_dataset"),
    [
        pytest.param(tiny.TOML, {"tracks": 1, "signals": 0}, id="one peak track"),
        pytest.param(tiny.TOML, {"tracks": 0, "signals": 1}, id="one signal"),
        pytest.param(tiny.TOML, {"tracks": 0, "signals": 2}, id="signals only"),
        pytest.param(tiny.TOML, {"tracks": 8, "signals": 0}, id="peaks only"),
        pytest.param(WITHOUT_TECHNICAL, {}, id="no technical factor"),
        pytest.param(ONE_GROUP, {}, id="one group"),
        pytest.param(ONE_GROUP, {"tracks": 1, "signals": 0}, id="one group, one track"),
    ],
)
def test_the_best_checkpoint_is_that_of_the_best_skill(tmp_path: Path, toml: str, of_dataset: dict[str, int]) -> None:
    folder = tiny.written_project(tmp_path, toml, **of_dataset)
    words = [*CPU, "--set", "train.lr=0.02", "--set", "train.patience=50", "--epochs", "5"]
    done = harm.in_process(words, folder)
    assert done.code == 0, done.told
    lines = curve(folder)
    skills = [line["skill"] for line in lines]
    assert len(set(skills)) > 1 and all(np.isfinite(skills))  # a number that tells validations apart
    kept = json.loads((folder / "run/model.json").read_text())["about"]
    assert kept["step"] == lines[int(np.argmax(skills))]["step"]


def test_without_a_rated_track_the_loss_says_which_weights_are_best(tmp_path: Path) -> None:
    """Six bins hold fewer positives than an AUROC needs: what is kept is what predicts them best, not what came first."""

    def rare(world: Genome, contig: str, tracks: int) -> np.ndarray:
        labels = tiny.labels(world, contig, tracks)
        labels[len(labels) * 4 // 5 :] = False  # no peak in the validation bins
        return labels

    folder = tiny.written_project(tmp_path, called=rare, signals=0)
    words = [*CPU, "--set", "train.lr=0.02", "--set", "train.patience=50", "--epochs", "6"]
    done = harm.in_process(words, folder)
    assert done.code == 0, done.told
    losses = [line["loss"] for line in curve(folder)]
    assert len(set(losses)) > 1
    kept = json.loads((folder / "run/model.json").read_text())["about"]
    assert kept["step"] == curve(folder)[int(np.argmin(losses))]["step"]
    assert [line["best"] for line in curve(folder)] == [
        value == min(losses[: number + 1]) for number, value in enumerate(losses)
    ]
