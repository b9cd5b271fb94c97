"""The enhancer example: what is planted is found in the right features, and not where it is not."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from kit.places import EXAMPLES

sys.path.insert(0, str(EXAMPLES))
import enhancers


def write(folder: Path, count: int = 240) -> tuple[Path, Path]:
    """Regions whose class follows a biological latent; a technical one follows G+C, which differs between the classes too."""
    rng = np.random.default_rng(0)
    label = np.arange(count) % 2 == 0
    gc = 0.5 + 0.05 * label + rng.normal(size=count) * 0.05
    table = {"line": np.arange(2, count + 2), "gc": gc, "biological.0": label + rng.normal(size=count) * 0.5}
    table |= {"biological.1": rng.normal(size=count), "technical.0": 20 * gc + rng.normal(size=count) * 0.1}
    pq.write_table(pa.table(table), folder / "l.parquet")
    names = ["positive" if one else "negative" for one in label]
    lines = [
        "#chrom\tstart\tend\tname",
        *(f"c\t{i}\t{i + 9}\t{name}" for i, name in enumerate(names)),
        "c\t1\t2\tother",
    ]
    (folder / "r.bed").write_text("\n".join(lines) + "\n")
    return folder / "r.bed", folder / "l.parquet"


@pytest.mark.slow
def test_groups_are_told_apart_with_and_without_gc(tmp_path: Path) -> None:
    values, gc, labels = enhancers.read(*write(tmp_path))
    assert {name: v.shape[1] for name, v in values.items()} == {"biological": 2, "technical": 1, "all": 3}
    assert labels.sum() == 120 and len(gc) == 240
    rows = {str(row["features"]): row for row in enhancers.compare(values, gc, labels, repeats=2)}
    assert len(rows) == 1 + 2 * 3
    assert rows["biological"]["auroc"] > 0.85 and rows["biological, G+C regressed out"]["auroc"] > 0.8
    assert rows["technical"]["auroc"] > 0.65 and abs(rows["technical, G+C regressed out"]["auroc"] - 0.5) < 0.1  # type: ignore[operator]
    for row in rows.values():
        assert row["low"] < row["auroc"] < row["high"]


def test_the_interval_grows_with_what_folds_share() -> None:
    values = np.array([0.7, 0.8, 0.75, 0.72, 0.78])
    mean, low, high = enhancers.interval(values, 5)
    naive = 2.776 * values.std(ddof=1) / np.sqrt(5)
    assert (
        mean == 0.75
        and np.isclose(high - mean, mean - low)
        and np.isclose(high - mean, naive * np.sqrt(1 + 5 / 4), rtol=1e-3)
    )


def test_files_that_are_others_are_refused_in_one_line(tmp_path: Path) -> None:
    regions, latents = write(tmp_path)
    words = [sys.executable, str(EXAMPLES / "enhancers.py")]
    unlabelled = tmp_path / "u.bed"
    unlabelled.write_text(regions.read_text().replace("\tpositive", "\tenhancer"))
    pq.write_table(pa.table({"contig": ["c"]}), tmp_path / "other.parquet")
    for files, message in (
        ([unlabelled, latents], "u.bed: column 4 says positive in 0 lines and negative in 120; 20 of each are needed"),
        ([regions, tmp_path / "other.parquet"], "other.parquet: is no table of latents; mfd embed"),
    ):
        done = subprocess.run([*words, *map(str, files)], capture_output=True, text=True)
        assert done.returncode == 1 and message in done.stderr and len(done.stderr.splitlines()) == 1
