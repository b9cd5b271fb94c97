"""The reliability curve: counted by hand, as scikit-learn draws it, and with the slope that probabilities were bent by."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pandas as pd
import pytest
import torch
from sklearn.calibration import calibration_curve
from sklearn.linear_model import LogisticRegression

from mfd_cli.dataset.folder import Dataset
from mfd_cli.evaluation.calibration import Reliability, calibration_lines
from mfd_cli.evaluation.calibration_picture import draw_calibration
from mfd_cli.evaluation.evaluate import evaluate
from mfd_cli.runs.folder import Run

RNG = np.random.default_rng(0)


def drawn(logits: np.ndarray, slope: float = 1.0, shift: float = 0.0) -> np.ndarray:
    """Peaks whose true logit is this much of the predicted one."""
    return (RNG.random(len(logits)) < 1 / (1 + np.exp(-(slope * logits + shift)))).astype(np.float32)


def counted(logits: np.ndarray, labels: np.ndarray, tracks: int = 1) -> Reliability:
    result = Reliability()
    for one, other in zip(np.split(logits, tracks), np.split(labels, tracks)):
        result.add(torch.from_numpy(one.astype(np.float32)), torch.from_numpy(other.astype(np.float32)))
    return result


def test_by_hand() -> None:
    """Four cells in the class from -2 to -1.5, of which one has a peak; one cell that was not measured; two far out."""
    logits = np.array([-1.9, -1.9, -1.6, -1.6, 0.1, 40.0, -40.0])
    rows = counted(logits, np.array([1, 0, 0, 0, np.nan, 1, 0])).rows()
    assert [(row["cells"], row["peaks"], row["observed"]) for row in rows] == [(1, 0, 0.0), (4, 1, 0.25), (1, 1, 1.0)]
    assert rows[1]["predicted"] == pytest.approx((1 / (1 + np.exp(1.9)) + 1 / (1 + np.exp(1.6))) / 2)
    assert rows[1]["from"] == pytest.approx(1 / (1 + np.exp(2))) and rows[1]["to"] == pytest.approx(
        1 / (1 + np.exp(1.5))
    )
    assert rows[0]["from"] == 0 and rows[-1]["to"] == 1
    summary = counted(logits[:4], np.array([1, 0, 0, 0])).summary()
    assert summary["predicted_over_observed"] == pytest.approx(4 * rows[1]["predicted"])
    assert summary["expected_calibration_error"] == pytest.approx(abs(rows[1]["predicted"] - 0.25))


def test_the_curve_is_that_of_scikit_learn() -> None:
    """On data that lie in the middle of classes both have the same edges, of quantiles or of the logit."""
    logits = np.repeat([-4.25, -2.75, -0.75, 0.25], 5000)
    labels = drawn(logits, 0.8)
    observed, predicted = calibration_curve(labels, 1 / (1 + np.exp(-logits)), n_bins=4, strategy="quantile")
    rows = counted(logits, labels).rows()
    assert [row["observed"] for row in rows] == pytest.approx(observed.tolist())
    assert [row["predicted"] for row in rows] == pytest.approx(predicted.tolist(), rel=1e-6)


def test_slope_and_intercept_are_those_of_a_logistic_regression_on_all_cells() -> None:
    logits = RNG.normal(-3, 1.5, 40_000)
    labels = drawn(logits, 0.7, -0.4)
    summary = counted(logits, labels, tracks=4).summary()
    fitted = LogisticRegression(C=np.inf, tol=1e-8).fit(logits[:, None], labels)
    assert summary["slope"] == pytest.approx(fitted.coef_[0, 0], abs=2e-3)
    assert summary["intercept"] == pytest.approx(fitted.intercept_[0], abs=4e-3)
    assert summary["tracks"] == 4 and summary["cells"] == 40_000
    assert summary["slope"] == pytest.approx(0.7, abs=0.05)
    right = counted(logits, drawn(logits)).summary()
    assert right["predicted_over_observed"] == pytest.approx(1, abs=0.05) and right["slope"] == pytest.approx(
        1, abs=0.05
    )


def test_without_peaks_there_is_nothing_to_say() -> None:
    summary = counted(RNG.normal(size=50), np.zeros(50)).summary()
    assert np.isnan(summary["predicted_over_observed"]) and np.isnan(summary["slope"])
    assert calibration_lines({"tracks": 1, "predicted_over_observed": None, "slope": None}) == []
    (line,) = calibration_lines({"tracks": 3, "predicted_over_observed": 1.034, "slope": 0.9})
    assert line.startswith("calibration 1.03 (mean predicted over observed)") and "slope 0.90" in line


def test_evaluate_counts_every_measured_cell_of_rated_training_tracks(
    trained: tuple[Run, Dataset], tmp_path: Path
) -> None:
    run, dataset = trained
    result = evaluate(run, dataset, output=tmp_path / "evaluation", probes=False)
    table = pd.read_csv(tmp_path / "evaluation/calibration.tsv", sep="\t")
    used = [row for row in result.tracks if row["kind"] == "peaks" and row["trained"]]
    assert table["cells"].sum() == sum(row["bins"] for row in used)
    assert table["peaks"].sum() == sum(row["positives"] for row in used)
    expected = sum(row["calibration"] * row["positives"] for row in used)
    assert (table["predicted"] * table["cells"]).sum() == pytest.approx(expected, rel=1e-3)
    ratio = result.summary["calibration"]["predicted_over_observed"]
    assert ratio == pytest.approx(expected / table["peaks"].sum(), rel=1e-4)
    assert f"calibration {ratio:.2f} (mean predicted over observed)" in result.lines()[1]
    assert (tmp_path / "evaluation/calibration.png").is_file()


def test_the_picture_repeats_and_holds_classes_without_peaks(tmp_path: Path, every_sketch: None) -> None:
    rows = counted(np.array([-9.1, -4.1, -4.1, 1.0]), np.array([0, 1, 0, 1])).rows()
    for name in "ab":
        draw_calibration(tmp_path / f"{name}.png", rows)
    assert (tmp_path / "a.png").read_bytes() == (tmp_path / "b.png").read_bytes()
    assert (tmp_path / "a.svg").read_text() == (tmp_path / "b.svg").read_text()
