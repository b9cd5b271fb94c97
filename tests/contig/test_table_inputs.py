"""Any table as a modality: columns by pattern, two words as 0 and 1, noise, and who counts as absent."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
from scipy import stats

from mfd_cli.base.errors import ConfigError, InputError, TableError
from mfd_cli.contig.data.tables import Table, read_table
from mfd_cli.contig.data.wide_table import chosen_columns, mostly_missing, noise_of, numbers_of
from mfd_cli.contig.modalities.source import chosen_numbers
from mfd_cli.contig.modalities.tables import TableSource

TEXT = "person\tage\tsex\tbmi\tcentre\nA\t50\tmale\t21.5\tx\nB\t60\tfemale\tNA\ty\nC\t\tmale\t30\tz\n"


@pytest.fixture
def table(tmp_path: Path) -> Table:
    (tmp_path / "t.tsv").write_text(TEXT)
    return read_table(tmp_path / "t.tsv")


def test_columns_are_chosen_by_pattern_in_the_order_of_the_table(table: Table) -> None:
    assert chosen_columns(table, ["b*", "age"], "s") == ("age", "bmi")
    assert chosen_columns(table, ["*"], "s") == ("age", "sex", "bmi", "centre")
    with pytest.raises(ConfigError, match=r"s names 'agee', which .*t\.tsv does not have; did you mean age\?"):
        chosen_columns(table, ["agee"], "s")


def test_two_words_are_0_and_1_and_other_words_are_refused_by_name(table: Table) -> None:
    values = numbers_of(table, ("sex", "bmi"), "s")
    assert np.array_equal(values, [[1, 21.5], [0, np.nan], [1, 30]], equal_nan=True)
    with pytest.raises(TableError, match=r"t\.tsv: column centre has 3 different words \(x, y, z\)"):
        numbers_of(table, ("centre",), "s")


def test_noise_is_uniform_and_that_of_a_person_depends_on_nobody_else() -> None:
    persons = [f"P{number}" for number in range(3000)]
    noise = noise_of(persons, 3, 1)
    assert stats.kstest(noise.ravel(), "uniform").pvalue > 1e-3
    assert np.abs(np.corrcoef(noise.T) - np.eye(3)).max() < 0.1
    assert np.array_equal(noise_of(persons[::-7], 3, 1), noise[::-7])
    assert not np.array_equal(noise_of(persons, 3, 2), noise)


def test_a_row_with_more_than_half_missing_is_absent() -> None:
    nothing = np.nan
    values = np.array([[1, 2, 3, 4], [1, 2, nothing, nothing], [1, nothing, nothing, nothing]])
    assert mostly_missing(values).tolist() == [False, False, True]
    noisy = np.column_stack([values, np.ones((3, 9))])  # noise is never missing, and does not count
    names = ["a", "b", "c", "d", *(f"noise.{number}" for number in range(1, 10))]
    with pytest.raises(InputError, match=r"modalities\.t: no column is left \(13 the same in all training persons"):
        chosen_numbers("t", "table", names, noisy, np.zeros(3, bool), np.array([0]), Path("t.tsv"))
    noisy[:, 4:] = np.arange(3)[:, None]
    found = chosen_numbers("t", "table", names, noisy, np.zeros(3, bool), np.array([0, 1]), Path("t.tsv"))
    assert found.absent.tolist() == [False, False, True]


def test_statistics_are_of_the_training_persons_who_are_there() -> None:
    rng = np.random.default_rng(1)
    values = rng.normal(5, 2, (50, 3))
    values[rng.random(values.shape) < 0.2] = np.nan
    values[:, 2] = 7
    training = np.arange(30)
    found = chosen_numbers("t", "table", ["a", "b", "c"], values, np.zeros(50, bool), training, Path("t.tsv"))
    assert found.columns.variants.name == ("a", "b") and found.columns.kind == "table" and not found.columns.packed
    used = values[:30][~found.absent[:30]][:, :2]
    assert np.allclose(found.columns.mean, np.nanmean(used, 0)) and np.allclose(
        found.columns.sd, np.nanstd(used, axis=0)
    )
    assert np.allclose(found.columns.missing, np.isnan(used).mean(0))
    numbers = found.values(np.arange(50))
    expected = (values[:, :2] - np.nanmean(used, 0)) / np.nanstd(used, axis=0)
    assert np.allclose(numbers, np.where(np.isnan(expected), 0, expected), atol=1e-6)
    assert found.left_out == {"the same in all training persons, or missing in all": 1}


def test_other_persons_change_no_number_of_training_persons() -> None:
    rng = np.random.default_rng(2)
    values = rng.normal(size=(40, 4))
    other = values.copy()
    other[25:] = 1e6

    def numbers(those: np.ndarray) -> np.ndarray:
        source = TableSource("t", "table", Path("t"), ("",) * 40, ("a", "b", "c", "d"), those, np.zeros(40, bool))
        return source.choose(np.arange(25)).values(np.arange(25))

    assert np.array_equal(numbers(values), numbers(other))
