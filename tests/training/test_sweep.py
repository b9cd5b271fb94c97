"""Sweeps: one run per value and seed, a recommendation that follows from the numbers, nothing trained twice."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from scipy import stats

from kit import tiny
from kit.harm import in_process
from mfd_cli.base.errors import ConfigError
from mfd_cli.genome.sequence import Genome
from mfd_cli.settings.project import load_project
from mfd_cli.training.sweep import SeedNoise, leakage, parse_sweep, recommend, seed_noise, sweep

KEY = "objective.penalties.covariance.weight"


def means(*rows: tuple[str, float, float]) -> list[dict[str, Any]]:
    return [{"value": v, "seeds": 2, "auroc": auroc, "leakage_contributions": leaks} for v, auroc, leaks in rows]


def noise(auroc: float, leakage: float) -> dict[str, SeedNoise]:
    return {"auroc": SeedNoise(auroc / 3, auroc), "leakage_contributions": SeedNoise(leakage / 3, leakage)}


def test_the_largest_value_within_the_tolerance_that_gains_more_than_seeds_make_is_recommended() -> None:
    curve = means(("0", 0.900, 0.3), ("0.01", 0.902, 0.2), ("0.1", 0.8995, 0.1), ("1", 0.88, 0.0))
    quiet = noise(0.0001, 0.01)
    assert recommend(curve, quiet, 0.003)[0] == "0.1"
    assert recommend(curve, quiet, 0.001)[0] == "0.01"
    assert recommend(curve, quiet, 0.1)[0] == "1"
    assert "0.8995 after 0.9000, leakage of 0.100 after 0.300" in recommend(curve, quiet, 0.003)[1]
    words = means(("small", 0.9, 0.2), ("default", 0.9, 0.1))  # values without an order
    assert recommend(words, quiet, 0.003)[0] == "default"


def test_what_seeds_alone_would_make_is_not_recommended() -> None:
    curve = means(("0", 0.900, 0.3), ("0.01", 0.902, 0.28), ("0.1", 0.8995, 0.27), ("1", 0.88, 0.0))
    for loud in (noise(0.005, 0.1), noise(0.005, float("nan"))):
        recommended, reason = recommend(curve, loud, 0.003)
        assert recommended is None and "seeds alone make differences of 0.0050 in AUROC" in reason
    assert "of 0.100 in leakage" in recommend(curve, noise(0.005, 0.1), 0.003)[1]
    # One of the two is enough: 0.01 has a higher AUROC, or 0.1 leaks less.
    assert recommend(curve, noise(0.001, 0.1), 0.003)[0] == "0.01"
    assert recommend(curve, noise(0.005, 0.025), 0.003)[0] == "0.1"
    assert recommend(curve[::-1], noise(0.005, 0.1), 0.003)[0] == "0.1"  # 1, the first value here, is clearly worse


def test_the_noise_of_seeds_is_that_of_tukeys_test() -> None:
    rng = np.random.default_rng(3)
    table = rng.normal(size=(4, 3))
    rows = [{"value": str(v), "seed": s, "auroc": table[v, s]} for v in range(4) for s in range(3)]
    found = seed_noise(rows, "auroc")
    assert found.deviation == pytest.approx(np.sqrt(table.var(axis=1, ddof=1).mean()))
    # A pair whose means lie that far apart has a p of 0.05.
    moved = table - table.mean(1, keepdims=True)
    moved[0] += found.least
    assert stats.tukey_hsd(*moved).pvalue[0, 1] == pytest.approx(0.05, abs=1e-6)


def test_a_sweep_of_what_does_not_matter_recommends_a_change_in_one_of_twenty_or_fewer() -> None:
    rng, changes, count = np.random.default_rng(4), 0, 300
    for _ in range(count):
        rows = [{"value": str(v), "seed": s, "auroc": rng.normal(0.9, 0.004)} for v in range(4) for s in range(2)]
        one = seed_noise(rows, "auroc")
        averages = [mean_of_auroc(rows, str(v)) for v in range(4)]
        no_probes = {"auroc": one, "leakage_contributions": SeedNoise(float("nan"), float("nan"))}
        changes += recommend(means(*averages), no_probes, 0.003)[0] is not None
    assert changes <= stats.binom.ppf(0.999, count, 0.05)


def mean_of_auroc(rows: list[dict[str, Any]], value: str) -> tuple[str, float, float]:
    return value, float(np.mean([row["auroc"] for row in rows if row["value"] == value])), float("nan")


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


@pytest.mark.slow
def test_a_sweep_trains_every_value_and_seed_and_resumes(tmp_path: Path, whole_pictures: None) -> None:
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
    assert stored["recommended"] == result.recommended and result.recommended in (None, "0.5")
    by_value = np.array([row["auroc"] for row in result.rows]).reshape(2, 2)
    assert stored["noise"]["auroc"]["deviation"] == pytest.approx(np.sqrt(by_value.var(axis=1, ddof=1).mean()))
    weights = project.run / "sweep" / "0.5" / "seed-2" / "model.safetensors"
    before = weights.stat().st_mtime_ns
    again = sweep(project, f"{KEY}=0,0.5", seeds=[1], gpus=0, resume=True)  # one seed is made up to two
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


def test_signals_alone_are_compared_by_their_correlation_with_two_seeds(tmp_path: Path) -> None:
    folder = tmp_path / "p"
    folder.mkdir()
    tiny.dataset(folder / "dataset", tracks=0, signals=3)
    (folder / "mfd.toml").write_text(tiny.TOML)
    words = [
        "train",
        "--head",
        "conditioned",
        "--sweep",
        f"{KEY}=0,0.5",
        "--tolerance",
        "2",
        "--gpus",
        "0",
        "--threads",
        "1",
        "-q",
    ]
    done = in_process(words, folder)
    assert done.code == 0 and "nan" not in done.said.lower(), done.told
    header = done.said.splitlines()[0]
    assert header.split()[:3] == ["value", "seeds", "pearson"] and "pearson_sd" in header and "auroc" not in header
    stored = json.loads((folder / "run/sweep/sweep.json").read_text())
    assert stored["measure"] == "pearson" and stored["recommended"] in (None, "0.5")
    assert all(row["seeds"] == 2 and row["pearson_sd"] > 0 and -1 <= row["pearson"] <= 1 for row in stored["means"])
    assert "within 2 of the best correlation" in done.said and "seeds alone make differences of" in done.said


def test_what_cannot_be_compared_is_said(tmp_path: Path) -> None:
    folder = tmp_path / "p"
    folder.mkdir()
    tiny.dataset(folder / "dataset", tracks=1, signals=0, called=lambda world, contig, tracks: nothing(world, contig))
    (folder / "mfd.toml").write_text(tiny.TOML)
    done = in_process(["train", "--head", "conditioned", "--sweep", f"{KEY}=0,0.5", "--gpus", "0", "-q"], folder)
    assert done.code == 2 and "has no validation AUROC or correlation to compare" in done.told


def nothing(world: Genome, contig: str) -> np.ndarray:
    """One track without any peak."""
    return np.zeros((len(world.sequences[contig]) // 128, 1), bool)


def toml(value: object) -> str:
    """A plain value as TOML."""
    if isinstance(value, dict):
        return "{" + ", ".join(f"{key} = {toml(item)}" for key, item in value.items()) + "}"
    return json.dumps(value)
