"""Tables of labels, whatever is in them: they are read, or refused by a line; never something else."""

from __future__ import annotations

import tempfile
from pathlib import Path

import numpy as np
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as some

from mfd_cli.base.errors import ConfigError, MfdError, TableError
from mfd_cli.contig.data.labels import as_numbers, fit_column, read_labels
from mfd_cli.contig.data.tables import read_table

CELL = some.sampled_from(
    ["", "NA", "1", "-2.5", "1e400", "nan", "inf", "1_0", "word", "image", "person", '"', "\u00e9", "=1"]
)
ROWS = some.lists(some.lists(CELL, min_size=1, max_size=4), min_size=1, max_size=6)


@given(rows=ROWS, head=some.lists(some.sampled_from(["person", "image", "x", "y", ""]), min_size=1, max_size=4))
@settings(max_examples=200, deadline=None, suppress_health_check=[HealthCheck.too_slow])
def test_any_table_is_read_or_refused(rows: list[list[str]], head: list[str]) -> None:
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "labels.tsv"
        path.write_text("\n".join("\t".join(row) for row in [head, *rows]) + "\n", "utf-8")
        try:
            table = read_labels(path, ["*"])
            every = np.arange(len(table.persons))
            columns = [fit_column(table, name, every) for name in table.names]
        except MfdError as error:
            assert str(path) in str(error) and "\n" not in error.message
            return
        values = as_numbers(table, columns, np.array([-1, *every]))
        assert np.isnan(values[0]).all() and not np.isinf(values).any()
        for column, numbers in zip(columns, values.T):
            known = numbers[~np.isnan(numbers)]
            if column.levels:
                assert set(known) == set(range(len(column.levels))) and sum(column.shares) == pytest.approx(1)
            else:
                assert known.mean() == pytest.approx(0, abs=1e-9) and known.std() == pytest.approx(1, abs=1e-9)


def test_an_image_names_a_row_before_a_person_does(tmp_path: Path) -> None:
    path = tmp_path / "labels.tsv"
    path.write_text("person\timage\tx\tword\np\ta.png\t1\tyes\np\tb.png\tNA\t.\n")
    table = read_labels(path, ["word", "x"])
    assert table.key == "image" and table.persons == ("a.png", "b.png") and table.names == ("word", "x")
    assert table.columns["word"] == ("yes", "") and np.array_equal(table.columns["x"], [1, np.nan], equal_nan=True)
    with pytest.raises(ConfigError, match=r"no column 'wrd' in .*; did you mean word"):
        read_labels(path, ["wrd"])
    with pytest.raises(TableError, match="has the person of line 2 again"):
        read_table(path)  # of persons, as covariates are


def test_a_row_of_no_image_is_told_with_its_line(tmp_path: Path) -> None:
    (tmp_path / "l.tsv").write_text("image\tx\na.png\t1\n\t2\n")
    with pytest.raises(TableError) as refused:
        read_labels(tmp_path / "l.tsv", ["*"])
    assert refused.value.line == 3 and refused.value.message == "image is empty"
