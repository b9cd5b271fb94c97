"""Estimates with standard errors over blocks of the genome, from the statistic without each block.

Variants of a block depend on each other and those of different blocks do not, so that a block is what is left out. Intervals
are 95 %.
"""

from __future__ import annotations

import math
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray
from scipy.special import stdtr, stdtrit

from mfd_cli.base.arrays import Doubles, Ints


class Estimate(NamedTuple):
    """A number, its standard error over blocks, its 95 % interval and its p against no effect."""

    value: float = math.nan
    se: float = math.nan
    low: float = math.nan
    high: float = math.nan
    p: float = math.nan


UNKNOWN = Estimate()


def two_sided(t: float, blocks: int) -> float:
    """Return the two-sided p of a statistic over so many blocks, in its standard errors: Student's t of blocks - 1."""
    return float(2 * stdtr(blocks - 1, -abs(t)))


def jackknife(value: float, left_out: Doubles, null: float = 0.0) -> Estimate:
    """Return a statistic with its standard error over blocks, and p against `null`.

    `left_out` (blocks,) is the statistic without each block. The variance is (b - 1) / b times the sum of squares around
    their mean; interval and p are of Student's t with b - 1 degrees of freedom. Blocks weigh by what leaving them out changes,
    whatever their size: pseudo-values weighed by size (Busing et al. 1999) take the variants of a block to be independent
    enough for its variance to grow with its size, and say too little where they are not. Without a block that can be left
    out, or with one block, there is no standard error; where it is 0, there is no interval, and p is 1 if the statistic
    is the null and unknown if not.
    """
    blocks = len(left_out)
    if blocks < 2 or not np.isfinite(left_out).all():
        return Estimate(value)
    se = math.sqrt((blocks - 1) / blocks * float(np.square(left_out - left_out.mean()).sum()))
    if se < 1e-12:
        return Estimate(value, 0.0, p=1.0 if abs(value - null) < 1e-12 else math.nan)
    wide = half_width(se, blocks)
    return Estimate(value, se, value - wide, value + wide, two_sided((value - null) / se, blocks))


def sums(values: NDArray[Any], blocks: Ints, count: int = 0) -> Doubles:
    """Return the sum of the values (n,) of each block, as many as the largest number in `blocks` (n,) or `count` says."""
    return np.asarray(np.bincount(blocks, values, count), np.float64)


def half_width(se: float, blocks: int) -> float:
    """Return half of the 95 % interval of a statistic with this standard error over so many blocks."""
    return se * float(stdtrit(blocks - 1, 0.975))


def mean_over_blocks(values: Doubles, blocks: Ints, null: float = 0.0) -> Estimate:
    """Return the mean of values (n,) that belong to blocks (n,), with its standard error over blocks, p against `null`.

    Where no block changes it, p is that of a sign test: all blocks lie on one side.
    """
    if len(values) < 2:
        return UNKNOWN
    totals, sizes = sums(values, blocks), np.bincount(blocks)
    occupied = sizes > 0
    with np.errstate(invalid="ignore", divide="ignore"):
        left_out = (values.sum() - totals[occupied]) / (len(values) - sizes[occupied])
    found = jackknife(float(values.mean()), left_out, null)
    agree = found.se == 0 and math.isnan(found.p)
    return found._replace(p=2.0 ** (1 - len(left_out))) if agree else found
