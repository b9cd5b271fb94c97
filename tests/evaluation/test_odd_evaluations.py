"""Evaluating, imputing and judging projects of unusual shapes: figures that mean something, or a sentence that says why not."""

from __future__ import annotations

import csv
import json
import re
import shutil
from pathlib import Path

import numpy as np
import pytest

from kit import tiny
from kit.harm import in_process
from kit.odd_projects import SHAPES, planted, project_of, said_by
from kit.places import SHARED
from mfd_cli.base.long_array import LongArray
from mfd_cli.dataset.folder import Dataset
from mfd_cli.evaluation.evaluate import evaluate, notes_on_tracks, within_bin
from mfd_cli.evaluation.linear import Prediction
from mfd_cli.evaluation.qc import qc
from mfd_cli.runs.folder import Run
from mfd_cli.training.train import train

SHORT = "train -q --threads 1 --set train.epochs=1 --set model.preset=small --set model.width=8 --set model.filters=4"
NOTHING = {"biological alone": "technical", "technical alone": "biological", "one factor": "technical"}
"""Shapes in which a group has no factors: that group."""
TOLD = ("biological alone", "one track", "one level left")
"""Shapes of which there is something to say in words; whole/test_shapes.py has every command on many more."""


@pytest.fixture(scope="module")
def source(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return planted(tmp_path_factory.mktemp("planted"))


@pytest.fixture(autouse=True)
def quick(monkeypatch: pytest.MonkeyPatch) -> None:
    """Heads for qc in fewer steps: what is judged here is that it is judged at all."""
    monkeypatch.setattr("mfd_cli.evaluation.qc.STEPS", 20)


def rows_of(file: Path) -> list[dict[str, str]]:
    with file.open(newline="") as lines:
        return list(csv.DictReader(lines, delimiter="\t"))


@pytest.mark.parametrize("name", TOLD)
def test_every_shape_is_evaluated_imputed_and_judged(name: str, source: Path, tmp_path: Path) -> None:
    place = project_of(SHAPES[name], source, tmp_path)
    said = said_by("evaluate --kmer", place)
    folder = place / "run/evaluation-test"
    summary = json.loads((folder / "summary.json").read_text())
    for row in rows_of(folder / "tracks.tsv"):
        assert sum(float(value) for key, value in row.items() if key.startswith("share_")) == pytest.approx(1, abs=1e-3)
    for row in rows_of(folder / "levels.tsv"):
        assert (row["share_shared"] == "") == (row["tracks"] == "0")
    if name in NOTHING:
        assert f"the group {NOTHING[name]} has no factors: it contributes nothing, its share is 0" in said
        assert summary["training_tracks"][f"share_{NOTHING[name]}"] == 0
        assert f"no probes of the contributions of {NOTHING[name]}: they do not vary" in said
    probed = {(row["of"], row["from"]) for row in summary["independence"]}
    silent = {group for group in ("biological", "technical") if f"the group {group} " in said}
    assert not {("contributions", group) for group in silent} & probed
    assert "no probes of the latents: all groups have the same ones" in said and "latents" not in {
        of for of, _ in probed
    }
    assert said_by("impute --metadata metadata.tsv --unseen mean", place)
    judged = said_by("qc", place)
    assert judged.startswith("nothing is judged: ") == (not rows_of(place / "qc/tracks.tsv")), judged


def test_the_hint_for_a_split_without_bins_names_what_there_is(source: Path, tmp_path: Path) -> None:
    place = tmp_path / "p"
    shutil.copytree(source, place)
    toml = place / "mfd.toml"
    toml.write_text(toml.read_text().replace('test = ["chr4"]\n', ""))
    for words in ("preprocess -q", "train --set train.epochs=1 --threads 1 -q"):
        assert in_process(words.split(), place).code == 0
    for command in ("evaluate", "impute --metadata metadata.tsv"):
        refused = in_process([*command.split(), "-q"], place)
        assert refused.code == 2 and "has no test bins" in refused.told
        assert re.search(r"hint: --split validation .*set split\.test in mfd\.toml", refused.told), refused.told
        assert said_by(f"{command} --split validation", place)


@pytest.mark.skipif(not (SHARED / "human_chr20_1Mb_hs37d5").is_dir(), reason="no real data here")
def test_human_tracks_with_biological_factors_alone(tmp_path: Path) -> None:
    place = tmp_path / "p"
    shutil.copytree(SHARED / "human_chr20_1Mb_hs37d5", place)
    for words in ("init --fasta z.fa --metadata metadata.tsv", "preprocess -q", SHORT):
        done = in_process(words.split(), place)
        assert done.code == 0, done.told
    said = said_by("evaluate --split validation", place)
    assert "the group technical has no factors: it contributes nothing, its share is 0" in said


def test_tracks_are_ranked_in_bins_from_everywhere(
    trained: tuple[Run, Dataset], monkeypatch: pytest.MonkeyPatch
) -> None:
    """Right in the first tenth of the bins and wrong in the others: a few bins from everywhere must show it."""
    run, dataset = trained
    bins = dataset.split("test")
    monkeypatch.setattr("mfd_cli.evaluation.evaluate.MOST_RANKED_BINS", len(bins) // 3)
    from mfd_cli.runs.at_work import labels_of

    right = labels_of(run, bins).numpy()
    logits = np.where((np.arange(len(bins)) < len(bins) // 10)[:, None], right, -right).astype(np.float32)
    as_they_are = Prediction(LongArray.of(logits), np.eye(8, dtype=np.float32), np.zeros(8, np.float32))
    assert within_bin(run, bins, as_they_are)["auroc"] < 0.3


@pytest.fixture(scope="module")
def signals(tmp_path_factory: pytest.TempPathFactory) -> tuple[Run, Dataset, Path]:
    """A run on two signal tracks and no peaks, and the folder of its project."""
    folder = tmp_path_factory.mktemp("signals")
    world = tiny.dataset(folder / "dataset", tracks=0, signals=2)
    return train(tiny.project(folder), gpus=0), world, folder


def test_signals_alone_have_correlations_shares_and_baselines(
    signals: tuple[Run, Dataset, Path], tmp_path: Path
) -> None:
    run, dataset, _ = signals
    result = evaluate(run, dataset, kmer=True, beside={"itself": run}, output=tmp_path / "evaluation")
    overall = result.summary["training_tracks"]
    assert overall["rated_tracks"] == 0 and overall["signal_tracks"] == 2 and overall["auroc"] is None
    assert overall["pearson"] == pytest.approx(np.mean([row["pearson"] for row in result.tracks]))
    assert overall["deviance_explained"] is not None
    assert overall["share_shared"] + overall["share_biological"] + overall["share_technical"] == pytest.approx(1)
    itself = result.summary["baselines"]["training_tracks"]["itself"]
    assert itself["signal_tracks"] == 2 and itself["pearson"] == itself["model_pearson"] == overall["pearson"]
    text = "\n".join(result.lines())
    assert "2 with signal" in text and "signal tracks alone: AUROC and AUPRC do not apply" in text
    assert "k-mer model is one of peak tracks" in text and "nan" not in text


def test_qc_of_signals_alone_says_why_it_judges_nothing(signals: tuple[Run, Dataset, Path], tmp_path: Path) -> None:
    run, dataset, _ = signals
    summary = qc(run, dataset, tmp_path / "qc")
    assert "signal tracks alone" in summary.lines()[0] and not summary.rows
    assert json.loads((tmp_path / "qc/summary.json").read_text())["judged"] == 0


def test_a_track_that_was_not_measured_is_not_called_constant(tmp_path: Path) -> None:
    """Where a track has no data in a split there is nothing that could be the same in all bins."""
    peaks = {"track": "P", "kind": "peaks", "positives": 9, "bins": 99, "pearson": np.nan}
    signal = {"track": "S", "kind": "signal", "positives": np.nan, "bins": 0, "pearson": np.nan}
    assert notes_on_tracks([peaks, signal], False) == ["not measured in any bin of this split, so without a figure: S"]
    flat = {**signal, "track": "F", "bins": 99}
    unmeasured, constant = notes_on_tracks([peaks, signal, flat, {**flat, "track": "R", "pearson": 0.5}], False)
    assert unmeasured.endswith("figure: S") and constant.startswith("no correlation for F: ")
