"""How far two columns of a metadata table go together: the statistics, for levels, numbers, and one of each.

All measures run from 0 (independent) to 1 (one tells the other), and are corrected for what independent columns would show
by chance: without that, a factor with nearly as many levels as there are tracks looks confounded with everything.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from scipy import stats

from mfd_cli.base.arrays import Bools, Doubles
from mfd_cli.core.metadata import MISSING, all_alike

CRAMERS_V, CORRELATION_RATIO, RANK_CORRELATION = "Cramer's V", "correlation ratio", "rank correlation"
MISSING_TOGETHER = "missing values' Cramer's V"
UNLIKELY = 0.01
"""A pattern that independent factors would show more often than this is not told."""


@dataclass(frozen=True)
class Association:
    """How far two columns go together: the measure's name, its value from 0 to 1, and how often chance shows as much."""

    measure: str
    value: float
    chance: float

    def __str__(self) -> str:
        return f"{self.measure} {self.value:.2f}"


@dataclass(frozen=True)
class FactorValues:
    """What the tracks say of one factor.

    `levels` has one text per track, MISSING where there is none. `numbers` (tracks,) is given for numbers and years, with NaN
    for a missing one. `ordered_only` says that the levels mean nothing but their order and distance: those of a number, not
    of a year.
    """

    levels: Sequence[str]
    numbers: Doubles | None = None
    ordered_only: bool = False


def associate(a: FactorValues, b: FactorValues) -> Association:
    """Return the strongest association of two factors among the measures that suit their types.

    Levels with levels: Cramer's V. A number with levels: the correlation ratio, or the V of whether the number is missing. Two
    numbers: Spearman's rank correlation. A year is both levels and a number.
    """
    candidates = []
    if not a.ordered_only and not b.ordered_only:
        candidates.append(cramers_v(a.levels, b.levels))
    for number, other in ((a, b), (b, a)):
        if number.numbers is not None and not other.ordered_only:
            candidates.append(correlation_ratio(number.numbers, other.levels))
            unknown = cramers_v([str(missing) for missing in np.isnan(number.numbers)], other.levels)
            candidates.append(Association(MISSING_TOGETHER, unknown.value, unknown.chance))
    if a.numbers is not None and b.numbers is not None:
        candidates.append(rank_correlation(a.numbers, b.numbers))
    return max(candidates, key=lambda association: association.value)


def cramers_v(a: Sequence[str], b: Sequence[str]) -> Association:
    """Return the bias-corrected Cramer's V of two columns of levels (Bergsma 2013), with the chi-squared test's p."""
    table = contingency(a, b)
    n = table.sum()
    r, k = table.shape
    if n < 2 or min(r, k) < 2:
        return Association(CRAMERS_V, 0.0, 1.0)
    expected = table.sum(1, keepdims=True) * table.sum(0, keepdims=True) / n
    phi = ((table - expected) ** 2 / expected).sum() / n
    chance = float(stats.chi2.sf(phi * n, (r - 1) * (k - 1)))
    # Independent columns have a phi of (r - 1) (k - 1) / (n - 1) on average; the largest possible value shrinks alike.
    phi = max(0.0, phi - (r - 1) * (k - 1) / (n - 1))
    smaller = min(r - (r - 1) ** 2 / (n - 1), k - (k - 1) ** 2 / (n - 1)) - 1
    return Association(CRAMERS_V, float(min(1.0, np.sqrt(phi / smaller))) if smaller > 0 else 0.0, chance)


def contingency(a: Sequence[str], b: Sequence[str]) -> Doubles:
    """Return (levels of a, levels of b) counts of every pair of levels, both sorted."""
    rows, columns = sorted(set(a)), sorted(set(b))
    table = np.zeros((len(rows), len(columns)))
    np.add.at(table, ([rows.index(x) for x in a], [columns.index(x) for x in b]), 1)
    return table


def correlation_ratio(numbers: Doubles, levels: Sequence[str]) -> Association:
    """Return the correlation ratio of a number (NaN: not known) with a column of levels, with the F test's p.

    It is the root of eta squared, the share of the number's variance that lies between the levels, and so on the scale of a
    correlation. Eta squared grows with the number of levels even by chance, to (k - 1) / (n - 1) for k levels of n tracks;
    it is corrected as 1 - (1 - eta^2) (n - 1) / (n - k) (Kelley's epsilon squared), of which the mean by chance is 0.
    """
    known = ~np.isnan(numbers)
    values, names = numbers[known], np.array(levels, object)[known]
    within, groups = 0.0, sorted(set(names))
    for name in groups:
        group = values[names == name]
        within += float(((group - group.mean()) ** 2).sum())
    n, k = len(values), len(groups)
    total = float(((values - values.mean()) ** 2).sum()) if n else 0.0  # of a constant: rounding
    if k < 2 or n <= k or all_alike(values):
        return Association(CORRELATION_RATIO, 0.0, 1.0)
    unexplained = within / total
    corrected = max(0.0, 1 - unexplained * (n - 1) / (n - k))
    if within <= 1e-12 * total:  # nothing but rounding is left: the F statistic is infinite
        return Association(CORRELATION_RATIO, 1.0, 0.0)
    f = (1 - unexplained) / (k - 1) / (unexplained / (n - k))
    return Association(CORRELATION_RATIO, float(np.sqrt(corrected)), float(stats.f.sf(f, k - 1, n - k)))


def rank_correlation(a: Doubles, b: Doubles) -> Association:
    """Return the absolute value of Spearman's rank correlation of two numbers (NaN: not known), with its p.

    Ranks, because read counts and the like have long tails. The square is corrected for chance as the correlation ratio is,
    with a straight line's two parameters.
    """
    known = ~np.isnan(a) & ~np.isnan(b)
    x, y = a[known], b[known]
    n = len(x)
    if n < 3 or len(set(x.tolist())) < 2 or len(set(y.tolist())) < 2:
        return Association(RANK_CORRELATION, 0.0, 1.0)
    answer = stats.spearmanr(x, y)
    corrected = max(0.0, 1 - (1 - float(answer.statistic) ** 2) * (n - 1) / (n - 2))
    return Association(RANK_CORRELATION, float(np.sqrt(corrected)), float(answer.pvalue))


def moving_together(a: Sequence[str], b: Sequence[str]) -> Bools:
    """Return (tracks,) those whose two levels occur with each other only; a level of a single track says nothing."""
    seen = Counter(zip(a, b))
    partners_a, partners_b = Counter(x for x, _ in seen), Counter(y for _, y in seen)
    return np.array([partners_a[x] == 1 and partners_b[y] == 1 and seen[x, y] > 1 for x, y in zip(a, b)], bool)


def is_determined(levels: Sequence[str], by: Sequence[str]) -> bool:
    """Return whether the level of one column says that of another: each level in `by` occurs with one of `levels` only."""
    partner = dict(zip(by, levels))
    return all(partner[y] == x for x, y in zip(levels, by))


def is_nested(inner: Sequence[str], outer: Sequence[str]) -> bool:
    """Return whether each level of `inner` occurs with one level of `outer` only, and there are more of them.

    Such are the antibodies of a target: another level of `inner` within the same one of `outer` can be compared, but no level
    of `inner` across those of `outer`. Tracks without a value of either say nothing. What chance would often do, because
    most levels have a single track, is not nesting: the tracks of a level, drawn independently, agree with a probability of
    sum p^n, where p are the shares of the levels of `outer` and n is their number.
    """
    pairs = [(x, y) for x, y in zip(inner, outer) if MISSING not in (x, y)]
    if not is_determined([y for _, y in pairs], [x for x, _ in pairs]):
        return False
    inner_counts, outer_counts = Counter(x for x, _ in pairs), Counter(y for _, y in pairs)
    if not 2 <= len(outer_counts) < len(inner_counts):
        return False
    shares = np.array(list(outer_counts.values())) / len(pairs)
    agreeing = [float((shares**count).sum()) for count in inner_counts.values()]
    return float(np.prod(agreeing)) < UNLIKELY
