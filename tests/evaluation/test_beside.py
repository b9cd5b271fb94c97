"""Other runs as baselines of `mfd evaluate`: each is there, whatever its folder is called."""

from __future__ import annotations

import json
import shutil
from pathlib import Path

import pandas as pd
import pytest

from kit.harm import in_process, trained_project
from mfd_cli.runs.folder import shortest_names

TRAIN = ("train", "-q", "--gpus", "0", "--threads", "1")
EVALUATE = ("evaluate", "-q", "--gpus", "0", "--threads", "1", "--no-probes")


@pytest.fixture(scope="module")
def project(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A trained project, and another run of it in three more places."""
    folder = tmp_path_factory.mktemp("beside") / "p"
    trained_project(folder)
    other = folder / "A" / "run"
    done = in_process([*TRAIN, "--run", str(other), "--set", "train.seed=5"], folder)
    assert done.code == 0, done.told
    for name in ("B/run", "average", "k-mers"):
        shutil.copytree(other if name != "B/run" else folder / "run", folder / name)
    return folder


def means(project: Path, *words: str) -> dict[str, float]:
    """The mean AUROC of every baseline; each track has one row of each."""
    done = in_process([*EVALUATE, *words], project)
    assert done.code == 0, done.told
    rows = pd.read_csv(project / "run/evaluation-test/baselines.tsv", sep="\t", keep_default_na=False, na_values=[""])
    assert not rows.duplicated(["track", "baseline"]).any()
    for name in rows["baseline"].unique():
        assert f"\n{name} " in done.said
    return dict(rows.groupby("baseline")["auroc"].mean())


def test_runs_in_folders_of_one_name_are_both_there(project: Path) -> None:
    alone = means(project)
    both = means(project, "--beside", "A/run", "--beside", str(project / "B/run"), "--beside", "B/../A/run")
    assert set(both) - set(alone) == {"A/run", "B/run"}
    assert both["A/run"] == pytest.approx(means(project, "--beside", "A/run")["run"])
    assert both["A/run"] != both["B/run"]


def test_a_run_called_like_a_baseline_replaces_none(project: Path) -> None:
    without = means(project, "--kmer")
    beside = means(project, "--kmer", "--beside", "average", "--beside", "k-mers")
    assert set(beside) - set(without) == {"run average", "run k-mers"}
    assert {name: beside[name] for name in without} == pytest.approx(without)
    assert beside["run average"] == beside["run k-mers"] != beside["average"]


def test_runs_that_differ_by_the_seed_alone_say_how_far_seeds_go_apart(project: Path) -> None:
    others = [tree for name in ("A/run", "B/run") for tree in ("--beside", name)]  # another seed, and this very run
    done = in_process([*EVALUATE, *others], project)
    rows = pd.read_csv(project / "run/evaluation-test/baselines.tsv", sep="\t")
    summary = json.loads((project / "run/evaluation-test/summary.json").read_text())
    means = summary["baselines"]["training_tracks"]["A/run"]
    pair = means["model_auroc"], means["auroc"]
    found = summary["seeds"]["auroc"]
    assert found["runs"] == 2 and {"A/run", "B/run"} < set(rows["baseline"])
    assert found["mean"] == pytest.approx(sum(pair) / 2)
    assert found["sd"] == pytest.approx(abs(pair[0] - pair[1]) / 2**0.5) and found["sd"] > 0
    assert f"auroc over 2 seeds: {found['mean']:.4f}, standard deviation {found['sd']:.4f}" in done.said
    in_process([*EVALUATE, "--beside", "B/run"], project)
    assert "seeds" not in json.loads((project / "run/evaluation-test/summary.json").read_text())


def test_a_training_that_was_another_one_is_no_other_seed(project: Path) -> None:
    other = project / "longer" / "run"
    sets = ("--set", "train.seed=5", "--set", "train.lr=0.007")
    assert in_process([*TRAIN, "--run", str(other), *sets], project).code == 0
    in_process([*EVALUATE, "--beside", "longer/run"], project)
    assert "seeds" not in json.loads((project / "run/evaluation-test/summary.json").read_text())


def test_names_are_as_short_as_they_can_be(tmp_path: Path) -> None:
    paths = [tmp_path / name for name in ("a/x/run", "b/x/run", "twin", "a/twin/../twin")]
    names = list(shortest_names(paths))
    assert names == ["a/x/run", "b/x/run", f"{tmp_path.name}/twin", "a/twin"]
    assert shortest_names([tmp_path / "twin", tmp_path / "." / "twin"]).keys() == {"twin"}
