"""Sweeps: one run per value and seed, a recommendation that follows from the numbers, nothing trained twice."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from kit import tiny
from kit.harm import in_process
from mfd_cli.base.errors import ConfigError
from mfd_cli.genome.sequence import Genome
from mfd_cli.settings.project import load_project
from mfd_cli.training.sweep import leakage, parse_sweep, recommend, sweep

KEY = "objective.penalties.covariance.weight"


def means(*pairs: tuple[str, float]) -> list[dict[str, Any]]:
    return [{"value": value, "auroc": auroc, "leakage_contributions": 0.1} for value, auroc in pairs]


def test_the_largest_value_within_the_tolerance_is_recommended() -> None:
    curve = means(("0", 0.900), ("0.01", 0.902), ("0.1", 0.8995), ("1", 0.88))
    assert recommend(curve, 0.003)[0] == "0.1"
    assert recommend(curve, 0.001)[0] == "0.01"
    assert recommend(curve, 0.1)[0] == "1"
    assert "loses 0.0025" in recommend(curve, 0.003)[1]
    assert recommend(means(("small", 0.9), ("default", 0.9)), 0.003)[0] == "default"  # values without an order


def test_leakage_is_the_best_probe_beyond_chance() -> None:
    def row(of: str, value: float, chance: float, measure: str = "r2") -> dict[str, Any]:
        return {"of": of, "measure": measure, "value": value, "chance": chance}

    probes = [row("latents", 0.9, 0.1), row("latents", 0.5, -0.2), row("contributions", 0.1, 0.3)]
    found = leakage([*probes, row("latents", 0.99, 0.5, "accuracy")])
    assert found == {"leakage_contributions": 0.0, "leakage_latents": pytest.approx(0.8)}


@pytest.mark.parametrize("text", ["", "a.b", "=1,2", "a.b=1", "a.b=1,,2", "a.b=1,1"])
def test_what_is_no_sweep_is_an_error(text: str) -> None:
    with pytest.raises(ConfigError, match="--sweep"):
        parse_sweep(text)


def test_a_sweep_trains_every_value_and_seed_and_resumes(tmp_path: Path) -> None:
    tiny.dataset(tmp_path / "dataset")
    tree = tiny.config().model_dump(mode="json", include={"factors", "model", "train"})
    lines = []
    for section, values in tree.items():
        for key, value in values.items():
            if value is not None and value != []:
                value = {k: v for k, v in value.items() if v is not None} if isinstance(value, dict) else value
                lines.append(f"{section}.{key} = {toml(value)}")
    (tmp_path / "mfd.toml").write_text("\n".join(lines) + "\n")
    project = load_project(tmp_path / "mfd.toml")
    said: list[str] = []
    result = sweep(project, f"{KEY}=0,0.5", seeds=[1, 2], gpus=0, say=said.append)
    assert [(row["value"], row["seed"]) for row in result.rows] == [("0", 1), ("0", 2), ("0.5", 1), ("0.5", 2)]
    assert len({row["auroc"] for row in result.rows}) == 4
    stored = json.loads((project.run / "sweep" / "sweep.json").read_text())
    assert stored["recommended"] == result.recommended in ("0", "0.5")
    weights = project.run / "sweep" / "0.5" / "seed-2" / "model.safetensors"
    before = weights.stat().st_mtime_ns
    again = sweep(project, f"{KEY}=0,0.5", seeds=[1, 2], gpus=0, resume=True)
    assert [row["auroc"] for row in again.rows] == [
        row["auroc"] for row in result.rows
    ] and weights.stat().st_mtime_ns == before
    assert (project.run / "sweep" / "sweep.png").stat().st_size > 10_000
    files = sorted(project.run.rglob("*"))
    for values in ("0,0.5", "1,2"):  # the same runs, and others beside them
        done = in_process(["train", "--sweep", f"{KEY}={values}", "--seeds", "1", "--gpus", "0", "-q"], tmp_path)
        assert done.code == 2 and "run/sweep: holds a sweep already" in done.told
    assert sorted(project.run.rglob("*")) == files
    assert json.loads((project.run / "sweep" / "sweep.json").read_text()) == stored


def test_signals_alone_are_compared_by_their_correlation_and_one_seed_has_no_deviation(tmp_path: Path) -> None:
    folder = tmp_path / "p"
    folder.mkdir()
    tiny.dataset(folder / "dataset", tracks=0, signals=3)
    (folder / "mfd.toml").write_text(tiny.TOML)
    words = ["train", "--sweep", f"{KEY}=0,0.5", "--tolerance", "2", "--gpus", "0", "--threads", "1", "-q"]
    done = in_process(words, folder)
    assert done.code == 0 and "nan" not in done.said.lower(), done.told
    header = done.said.splitlines()[0]
    assert header.split()[:3] == ["value", "seeds", "pearson"] and "pearson_sd" in header and "auroc" not in header
    stored = json.loads((folder / "run/sweep/sweep.json").read_text())
    assert stored["measure"] == "pearson" and stored["recommended"] == "0.5"
    assert all(row["pearson_sd"] is None and -1 <= row["pearson"] <= 1 for row in stored["means"])
    assert "within 2 of the best correlation" in done.said


def test_what_cannot_be_compared_is_said(tmp_path: Path) -> None:
    folder = tmp_path / "p"
    folder.mkdir()
    tiny.dataset(folder / "dataset", tracks=1, signals=0, called=lambda world, contig, tracks: nothing(world, contig))
    (folder / "mfd.toml").write_text(tiny.TOML)
    done = in_process(["train", "--sweep", f"{KEY}=0,0.5", "--gpus", "0", "--threads", "1", "-q"], folder)
    assert done.code == 2 and "has no validation AUROC or correlation to compare" in done.told


def nothing(world: Genome, contig: str) -> np.ndarray:
    """One track without any peak."""
    return np.zeros((len(world.sequences[contig]) // 128, 1), bool)


def toml(value: object) -> str:
    """A plain value as TOML."""
    if isinstance(value, dict):
        return "{" + ", ".join(f"{key} = {toml(item)}" for key, item in value.items()) + "}"
    return json.dumps(value)
