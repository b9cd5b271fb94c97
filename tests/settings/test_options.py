"""Errors of --set and of flags name the option, not a line of mfd.toml that says something else."""

from __future__ import annotations

from pathlib import Path

import pytest

from kit.harm import good_project, in_process

PREPROCESS = ["preprocess", "-q", "--threads", "1"]


@pytest.mark.parametrize(
    ("words", "message"),
    [
        (
            ["--set", "train.epochs=0"],
            "--set train.epochs=0: train.epochs: Input should be greater than or equal to 1 (0)",
        ),
        (
            ["--set", "train.epochs=many"],
            '--set train.epochs=many: train.epochs: Input should be a whole number ("many")',
        ),
        (["--set", "train.epochsss=3"], "--set train.epochsss=3: unknown key train.epochsss; did you mean epochs?"),
        (["--set", "factors.x.column=Lab"], "--set factors.x.column=Lab: factors.x.group: Field required"),
        (
            ["--set", "factors.target.group=technica"],
            "--set factors.target.group=technica: factors.target.group is 'technica'; did",
        ),
        (["--set", "split.fold=3"], "--set split.fold=3: split.fold is 3, but split.folds is not set"),
        (
            ["--set", 'split.test=["chrX"]'],
            "--set split.test=[\"chrX\"]: split.test names 'chrX', which the genome lacks",
        ),
        (
            ["--set", 'train.held_out=["T9"]'],
            "--set train.held_out=[\"T9\"]: train.held_out names 'T9', which is no track",
        ),
        (["--set", "split.folds=2", "--set", "split.fold=2"], "--set split.fold=2: split: chr10 is in test and in"),
    ],
)
def test_an_error_of_set_names_the_option(tmp_path: Path, words: list[str], message: str) -> None:
    folder = tmp_path / "p"
    good_project(folder)
    done = in_process([*PREPROCESS, *words], folder)
    assert done.code == 2 and f"mfd: error: {message}" in done.told, done.told
    assert "mfd.toml" not in done.told


def test_an_error_of_the_file_names_its_line_beside_an_option(tmp_path: Path) -> None:
    folder = tmp_path / "p"
    good_project(folder)
    file = folder / "mfd.toml"
    file.write_text(file.read_text().replace("epochs = 1", "epochs = 0"))
    done = in_process([*PREPROCESS, "--set", "train.lr=0.1"], folder)
    assert done.code == 2 and "mfd.toml:33: train.epochs: Input should be greater" in done.told, done.told


def test_an_error_of_a_flag_names_no_file(tmp_path: Path) -> None:
    folder = tmp_path / "p"
    good_project(folder)
    done = in_process(["train", "--head", "loose"], folder)
    assert done.code == 2 and "mfd: error: model.head: Input should be 'mixed', 'conditioned' or 'free'" in done.told
