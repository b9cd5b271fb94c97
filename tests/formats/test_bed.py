"""Intervals: the reader of whole blocks and the reader of lines are one reader."""

from __future__ import annotations

import gzip
import re
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from mfd_cli.base.errors import RegionError
from mfd_cli.formats import bed as regions
from mfd_cli.formats.bed import read_intervals
from mfd_cli.genome.intervals import Intervals

plain_row = st.tuples(
    st.sampled_from(["chr1", "chr2", "chr10", "1", "X", "scaffold_77"]),
    st.integers(0, 10**9),
    st.integers(1, 10**6),
    st.sampled_from(["", "\tname\t100", "\t.\t0\t.\t1.5"]),
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
    ]
)


def same(one: Intervals, other: Intervals) -> bool:
    return one.names == other.names and all(
        np.array_equal(getattr(one, name), getattr(other, name)) for name in ("contig", "start", "end", "line")
    )


def by_line(path: Path, size: int) -> Intervals:
    """As the reader of single lines reads it."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(regions, "_parse_block", lambda data, names, number: (None, data.count(b"\n")))
        return read_intervals(path, size)


@given(
    rows=st.lists(plain_row, min_size=1, max_size=30),
    packed=st.booleans(),
    size=st.sampled_from([7, 64, 1 << 24]),
)
def test_plain_files_are_read_alike(
    tmp_path_factory: pytest.TempPathFactory, rows: list[str], packed: bool, size: int
) -> None:
    path = tmp_path_factory.mktemp("bed") / "a.bed"
    data = ("\n".join(rows) + "\n").encode()
    path.write_bytes(gzip.compress(data) if packed else data)
    plain, lines = regions._parse_block(data, {}, 1)
    assert plain is not None and lines == len(rows)
    assert same(read_intervals(path, size), by_line(path, size))


@given(rows=st.lists(st.one_of(plain_row, odd_row), max_size=12), size=st.sampled_from([7, 64, 1 << 24]))
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
