"""Which weights are kept: those that tell whose a peak is, by a skill that is worked out by hand."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
import torch

from kit import tiny
from kit.harm import in_process
from mfd_cli.engine.checkpoint import LAST, STATE, save_last
from mfd_cli.runs.folder import load_last
from mfd_cli.training.train import train
from mfd_cli.training.validate import SELECTION, Predictions, figures

OWN, OTHERS, BACKGROUND = 10, 10, 20
"""Bins of each of two tracks that have no peak in common, and bins of neither: prevalence 1/4."""
PEAKS = torch.tensor([[1.0, 0]] * OWN + [[0.0, 1]] * OTHERS + [[0.0, 0]] * BACKGROUND)
PROMOTERS = torch.tensor([[1.0, 1]] * (OWN + OTHERS) + [[0.0, 0]] * BACKGROUND)
"""Scores that tell occupied bins from others and nothing else: AUROC (10 / 2 + 20) / 30, AUPRC 1/2; occupied: chance."""
WHOSE = torch.tensor([[1.0, 0]] * OWN + [[0.0, 1]] * OTHERS + [[1.0, 1]] * 12 + [[0.0, 0]] * 8)
"""Scores that tell whose a peak is, and take 12 bins of neither for one: AUROC (12 / 2 + 18) / 30, AUPRC 10/22; occupied:
perfect."""


def predicted(scores: torch.Tensor, peaks: torch.Tensor = PEAKS, signal: torch.Tensor | None = None) -> Predictions:
    signal = torch.zeros(len(scores), 0) if signal is None else signal
    return Predictions(scores, peaks, signal.flip(0), signal, 0.3)


def test_skill_by_hand_where_the_mean_auroc_would_choose_the_other() -> None:
    promoters, whose = figures(predicted(PROMOTERS)), figures(predicted(WHOSE))
    assert promoters["auroc_mean"] == pytest.approx(25 / 30) and whose["auroc_mean"] == pytest.approx(24 / 30)
    assert promoters["auroc_occupied_mean"] == pytest.approx(0.5) and whose["auroc_occupied_mean"] == pytest.approx(1)
    assert promoters["skill"] == pytest.approx((0 + (1 / 2 - 1 / 4) / (3 / 4)) / 2)
    assert whose["skill"] == pytest.approx((1 + (10 / 22 - 1 / 4) / (3 / 4)) / 2)


def test_perfect_is_one_and_a_constant_is_nothing() -> None:
    assert figures(predicted(PEAKS))["skill"] == pytest.approx(1)
    assert figures(predicted(torch.zeros_like(PEAKS)))["skill"] == pytest.approx(0)


def test_a_track_whose_peaks_are_all_there_are_has_its_auroc_of_all_bins() -> None:
    found = figures(predicted(PROMOTERS[:, :1], PEAKS[:, :1]))
    assert found["auroc_occupied_mean"] == found["auroc_mean"] == pytest.approx(25 / 30)


def test_bins_that_were_not_measured_do_not_count() -> None:
    scores, peaks = WHOSE.clone(), PEAKS.clone()
    scores[-5:, 0], peaks[-5:, 0] = 9.0, torch.nan
    found = figures(predicted(scores, peaks))
    prevalence, auprc = 10 / 35, 10 / 22
    assert found["skill"] == pytest.approx(
        ((1 + (auprc - prevalence) / (1 - prevalence)) / 2 + figures(predicted(WHOSE))["skill"]) / 2
    )


def test_signals_have_their_correlation() -> None:
    signal = torch.arange(40.0)[:, None]
    found = figures(predicted(torch.zeros(40, 0), torch.zeros(40, 0), signal))  # predicted the wrong way round
    assert found["skill"] == pytest.approx(-1) and found["pearson_mean"] == pytest.approx(-1)


def test_the_weights_that_are_kept_are_those_with_the_better_skill(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Three validations: whose peak it is at the second; the mean AUROC is best at the third."""
    tiny.dataset(tmp_path / "dataset", 2, 0)
    said = iter([predicted(torch.zeros_like(PEAKS)), predicted(WHOSE), predicted(PROMOTERS)])
    monkeypatch.setattr("mfd_cli.training.validate.predict_bins", lambda *given: next(said))
    run = train(tiny.project(tmp_path, train={"epochs": 3}), gpus=0)
    lines = [json.loads(line) for line in (tmp_path / "run/metrics.jsonl").read_text().splitlines()]
    assert [line["best"] for line in lines] == [True, True, False]
    assert run.about["step"] == lines[1]["step"]
    assert max(lines, key=lambda line: line["auroc_mean"]) is lines[2]


def test_a_training_that_chose_by_another_measure_is_not_resumed(tmp_path: Path) -> None:
    tiny.dataset(tmp_path / "dataset")
    (tmp_path / "mfd.toml").write_text(tiny.TOML)
    words = ["train", "-q", "--gpus", "0", "--threads", "1"]
    done = in_process(words, tmp_path)
    assert "chosen by its skill, " in done.said and SELECTION in done.said
    stored = load_last(tmp_path / "run")
    assert stored is not None
    tensors, state = stored
    plan: dict[str, Any] = {key: value for key, value in state["plan"].items() if key != "selection"}
    kept = ("step", "total_steps", "seconds", "sums", "best", "threads", "dataset")
    save_last(tmp_path / "run", tensors, {**{key: state[key] for key in kept}, "plan": plan})
    refused = in_process([*words, "--resume", "--epochs", "4"], tmp_path)
    assert refused.code == 2 and "chose its best weights by another measure" in refused.told
    assert f"{LAST}/{STATE}" in refused.told
