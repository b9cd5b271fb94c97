"""The workflow of examples/workflow: Snakemake runs it on a small project, and what its jobs make is what one command makes."""

from __future__ import annotations

import gzip
import os
import subprocess
import sys
from pathlib import Path

import pytest

from kit import warm
from kit.harm import good_project, in_process
from kit.needed import needs
from kit.places import ROOT

pytestmark = needs("snakemake")
WORKFLOW = ROOT / "examples/workflow"
CONFIG = """
folds: {one: [chr2], two: [chr1]}
seeds: [1, 2]
vcfs: {cohort: input.vcf}
contigs: [chr1, chr2]
saturate: [chr10]
shards: 2
background: 100
gpus: 0
threads: 1
"""


def snakemake(folder: Path, config: Path, *words: str) -> str:
    """What Snakemake says; it must end well. `mfd` is the one that is tested, and nothing is written outside of the folder."""
    bin = folder / "bin"
    bin.mkdir(exist_ok=True)
    places = {name: str(folder / "snakemake") for name in ("XDG_CACHE_HOME", "XDG_CONFIG_HOME")}
    (folder / "snakemake").mkdir(exist_ok=True)
    with warm.program(bin / "mfd"):
        done = subprocess.run(
            [
                *(sys.executable, "-m", "snakemake", "-s", str(WORKFLOW / "Snakefile"), "--configfile", str(config)),
                *("--directory", str(folder), *words),
            ],
            env={**os.environ, **places, "PATH": f"{bin}{os.pathsep}{os.environ['PATH']}"},
            capture_output=True,
            text=True,
        )
    assert done.returncode == 0, done.stdout + done.stderr
    return done.stdout + done.stderr


def jobs(said: str) -> str:
    """The table of jobs in what `snakemake -n` says."""
    return said.split("Job stats:\n", 1)[1].split("\n\n", 1)[0].strip()


def test_the_jobs_of_the_example_are_those_that_the_page_shows(tmp_path: Path) -> None:
    for name in ("mfd.toml", "cohort.vcf.gz"):
        (tmp_path / name).touch()
    table = jobs(snakemake(tmp_path, WORKFLOW / "config.yaml", "-n"))
    assert table.split()[-2:] == ["total", "66"]
    page = (ROOT / "docs/scale.md").read_text()
    assert table in "\n".join(line.strip() for line in page.splitlines())


@pytest.mark.slow
def test_a_small_project_from_tracks_to_scores(tmp_path: Path) -> None:
    good_project(tmp_path)
    config = tmp_path / "config.yaml"
    config.write_text(CONFIG)
    wanted = ("scored/cohort/chr2.vcf.gz", "saturated/chr10.parquet", "folds/two/evaluation/seed-1")
    snakemake(tmp_path, config, "-c", "1", *wanted)
    assert "Nothing to be done" in snakemake(tmp_path, config, "-n", *wanted)

    scored = gzip.decompress((tmp_path / wanted[0]).read_bytes()).decode()
    records = [line for line in scored.splitlines() if not line.startswith("#")]
    assert len(records) == (tmp_path / "input.vcf").read_text().count("\nchr2\t")
    assert all(line.startswith("chr2\t") and "MFD_BG_QUANTILE=" in line for line in records)
    assert {"seed-1", "seed-2"} == {folder.name for folder in (tmp_path / "folds/one/run").glob("seed-*")}
    assert (tmp_path / wanted[2] / "tracks.tsv").is_file()

    fold = ("--dataset", "folds/one/dataset", "--run", "folds/one/run", "--ensemble", "--gpus", "0", "--threads", "1")
    done = in_process(["score-variants", "--saturate", "chr10", *fold, "-o", "alone.parquet", "-q"], tmp_path)
    assert done.code == 0, done.told
    assert (tmp_path / "alone.parquet").read_bytes() == (tmp_path / wanted[1]).read_bytes()
