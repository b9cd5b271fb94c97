"""Imputation: the right number at the right experiment, support told truthfully, nothing scored against itself."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest
import torch
from sklearn.metrics import roc_auc_score

from kit import tiny
from mfd_cli.base.errors import ConfigError, MetadataError
from mfd_cli.base.long_array import LongArray
from mfd_cli.core.predictor import Predictor
from mfd_cli.core.unseen import estimate_from_metadata, head_of_rows
from mfd_cli.dataset.bins import unpack_bits
from mfd_cli.dataset.folder import Dataset
from mfd_cli.evaluation.baselines import from_other_tracks
from mfd_cli.evaluation.impute import impute
from mfd_cli.evaluation.linear import Prediction
from mfd_cli.runs.at_work import bin_latents
from mfd_cli.runs.folder import Run
from mfd_cli.runs.support import Backing
from mfd_cli.training.train import train


@pytest.fixture(scope="module")
def partial(tmp_path_factory: pytest.TempPathFactory) -> tuple[Run, Dataset]:
    """A run with two tracks held out, one by name and one by its levels."""
    folder = tmp_path_factory.mktemp("partial")
    world = tiny.dataset(folder / "dataset")
    held = ["P4", {"target": "GATA1", "tissue": "brain", "assay": "CUT&RUN"}]
    settings: dict[str, Any] = {"epochs": 4, "batch_size": 32, "lr": 0.01, "held_out": held}
    return train(tiny.project(folder, train=settings, model={"gain": True}), gpus=0), world


def table(path: Path, rows: list[dict[str, str]]) -> Path:
    path.write_text("\n".join(["\t".join(rows[0]), *("\t".join(row.values()) for row in rows)]) + "\n", "utf-8")
    return path


def test_held_out_tracks_are_predicted_from_their_metadata(partial: tuple[Run, Dataset], tmp_path: Path) -> None:
    run, dataset = partial
    result = impute(run, dataset, output=tmp_path / "impute")
    assert [row["experiment"] for row in result.experiments] == ["P4", "P7"]
    bins = dataset.split("test")
    labels, latents = unpack_bits(bins.peaks, 8), bin_latents(run, dataset, bins)
    own = Predictor(run.model).head.logits(latents)
    predictions = pd.read_parquet(tmp_path / "impute" / "predictions.parquet")
    for row, i in zip(result.experiments, (4, 7)):
        assert row["auroc"] == pytest.approx(roc_auc_score(labels[:, i], own[:, i]), abs=1e-4)
        assert np.allclose(predictions[f"P{i}"], 1 / (1 + np.exp(-own[:, i])), atol=1e-4)
    assert json.loads((tmp_path / "impute" / "summary.json").read_text())["scored"] == 2
    tables = pd.read_csv(tmp_path / "impute" / "baselines.tsv", sep="\t")
    assert {"average", "nearest", "same target", "same assay"} <= set(tables["baseline"])


def test_every_number_belongs_to_its_experiment_whatever_the_order(
    partial: tuple[Run, Dataset], tmp_path: Path
) -> None:
    run, dataset = partial
    rows = [{"File accession": track.id, **track.metadata} for track in run.tracks[:8]]
    straight = impute(run, dataset, metadata=table(tmp_path / "a.tsv", rows))
    order = np.random.default_rng(1).permutation(8)
    mixed = impute(run, dataset, metadata=table(tmp_path / "b.tsv", [rows[i] for i in order]))
    assert [row["experiment"] for row in mixed.experiments] == [f"P{i}" for i in order]
    for what in ("experiments", "baselines"):
        a, b = (
            {
                (row["experiment"], row.get("baseline", "")): {k: v for k, v in row.items() if v == v}
                for row in getattr(r, what)
            }
            for r in (straight, mixed)
        )
        assert a == b
    labels = unpack_bits(dataset.split("test").peaks, 8)
    for i, row in enumerate(straight.experiments):
        assert row["positives"] == labels[:, i].sum()


def test_a_baseline_never_holds_the_track_itself(partial: tuple[Run, Dataset]) -> None:
    run, _ = partial
    logits = np.arange(9, dtype=np.float32)[None] ** 2
    kinds = [track.kind for track in run.tracks]
    own = Prediction(LongArray.of(np.ones((1, 1), np.float32)), logits.T, np.zeros(9, np.float32))
    means = from_other_tracks(own, run.model.metadata, run.model.rows, run.model.trained, kinds)
    found = {name: mean.logits(np.arange(9)).T for name, mean in means}
    kept = [i for i in range(8) if run.model.trained[i]]
    for i in range(8):
        assert found["average"][0, i] == pytest.approx(np.mean([logits[0, j] for j in kept if j != i]))
        same = [j for j in kept if j != i and run.model.rows[j]["Target"] == run.model.rows[i]["Target"]]
        assert found["same target"][0, i] == pytest.approx(np.mean(logits[0, same]))
    assert np.isnan(found["average"][0, 8])  # the only signal track has nothing to be compared with


def test_the_model_s_own_tracks_get_their_own_weights_again(partial: tuple[Run, Dataset]) -> None:
    run, _ = partial
    kinds = [track.kind for track in run.tracks]
    again, own = head_of_rows(run.model, run.model.rows, kinds, kinds), Predictor(run.model).head
    for group in own.groups:
        held = ~run.model.trained  # their gains are estimates already
        assert np.allclose(again.groups[group][held], own.groups[group][held], atol=1e-5)
    assert np.allclose(again.bias[~run.model.trained], own.bias[~run.model.trained], atol=1e-5)


def test_estimates_are_ridge_regression() -> None:
    from sklearn.linear_model import Ridge

    model = tiny.model(8)
    values = torch.randn(8, generator=torch.Generator().manual_seed(0))
    codes = np.concatenate(list(model.metadata.encode(model.rows).values()), 1)
    expected = Ridge(alpha=1.0).fit(codes, values.numpy()).predict(codes)
    found = estimate_from_metadata(model, model.rows, values, torch.ones(8, dtype=torch.bool))
    assert np.allclose(found, expected, atol=1e-5)


ROWS = [
    {"Target": "CTCF", "Tissue": "liver", "Assay": "ChIP-seq", "Lab": "A"},
    {"Target": "CTCF", "Tissue": "brain", "Assay": "ChIP-seq", "Lab": "A"},
    {"Target": "GATA1", "Tissue": "liver", "Assay": "ChIP-seq", "Lab": "B"},
    {"Target": "GATA1", "Tissue": "brain", "Assay": "ChIP-seq", "Lab": "A"},
    {"Target": "", "Tissue": "brain", "Assay": "ATAC-seq", "Lab": "B"},
    {"Target": "", "Tissue": "liver", "Assay": "ATAC-seq", "Lab": "B"},
]


@pytest.mark.parametrize(
    ("row", "expected", "why"),
    [
        (("CTCF", "liver", "ChIP-seq", "A"), "measured", ""),
        (("GATA1", "liver", "ChIP-seq", "A"), "pairwise", ""),
        (("CTCF", "liver", "ChIP-seq", "B"), "extrapolated", "target = CTCF with lab = B"),
        (("CTCF", "liver", "ATAC-seq", "B"), "impossible", "no track of assay = ATAC-seq has a target"),
    ],
)
def test_support(row: tuple[str, ...], expected: str, why: str) -> None:
    from mfd_cli.core.metadata import fit_metadata

    metadata = fit_metadata(ROWS, tiny.config().factors)
    wanted = dict(zip(("Target", "Tissue", "Assay", "Lab"), row))
    found, reason = Backing(metadata, ROWS, np.ones(6, bool)).of(wanted)
    assert found == expected and why in reason
    fewer = np.array([False] + [True] * 5)
    if expected == "measured":  # what is held out does not count
        found, reason = Backing(metadata, ROWS, fewer).of(wanted)
        assert found == "extrapolated" and "target = CTCF with tissue = liver" in reason


def test_a_value_that_is_now_and_then_missing_makes_nothing_impossible() -> None:
    from mfd_cli.core.metadata import fit_metadata

    rows = [*ROWS, {"Target": "", "Tissue": "liver", "Assay": "ChIP-seq", "Lab": "A"}]  # a ChIP-seq without a target
    metadata = fit_metadata(rows, tiny.config().factors)
    wanted = {"Target": "CTCF", "Tissue": "liver", "Assay": "ATAC-seq", "Lab": "B"}
    assert Backing(metadata, rows, np.ones(7, bool)).of(wanted)[0] == "extrapolated"


def test_what_cannot_be_predicted_is_an_error(partial: tuple[Run, Dataset], tmp_path: Path) -> None:
    run, dataset = partial
    row = {"Target": "CTCF", "Tissue": "liver", "Assay": "ChIP-seq", "Lab": "A"}
    with pytest.raises(MetadataError, match="did you mean CTCF") as error:
        impute(run, dataset, metadata=table(tmp_path / "a.tsv", [row, {**row, "Target": "CTFC"}]))
    assert error.value.line == 3
    found = impute(run, dataset, metadata=tmp_path / "a.tsv", unseen="mean").experiments[1]
    assert found["support"] == "extrapolated" and "the level of target is unknown" in found["why"]
    with pytest.raises(MetadataError, match="no column 'Lab'"):
        impute(run, dataset, metadata=table(tmp_path / "b.tsv", [{k: v for k, v in row.items() if k != "Lab"}]))
    twin = train(tiny.project(tmp_path, model={"head": "free"}, data={"dataset": str(dataset.path)}), gpus=0)
    with pytest.raises(MetadataError, match="no track was held out"):
        impute(twin, dataset)
    with pytest.raises(ConfigError, match="free head"):
        impute(twin, dataset, metadata=table(tmp_path / "c.tsv", [row]))


def test_an_experiment_that_nobody_did_needs_no_id(partial: tuple[Run, Dataset], tmp_path: Path) -> None:
    run, dataset = partial
    row = {"Target": "CTCF", "Tissue": "brain", "Assay": "CUT&RUN", "Lab": "A"}
    result = impute(run, dataset, metadata=table(tmp_path / "a.tsv", [row]), output=tmp_path / "out")
    only = result.experiments[0]
    assert only["experiment"] == "row 1" and np.isnan(only["auroc"]) and only["support"] != "impossible"
    assert result.summary == {"experiments": 1, "scored": 0}
    assert pd.read_parquet(tmp_path / "out" / "predictions.parquet")["row 1"].between(0, 1).all()
