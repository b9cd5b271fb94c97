"""How far parts lie from the truth: on labels whose model lacks something that is known, by hand, and through the command."""

from __future__ import annotations

import csv
from pathlib import Path

import numpy as np
import pytest
from scipy.optimize import nnls

from kit import tiny
from kit.harm import in_process
from mfd_cli.evaluation.part_errors import missed_variances, nonnegative, relative_variance

TARGET, LAB = np.arange(12) % 4, np.arange(12) // 4


def alike(levels: np.ndarray) -> np.ndarray:
    return (levels[:, None] == levels[None]).astype(float)


def world(of_target: float, of_lab: float, bins: int = 60_000) -> tuple[np.ndarray, np.ndarray]:
    """Labels, and probabilities that are right on average, of a model that lacks effects of these variances in logits."""
    rng = np.random.default_rng(5)
    known = rng.normal(-3.5, 0.7, (bins, 1)) + rng.normal(0, 0.3, (bins, 12))
    lacking = rng.normal(0, of_target**0.5, (bins, 4))[:, TARGET] + rng.normal(0, of_lab**0.5, (bins, 3))[:, LAB]
    truth = 1 / (1 + np.exp(-known - lacking))
    labels = (rng.random(truth.shape) < truth).astype(float)
    probability = 1 / (1 + np.exp(-known - (of_target + of_lab) / 2))  # the mean of rare peaks' probabilities
    return labels, probability


def test_what_is_missed_comes_back_by_term() -> None:
    found = missed_variances(*world(0.2, 0.1), [alike(TARGET), alike(LAB)])
    assert found == pytest.approx([0.2, 0.1], abs=0.05)


def test_where_nothing_is_missed_next_to_nothing_is_found() -> None:
    assert (missed_variances(*world(0, 0), [alike(TARGET), alike(LAB)]) < 0.03).all()


def test_a_term_that_lacks_nothing_gets_little_of_what_another_lacks() -> None:
    target, lab = missed_variances(*world(0.3, 0), [alike(TARGET), alike(LAB)])
    assert target == pytest.approx(0.3, abs=0.1) and lab < 0.05


def test_bins_where_a_track_alone_was_measured_say_nothing() -> None:
    labels, probability = world(0.2, 0.1, 5000)
    alone = np.full((300, 12), np.nan)
    alone[np.arange(300), np.arange(300) % 12] = 1
    kernels = [alike(TARGET), alike(LAB)]
    more = missed_variances(np.r_[labels, alone], np.r_[probability, np.full((300, 12), 0.02)], kernels)
    assert more == pytest.approx(missed_variances(labels, probability, kernels), rel=1e-9)


def test_without_peaks_nothing_breaks() -> None:
    found = missed_variances(np.zeros((10, 12)), np.zeros((10, 12)), [alike(TARGET)])
    assert found.tolist() == [0]


@pytest.mark.parametrize("seed", range(5))
def test_least_squares_without_negative_numbers_are_those_of_scipy(seed: int) -> None:
    rng = np.random.default_rng(seed)
    columns, side = rng.normal(size=(30, 6)) + 0.5, rng.normal(size=30)
    ours = nonnegative(columns.T @ columns, columns.T @ side, np.zeros(6))
    assert ours == pytest.approx(nnls(columns, side)[0], abs=1e-6)


def test_a_part_is_relative_to_the_mean_of_the_training_tracks() -> None:
    """Of four tracks, two at each level: an effect of variance 1 lies 1/2 from the mean of all (1 - 1/2)."""
    kernel, centre = alike(np.array([0, 0, 1, 1])), np.full(4, 0.25)
    assert relative_variance(kernel, centre) == pytest.approx(np.full(4, 0.5))
    assert relative_variance(np.eye(4), centre) == pytest.approx(np.full(4, 0.75))


@pytest.mark.slow
def test_evaluate_says_it_of_a_mixed_head_alone(tmp_path: Path) -> None:
    project = tiny.written_project(tmp_path)
    for head in ("mixed", "conditioned"):
        for words in (
            ["train", "--head", head, "--run", head, "--gpus", "0", "--threads", "1"],
            ["evaluate", "--no-probes"],
        ):
            told = ["--run", head, "-o", f"{head}-evaluated", "--gpus", "0"] if words[0] == "evaluate" else []
            done = in_process([*words, *told], project)
            assert done.code == 0, done.told
        assert ("estimated correlation with the truth" in done.said) == (head == "mixed")
    assert not (project / "conditioned-evaluated/parts.tsv").exists()
    with (project / "mixed-evaluated/parts.tsv").open() as file:
        rows = list(csv.DictReader(file, delimiter="\t"))
    assert {row["part"] for row in rows} == {"biological", "technical"}
    assert len({row["track"] for row in rows}) == 8 and len(rows) == 16
    for row in rows:
        size = np.hypot(float(row["deviation"]), float(row["error"]))
        assert float(row["error"]) >= 0 and float(row["reliability"]) == pytest.approx(
            float(row["deviation"]) / size, rel=1e-4
        )
