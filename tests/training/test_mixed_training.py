"""A mixed head from training to every command that reads a run: the same numbers again, parts that add up, held-out tracks."""

from __future__ import annotations

import json
import os
import shutil
import signal
from collections.abc import Mapping
from copy import copy
from dataclasses import replace
from pathlib import Path

import numpy as np
import pyarrow.parquet as pq
import pytest
import torch

from kit import tiny
from kit.harm import in_process
from mfd_cli.base.arrays import Floats
from mfd_cli.core.decompose import decompose
from mfd_cli.core.mixed_head import MixedHead
from mfd_cli.core.predictor import head_of
from mfd_cli.core.unseen import head_of_rows
from mfd_cli.dataset.bins import Bins
from mfd_cli.dataset.folder import Dataset, open_dataset
from mfd_cli.engine.loop import Interrupted
from mfd_cli.runs import at_work
from mfd_cli.runs.at_work import bin_latents, latents_of_axes
from mfd_cli.runs.folder import Run, load_run, save_run
from mfd_cli.settings.names import RESIDUAL
from mfd_cli.training import train as training

SUBSPACES = ("disjoint", "joint")


def mixed(folder: Path, subspaces: str, gpus: int = 0) -> Run:
    tiny.dataset(folder / "dataset")
    return training.train(tiny.project(folder, model={"head": "mixed", "subspaces": subspaces}), gpus=gpus)


@pytest.fixture(scope="module")
def project(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A project of the tiny world with a mixed head on joint subspaces, trained; P3 is held out."""
    folder = tiny.written_project(tmp_path_factory.mktemp("mixed"))
    words = ["--set", "model.subspaces=joint", "--set", 'train.held_out=["P3"]']
    done = in_process(["train", "-q", "--gpus", "0", "--threads", "1", "--head", "mixed", *words], folder)
    assert done.code == 0, done.told
    return folder


@pytest.mark.parametrize("subspaces", SUBSPACES)
def test_stopped_and_resumed_is_bit_identical(tmp_path: Path, subspaces: str) -> None:
    straight = mixed(tmp_path / "whole", subspaces)
    stop_at = 12  # after the first validation, which sets the variances that the second half is trained with

    def terminate(what: str, done: int, total: int) -> None:
        if done == stop_at:
            os.kill(os.getpid(), signal.SIGTERM)

    cut = tiny.project(tmp_path / "cut", model={"head": "mixed", "subspaces": subspaces})
    tiny.dataset(cut.dataset)
    with pytest.raises(Interrupted):
        training.train(cut, gpus=0, progress=terminate)
    assert load_run(cut.run).unfinished and not straight.unfinished
    resumed = training.train(cut, gpus=0, resume=True)
    ours, theirs = straight.model.state_dict(), resumed.model.state_dict()
    assert ours.keys() == theirs.keys() and all(torch.equal(ours[name], theirs[name]) for name in ours)
    lines = [
        [json.loads(line) for line in (tmp_path / name / "run/metrics.jsonl").read_text().splitlines()]
        for name in ("whole", "cut")
    ]
    assert [line["train_prior"] for line in lines[0]] == [line["train_prior"] for line in lines[1]]
    assert all(line["train_prior"] > 0 for line in lines[0])


@pytest.mark.gpu
@pytest.mark.parametrize("subspaces", SUBSPACES)
def test_it_is_trained_on_a_gpu(tmp_path: Path, subspaces: str) -> None:
    head = mixed(tmp_path, subspaces, gpus=1).model.head
    assert isinstance(head, MixedHead)
    assert all(torch.isfinite(head.variances(space)).all() for space in head.spaces)
    weights = head.weights()
    assert (weights.matrix() - head.matrix()).abs().max() < 1e-5


def test_a_run_has_variances_that_were_learnt_and_parts_that_add_up(project: Path) -> None:
    run = load_run(project / "run")
    head = run.model.head
    assert isinstance(head, MixedHead)
    learnt = head.variances(head.spaces[0])
    assert len(set(learnt.tolist())) > 1  # they start alike
    arrays, parts = head_of(run.model), decompose(run.model)
    total = arrays.shared + sum(parts.factors.values())
    assert np.abs(total - arrays.matrix()).max() < 1e-6
    codes = tiny.windows(3, run.model.window)
    with torch.no_grad():
        logits, latent = run.model(codes).logits, run.model.latent(codes)
        assert (logits - run.model.parts(latent).total()).abs().max() < 1e-5


def test_a_held_out_track_is_what_its_metadata_say(project: Path) -> None:
    run = load_run(project / "run")
    held = int(np.flatnonzero(~run.model.trained)[0])
    own = head_of(run.model)
    head = run.model.head
    assert isinstance(head, MixedHead)
    between = sum(head.term_weights()[term.name][held] for term in head.terms if term.group == RESIDUAL)
    assert np.abs(own.groups[RESIDUAL][held] - np.asarray(between)).max() < 1e-6
    anew = head_of_rows(run.model, [run.model.rows[held]], [track.kind for track in run.tracks], ["peaks"])
    assert np.abs(anew.matrix()[0] - own.matrix()[held]).max() < 1e-5
    assert anew.bias[0] == pytest.approx(own.bias[held], abs=1e-5)


def test_every_command_reads_it(project: Path) -> None:
    parts = [word for part in ("total", "shared", "biological", "technical", "residual") for word in ("--part", part)]
    for words in (
        ["predict", "--regions", "chr2:1-20000", *parts, "-o", "predictions"],
        ["explain", "--factor", "all", "-o", "explained"],
        ["evaluate", "-o", "evaluated"],
    ):
        done = in_process(words, project)
        assert done.code == 0 and "Traceback" not in done.told, (words, done.told)
    table = pq.read_table(next((project / "predictions").glob("*.parquet")))
    assert sum(name.endswith(".residual") for name in table.column_names) == len(load_run(project / "run").tracks)
    rows = (project / "explained/factors.tsv").read_text().splitlines()
    kinds = {line.split("\t")[1] for line in rows[1:]}
    assert {"shared", "factor", "group", "residual"} <= kinds


def test_latents_that_belong_to_no_group_are_written_once(project: Path) -> None:
    """On joint subspaces all groups and the residual read the same latents."""
    done = in_process(["embed", "chr2:1-3000", "-o", "latents.parquet", "-q", "--gpus", "0"], project)
    assert done.code == 0, done.told
    table = pq.read_table(project / "latents.parquet")
    latents = [name for name in table.column_names if "." in name]
    assert latents == [f"latent.{i}" for i in range(16)]
    seen = np.stack([table[name].to_numpy() for name in latents])
    assert len(np.unique(seen, axis=0)) == 16
    refused = in_process(["explain", "--latent", "biological.0", "--gpus", "0"], project)
    assert refused.code == 2 and "it has latent.0 to latent.15" in refused.told


def test_penalties_that_have_nothing_to_keep_apart_are_said(tmp_path: Path) -> None:
    folder = tiny.written_project(tmp_path)
    words = ["train", "--gpus", "0", "--threads", "1", "--force", "--set", "objective.penalties.covariance.weight=0.1"]
    for head, said in (([], True), (["--head", "conditioned"], False), (["--head", "free"], False)):
        done = in_process([*words, *head], folder)
        assert done.code == 0 and ("objective.penalties do nothing" in done.told) == said, done.told
    sweep = ["train", "--gpus", "0", "--force", "--sweep", "objective.penalties.covariance.weight=0,0.1"]
    refused = in_process(sweep, folder)
    assert refused.code == 2 and "the groups have no latents of their own" in refused.told
    assert not (folder / "run/sweep").exists()


def test_axes_are_learnt_of_the_kept_model_at_the_end(tmp_path: Path) -> None:
    """From its latents of training and validation bins; of a run that is resumed at its end they are the same."""
    run, dataset = mixed(tmp_path, "joint"), open_dataset(tmp_path / "dataset")
    head = run.model.head
    assert isinstance(head, MixedHead)
    (space,) = head.spaces
    learnt, variances = head.axes(space).clone(), head.axis_variances(space).clone()
    assert learnt.any()
    latents = latents_of_axes(run, dataset)
    head.learn_axes(torch.from_numpy(latents))
    assert torch.equal(head.axes(space), learnt) and torch.equal(head.axis_variances(space), variances)
    again = training.train(tiny.project(tmp_path, model={"head": "mixed", "subspaces": "joint"}), gpus=0, resume=True)
    assert again.digest == run.digest


def test_axes_are_learnt_from_training_and_validation_bins_alone(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Half of them at most are validation bins; of the test no bin is read."""
    run, dataset = mixed(tmp_path, "joint"), open_dataset(tmp_path / "dataset")
    asked: list[int] = []

    def counted(run: Run, dataset: Dataset, bins: Bins, *_: object, **__: object) -> Floats:
        asked.append(len(bins))
        return bin_latents(run, dataset, bins)

    monkeypatch.setattr(at_work, "bin_latents", counted)
    splits = {name: len(dataset.split(name)) for name in ("train", "validation")}
    assert len(latents_of_axes(run, dataset)) == sum(splits.values()) and asked == list(splits.values())
    monkeypatch.setattr(at_work, "AXIS_BINS", 64)
    asked.clear()
    assert len(latents_of_axes(run, dataset)) == sum(asked) <= 64 and asked[0] == 32 and 0 < asked[1] <= 32


def test_without_validation_bins_axes_are_found_in_training_bins(tmp_path: Path) -> None:
    run, dataset = mixed(tmp_path, "joint"), open_dataset(tmp_path / "dataset")
    bins = {split: dataset.split(split) for split in ("train", "validation")}
    bins["validation"] = bins["validation"].taken(np.arange(0))
    training.finish_run(run.path, dataset_with(dataset, bins), torch.device("cpu"))
    head = load_run(run.path).model.head
    assert isinstance(head, MixedHead) and isinstance(run.model.head, MixedHead)
    found = head.axes(head.spaces[0])
    assert found.any() and not torch.equal(found, run.model.head.axes(head.spaces[0]))


def test_an_interrupted_training_says_so(project: Path, tmp_path: Path) -> None:
    """Its scores are of the best weights so far, and how sure the split is nobody knows yet."""
    folder = Path(shutil.copytree(project, tmp_path / "p"))
    words = ["-q", "--gpus", "0", "--threads", "1"]
    place = f"chr2\t1001\t.\t{open_dataset(folder / 'dataset').genome.bases('chr2', 1000, 1001)}\tA,C,G,T\t.\t.\t."
    header = "##fileformat=VCFv4.2\n#CHROM\tPOS\tID\tREF\tALT\tQUAL\tFILTER\tINFO"
    (folder / "x.vcf").write_text(f"{header}\n{place}\n")
    done = in_process(["score-variants", "x.vcf", "-o", "whole.vcf", *words], folder)
    assert done.code == 0 and "not finished" not in done.told
    text = (folder / "whole.vcf").read_text()
    assert "MFD_TECH_SD=" in text and "unfinished" not in text
    run = load_run(folder / "run")
    assert "unfinished" not in run.about
    save_run(replace(run, about={**run.about, "unfinished": True}))
    done = in_process(["score-variants", "x.vcf", "-o", "early.vcf", *words], folder)
    assert done.code == 0 and "the training of run has not finished" in done.told and "--resume" in done.told
    text = (folder / "early.vcf").read_text()
    assert "_SD" not in text and "training=unfinished" in text
    done = in_process(["predict", "-r", "chr2:1001-3000", "--sd", "-o", "sure", *words], folder)
    assert done.code == 2 and "run: its training has not finished" in done.told
    assert '"finished": false' in in_process(["info", "run", "--json"], folder).said


def dataset_with(dataset: Dataset, bins: Mapping[str, Bins]) -> Dataset:
    """The dataset with other bins."""
    changed = copy(dataset)
    object.__setattr__(changed, "split", bins.__getitem__)
    return changed
