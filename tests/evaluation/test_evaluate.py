"""Evaluation: numbers that scikit-learn gives too, at the right track, and shares that sum to one."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pandas as pd
import pyarrow.parquet as pq
import pytest
import torch
from sklearn.metrics import average_precision_score, roc_auc_score

from kit import tiny
from mfd_cli.base.errors import OutputError, RunError
from mfd_cli.base.long_array import LongArray
from mfd_cli.core.onehot import other_strand
from mfd_cli.core.predictor import Predictor
from mfd_cli.core.shares import covariance_of, variance_shares
from mfd_cli.dataset.bins import unpack_bits
from mfd_cli.dataset.folder import Dataset
from mfd_cli.evaluation.evaluate import evaluate
from mfd_cli.runs.folder import Run


def test_metrics_are_those_of_scikit_learn_on_both_strands(trained: tuple[Run, Dataset]) -> None:
    run, dataset = trained
    bins = dataset.split("test")
    starts = bins.start - run.model.left
    codes = np.stack([dataset.genome.codes("chr2", int(s), int(s) + run.model.window) for s in starts])
    with torch.inference_mode():
        both = [run.model(c).logits for c in (torch.from_numpy(codes), other_strand(torch.from_numpy(codes)))]
    logits = ((both[0] + both[1]) / 2).numpy()
    labels = unpack_bits(bins.peaks, 8)
    result = evaluate(run, dataset)
    for i in range(8):
        row = result.tracks[i]
        assert row["track"] == f"P{i}"
        assert row["auroc"] == pytest.approx(roc_auc_score(labels[:, i], logits[:, i]), abs=1e-4)
        assert row["auprc"] == pytest.approx(average_precision_score(labels[:, i], logits[:, i]), abs=1e-3)
        assert row["prevalence"] == pytest.approx(labels[:, i].mean())
        expected = (1 / (1 + np.exp(-logits[:, i]))).sum() / labels[:, i].sum()
        assert row["calibration"] == pytest.approx(expected, rel=1e-3)
    assert result.tracks[8]["pearson"] == pytest.approx(np.corrcoef(logits[:, 8], labels[:, 0])[0, 1], abs=1e-3)


def test_shares_of_variance_sum_to_one_and_match_the_definition(trained: tuple[Run, Dataset]) -> None:
    run, dataset = trained
    for row in evaluate(run, dataset).tracks:
        assert row["share_shared"] + row["share_biological"] + row["share_technical"] == pytest.approx(1, abs=1e-4)
    predictor = Predictor(run.model)
    latents = predictor.latents(tiny.windows(64, run.model.window).numpy())
    head = predictor.head
    covariance = covariance_of(LongArray.of(latents))
    shares = variance_shares(covariance, head.matrix(), {"all": head.matrix()})
    assert np.allclose(shares["all"], 1, atol=1e-4)
    total, part = head.logits(latents)[:, 2], head.group_part("biological", latents)[:, 2]
    wide = np.zeros_like(head.matrix())
    wide[:, head.slices["biological"]] = head.groups["biological"]
    share = variance_shares(covariance, head.matrix(), {"bio": wide})["bio"][2]
    assert share == pytest.approx(np.cov(part, total)[0, 1] / np.var(total, ddof=1), abs=1e-4)


def test_tables_open_in_pandas_and_pyarrow(trained: tuple[Run, Dataset], tmp_path: Path) -> None:
    run, dataset = trained
    folder = tmp_path / "evaluation"
    evaluate(run, dataset, output=folder)
    table = pd.read_csv(folder / "tracks.tsv", sep="\t")
    assert table["track"].tolist() == [f"P{i}" for i in range(8)] + ["S0"]
    parquet = pq.read_table(folder / "tracks.parquet").to_pandas()
    assert np.allclose(parquet["auroc"], table["auroc"], atol=1e-5, equal_nan=True)
    levels = pd.read_csv(folder / "levels.tsv", sep="\t", keep_default_na=False)
    assert set(levels["factor"]) == {"target", "tissue", "assay", "lab"}
    ctcf = levels[levels["level"] == "CTCF"].iloc[0]
    rated = table[(table["target"] == "CTCF") & (table["kind"] == "peaks")]
    assert float(ctcf["auroc"]) == pytest.approx(rated["auroc"].mean(), abs=1e-4)
    summary = json.loads((folder / "summary.json").read_text())
    assert summary["training_tracks"]["rated_tracks"] == 8
    with pytest.raises(OutputError):
        evaluate(run, dataset, output=folder)


def test_another_dataset_is_refused(trained: tuple[Run, Dataset], tmp_path: Path) -> None:
    with pytest.raises(RunError, match="has 3 tracks that the dataset lacks: P5, P6, P7"):
        evaluate(trained[0], tiny.dataset(tmp_path / "other", tracks=5))


def test_latents_on_disk_and_a_track_at_a_time_give_the_same_tables(
    trained: tuple[Run, Dataset], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """As where there are too many bins for memory: no array is whole, and every number is the same."""
    run, dataset = trained
    whole = evaluate(run, dataset, beside={"itself": run}, kmer=True, output=tmp_path / "whole")
    for name, value in (
        ("base.long_array.MOST_IN_MEMORY", 0),
        ("base.long_array.NUMBERS_AT_ONCE", 300),
        ("runs.at_work.NUMBERS_AT_ONCE", 900),
        ("evaluation.baselines.COUNTED_BINS", 7),
        ("evaluation.baselines.FITTED_TRACKS", 3),
        ("evaluation.track_scores.LOGITS_AT_ONCE", 5 * whole.bins),
        ("evaluation.track_scores.CELLS_AT_ONCE", 2 * whole.bins),
    ):
        monkeypatch.setattr(f"mfd_cli.{name}", value)
    in_pieces = evaluate(run, dataset, beside={"itself": run}, kmer=True, output=tmp_path / "pieces")
    for name in ("tracks", "levels", "baselines", "calibration"):
        one, other = (pd.read_csv(tmp_path / folder / f"{name}.tsv", sep="\t") for folder in ("whole", "pieces"))
        pd.testing.assert_frame_equal(one, other, rtol=1e-4, atol=1e-5)
    assert in_pieces.summary["within_bin"] == pytest.approx(whole.summary["within_bin"], abs=1e-5)
    assert {path.name for path in tmp_path.iterdir()} == {"whole", "pieces"}


def test_an_evaluation_tells_how_far_it_is(trained: tuple[Run, Dataset]) -> None:
    told: list[tuple[str, int, int]] = []
    evaluate(*trained, probes=False, progress=lambda *words: told.append(words))
    steps = dict.fromkeys(step for step, _, _ in told)
    assert list(steps)[:3] == ["predicting bins", "scoring tracks", "scoring average"]
    for step in steps:
        done = [(count, of) for name, count, of in told if name == step]
        assert done == sorted(done) and done[-1][0] == done[-1][1]
