"""Tables with a row per person: read as they are, and what is wrong is named."""

from __future__ import annotations

import gzip
from pathlib import Path

import numpy as np
import pytest

from mfd_cli.base.errors import TableError
from mfd_cli.contig.data.tables import read_table


def read(tmp_path: Path, text: str, **how: object):
    (tmp_path / "t.tsv").write_text(text)
    return read_table(tmp_path / "t.tsv", **how)  # type: ignore[arg-type]


def test_numbers_texts_and_gaps(tmp_path: Path) -> None:
    table = read(tmp_path, "age\tperson\tsex\tcentre\n1.5\t007\tF\t1\nNA\t7\t\t.\n-2e3\tx\tM\t3\n")
    assert table.persons == ("007", "7", "x") and table.names == ("age", "sex", "centre")
    assert np.array_equal(table.columns["age"], [1.5, np.nan, -2000], equal_nan=True)
    assert table.columns["sex"] == ("F", "", "M")
    assert np.array_equal(table.columns["centre"], [1, np.nan, 3], equal_nan=True)


def test_a_gzipped_table(tmp_path: Path) -> None:
    (tmp_path / "t.tsv.gz").write_bytes(gzip.compress(b"person\tage\na\t1\n"))
    assert read_table(tmp_path / "t.tsv.gz").columns["age"].tolist() == [1]  # type: ignore[union-attr]


def test_what_means_missing_is_asked(tmp_path: Path) -> None:
    table = read(tmp_path, "person\tage\na\t-9\nb\t3\n", missing=("-9",))
    assert np.isnan(table.columns["age"][0])


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("person\tage\na\t1\nb\t2\na\t3\n", r"t.tsv:4: has the person of line 2 again"),
        ("person\tage\na\t1\nb\t2\nc\tx7\n", r"t.tsv:4: column age: 'x7' is no number"),
        ("person\tage\na\t1\nb\tinf\nc\t3\n", r"t.tsv:3: column age: 'inf' is no number"),
        ("person\tage\na\t1\nb\t1_0\nc\t3\n", r"t.tsv:3: column age: '1_0' is no number"),
        ("person\tage\n\t1\n", r"t.tsv:2: person is empty"),
        ("who\tage\na\t1\n", r"t.tsv: has no column person"),
        ("person\tage\na\n", r"t.tsv:2: has 1 cells where the header has 2"),
        ("person\tage\tage\na\t1\t1\n", r"t.tsv:1: has the column 'age' twice"),
        ("person\tage\n", r"t.tsv: has a header but no rows"),
    ],
)
def test_what_is_wrong_is_named(tmp_path: Path, text: str, message: str) -> None:
    with pytest.raises(TableError, match=message):
        read(tmp_path, text)


def test_no_file(tmp_path: Path) -> None:
    with pytest.raises(TableError, match="no such file"):
        read_table(tmp_path / "none.tsv")
