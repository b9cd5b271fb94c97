"""VCF: the input of `mfd score-variants`.

A line that is no record, or a file that is no VCF, is refused. A record that cannot be scored is listed with its line and the
reason. INFO, FORMAT and the samples never make a record unreadable.
"""

from __future__ import annotations

import gzip
from collections.abc import Callable, Iterator
from pathlib import Path

import pysam

from kit.harm import (
    Change,
    Kind,
    any_file,
    any_text,
    bytes_changed,
    cell_changed,
    line_changed,
)

HEADER, FIRST = 5, 6
"""The lines of the header's columns and of the first record, from 0."""
CONTIG, POS, REF, ALT, QUAL, FILTER, INFO = 0, 1, 3, 4, 5, 6, 7


def lines_changed(how: Callable[[list[str]], list[str]]) -> Callable[[Path], None]:
    """A change of the list of all lines."""

    def change(text: bytes) -> bytes:
        return ("\n".join(how(text.decode("latin-1").split("\n")[:-1])) + "\n").encode("latin-1")

    return bytes_changed(change)


def records_changed(how: Callable[[list[str]], list[str]]) -> Callable[[Path], None]:
    """A change of the cells of every record."""
    return lines_changed(lambda lines: [*lines[:FIRST], *("\t".join(how(line.split("\t"))) for line in lines[FIRST:])])


def with_samples(names: str, cells: str) -> Callable[[Path], None]:
    """Samples: what the columns' line and every record get at their end."""
    return lines_changed(
        lambda lines: [*lines[:HEADER], f"{lines[HEADER]}\t{names}", *(f"{line}\t{cells}" for line in lines[FIRST:])]
    )


def inserted(number: int, line: str) -> Callable[[Path], None]:
    """One more line."""
    return lines_changed(lambda lines: [*lines[:number], line, *lines[number:]])


def wrong_ref(cells: list[str]) -> list[str]:
    """A reference base that is neither the genome's nor the alternate one."""
    wrong = next(base for base in "ACGT" if base not in (cells[REF], cells[ALT]))
    return [*cells[:REF], wrong, *cells[ALT:]]


def as_bcf(path: Path) -> None:
    """The same as BCF, under the name of a VCF."""
    made = path.with_suffix(".bcf")
    with pysam.VariantFile(str(path)) as old, pysam.VariantFile(str(made), "wb", header=old.header) as new:
        for record in old:
            new.write(record)
    made.replace(path)


def unpacked_bcf(path: Path) -> None:
    as_bcf(path)
    path.write_bytes(gzip.decompress(path.read_bytes()))


def cut_bcf(path: Path) -> None:
    as_bcf(path)
    path.write_bytes(path.read_bytes()[:-60])


def damaged_bcf(path: Path) -> None:
    unpacked_bcf(path)
    text = path.read_bytes()
    path.write_bytes(text[: len(text) - 200] + bytes(150) + text[len(text) - 50 :])


def long_ref(path: Path) -> None:
    """A deletion of 9,999 bases, as the genome has them."""
    sequence = "".join((path.parent / "genome.fa").read_text().split(">")[1].split("\n")[1:])
    line = f"chr1\t101\tlong\t{sequence[100:10_100]}\t{sequence[100]}\t.\t.\t."
    inserted(FIRST, line)(path)


def set_cell(column: int, value: str) -> Callable[[Path], None]:
    return cell_changed(FIRST, column, value)


def vcf_changes() -> Iterator[Change]:
    yield from header_changes()
    yield from record_changes()
    yield from allele_changes()
    yield from passed_through()


def header_changes() -> Iterator[Change]:
    yield Change("no ##fileformat", lines_changed(lambda lines: lines[1:]), says=":1: .*##fileformat")
    for version in ("VCFv1.0", "VCFv3.3", "VCFv41", "BCFv2.2"):
        yield Change(f"##fileformat={version}", line_changed(0, lambda _, v=version: f"##fileformat={v}"), says=version)  # type: ignore[misc]
    yield Change("##fileformat=VCFv4.5", line_changed(0, lambda _: "##fileformat=VCFv4.5"), "read")
    yield Change("a blank line before everything", inserted(0, ""), says=":1: ")
    yield Change("a blank line in the header", inserted(2, ""), "read")
    yield Change("no #CHROM line", lines_changed(lambda x: [*x[:HEADER], *x[FIRST:]]), says=":6: .*#CHROM")
    yield Change("nothing after the ## lines", lines_changed(lambda x: x[:HEADER]), says="no #CHROM line")
    yield Change(
        "#CHROM after the first record",
        lines_changed(lambda x: [*x[:HEADER], x[FIRST], x[HEADER], *x[FIRST + 1 :]]),
        says=":6: .*#CHROM",
    )
    yield Change("two #CHROM lines", lines_changed(lambda x: [*x[:FIRST], x[HEADER], *x[FIRST:]]), says=":7: .*header")
    yield Change("two files in one", bytes_changed(lambda text: text + text), says=":25: .*header")
    yield Change("a comment between records", inserted(FIRST + 2, "# checked by hand"), says=":9: .*header")
    yield Change("five columns", line_changed(HEADER, lambda x: "\t".join(x.split("\t")[:5])), says=":6: .*#CHROM")
    yield Change("lower-case columns", line_changed(HEADER, str.lower), says=":6: ")
    yield Change("columns with spaces between", line_changed(HEADER, lambda x: x.replace("\t", " ")), says=":6: .*tabs")
    yield Change("commas for tabs", bytes_changed(lambda text: text.replace(b"\t", b",")), says="tabs")
    yield Change("a header line of 2 MiB", inserted(2, "##about=" + "x" * (2 << 20)), says=":3: a header line")
    yield Change("an open quote in the header", inserted(2, '##INFO=<ID=X,Number=1,Type=String,Description="'), "read")
    yield Change("a contig without a name", inserted(2, "##contig=<length=9>"), "read")
    yield Change("contigs without lengths", line_changed(1, lambda _: "##contig=<ID=chr1>"), "read")
    yield Change("a contig twice", inserted(2, "##contig=<ID=chr1,length=40000>"), "read")
    yield Change("a contig of another length", line_changed(1, lambda x: x.replace("40000", "39999")), "read")
    yield Change("no record", lines_changed(lambda x: x[:FIRST]), "read")
    yield Change(
        "MFD_ fields of another run",
        bytes_changed(
            lambda text: text.replace(
                b"##INFO", b'##INFO=<ID=MFD_SHARED,Number=A,Type=Float,Description="old">\n##mfd_model=<x>\n##INFO'
            ).replace(b"AF=0.25", b"MFD_SHARED=9;AF=0.25;MFD_FLAGS=x")
        ),
        "read",
    )


def record_changes() -> Iterator[Change]:
    for value in ("", "-1", "+5", "1e3", "7.0", "1,000", "0x10", "five", " 701", "\u0667\u0660", "9" * 11, "."):
        shown = value if value.isascii() else "in Arabic digits"
        change = bytes_changed(lambda text, v=value: text.replace(b"chr1\t701\t", f"chr1\t{v}\t".encode()))  # type: ignore[misc]
        yield Change(f"POS is {shown or 'empty'!r}", change, says=":7: POS")
    for value in ("0", "40001", "2147483648", "4294967396", "00701"):
        yield Change(f"POS is {value}", set_cell(POS, value), "read")
    yield Change("CHROM is empty", set_cell(CONTIG, ""), says=":7: CHROM")
    yield Change("CHROM has a space", set_cell(CONTIG, "chr 1"), says=":7: CHROM")
    yield Change("CHROM has a space at its end", set_cell(CONTIG, "chr1 "), says=":7: CHROM")
    yield Change("CHROM is not ASCII", set_cell(CONTIG, "chr\xe9"), says=":7: CHROM")
    yield Change("a contig that the genome lacks", set_cell(CONTIG, "chrUn_1"), "read")
    yield Change("a contig of an assembly file", set_cell(CONTIG, "<ctg1>"), "read")
    yield Change(
        "only contigs that the genome lacks",
        bytes_changed(lambda text: text.replace(b"chr", b"scaffold")),
        says="scaffold1.*chr1",
    )
    yield Change("contigs without chr", bytes_changed(lambda text: text.replace(b"chr", b"")), "read")
    yield Change("contigs with and without chr", set_cell(CONTIG, "1"), "read")
    yield Change(
        "spaces for tabs in a record", line_changed(FIRST, lambda x: x.replace("\t", " ")), says=":7: has 1 col"
    )
    yield Change(
        "four columns in a record", line_changed(FIRST, lambda x: "\t".join(x.split("\t")[:4])), says=":7: has 4"
    )
    yield Change("20 columns in a record", line_changed(FIRST, lambda x: x + "\tx" * 12), says=":7: has 20 columns")
    yield Change("a tab at the end of a record", line_changed(FIRST, lambda x: x + "\t"), says=":7: has 9 columns")
    yield Change("the last record is cut", bytes_changed(lambda text: text[:-16]), says="columns")
    yield Change("blank lines between records", inserted(FIRST + 2, ""), "read")
    yield Change("a line of one space", inserted(FIRST + 2, " "), says=":9: has 1 col")
    yield Change("a record twice", lines_changed(lambda x: [*x, x[FIRST]]), "read")
    yield Change("records in no order", lines_changed(lambda x: [*x[:FIRST], *sorted(x[FIRST:])[::-1]]), "read")
    yield Change("one record", lines_changed(lambda x: x[: FIRST + 1]), "read")
    yield Change("BCF under the name of a VCF", as_bcf, "read")
    yield Change("BCF, uncompressed", unpacked_bcf, "read")
    yield Change("a cut BCF", cut_bcf)
    yield Change("a damaged BCF", damaged_bcf)


def allele_changes() -> Iterator[Change]:
    yield Change("REF is empty", set_cell(REF, ""), says=":7: .*empty allele")
    for ref in ("*", ".", "<DEL>", "A1", "A C", "-", "U"):
        yield Change(f"REF is {ref!r}", set_cell(REF, ref), "read")
    yield Change(
        "lower-case alleles",
        records_changed(lambda cells: [*cells[:REF], cells[REF].lower(), cells[ALT].lower(), *cells[QUAL:]]),
        "read",
    )
    yield Change("REF is N", records_changed(lambda cells: [*cells[:REF], "N", *cells[ALT:]]), "read")
    yield Change(
        "REF is not the genome's once", line_changed(FIRST, lambda x: "\t".join(wrong_ref(x.split("\t")))), "read"
    )
    yield Change("REF is never the genome's", records_changed(wrong_ref), says="another assembly")
    yield Change(
        "positions are off by 10",
        records_changed(lambda cells: [cells[0], str(int(cells[1]) + 10), *cells[2:]]),
        says="another assembly",
    )
    yield Change("REF of 10,000 bases", long_ref, "read")
    yield Change("ALT of 100,000 bases", set_cell(ALT, "ACGT" * 25_000), "read")
    for alt in ("A,", ",A", "A,,C", ""):
        yield Change(f"ALT is {alt!r}", set_cell(ALT, alt), says=":7: .*empty allele")
    for alt in (
        "A/T",
        "<DEL",
        "<DEL>",
        "*",
        ".",
        "<NON_REF>",
        "<*>",
        "A,<NON_REF>",
        "]chr2:90]A",
        "A[chr2:90[",
        "A.",
        ".A",
        "N",
        "R",
        "A C",
        "\xe9",
    ):
        yield Change(f"ALT is {alt!r}", set_cell(ALT, alt), "read")
    yield Change(
        "ALT has an allele twice",
        line_changed(
            FIRST, lambda x: "\t".join([*x.split("\t")[:4], ",".join([x.split("\t")[4]] * 2), *x.split("\t")[5:]])
        ),
        "read",
    )
    yield Change(
        "ALT is REF",
        line_changed(FIRST, lambda x: "\t".join([*x.split("\t")[:4], x.split("\t")[3], *x.split("\t")[5:]])),
        "read",
    )
    yield Change(
        "10,000 alternate alleles", set_cell(ALT, ",".join(f"<CN{number}>" for number in range(10_000))), "read"
    )


def passed_through() -> Iterator[Change]:
    """Columns that are not ours: whatever is in them, the record is read."""
    for column, name in ((2, "ID"), (QUAL, "QUAL"), (FILTER, "FILTER"), (INFO, "INFO")):
        for value in ("", ".", "high", "a b", ";;=,", "\xff\xfe", "=1+1", "[/nope]"):
            yield Change(f"{name} is {value!r}", set_cell(column, value), "read")
    yield Change("INFO of 1 MiB", set_cell(INFO, "X=" + "y" * (1 << 20)), "read")
    yield Change("samples", with_samples("FORMAT\tone\ttwo", "GT:DP\t0|1:3\t./.:."), "read")
    yield Change("odd samples", with_samples("FORMAT\tone\ttwo", "GT:\t0|9:::\t1/x|-2"), "read")
    yield Change("samples without FORMAT", with_samples("FORMAT\tone", "\t"), "read")
    yield Change("a sample twice", with_samples("FORMAT\tone\tone", "GT\t0|1\t0|1"), "read")
    yield Change("a sample without a name", with_samples("FORMAT\t", "GT\t0|1"), "read")
    yield Change(
        "samples in the header only", line_changed(HEADER, lambda x: x + "\tFORMAT\tone"), says=":7: has 8 col"
    )
    yield Change(
        "samples in the records only",
        lines_changed(lambda x: [*x[:FIRST], *(f"{line}\tGT\t0|1" for line in x[FIRST:])]),
        says=":7: has 10 col",
    )


CHANGES = [*any_file(), *any_text(header=FIRST), *vcf_changes()]

KINDS = [
    Kind(
        "vcf",
        "input.vcf",
        ("score-variants", "input.vcf", "-q", "--gpus", "0", "--threads", "1"),
        ("input.mfd.vcf.gz", "input.mfd.parquet", "input.mfd.skipped.tsv"),
        CHANGES,
        trained=True,
    )
]
