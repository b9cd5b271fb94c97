"""`mfd train --from`: what fits of another run is taken, and a backbone that is frozen keeps its bytes."""

from __future__ import annotations

import json
import os
import shutil
import signal
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from torch import Tensor

from kit import tiny
from kit.harm import Outcome, in_process, in_subprocess
from mfd_cli.engine.loop import Interrupted
from mfd_cli.experiments.track import Track
from mfd_cli.runs.folder import load_last, load_run
from mfd_cli.training import train as training

CPU = ["--gpus", "0", "--threads", "1"]
NO_SHAPE = '[factors.target]\ncolumn = "Target"\ngroup = "biological"\n\n[train]\nepochs = 1\nbatch_size = 32\n'


@pytest.fixture(scope="module")
def first(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A project with a run in `first`, of a mixed head on eight peak tracks and a signal."""
    folder = tiny.written_project(tmp_path_factory.mktemp("start"))
    done = in_process(["train", *CPU, "-q", "--run", "first", "--epochs", "1"], folder)
    assert done.code == 0, done.told
    return folder


@pytest.fixture
def project(first: Path, tmp_path: Path) -> Path:
    """A project whose dataset has two peak tracks more than the run `first` knows."""
    folder = tiny.written_project(tmp_path / "p", tracks=10)
    shutil.copytree(first / "first", folder / "first")
    return folder


def trained(folder: Path, *words: str) -> Outcome:
    done = in_process(["train", *CPU, "--epochs", "1", *words], folder)
    assert done.code == 0 and "Traceback" not in done.told, done.told
    return done


def below(folder: Path, *prefixes: str) -> dict[str, Tensor]:
    """The weights of a run under these prefixes, running averages included."""
    state = load_run(folder).model.state_dict()
    return {name: value for name, value in state.items() if name.startswith(prefixes)}


def same(ours: dict[str, Tensor], theirs: dict[str, Tensor]) -> bool:
    return ours.keys() == theirs.keys() and all(torch.equal(ours[name], theirs[name]) for name in ours)


@pytest.mark.parametrize("head", ["mixed", "free", "conditioned"])
def test_a_frozen_backbone_keeps_its_bytes(project: Path, head: str) -> None:
    done = trained(project, "--from", "first", "--set", "train.thaw=1", "--head", head)
    ours, theirs = (below(project / name, "backbone.", "norm.") for name in ("run", "first"))
    assert any("running_mean" in name for name in ours) and same(ours, theirs)
    assert not same(below(project / "run", "head.bias"), below(project / "first", "head.bias"))
    assert "from first: the backbone and the norm of its latents" in done.told
    last = load_last(project / "run")
    assert last is not None
    assert same(
        {name: value for name, value in last[0].items() if name.startswith("model/backbone.")},
        {f"model/{name}": value for name, value in theirs.items() if name.startswith("backbone.")},
    )


@pytest.mark.parametrize(("thaw", "moved"), [(0.5, True), (1, False)])
def test_it_thaws_after_its_share(project: Path, thaw: float, moved: bool) -> None:
    """Of the state that a training ends with: the best weights may be those of a step before."""
    trained(project, "--from", "first", "--set", f"train.thaw={thaw}", "--set", "train.max_windows=128")
    last = load_last(project / "run")
    assert last is not None and last[1]["step"] == 4
    ours = {name.removeprefix("model/"): value for name, value in last[0].items() if name.startswith("model/backbone.")}
    assert same(ours, below(project / "first", "backbone.")) != moved
    steps = {float(value) for name, value in last[0].items() if name.endswith(".step")}
    assert steps == ({4.0, 2.0} if moved else {4.0})  # how often the head and the backbone were moved


def test_without_thaw_the_backbone_moves_from_where_it_was(project: Path) -> None:
    trained(project, "--from", "first")
    last = load_last(project / "run")
    assert last is not None
    assert not torch.equal(
        last[0]["model/backbone.stem.weight"], below(project / "first", "backbone.")["backbone.stem.weight"]
    )


def test_rows_of_tracks_with_the_same_id_are_taken(project: Path, tmp_path: Path) -> None:
    """With next to no learning rate nothing but the start is left to see."""
    done = trained(project, "--from", "first", "--set", "train.lr=1e-12", "--set", "train.max_windows=32")
    ours, theirs = load_run(project / "run"), load_run(project / "first")
    there = {track.id: place for place, track in enumerate(theirs.tracks)}
    both = [(place, there[track.id]) for place, track in enumerate(ours.tracks) if track.id in there]
    assert len(both) == 9  # eight peak tracks and the signal
    own, other = (list(places) for places in zip(*both))
    assert torch.allclose(ours.model.head.matrix()[own], theirs.model.head.matrix()[other], atol=1e-6)
    assert torch.allclose(ours.model.head.bias[own], theirs.model.head.bias[other], atol=1e-6)
    assert "output weights: 9 tracks as in that run, 2 new: P8, P9" in done.told
    assert "levels of target: 2 levels as in that run, none new" in done.told


def test_the_run_says_where_it_comes_from(project: Path) -> None:
    trained(project, "-q", "--from", "first", "--set", "train.thaw=0.5")
    digest = load_run(project / "first").digest
    about = json.loads((project / "run/model.json").read_text())["about"]
    assert about["source"] == {"path": "first", "weights_sha256": digest, "shape": {}}
    told = in_process(["info", "run"], project).said
    assert f"started from: run first, weights_sha256 {digest}" in told
    card = in_process(["info", "run", "--card"], project).said
    assert (
        f"started from the backbone of first (sha256 of its weights {digest}), which stayed as it was for 50%" in card
    )
    assert "started from" not in in_process(["info", "first"], project).said
    assert "started from" not in in_process(["info", "first", "--card"], project).said


@pytest.mark.parametrize("thaw", [0.5, 1.0])
def test_resumed_it_gives_the_same_bits_and_does_not_read_the_other_run(project: Path, thaw: float) -> None:
    def one(name: str) -> Any:
        sections = {"data": {"dataset": "dataset", "run": name, "start_from": "first"}, "train": {"thaw": thaw}}
        return tiny.project(project, factors=json.loads(FACTORS), model={"head": "mixed"}, **sections)

    straight = training.train(one("whole"), gpus=0)

    def terminate(what: str, done: int, total: int) -> None:
        if done == total // 2 + 1:
            os.kill(os.getpid(), signal.SIGTERM)

    with pytest.raises(Interrupted):
        training.train(one("cut"), gpus=0, progress=terminate)
    shutil.rmtree(project / "first")
    resumed = training.train(one("cut"), gpus=0, resume=True)
    assert same(straight.model.state_dict(), resumed.model.state_dict())
    assert straight.about["source"] == resumed.about["source"]


FACTORS = '{"target": {"column": "Target", "group": "biological"}, "assay": {"column": "Assay", "group": "technical"}}'


def test_the_shape_is_taken_where_no_setting_says_one(project: Path) -> None:
    (project / "mfd.toml").write_text(NO_SHAPE)
    done = trained(project, "--from", "first")
    assert "the shape of that run, as no setting says another: model.width = 8, model.window = 384" in done.told
    settings = load_run(project / "run").model.settings
    assert (settings.width, settings.window, settings.latent) == (8, 384, 16)
    shutil.rmtree(project / "first")
    again = in_process(["train", *CPU, "-q", "--resume", "--epochs", "2"], project)
    assert again.code == 0, again.told
    assert load_run(project / "run").about["source"]["shape"]["width"] == 8


def test_a_level_unknown_to_the_other_run_is_told(project: Path) -> None:
    def renamed(folder: Path) -> None:
        shutil.rmtree(folder / "dataset")
        rows = tiny.rows
        tiny.rows = lambda count=8: [  # type: ignore[assignment]
            {**row, "Target": "MAX" if number == 3 else row["Target"]} for number, row in enumerate(rows(count))
        ]
        tiny.MOTIFS["MAX"] = tiny.MOTIFS["CTCF"]
        try:
            tiny.dataset(folder / "dataset", tracks=8)
        finally:
            tiny.rows = rows
            del tiny.MOTIFS["MAX"]

    renamed(project)
    done = trained(project, "--from", "first")
    assert "levels of target: 2 levels as in that run, 1 new: MAX" in done.told
    assert "output weights: 9 tracks as in that run, none new" in done.told


def test_a_held_out_track_that_the_other_run_was_trained_on_is_told(project: Path) -> None:
    done = trained(project, "--from", "first", "--set", 'train.held_out=["P3"]')
    assert "that run was trained on P3: its backbone has seen what is held out here" in done.told


def test_settings_and_runs_that_do_not_fit_are_refused(project: Path) -> None:
    for words, message in (
        (
            ["--from", "first", "--set", "model.width=16"],
            "model.width is 16, and that of first is 8: its backbone does not",
        ),
        (["--from", "first", "--set", "model.window=128"], "model.window is 128, and that of first is 384"),
        (["--from", "first", "--set", "model.kmer=2"], "model.kmer is 2, and that of first is 1"),
        (["--from", "first", "--set", "model.latent=20"], "model.latent is 20, and that of first is 16"),
        (["--from", "nowhere"], "nowhere: there is no trained model here"),
        (["--from", "first", "--run", "first", "--force"], "first is both the run to start from and the one to write"),
        (["--set", "train.thaw=1"], "train.thaw is 1, and the backbone would stay at its random first weights"),
        (["--from", "first", "--set", "train.thaw=2"], "train.thaw"),
    ):
        refused = in_process(["train", *CPU, *words], project)
        assert refused.code == 2 and message in refused.told and "Traceback" not in refused.told, refused.told
        assert not (project / "run").exists()
    (project / "mfd.toml").write_text(NO_SHAPE + '\n[model]\npreset = "small"\n')
    refused = in_process(["train", *CPU, "--from", "first"], project)
    assert refused.code == 2 and "model.width is 32, as the preset small has it, and that of first is 8" in refused.told


def test_a_run_that_was_begun_alone_is_not_resumed_from_another(project: Path) -> None:
    trained(project, "-q", "--set", "train.max_windows=32")
    refused = in_process(["train", *CPU, "--resume", "--from", "first", "--epochs", "1"], project)
    assert refused.code == 2 and "the run was not started from another one" in refused.told


def test_runs_of_several_seeds_are_named_one_by_one(project: Path) -> None:
    (project / "seeds").mkdir()
    shutil.move(project / "first", project / "seeds/seed-1")
    refused = in_process(["train", *CPU, "--from", "seeds"], project)
    assert refused.code == 2 and "seed-1" in refused.told and "name one of them" in refused.told


def test_a_dry_run_starts_there_too(project: Path) -> None:
    done = in_process(["train", *CPU, "--dry-run", "--from", "first"], project)
    assert done.code == 0 and not (project / "run").exists(), done.told


def test_it_is_a_setting_of_the_project_too(project: Path) -> None:
    text = (project / "mfd.toml").read_text()
    (project / "mfd.toml").write_text('[data]\nstart_from = "first"\n\n' + text)
    done = in_subprocess(["train", *CPU, "--epochs", "1", "--set", "train.thaw=1"], project)
    assert done.code == 0 and "from first: the backbone" in done.told, done.told
    assert same(*(below(project / name, "backbone.") for name in ("run", "first")))


def test_held_out_contigs_that_the_other_run_was_trained_on_are_told(project: Path) -> None:
    """The run `first` was trained on chr1. Here chr1 is the test, and chr2 of another length a contig of its own."""
    turned_split(project / "turned")
    done = trained(project, "--dataset", "turned", "--run", "second", "--from", "first")
    told = (
        "test bins on chr1 were training bins of first, from which the training started: "
        "what is measured on them is too good"
    )
    assert told in done.told and "validation bins" not in done.told
    assert load_run(project / "second").about["source"]["seen"] == {"test": ["chr1"]}
    assert f"note: {told}" in in_process(["evaluate", "--dataset", "turned", "--run", "second", *CPU], project).said
    assert told[1:] in in_process(["info", "second", "--card"], project).said
    dry = in_process(["train", *CPU, "--dataset", "turned", "--run", "dry", "--from", "first", "--dry-run"], project)
    assert told in dry.told and "from first: the backbone and the norm of its latents" in dry.told
    assert not (project / "dry").exists()
    same_split = trained(project, "--run", "third", "--from", "first")  # whose validation is a part of chr1 too
    assert "too good" not in same_split.told


def turned_split(folder: Path) -> None:
    """The tiny world with chr2 for training and validation, and chr1 for the test."""
    world = tiny.genome()
    first, second = (tiny.labels(world, name, 8) for name in ("chr1", "chr2"))
    cut = len(second) // 2
    parts = {
        "train": (len(first) + np.arange(cut), second[:cut]),
        "validation": (len(first) + np.arange(cut, len(second)), second[cut:]),
        "test": (np.arange(len(first)), first),
    }
    tracks = [Track(f"P{i}", "peaks", row, 9, cut) for i, row in enumerate(tiny.rows())]
    splits = {split: (index, peaks, np.zeros((len(index), 0))) for split, (index, peaks) in parts.items()}
    tiny.written(folder, world, tracks, splits)
