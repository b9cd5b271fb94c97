"""Predictions made of the labels of other tracks: the numbers by hand, who is left out, and what is said of them."""

from __future__ import annotations

from math import log
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest
import torch

from kit import tiny
from mfd_cli.dataset.bins import unpack_bits
from mfd_cli.dataset.folder import Dataset
from mfd_cli.evaluation.impute import SEQUENCE, Imputation, impute
from mfd_cli.evaluation.label_baselines import ADDITIVE, NEEDS, FromLabels, label_baselines
from mfd_cli.runs.folder import Run

UNKNOWN = float("nan")


def logit(rate: float) -> float:
    return log(rate / (1 - rate))


def of_labels(labels: list[list[float]], *sets: list[int], logits: bool = False, usual: float = 0.2) -> list[float]:
    """The scores of one experiment, made of all tracks and of sets of them."""
    tracks = len(labels[0])
    chosen = tuple(np.isin(np.arange(tracks), each)[None] for each in sets)
    every = np.ones((1, tracks), bool)
    nothing: Any = None  # neither a run nor bins are asked for labels here
    made = FromLabels(nothing, nothing, np.arange(tracks), every, chosen, usual, logits)
    return made.scores(torch.tensor(labels))[:, 0].tolist()


def test_rates_by_hand() -> None:
    """Four tracks; 0 and 1 share the target, 1 and 2 the assay."""
    labels = [[1.0, 1, 0, 0], [0, 1, 1, 0], [0, 0, 0, 0]]
    assert of_labels(labels) == pytest.approx([0.5, 0.5, 0])
    assert of_labels(labels, [0, 1]) == pytest.approx([1, 0.5, 0])
    assert of_labels(labels, [0, 1], [1, 2]) == pytest.approx([1.5, 1.5, 0])


def test_where_a_track_was_not_measured_it_does_not_count() -> None:
    labels = [[1.0, UNKNOWN, 0, UNKNOWN], [UNKNOWN, UNKNOWN, 1, 0]]
    assert of_labels(labels) == pytest.approx([0.5, 0.5])
    assert of_labels(labels, [0, 1]) == pytest.approx([1, 0.5])  # none of its tracks in the second bin: all tracks


def test_logits_add_up_by_hand() -> None:
    """All: (2 + 0.2) / 5. Those of the target: (2 + 0.44) / 3, of the assay: (1 + 0.44) / 3."""
    found = of_labels([[1.0, 1, 0, 0], [0, 0, 0, 0]], [0, 1], [1, 2], logits=True)
    assert found[0] == pytest.approx(logit(2.44 / 3) + logit(1.44 / 3) - logit(0.44), rel=1e-5)
    nowhere = logit(0.2 / 5)
    assert found[1] == pytest.approx(2 * logit(0.04 / 3) - nowhere, rel=1e-5)
    alone = of_labels([[1.0, 1, 0, 0]], [], logits=True)  # an experiment that shares nothing: what all tracks say
    assert alone == pytest.approx([logit(0.44)], rel=1e-5)


def made(run: Run, dataset: Dataset, tracks: list[int | None]) -> dict[str, FromLabels]:
    rows = [run.model.rows[track or 0] for track in tracks]
    return dict(label_baselines(run, dataset.split("test"), rows, tracks))


def test_the_sets_are_those_of_the_metadata(trained: tuple[Run, Dataset]) -> None:
    run, dataset = trained
    found = made(run, dataset, [3, None])
    names = ["labels: all tracks", "labels: same target + assay", "labels: same tissue + assay"]
    assert list(found) == [*names, "labels: same biology + assay", ADDITIVE]
    labels = unpack_bits(dataset.split("test").peaks, 8)
    expected = labels[:, np.arange(8) != 3].mean(1)  # track 3 is not in its own baseline
    assert found["labels: all tracks"].logits(np.array([0]))[0] == pytest.approx(expected)
    rows = tiny.rows()

    def rate(*columns: str) -> np.ndarray:
        like = [i for i in range(8) if i != 3 and all(rows[i][column] == rows[3][column] for column in columns)]
        return labels[:, like].mean(1)

    for name, columns in (("target", ["Target"]), ("tissue", ["Tissue"]), ("biology", ["Target", "Tissue"])):
        guess = found[f"labels: same {name} + assay"].logits(np.array([0]))[0]
        assert guess == pytest.approx(rate(*columns) + rate("Assay"))
    of_nobody = found["labels: all tracks"].logits(np.array([1]))[0]
    assert of_nobody == pytest.approx(labels.mean(1))


def test_reading_labels_in_pieces_changes_nothing(
    trained: tuple[Run, Dataset], monkeypatch: pytest.MonkeyPatch
) -> None:
    run, dataset = trained
    whole = made(run, dataset, [0, 5])
    expected = {name: prediction.logits(np.array([1, 0])) for name, prediction in whole.items()}
    monkeypatch.setattr("mfd_cli.evaluation.label_baselines.NUMBERS_AT_ONCE", 8 * 7)
    for name, prediction in whole.items():
        assert np.array_equal(prediction.logits(np.array([1, 0])), expected[name])


def test_a_set_without_a_track_says_nothing(trained: tuple[Run, Dataset]) -> None:
    run, dataset = trained
    stranger = {**run.model.rows[0], "Target": "REST"}
    found = dict(label_baselines(run, dataset.split("test"), [stranger], [None]))
    silent = {name for name, prediction in found.items() if np.isnan(prediction.bias).any()}
    assert silent == {"labels: same target + assay", "labels: same biology + assay"}


def test_they_stand_in_the_tables_and_say_what_they_need(trained: tuple[Run, Dataset], tmp_path: Path) -> None:
    run, dataset = trained
    file = tmp_path / "rows.tsv"
    rows = [{"File accession": track.id, **track.metadata} for track in run.tracks]  # the last one is a signal
    pd.DataFrame(rows).to_csv(file, sep="\t", index=False)
    result = impute(run, dataset, metadata=file, output=tmp_path / "out")
    table = pd.read_csv(tmp_path / "out" / "baselines.tsv", sep="\t")
    needs = dict(zip(table["baseline"], table["needs"]))
    assert needs[ADDITIVE] == needs["labels: all tracks"] == needs["labels: same target + assay"] == NEEDS
    assert needs["average"] == needs["same target"] == SEQUENCE
    assert set(table.loc[table["needs"] == NEEDS, "experiment"]) == {f"P{i}" for i in range(8)}
    said = "\n".join(result.lines())
    for name in needs:
        assert f"{name}: AUROC " in said
    assert f"(8 experiments); needs {NEEDS}" in said
    summary = result.summary["baselines"][ADDITIVE]
    own = [row for row in result.baselines if row["baseline"] == ADDITIVE]
    assert summary["needs"] == NEEDS and summary["auprc"] == pytest.approx(np.mean([row["auprc"] for row in own]))


def imputation(**baselines: tuple[str, float, float]) -> Imputation:
    """What is said where the model has AUROC 0.8 and AUPRC 0.1, and baselines these."""
    found = {
        name: {"experiments": 2, "needs": needs, "auroc": auroc, "auprc": auprc, "model_auroc": 0.8, "model_auprc": 0.1}
        for name, (needs, auroc, auprc) in baselines.items()
    }
    return Imputation([], [], {"experiments": 2, "scored": 2, "baselines": found})


def test_the_summary_says_plainly_where_labels_beat_the_model() -> None:
    said = imputation(one=(NEEDS, 0.85, 0.05), two=(NEEDS, 0.82, 0.2), three=(SEQUENCE, 0.9, 0.9)).lines()
    assert said[3:] == [
        f"the model is beaten in AUROC by {NEEDS}: 0.850 (one) against 0.800; where such labels exist, use them",
        f"the model is beaten in AUPRC by {NEEDS}: 0.200 (two) against 0.100; where such labels exist, use them",
    ]
    assert len(imputation(one=(NEEDS, 0.8, 0.1)).lines()) == 1  # a draw is not a defeat
