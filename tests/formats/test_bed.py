"""Intervals: the reader of whole blocks and the reader of lines are one reader."""

from __future__ import annotations

import gzip
import re
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from mfd_cli.base.errors import RegionError
from mfd_cli.formats import bed as regions
from mfd_cli.formats.bed import read_intervals, read_names
from mfd_cli.genome.intervals import Intervals

plain_row = st.tuples(
    st.sampled_from(["chr1", "chr2", "chr10", "1", "X", "scaffold_77"]),
    st.integers(0, 10**9),
    st.integers(1, 10**6),
    st.sampled_from(["", "\tname\t100", "\t.\t0\t.\t1.5", "\tname one\t-1", '\t\xe9\t"x']),
).map(lambda row: f"{row[0]}\t{row[1]}\t{row[1] + row[2]}{row[3]}")
odd_row = st.sampled_from(
    [
        "",
        "#comment",
        "track name=x",
        "browser position",
        "chr1 5 9",
        "chr1\t5",
        "chr1\t9\t5",
        "chr1\t-1\t5",
        "chr1\t 5\t9",
        "chr1\t5\t9 ",
        "chr1\t5\t9\r",
        "\t5\t9",
        "chr1\t5\t12345678901",
        "chr1\t0x5\t9",
        "chr1\t5\tx",
        " ",
        "tig1\t5\t9",
        "chr\u00e9\t5\t9",
        "chr1\t5\t9\tn\0",
        "\ufeffchr1\t5\t9",
        "chr1\t\t9",
        "chr1\t5\t9\t",
        "chr1    5\t9",
        "chr1\t5    9",
        "chr1 \t5\t 9\tname one",
        "chr1\t5\t9 x",
        "chr1\t7\t7",
        "chr9 7 7",
        "\t",
    ]
)


def same(one: Intervals, other: Intervals) -> bool:
    return (one.names, one.empty) == (other.names, other.empty) and all(
        np.array_equal(getattr(one, name), getattr(other, name)) for name in ("contig", "start", "end", "line")
    )


def by_line(path: Path, size: int) -> Intervals:
    """As the reader of single lines reads it."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(regions, "_parse_block", lambda data, names, number: (None, data.count(b"\n")))
        return read_intervals(path, size)


@settings(deadline=None)
@given(
    rows=st.lists(plain_row | st.just("#a\tcomment"), min_size=1, max_size=30),
    packed=st.booleans(),
    size=st.sampled_from([7, 64, 1 << 24]),
)
def test_plain_files_are_read_alike(
    tmp_path_factory: pytest.TempPathFactory, rows: list[str], packed: bool, size: int
) -> None:
    path = tmp_path_factory.mktemp("bed") / "a.bed"
    data = ("\n".join(rows) + "\n").encode("latin-1")
    path.write_bytes(gzip.compress(data) if packed else data)
    plain, lines = regions._parse_block(data, {}, 1)
    assert plain is not None and lines == len(rows)
    assert same(read_intervals(path, size), by_line(path, size))


numbers = st.text("0123456789 -+xX.e_\f", max_size=4) | st.sampled_from(["0x5", "-0", "-0x1", " 0X5", "007", "9" * 11])
odd_numbers = st.tuples(numbers, numbers).map(lambda cells: f"chr1\t{cells[0]}\t{cells[1]}")


@settings(max_examples=300, deadline=None)
@given(
    rows=st.lists(st.one_of(plain_row, odd_row, odd_numbers), max_size=6) | odd_numbers.map(lambda row: [row, ""]),
    size=st.sampled_from([7, 64, 1 << 24]),
)
def test_odd_files_are_read_alike_or_refused_alike(
    tmp_path_factory: pytest.TempPathFactory, rows: list[str], size: int
) -> None:
    path = tmp_path_factory.mktemp("bed") / "a.bed"
    path.write_bytes("\n".join(rows).encode())
    try:
        lines = by_line(path, size)
    except RegionError as error:
        with pytest.raises(RegionError, match=re.escape(str(error))):
            read_intervals(path, size)
    else:
        assert same(read_intervals(path, size), lines)


def test_comments_count_as_lines(tmp_path: Path) -> None:
    path = tmp_path / "a.bed"
    path.write_text("#one\nchr1\t5\t9\n#three\nchr2\t5\t900\n")
    assert read_intervals(path).line.tolist() == [2, 4]
    with pytest.raises(RegionError, match=r"a\.bed:4: chr2:5-900 ends beyond"):
        read_intervals(path).on({"chr1": 100, "chr2": 100})


# Shapes that the public set of hoffmangroup/acidbio calls good, one row each, and what they mean.
SHAPES = {
    "tabs": "chr1\t100\t200",
    "blanks": "chr1    100    200",
    "one blank": "chr1 100 200",
    "blanks before the contig, and no tab": "  chr1 100 200",
    "blanks, then a tab": "chr1    100\t200",
    "a tab, then blanks": "chr1\t100    200",
    "a blank before the start": "chr1\t 100\t200",
    "a blank behind the start": "chr1\t100 \t200",
    "a blank before the end": "chr1\t100\t 200",
    "blanks behind the end": "chr1\t100\t200  ",
    "a tab behind the end": "chr1\t100\t200\t",
    "leading zeros": "chr1\t0100\t000200",
    "six columns, blanks in three": "chr1\t 100 \t 200\tpeak 1\t790\t+",
    "twelve columns": "chr1\t100\t200\tname\t790\t+\t101\t199\t0,0,0\t2\t10,10\t0,90",
    "twelve columns, all blanks": "chr1  100  200  name  790  +  101  199  0,0,0  2  10,10  0,90",
    "twelve columns, a comma and a tab behind": "chr1\t100\t200\t#$%\t0\t.\t101\t199\t0\t2\t10,10,\t0,90,\t",
    "twelve columns, blanks once": "chr1    100    200\tB\t910\t-\t101\t199\t0,0,0\t2\t10,10\t0,90",
}


@pytest.mark.parametrize("row", SHAPES.values(), ids=SHAPES)
@pytest.mark.parametrize("around", ["{}", "{}\n", "chr1\t1\t2\n{}\nchr2\t7\t9\n", "#c\n\n \t\n{}\n\t"])
def test_rows_that_the_specification_allows(tmp_path: Path, row: str, around: str) -> None:
    path = tmp_path / "a.bed"
    path.write_text(around.format(row))
    intervals = read_intervals(path)
    blocks = {(100, 110), (190, 200)} if "10,10" in row else {(100, 200)}
    assert blocks <= set(zip(intervals.start.tolist(), intervals.end.tolist()))
    assert len(intervals) == (2 if "chr2" in around else 0) + len(blocks) and intervals.empty == 0


BED12 = "chr1\t100\t200\tgene 1\t0\t+\t100\t200\t0\t"
BLOCKS = {
    "three blocks": (f"{BED12}3\t10,20,30\t0,20,70", [(100, 110), (120, 140), (170, 200)]),
    "a comma behind": (f"{BED12}2\t10,20,\t0,80,", [(100, 110), (180, 200)]),
    "gappedPeak": (f"{BED12}2\t10,20\t0,80\t1.5\t2.5\t3.5", [(100, 110), (180, 200)]),
    "one block": (f"{BED12}1\t100\t0", [(100, 200)]),
    "blocks that touch": (f"{BED12}2\t50,50\t0,50", [(100, 150), (150, 200)]),
    # What is no list of blocks is of another format, and the interval is what it says.
    "another number of them": (f"{BED12}3\t10,20\t0,80", [(100, 200)]),
    "not to the end": (f"{BED12}2\t10,20\t0,70", [(100, 200)]),
    "overlapping": (f"{BED12}2\t60,60\t0,40", [(100, 200)]),
    "without bases": (f"{BED12}2\t0,20\t0,80", [(100, 200)]),
    "bedMethyl": ("chr1\t100\t200\tm\t12\t+\t100\t200\t255,0,0\t12\t8.33\t1\t11\t0\t0\t0\t0\t0", [(100, 200)]),
    "words": (f"{BED12}a,b\tc,d\te,f", [(100, 200)]),
    "eleven columns": (f"{BED12}2\t10,20", [(100, 200)]),
}


@pytest.mark.parametrize(("row", "expected"), BLOCKS.values(), ids=BLOCKS)
def test_blocks_are_intervals_of_their_own(tmp_path: Path, row: str, expected: list[tuple[int, int]]) -> None:
    path = tmp_path / "a.bed"
    path.write_text(f"chr1\t1\t2\tfirst\n{row}\nchr1\t300\t400\t.\n")
    intervals = read_intervals(path)
    assert list(zip(intervals.start.tolist(), intervals.end.tolist())) == [(1, 2), *expected, (300, 400)]
    assert intervals.line.tolist() == [1, *[2] * len(expected), 3]
    assert read_names(path, intervals.line) == ["first", *[row.split("\t")[3]] * len(expected), ""]


def test_intervals_without_bases_are_left_out_and_counted(tmp_path: Path) -> None:
    path = tmp_path / "a.bed"
    path.write_text("chr1\t5\t9\nchr3\t7\t7\nchr1 0 0\nchr2\t5\t6\n")
    intervals = read_intervals(path)
    assert intervals.start.tolist() == [5, 5] and intervals.line.tolist() == [1, 4]
    assert intervals.empty == 2 and intervals.names == ("chr1", "chr2")


@pytest.mark.parametrize(
    ("text", "says"),
    {
        "an empty start": ("chr1\t\t200\n", r"start is not a whole number \(''\)"),
        "an empty start before two numbers": ("chr1\t\t200\t300\n", r"start is not a whole number \(''\)"),
        "an empty end": ("chr1\t100\t\tname\n", r"end is not a whole number \(''\)"),
        "no contig": ("\t100\t200\n", "'' is not a contig name"),
        "a blank before the contig": (" chr1\t100\t200\n", "' chr1' is not a contig name"),
        "two columns and blanks": ("chr1\t100  \t \n", "has 2 columns"),
        "end before start": ("chr1 9 5\n", "end 5 is before start 9"),
    }.values(),
)
def test_rows_that_it_does_not_allow(tmp_path: Path, text: str, says: str) -> None:
    path = tmp_path / "a.bed"
    path.write_text("chr1\t5\t9\n" + text)
    with pytest.raises(RegionError, match=f"a.bed:2: {says}"):
        read_intervals(path)


def test_a_last_line_that_was_cut_short(tmp_path: Path) -> None:
    path = tmp_path / "a.bed"
    path.write_text("chr1\t5\t9\tname one\nchr1\t5\t90")
    with pytest.raises(RegionError, match=r"a\.bed:2: the last line was cut short"):
        read_intervals(path)
    path.write_text("chr1\t5\t9\tname one\t\nchr1\t5\t90\tname")  # all columns are there, however they are separated
    assert len(read_intervals(path)) == 2
