"""Numbers as text with as many decimals as are worth writing, and lines made of columns, whole columns at a time.

Files of every substitution of a genome have billions of lines, for which a loop of Python is too slow.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from mfd_cli.base.arrays import Doubles, Floats, Ints

MISSING = "."
"""What stands where there is no number, as in VCF."""
MOST_DECIMALS = 6
"""Beyond these, float32 has no digits of a logit left, and small numbers would be written with an exponent."""
LARGEST = 1e9
"""From this size on numbers are written as they are: with decimals behind them they would not be whole numbers of 64 bits."""


def largest_error(decimals: int) -> float:
    """Return how far a number of fixed decimals lies from the one it was, at most.

    >>> largest_error(4)
    5e-05
    """
    return float(f"5e-{decimals + 1}")


def rounded(values: Floats, decimals: int) -> Floats:
    """Return the numbers (n,), each the float32 that is nearest to itself with that many decimals.

    Few different numbers are left, so that a dictionary of them, which Parquet makes, is short.
    """
    return (np.rint(np.asarray(values, np.float64) * 10**decimals) / 10**decimals).astype(np.float32)


def fixed_point(values: Floats, decimals: int) -> pa.Array:
    """Return the numbers (n,) as texts with exactly that many decimals, ties to even; a dot for what is no finite number."""
    exact = np.asarray(values, np.float64)
    finite = np.isfinite(exact)
    if not finite.all():
        return pc.if_else(pa.array(finite), fixed_point(np.where(finite, exact, 0), decimals), MISSING)
    if len(exact) == 0 or np.abs(exact).max() >= LARGEST:
        return pc.cast(pa.array(exact), pa.string())
    whole = np.rint(exact * 10**decimals).astype(np.int64)
    low, high = whole.min(), whole.max()
    if high - low < len(whole):  # each text is made once
        return _texts(np.arange(low, high + 1), decimals).take(pa.array(whole - low))
    return _texts(whole, decimals)


def _texts(whole: Ints, decimals: int) -> pa.Array:
    """Return whole numbers of the last decimal as texts."""
    numbers: Doubles = whole / 10**decimals
    return pc.cast(pc.cast(pa.array(numbers), pa.decimal128(19, decimals)), pa.string())


def lines_of(pieces: Sequence[Any]) -> bytes:
    """Return lines, each made of the pieces one after the other: a text that all lines have, or an array of texts (n,), one
    for each."""
    joined = pc.binary_join_element_wise(*pieces, "\n", "")
    ends = np.frombuffer(joined.buffers()[1], np.int32)
    return bytes(memoryview(joined.buffers()[2])[: ends[len(joined)]]) if len(joined) else b""
