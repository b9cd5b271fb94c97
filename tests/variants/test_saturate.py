"""`mfd score-variants --saturate` through the command: what it writes, and what it refuses instead of ignoring it."""

from __future__ import annotations

from pathlib import Path

import pyarrow.parquet as pq
import pytest

from kit.harm import in_process, snapshot, trained_project

SATURATE = ["score-variants", "--saturate", "chr1:1001-1010", "--gpus", "0", "--threads", "1", "-q"]


@pytest.fixture(scope="module")
def project(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("saturate") / "p"
    trained_project(folder)
    (folder / "some.bed").write_text("chr1\t0\t5000\n")
    return folder


@pytest.mark.parametrize(
    "option",
    [
        ["--bed", "here=some.bed"],
        ["--gtf", "some.bed"],
        ["--placement", "centred"],
        ["--placement", "grid"],
        ["--phased"],
        ["-r", "chr1"],
        ["-R", "some.bed"],
        ["-O", "z"],
        ["-W", "none"],
        ["--skipped", "skipped.tsv"],
        ["--check-ref", "warn"],
        ["--h5ad", "x.h5ad"],
    ],
    ids=lambda option: " ".join(option),
)
def test_an_option_that_would_do_nothing_is_refused(project: Path, option: list[str]) -> None:
    before = snapshot(project)
    done = in_process([*SATURATE, *option], project)
    assert done.code == 2
    assert done.told.startswith(f"mfd: error: {option[0]} goes with a file of variants, not with --saturate")
    assert snapshot(project) == before


def test_one_file_has_one_name(project: Path) -> None:
    done = in_process([*SATURATE, "-o", "a.parquet", "--table", "b.parquet"], project)
    assert done.code == 2 and "--saturate writes one file" in done.told
    assert not list(project.glob("*.parquet"))


def test_a_second_run_does_not_replace_the_first(project: Path, tmp_path: Path) -> None:
    words = [*SATURATE, "--tracks", "id == T1", "-o", str(tmp_path / "s.parquet")]
    assert in_process(words, project).code == 0
    first = (tmp_path / "s.parquet").read_bytes()
    assert pq.read_table(tmp_path / "s.parquet").num_rows == 30
    words[words.index("id == T1")] = "id == T2"
    done = in_process(words, project)
    assert done.code == 2 and "s.parquet: exists already" in done.told
    assert (tmp_path / "s.parquet").read_bytes() == first
    assert in_process([*words, "--force"], project).code == 0
    assert (tmp_path / "s.parquet").read_bytes() != first
