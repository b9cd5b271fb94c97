"""Whatever the bytes: the readers of VCF, of the metadata table and of mfd.toml return, or raise an error of ours."""

from __future__ import annotations

import contextlib
import gzip
from pathlib import Path

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from kit import harm
from mfd_cli.base.errors import MfdError
from mfd_cli.experiments.sources import read_sources
from mfd_cli.formats.metadata_table import read_table
from mfd_cli.formats.vcf_reader import open_variants
from mfd_cli.settings.project import load_project

VCF = (
    b"##fileformat=VCFv4.2\n##contig=<ID=chr1,length=200>\n" + "\t".join(harm.COLUMNS).encode() + b"\tFORMAT\tone\n"
    b"chr1\t5\trs1\tA\tC,<DEL>\t50\tPASS\tAF=0.25\tGT\t0|1\nchr2\t9\t.\tAC\tA\t.\t.\t.\tGT\t./.\n"
)
TABLE = ("\n".join("\t".join(row) for row in harm.METADATA) + "\n").encode()
SETTINGS = harm.TOML.encode()

WORDS = {
    "vcf": [
        *b"\t\t\t\t\n\n\n\r;,:<>=#.*\0\xff",
        *VCF.splitlines(True),
        b"chr1",
        b"5",
        b"-1",
        b"A",
        b"CT",
        b"##contig=<ID=",
    ],
    "table": [
        *b'\t\t\t\t\n\n\n\r"\0\xff',
        *TABLE.splitlines(True),
        b"T1",
        b"one.bed",
        b"https://x.bw",
        b"../",
        b"\xc2\xa0",
    ],
    "toml": [
        *b"[]{}=.,\"'#\n\n\n\\",
        *SETTINGS.splitlines(True),
        b"train",
        b"epochs",
        b"nan",
        b"-inf",
        b"1e400",
        b"0x1",
        b"true",
        b"1979-05-27",
        b"'''",
        b'"""',
        b"\\ud800",
        b"\xc3\xa9",
        b"\xff",
        b"\0",
        b"factors",
        b"held_out",
    ],
}


def soups(kind: str) -> st.SearchStrategy[bytes]:
    """Words of a format in any order, so that a good beginning is likely."""
    words = [word if isinstance(word, bytes) else bytes([word]) for word in WORDS[kind]]
    beginning = st.sampled_from([b"", VCF, TABLE, SETTINGS])
    return st.tuples(beginning, st.lists(st.sampled_from(words), max_size=40).map(b"".join)).map(b"".join)


@st.composite
def mutated(draw: st.DrawFn, good: bytes) -> bytes:
    """A good file with a few stretches replaced, taken out or put in."""
    for _ in range(draw(st.integers(1, 4))):
        low = draw(st.integers(0, len(good)))
        high = draw(st.integers(low, min(len(good), low + 12)))
        good = good[:low] + draw(st.binary(max_size=6)) + good[high:]
    return good


def contents(kind: str, good: bytes) -> st.SearchStrategy[bytes]:
    plain = st.one_of(st.binary(max_size=400), soups(kind), mutated(good))
    return st.one_of(
        plain, plain, plain, plain.map(lambda text: gzip.compress(text, 1)), mutated(gzip.compress(good, 1))
    )


def fuzzed(examples: int = 300) -> settings:
    checks = [HealthCheck.function_scoped_fixture]
    return settings(max_examples=examples * harm.FUZZED, deadline=None, suppress_health_check=checks)


@fuzzed()
@given(data=contents("vcf", VCF))
def test_any_vcf(tmp_path: Path, data: bytes) -> None:
    path = tmp_path / "input.vcf"
    path.write_bytes(data)
    try:
        with open_variants(path) as variants:
            records = list(variants.records)
            assert variants.contigs is not None and variants.lengths is not None
    except MfdError as error:
        assert "input.vcf" in str(error)
    else:
        assert all(record.position >= 0 and record.contig and record.ref and all(record.alts) for record in records)


@fuzzed()
@given(data=contents("table", TABLE))
def test_any_metadata_table(tmp_path: Path, data: bytes) -> None:
    path = tmp_path / "metadata.tsv"
    path.write_bytes(data)
    (tmp_path / "mfd.toml").write_bytes(SETTINGS)
    try:
        table = read_table(path)
        read_sources(load_project(tmp_path / "mfd.toml"))
    except MfdError as error:
        assert "metadata.tsv" in str(error)
    else:
        assert all(set(row) == set(table.columns) for row in table.rows)


@fuzzed()
@given(data=contents("toml", SETTINGS))
def test_any_settings(tmp_path: Path, data: bytes) -> None:
    path = tmp_path / "mfd.toml"
    path.write_bytes(data)
    try:
        project = load_project(path)
    except MfdError as error:
        assert "mfd.toml" in str(error)
    else:
        assert sum(project.config.resolved_model().groups.values()) == project.config.resolved_model().latent


@pytest.mark.parametrize("text", ["1" * 5000, "[" * 5000, "nan", "'", "2020-13-01", "\\ud800", "\x00"])
@pytest.mark.parametrize("key", ["train.epochs", "split.test", "data.fasta", "factors.a", "", ".", "a.b"])
def test_any_setting_on_the_command_line(tmp_path: Path, key: str, text: str) -> None:
    (tmp_path / "mfd.toml").write_bytes(SETTINGS)
    with contextlib.suppress(MfdError):
        load_project(tmp_path / "mfd.toml", [f"{key}={text}"])
