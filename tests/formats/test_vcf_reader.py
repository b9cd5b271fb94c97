"""The strict reader of VCF and BCF: what is refused, what is read, what passes through."""

from __future__ import annotations

import gzip
import io
import sys
from pathlib import Path

import numpy as np
import pysam
import pytest
from hypothesis import strategies as st

from mfd_cli.base.errors import VariantError
from mfd_cli.formats.vcf_reader import Record, open_variants
from mfd_cli.genome.sequence import Genome

HEADER = "##fileformat=VCFv4.2\n##contig=<ID=chr1,length=200>\n#CHROM\tPOS\tID\tREF\tALT\tQUAL\tFILTER\tINFO\n"
LINE = "chr1\t5\t.\tA\tC\t.\t.\t.\n"
BASES = "".join("ACGT"[i] for i in np.random.default_rng(3).integers(0, 4, 200))
GENOME = Genome({"chr1": np.frombuffer(BASES.encode(), np.uint8)})
dna = st.text(alphabet="ACGT", min_size=1, max_size=12)


def read(path: Path) -> list[Record]:
    with open_variants(path) as variants:
        return list(variants.records)


def write(folder: Path, text: str | bytes, name: str = "x.vcf") -> Path:
    path = folder / name
    path.write_bytes(text if isinstance(text, bytes) else text.encode())
    return path


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("", "is empty"),
        ("hello\n", "does not start with ##fileformat"),
        (HEADER.replace("v4.2", "v3.3") + LINE, "does not start with ##fileformat=VCFv4"),
        ("##fileformat=VCFv4.2\n" + LINE, ":2: a record stands before the #CHROM line"),
        ("##fileformat=VCFv4.2\n", "no #CHROM line"),
        ("##fileformat=VCFv4.2\n#CHROM\tPOS\tID\n", ":2: the #CHROM line does not name"),
        (HEADER + "chr1\t5\t.\tA\n", ":4: has 4 columns where the #CHROM line has 8"),
        (HEADER + LINE + "chr1\t9\t.\tA\tC\t.\t.", ":5: has 7 columns"),
        (HEADER + "chr1\tfive\t.\tA\tC\t.\t.\t.\n", ":4: POS is not a whole number ('five')"),
        (HEADER + "chr1\t-5\t.\tA\tC\t.\t.\t.\n", "POS is not a whole number"),
        (HEADER + "chr1\t\t.\tA\tC\t.\t.\t.\n", "POS is not a whole number"),
        (HEADER + "chr1\t5\t.\t\tC\t.\t.\t.\n", "empty allele"),
        (HEADER + "chr1\t5\t.\tA\tC,\t.\t.\t.\n", "empty allele"),
        (HEADER + "\t5\t.\tA\tC\t.\t.\t.\n", "CHROM is not a contig name"),
        (HEADER + "chr1\t5\t.\tA\tC\t.\t.\tX\0\n", ":4: has a NUL byte"),
        (HEADER.encode("utf-16"), "is UTF-16 text"),
        ("##fileformat=VCFv4.2\n##" + "x" * (1 << 21) + "\n" + HEADER, ":2: a header line has"),
        (HEADER.replace("\n", "\r") + LINE.replace("\n", "\r"), "no #CHROM line"),
    ],
)
def test_broken_files_are_one_clear_error(tmp_path: Path, text: str | bytes, message: str) -> None:
    with pytest.raises(VariantError, match=message.replace("(", r"\(").replace(")", r"\)")):
        read(write(tmp_path, text))


def test_cut_and_damaged_compressed_files(tmp_path: Path) -> None:
    rng = np.random.default_rng(0)
    text = HEADER + "".join(f"chr1\t{p}\trs{rng.integers(1 << 40)}\tA\tC\t.\t.\t.\n" for p in range(1, 150))
    packed = gzip.compress(text.encode())
    with pytest.raises(VariantError, match="damaged or was cut short"):
        read(write(tmp_path, packed[: len(packed) // 2], "a.vcf.gz"))
    write(tmp_path, text, "b.vcf")
    pysam.tabix_compress(str(tmp_path / "b.vcf"), str(tmp_path / "b.vcf.gz"))
    whole = (tmp_path / "b.vcf.gz").read_bytes()
    with pytest.raises(VariantError, match="end mark of bgzip is missing"):
        read(write(tmp_path, whole[:-28], "c.vcf.gz"))
    assert len(read(tmp_path / "b.vcf.gz")) == 149


@pytest.mark.parametrize("change", ["crlf", "bom", "gzip", "no newline", "blank lines"])
def test_unusual_but_valid_files_are_read(tmp_path: Path, change: str) -> None:
    text = (HEADER + LINE).encode()
    changed = {
        "crlf": text.replace(b"\n", b"\r\n"),
        "bom": b"\xef\xbb\xbf" + text,
        "gzip": gzip.compress(text),
        "no newline": text.rstrip(b"\n"),
        "blank lines": text + b"\n\n",
    }[change]
    (record,) = read(write(tmp_path, changed))
    assert (record.contig, record.position, record.ref, record.alts) == ("chr1", 5, "A", ("C",))
    assert record.cells[7] == b"."


def test_a_plain_file_may_be_named_as_a_packed_one(tmp_path: Path) -> None:
    assert (
        len(read(write(tmp_path, HEADER + LINE, "x.vcf.gz"))) == len(read(write(tmp_path, HEADER + LINE, "x.bcf"))) == 1
    )


def test_everything_after_alt_passes_through_as_it_is(tmp_path: Path) -> None:
    header = HEADER.rstrip("\n") + "\tFORMAT\tS 1\n"
    odd = "high\tq10;\t=;;A=b c;\xe9\tGT:XX\t0/1:::"
    (record,) = read(write(tmp_path, (header + f"chr1\t5\trs1\tA\tC\t{odd}\n").encode("latin-1")))
    assert b"\t".join(record.cells[5:]) == odd.encode("latin-1")


def test_bcf_is_read_like_the_vcf(tmp_path: Path) -> None:
    source = write(tmp_path, HEADER + LINE + "chr1\t9\trs9\tAC\tA,AT\t.\tPASS\t.\n")
    with (
        pysam.VariantFile(str(source)) as old,
        pysam.VariantFile(str(tmp_path / "x.bcf"), "wb", header=old.header) as new,
    ):
        for record in old:
            new.write(record)
    assert [(r.position, r.ref, r.alts) for r in read(tmp_path / "x.bcf")] == [
        (r.position, r.ref, r.alts) for r in read(source)
    ]


def piped(monkeypatch: pytest.MonkeyPatch, data: bytes) -> list[Record]:
    monkeypatch.setattr(sys, "stdin", io.TextIOWrapper(io.BytesIO(data)))
    with open_variants("-") as variants:
        return list(variants.records)


@pytest.mark.parametrize("kind", ["text", "gzip", "bgzip", "bcf"])
def test_standard_input_takes_what_files_take(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, kind: str) -> None:
    source = write(tmp_path, HEADER + LINE + "chr1\t9\t.\tAC\tA,AT\t.\tPASS\t.\n")
    packed = tmp_path / "x.bcf"
    with pysam.VariantFile(str(source)) as old, pysam.VariantFile(str(packed), "wb", header=old.header) as new:
        for record in old:
            new.write(record)
    pysam.tabix_compress(str(source), str(tmp_path / "x.vcf.gz"))
    text = source.read_bytes()
    data = {
        "text": text,
        "gzip": gzip.compress(text),
        "bgzip": (tmp_path / "x.vcf.gz").read_bytes(),
        "bcf": packed.read_bytes(),
    }[kind]
    assert [(r.position, r.alts) for r in piped(monkeypatch, data)] == [(5, ("C",)), (9, ("A", "AT"))]
    if kind in ("bgzip", "bcf"):
        with pytest.raises(VariantError, match="standard input: was cut short"):
            piped(monkeypatch, data[:-28])
    if kind != "text":
        with pytest.raises(VariantError, match=r"standard input.*was cut short"):
            piped(monkeypatch, data[: len(data) // 2])
