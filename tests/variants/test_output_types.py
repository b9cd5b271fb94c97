"""`-O` decides the format of an output of any name, as in bcftools; without it the name does. Through the command itself."""

from __future__ import annotations

import gzip
import shutil
import subprocess
from pathlib import Path

import pyarrow.parquet as pq
import pytest

from kit.harm import in_process, trained_project

needs_bcftools = pytest.mark.skipif(shutil.which("bcftools") is None, reason="bcftools is not installed")


@pytest.fixture(scope="module")
def project(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A trained project with 18 variants in input.vcf; its outputs go to other folders."""
    folder = tmp_path_factory.mktemp("types") / "p"
    trained_project(folder)
    return folder


def score(project: Path, *words: str) -> str:
    done = in_process(["score-variants", "input.vcf", "--gpus", "0", "--threads", "1", "-q", *words], project)
    assert done.code == 0, done.told
    return done.told


def bcftools_view(path: Path) -> list[str]:
    done = subprocess.run(["bcftools", "view", "-H", str(path)], capture_output=True, text=True, check=True)
    assert not done.stderr
    return done.stdout.splitlines()


@needs_bcftools
@pytest.mark.parametrize(
    "name", ["scores", "scores.txt", "scores.bcf", "scores.vcf", "scores.vcf.gz", "a b.x.y", "ö.out"]
)
@pytest.mark.parametrize(("kind", "index"), [("v", ""), ("z", "tbi"), ("b", "csi"), ("u", "")])
def test_the_type_decides_whatever_the_name(project: Path, tmp_path: Path, name: str, kind: str, index: str) -> None:
    score(project, "-O", kind, "-o", str(tmp_path / name))
    made = tmp_path / name
    assert len(bcftools_view(made)) == 18
    raw = made.read_bytes()
    is_bgzf = raw[:2] == b"\x1f\x8b" and raw[12:14] == b"BC"
    assert is_bgzf == (kind != "v")
    text = gzip.decompress(raw) if is_bgzf else raw
    assert text.startswith(b"BCF\2\2" if kind in ("b", "u") else b"##fileformat=VCF")
    stem = {"scores.vcf.gz": "scores", "scores.vcf": "scores", "scores.bcf": "scores"}.get(name, name)
    beside = {f"{stem}.parquet", f"{stem}.skipped.tsv", *([f"{name}.{index}"] if index else [])}
    assert {path.name for path in tmp_path.iterdir()} == {name, *beside}
    assert pq.read_table(tmp_path / f"{stem}.parquet").num_rows == 18
    if index:
        region = subprocess.run(
            ["bcftools", "view", "-H", "-r", "chr2", str(made)], capture_output=True, text=True, check=True
        )
        assert len(region.stdout.splitlines()) == 6 and not region.stderr


@pytest.mark.parametrize(("name", "magic"), [("o.VCF", b"##"), ("o.Vcf.Gz", b"\x1f\x8b"), ("o.BCF", b"\x1f\x8b")])
def test_without_a_type_the_suffix_decides_in_any_case_of_letters(
    project: Path, tmp_path: Path, name: str, magic: bytes
) -> None:
    score(project, "-o", str(tmp_path / name))
    assert (tmp_path / name).read_bytes()[:2] == magic
    assert (tmp_path / "o.parquet").is_file() and (tmp_path / "o.skipped.tsv").is_file()


@pytest.mark.parametrize("name", ["scores", "scores.txt", "scores.parquet", "scores.gz", "vcf"])
def test_a_name_that_says_nothing_is_refused_and_told_of_the_option(project: Path, tmp_path: Path, name: str) -> None:
    done = in_process(["score-variants", "input.vcf", "-o", str(tmp_path / name)], project)
    assert done.code == 2 and f"{name}'; its name must end in .vcf, .vcf.gz or .bcf" in done.told
    assert "hint: -O v, z, b or u" in done.told and not list(tmp_path.iterdir())


def test_an_older_output_of_an_odd_name_is_kept_and_replaced_with_force(project: Path, tmp_path: Path) -> None:
    words = ["score-variants", "input.vcf", "-O", "z", "-o", str(tmp_path / "scores.txt")]
    score(project, *words[2:])
    before = (tmp_path / "scores.txt").read_bytes()
    done = in_process(words, project)
    assert done.code == 2 and "scores.txt: exists already" in done.told
    score(project, "-O", "v", "-o", str(tmp_path / "scores.txt"), "--force")
    assert (tmp_path / "scores.txt").read_bytes() != before
    assert not (tmp_path / "scores.txt.tbi").exists()  # it belonged to the older output
