"""Numbers of fixed decimals as text, and lines of columns: what a reader gets back, and how far it is off."""

from __future__ import annotations

import math
import re

import numpy as np
import pyarrow as pa
import pytest
from hypothesis import given
from hypothesis import strategies as st

from mfd_cli.formats.fixed_point import LARGEST, MOST_DECIMALS, fixed_point, largest_error, lines_of, rounded

DECIMALS = st.integers(1, MOST_DECIMALS)
NUMBERS = st.lists(st.floats(-(2.0**20), 2.0**20, width=32), max_size=40)


@given(NUMBERS, DECIMALS)
def test_a_number_is_off_by_half_a_last_decimal_at_most(numbers: list[float], decimals: int) -> None:
    texts = fixed_point(np.array(numbers, np.float32), decimals).to_pylist()
    assert len(texts) == len(numbers)
    for text, number in zip(texts, numbers):
        assert re.fullmatch(rf"-?\d+\.\d{{{decimals}}}", text) and not re.fullmatch(r"-[0.]+", text)
        rounding = abs(number) * 2.0**-52  # of float64, in which the last decimal is found
        assert abs(float(text) - number) <= largest_error(decimals) * (1 + 1e-6) + rounding


@given(st.lists(st.integers(-50, 50), min_size=1, max_size=500), DECIMALS)
def test_many_numbers_in_a_narrow_range_are_the_same_texts_as_one_by_one(wholes: list[int], decimals: int) -> None:
    numbers = (np.array(wholes) / 10**decimals).astype(np.float32)
    one_by_one = [fixed_point(numbers[i : i + 1], decimals)[0].as_py() for i in range(len(numbers))]
    assert fixed_point(numbers, decimals).to_pylist() == one_by_one
    assert one_by_one == [f"{whole / 10**decimals:.{decimals}f}" for whole in wholes]


@given(NUMBERS, DECIMALS)
def test_rounded_numbers_are_the_texts_as_float32(numbers: list[float], decimals: int) -> None:
    exact = np.array(numbers, np.float32)
    told = np.array([float(text) for text in fixed_point(exact, decimals).to_pylist()], np.float32)
    assert np.array_equal(rounded(exact, decimals), told)


def test_what_is_no_number_is_a_dot_and_huge_numbers_stay_themselves() -> None:
    odd = np.array([math.nan, 1.25, math.inf, -math.inf, -0.00001], np.float32)
    assert fixed_point(odd, 2).to_pylist() == [
        ".",
        "1.25",
        ".",
        ".",
        "0.00",
    ]  # 1.25 is exact in binary, -0.00001 has no sign
    huge = np.array([-3e38, LARGEST, 0.5], np.float32)
    assert np.array_equal(np.array(fixed_point(huge, 4).to_pylist(), np.float32), huge)
    assert fixed_point(np.zeros(0, np.float32), 4).to_pylist() == []


def test_lines_are_pieces_one_after_the_other() -> None:
    column = pa.array(["a", "", "ccc"])
    assert lines_of([column, "\t", column.take(pa.array([2, 1, 0]))]) == b"a\tccc\n\t\nccc\ta\n"
    assert lines_of([column[:0], "\t"]) == b""
    assert lines_of([column[1:], "."]) == b".\nccc.\n"


@pytest.mark.parametrize("decimals", range(1, MOST_DECIMALS + 1))
def test_the_error_is_that_of_rounding(decimals: int) -> None:
    assert largest_error(decimals) == pytest.approx(0.5 * 10.0**-decimals)
