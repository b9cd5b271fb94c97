"""Scores, backgrounds, predictions and latents of projects that are right and unusual, each through the commands."""

from __future__ import annotations

import csv
from pathlib import Path

import numpy as np
import pyarrow.parquet as pq
import pytest

from kit.harm import in_process, snapshot
from kit.odd import ODD, odd_project, signals_alone, write_factors

CPU = ["--gpus", "0", "--threads", "1", "-q"]


def run(project: Path, *words: str, folder: Path | None = None) -> None:
    done = in_process([*words, *CPU], folder or project)
    assert done.code == 0 and "Traceback" not in done.told, f"{words}: {done.told}"


@pytest.mark.parametrize("name", [*ODD, "signals alone"])
def test_every_command_about_variants_and_regions_works(tmp_path: Path, name: str) -> None:
    project = tmp_path / f"odd, {name}"  # a folder with spaces
    signals_alone(project) if name == "signals alone" else odd_project(project, ODD[name])
    (project / "r.bed").write_text("chr1\t1000\t2000\nchr2\t700\t900\n")
    inputs = snapshot(project)
    elsewhere = tmp_path / "elsewhere"
    elsewhere.mkdir()
    config = ["-c", str(project / "mfd.toml")]
    run(project, "background", "-n", "150", *config, folder=elsewhere)
    source = str(project / "input.vcf")
    run(project, "score-variants", source, "--per-track", *config, folder=elsewhere)
    run(project, "predict", "-r", "chr1:1001-3000", "-o", "predicted", *config, folder=elsewhere)
    run(project, "embed", str(project / "r.bed"), *config, folder=elsewhere)
    assert {key: value for key, value in snapshot(project).items() if key in inputs} == inputs

    scores = pq.read_table(elsewhere / "input.mfd.parquet").to_pydict()
    assert len(scores["line"]) >= 10 and len(set(scores)) == len(scores)
    numbers = np.array(
        [scores[key] for key in scores if key.startswith(("MFD_MAX", "MFD_SHARED", "MFD_DEB", "track."))]
    )
    assert np.isfinite(numbers).all() and np.abs(numbers).max() > 0
    assert all(0 <= value <= 1 for value in scores["MFD_BG_QUANTILE"])
    ids = [key.removeprefix("track.") for key in scores if key.startswith("track.")]
    assert set(scores["MFD_TRACK"]) <= set(ids)
    # The most affected track's change is that of the field; the probabilities belong to peaks alone.
    for row, track in enumerate(scores["MFD_TRACK"]):
        assert scores["MFD_MAX_DLOGIT"][row] == pytest.approx(scores[f"track.{track}"][row], abs=1e-6)
    assert all(np.isnan(value) == (name == "signals alone") for value in scores["ref_probability"])

    with (elsewhere / "predicted/outputs.tsv").open(encoding="utf-8", newline="") as file:
        outputs = list(csv.DictReader(file, delimiter="\t"))
    assert [row["output"] for row in outputs] == ids
    assert all((elsewhere / "predicted" / row["file"]).is_file() for row in outputs)
    assert pq.read_table(elsewhere / "latents.parquet").num_rows == 2


def test_a_level_called_average_is_a_level(tmp_path: Path) -> None:
    odd_project(tmp_path / "p", ODD["levels average and all"])
    run(tmp_path / "p", "predict", "-r", "chr1:1001-3000", "-o", "p1", "--no-bigwig", "--experiment", "target=average")
    assert "target=average" in pq.read_table(tmp_path / "p/p1/predictions.parquet").column_names


def test_a_group_called_like_the_short_name_of_another_has_a_field_of_its_own(tmp_path: Path) -> None:
    odd_project(tmp_path / "p", lambda folder: write_factors(folder, target="biological", assay="technical", lab="bio"))
    run(tmp_path / "p", "score-variants", "input.vcf", "-o", "o.vcf")
    names = pq.read_table(tmp_path / "p/o.parquet").column_names
    assert len(set(names)) == len(names) and {"MFD_BIO", "MFD_TECH", "MFD_GROUP_BIO"} <= set(names)
    header = [line for line in (tmp_path / "p/o.vcf").read_text().splitlines() if line.startswith("##INFO=<ID=MFD")]
    assert len({line.split(",")[0] for line in header}) == len(header)
    assert any("ID=MFD_GROUP_BIO" in line and "change of the bio part" in line for line in header)
