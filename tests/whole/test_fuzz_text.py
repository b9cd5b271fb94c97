"""The readers of text, given anything: they return, or raise an error that the user can mend, and nothing else.

What the reader of BED accepts is compared with a slow reader in this file.
"""

from __future__ import annotations

import gzip
import re
from collections.abc import Callable
from pathlib import Path

import pytest
from hypothesis import HealthCheck, example, given, settings
from hypothesis import strategies as st

from kit import harm
from mfd_cli.base.errors import GenomeError, RegionError
from mfd_cli.formats.bed import read_intervals
from mfd_cli.formats.fasta import read_fasta

bed_token = st.sampled_from(
    [
        b"chr1",
        b"chr2",
        b"1",
        b"\t",
        b"\t",
        b"\t",
        b"\t",
        b"\n",
        b"\n",
        b" ",
        b"\r\n",
        b"\r",
        b"0",
        b"5",
        b"90",
        b"007",
        b"-1",
        b"+5",
        b"1_0",
        b"4294967296",
        b"99999999999",
        b"9" * 30,
        b"#",
        b"track ",
        b"browser",
        b"t",
        b"\0",
        b"\x0b",
        b"\x1b[31m",
        b"\xef\xbb\xbf",
        b"\xc3\xa9",
        b"\xd9\xa1",
        b"name",
        b"chr1\t5\t90",
        b"chr1\t5\t90\tx\t7\n",
        b"chr2\t100\t2000\n",
    ]
)
fasta_token = st.sampled_from(
    [
        b">",
        b">",
        b">chr1\n",
        b">chr2 words\n",
        b">chr3",
        b"\n",
        b"\n",
        b"\n\n",
        b"ACGT",
        b"acgtn",
        b"RYKM",
        b"N" * 50,
        b"U",
        b"-",
        b"*",
        b" ",
        b"\t",
        b"\r\n",
        b"\r",
        b"\0",
        b"@",
        b"+",
        b"1",
        b";",
        b"\xef\xbb\xbf",
        b"\xc3\xa9",
        b"\x1b[31m",
    ]
)


def soup(token: st.SearchStrategy[bytes]) -> st.SearchStrategy[bytes]:
    """Texts of such tokens."""
    return st.lists(token, min_size=1, max_size=40).map(b"".join)


@st.composite
def damaged(draw: st.DrawFn, good: bytes) -> bytes:
    """A good file with some bytes changed, put in, taken out, or its end cut off."""
    text = bytearray(good)
    for _ in range(draw(st.integers(1, 3))):
        place, byte = draw(st.integers(0, len(text) - 1)), draw(st.integers(0, 255))
        how = draw(st.sampled_from(["change", "insert", "remove", "cut"]))
        if how == "change":
            text[place] = byte
        elif how == "insert":
            text.insert(place, byte)
        elif how == "remove" and len(text) > 1:
            del text[place]
        elif how == "cut":
            del text[max(place, 1) :]
    return bytes(text)


GOOD_BED = b"#head\nchr1\t5\t90\tone\nchr1\t100\t220\ttwo\nchr2\t7\t1000\tthree\n"
GOOD_FASTA = b">chr1 first\nACGTACGTAC\nGGTTNNacgt\n>chr2\nRYACGT\n"
beds = st.one_of(st.binary(min_size=1, max_size=60), soup(bed_token), soup(bed_token), damaged(GOOD_BED))
fastas = st.one_of(st.binary(min_size=1, max_size=60), soup(fasta_token), soup(fasta_token), damaged(GOOD_FASTA))
packing: st.SearchStrategy[Callable[[bytes], bytes]] = st.sampled_from([bytes, bytes, lambda text: gzip.compress(text)])
fuzzed = settings(max_examples=300 * harm.FUZZED, suppress_health_check=[HealthCheck.function_scoped_fixture])


def plain_bed(text: bytes) -> list[tuple[bytes, int, int, int]] | None:
    """Contig, start, end and line number of every row; None where the text is no BED."""
    text = text.removeprefix(b"\xef\xbb\xbf").replace(b"\r\n", b"\n")
    if b"\0" in text or b"\r" in text:
        return None
    rows, lines = [], text.split(b"\n")
    for number, line in enumerate(lines, start=1):
        if re.fullmatch(rb"[ \t]*|#.*|(track|browser)[ \t].*", line, re.DOTALL):
            continue
        first, gap = rb"" if b"\t" in line else rb" *", rb"(?: *\t *| +)"
        found = re.fullmatch(
            first + rb"([!-~]+)" + gap + rb"([0-9]+)" + gap + rb"([0-9]+)(?:" + gap + rb".*)?", line, re.DOTALL
        )
        if not found or int(found[2]) > int(found[3]) or int(found[3]) >= 10**10:
            return None
        if int(found[2]) == int(found[3]):  # no base is in it
            continue
        rows.append((found[1], int(found[2]), int(found[3]), number))
    last, before = (line.strip(b" \t") for line in (lines[-1], lines[-2] if len(lines) > 1 else b""))
    fewer = [len(re.split(gap, last)) < len(re.split(gap, before)) for gap in (rb"\t", rb" *\t *| +")]
    return None if last and all(fewer) and b"#" not in (last[:1], before[:1]) else rows


def plain_fasta(text: bytes) -> dict[str, str] | None:
    """The bases of every contig; None where the text is no FASTA."""
    text = text.removeprefix(b"\xef\xbb\xbf").replace(b"\r\n", b"\n")
    if b"\0" in text or b"\r" in text:
        return None
    found: dict[str, str] = {}
    name = ""
    for line in text.decode("latin-1").split("\n"):
        if line.startswith(">"):
            name = re.split("[ \t]", line[1:])[0]
            if not re.fullmatch("[!-~]+", name) or name in found:
                return None
            found[name] = ""
        elif line:
            if not name or not re.fullmatch("[ACGTRYSWKMBDHVN]+", line, re.IGNORECASE):
                return None
            found[name] += re.sub("[^ACGT]", "N", line.upper())
    return found if found and all(found.values()) else None


@pytest.mark.parametrize("size", [1, 2, 3, 5, 8, 13])
def test_line_ends_of_windows_may_fall_between_two_blocks(size: int, tmp_path: Path) -> None:
    (tmp_path / "a.bed").write_bytes(b"chr1\t5\t90\r\nchr1\t100\t220\r\n")
    assert read_intervals(tmp_path / "a.bed", size).start.tolist() == [5, 100]


@fuzzed
@example(text=b" chr1 0 1", pack=bytes, size=3)
@given(text=beds, pack=packing, size=st.sampled_from([3, 16, 1 << 24]))
def test_bed(tmp_path: Path, text: bytes, pack: Callable[[bytes], bytes], size: int) -> None:
    path = tmp_path / "a.bed"
    path.write_bytes(pack(text))
    expected = plain_bed(text)
    if expected is None or text[:2] in (b"\xff\xfe", b"\xfe\xff", b"\x1f\x8b"):
        with pytest.raises(RegionError, match=r"a\.bed"):
            read_intervals(path, size)
        return
    found = read_intervals(path, size)
    names = [found.names[i].encode() for i in found.contig]
    assert list(zip(names, found.start.tolist(), found.end.tolist(), found.line.tolist())) == expected


@fuzzed
@given(text=fastas, pack=packing, size=st.sampled_from([3, 16, 1 << 24]))
def test_fasta(tmp_path: Path, text: bytes, pack: Callable[[bytes], bytes], size: int) -> None:
    path = tmp_path / "a.fa"
    path.write_bytes(pack(text))
    expected = plain_fasta(text)
    if expected is None or text[:2] in (b"\xff\xfe", b"\xfe\xff", b"\x1f\x8b"):
        with pytest.raises(GenomeError, match=r"a\.fa"):
            read_fasta(path, size)
        return
    genome = read_fasta(path, size)
    assert {name: bases.tobytes().decode() for name, bases in genome.sequences.items()} == expected
    assert list(genome.sequences) == list(expected)


@fuzzed
@given(rest=damaged(gzip.compress(GOOD_BED * 20, mtime=0)[2:]))
def test_gzip(tmp_path: Path, rest: bytes) -> None:
    """A damaged gzip is found out; some bytes of its head (the time, the name) mean nothing."""
    path = tmp_path / "a.bed.gz"
    path.write_bytes(b"\x1f\x8b" + rest)  # without these two it is no gzip
    try:
        assert len(read_intervals(path)) == 60
    except RegionError as error:
        assert "a.bed.gz" in str(error)


@fuzzed
@given(text=st.one_of(st.binary(max_size=40), damaged(b"chr1\t20\t12\t10\t11\nchr2\t6\t40\t6\t7\n")))
def test_index(tmp_path: Path, text: bytes) -> None:
    """Whatever stands in a .fai, the bases are those of the FASTA."""
    path = tmp_path / "a.fa"
    path.write_bytes(GOOD_FASTA)
    (tmp_path / "a.fa.fai").write_bytes(text)
    try:
        assert read_fasta(path).lengths == {"chr1": 20, "chr2": 6}
    except GenomeError as error:
        assert "a.fa" in str(error)
