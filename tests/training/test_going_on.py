"""`mfd train --resume`, through the command: with more to do it goes on, with other settings it says which."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from kit import tiny
from kit.harm import in_process, snapshot
from mfd_cli.runs.folder import load_last

TRAIN = ["train", "-q", "--gpus", "0", "--threads", "1"]


@pytest.fixture(scope="module")
def template(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A project of the tiny world, trained for one epoch."""
    folder = tmp_path_factory.mktemp("going-on") / "p"
    folder.mkdir()
    tiny.dataset(folder / "dataset")
    (folder / "mfd.toml").write_text(tiny.TOML.replace("epochs = 2", "epochs = 1") + "max_windows = 192\n")
    assert trained(folder) == 6
    return folder


def trained(folder: Path, *words: str) -> int:
    """Train, and return the step that the state is at."""
    done = in_process([*TRAIN, *words], folder)
    assert done.code == 0 and "Traceback" not in done.told, done.told
    last = load_last(folder / "run")
    assert last is not None
    return int(last[1]["step"])


def copy(template: Path, folder: Path) -> Path:
    for path in template.rglob("*"):
        if path.is_file():
            (folder / path.relative_to(template)).parent.mkdir(parents=True, exist_ok=True)
            (folder / path.relative_to(template)).write_bytes(path.read_bytes())
    return folder


def test_more_windows_epochs_and_minutes_go_on(template: Path, tmp_path: Path) -> None:
    folder = copy(template, tmp_path / "p")
    more = ["--resume", "--set", "train.max_windows=320"]
    assert trained(folder, *more) == 10
    assert trained(folder, *more, "--set", "train.max_minutes=60") == 10  # nothing is left to do
    epochs = ["--resume", "--epochs", "2", "--set", "train.max_windows=100000"]
    assert trained(folder, *epochs) == 22
    steps = [json.loads(line)["step"] for line in (folder / "run/metrics.jsonl").read_text().splitlines()]
    assert steps == sorted(set(steps)) and steps[0] == 6 and steps[-1] == 22


def test_a_training_that_goes_on_says_what_it_does(template: Path, tmp_path: Path) -> None:
    """Reading and checking a large dataset takes minutes, in which nothing else would be said."""
    folder, words = copy(template, tmp_path / "p"), [word for word in TRAIN if word != "-q"]
    done = in_process([*words, "--resume", "--set", "train.max_windows=320"], folder)
    assert done.code == 0, done.told
    before, after = (
        done.told.index("going on from step 6: the dataset"),
        done.told.index("the state is restored: step 6 of 10"),
    )
    assert before < after < done.told.index("training: ")
    fresh = in_process([*words, "--force"], folder)
    assert fresh.code == 0 and "going on" not in fresh.told and "restored" not in fresh.told


def test_less_than_was_done_is_refused(template: Path, tmp_path: Path) -> None:
    folder = copy(template, tmp_path / "p")
    done = in_process([*TRAIN, "--resume", "--set", "train.max_windows=64"], folder)
    assert done.code == 2 and "is at step 6, beyond the 2 steps of a training with these settings" in done.told
    assert "--force" not in done.told


@pytest.mark.parametrize(
    ("words", "message"),
    [
        (["--set", "train.lr=0.1"], "train.lr was 0.004 and is 0.1 now"),
        (["--seed", "5"], "train.seed was 1 and is 5 now"),
        (["--head", "free"], 'model.head was "mixed" and is "free" now'),
        (["--set", "factors.assay.encode=embed"], 'factors.assay.encode was not set and is "embed" now'),
        (
            ["--set", "train.lr=0.1", "--set", "objective.penalties.distance.weight=0", "--epochs", "9"],
            "objective.penalties.distance.weight was 0.4 and is 0.0 now; train.lr was 0.004 and is 0.1 now",
        ),
    ],
)
def test_other_settings_are_named_with_both_values(
    template: Path, tmp_path: Path, words: list[str], message: str
) -> None:
    folder = copy(template, tmp_path / "p")
    before = snapshot(folder)
    done = in_process([*TRAIN, "--resume", *words], folder)
    assert done.code == 2 and f"the run was started with other settings: {message}" in done.told, done.told
    assert "epochs was" not in done.told and "--force" not in done.told and "--run FOLDER" in done.told
    assert {name: digest for name, digest in snapshot(folder).items() if name in before} == before


@pytest.mark.parametrize("what", ["strand", "counts", "experiment"])
def test_a_column_that_the_dataset_lacks(template: Path, tmp_path: Path, what: str) -> None:
    folder = copy(template, tmp_path / "p")
    value = '["Labb"]' if what == "experiment" else "Labb"
    done = in_process([*TRAIN, "--force", "--set", f"tracks.{what}={value}"], folder)
    assert done.code == 2 and "Traceback" not in done.told
    assert f"dataset: has no column 'Labb', which tracks.{what} names; did you mean Lab?" in done.told
    assert (folder / "run/model.json").is_file()  # the older run is as it was
