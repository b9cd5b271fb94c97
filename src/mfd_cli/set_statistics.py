"""Statistics of one score on two classes of variants, as numpy functions: how well it ranks, fits and cuts them.

Everywhere `values` (n,) are finite scores, one per variant, and `positive` (n,) says which variants are of the positive class.
A matched design is a `Sets`. Intervals are 95 %; a p that is smaller than a float can be is 0. Nothing here opens a file.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from functools import lru_cache
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import ArrayLike, NDArray
from scipy.special import ndtr

Floats = NDArray[np.float64]
Bools = NDArray[np.bool_]
Ints = NDArray[np.int64]

WIDTH = 1.959963984540054
"""Standard errors on each side of a 95 % interval."""
MOST_STEPS, CLOSE = 50, 1e-7
"""Newton's method ends when a step is shorter than the root of CLOSE standard errors; its last step squares that."""
MOST_CASES = 100
"""The rarer class of a set may have this many members in the conditional likelihood, whose cost grows with them."""
SAME = 1e-7
"""Tables whose probabilities differ by less than this share are equally likely to Fisher's test, as in R."""


class Estimate(NamedTuple):
    """A number, its standard error, its 95 % interval and its p against no effect."""

    value: float = math.nan
    se: float = math.nan
    low: float = math.nan
    high: float = math.nan
    p: float = math.nan


UNKNOWN = Estimate()


class Fit(NamedTuple):
    """The slope of a logistic model. `outcome` is `converged`, or why there is no slope: `too few` variants of a class,
    `constant` score, `separated` classes (the best slope is infinite), `sets too large`, `not converged`."""

    coefficient: float = math.nan
    se: float = math.nan
    z: float = math.nan
    p: float = math.nan
    low: float = math.nan
    high: float = math.nan
    pseudo_r2: float = math.nan
    outcome: str = "not converged"


def two_sided(z: float) -> float:
    """p of a standard normal deviate."""
    return float(2 * ndtr(-abs(z)))


def dot(one: NDArray[Any], other: NDArray[Any]) -> float:
    """Sum of products, in one thread: features are measured side by side, and the sum does not depend on how many."""
    return float(np.einsum("i,i->", one, other))


# -- ranking -----------------------------------------------------------------------------------------------------------


@dataclass(frozen=True)
class Ranking:
    """Scores in ascending order, equal ones in one run: what curves and cuts are made of.

    `order` (n,) sorts the scores, `values` (n,) are sorted; `ends` (runs + 1,) begins with 0 and says where each run of equal
    scores ends; `hits` (runs + 1,) counts the positives up to there, `positives` and `negatives` (runs,) are those of each.
    """

    order: Ints
    values: Floats
    ends: Ints
    hits: Ints
    positives: Ints
    negatives: Ints

    @property
    def totals(self) -> tuple[int, int]:
        """Positives and negatives in all."""
        hits = int(self.hits[-1])
        return hits, len(self.values) - hits


def rank(values: Floats, positive: Bools) -> Ranking:
    """Sort scores once for everything that depends on their order."""
    order = np.argsort(values)
    ordered = values[order]
    inner = np.flatnonzero(ordered[1:] != ordered[:-1]) + 1
    ends = np.concatenate([[0], inner, [len(values)]])
    hits = np.append(0, np.cumsum(positive[order]))[ends]
    positives = np.diff(hits)
    return Ranking(order, ordered, ends, hits, positives, np.diff(ends) - positives)


def ranks(ranking: Ranking) -> Ints:
    """(n,) number of each score's run, in its original place: whole numbers in the order of the scores."""
    result = np.empty(len(ranking.order), np.int64)
    result[ranking.order] = np.repeat(np.arange(len(ranking.positives)), np.diff(ranking.ends))
    return result


def auroc(ranking: Ranking) -> Estimate:
    """Area under the ROC curve with DeLong's standard error (1988), p against 0.5.

    Where the standard error is 0 (the classes do not overlap, or all scores are equal) there is no interval, and p is
    that of the Mann-Whitney test. Unknown with fewer than two variants of a class.
    """
    (positives, negatives), (outranked, outranking) = ranking.totals, _shares(ranking)
    if min(positives, negatives) < 2:
        return UNKNOWN
    area = dot(ranking.positives, outranked) / positives
    spread = dot(ranking.positives, np.square(outranked - area)) / (positives - 1) / positives
    spread += dot(ranking.negatives, np.square(outranking - area)) / (negatives - 1) / negatives
    return _against(area, math.sqrt(spread), math.sqrt((positives + negatives + 1) / (12 * positives * negatives)))


def _shares(ranking: Ranking) -> tuple[Floats, Floats]:
    """(runs,) twice: the share of negatives that a positive of a run outranks, and of positives that outrank a negative
    of it; a tie is a half."""
    positives, negatives = (max(total, 1) for total in ranking.totals)
    hits, misses = ranking.hits, ranking.ends - ranking.hits
    outranked = (misses[:-1] + misses[1:]) / (2 * negatives)
    return outranked, 1 - (hits[:-1] + hits[1:]) / (2 * positives)


def _against(area: float, se: float, null: float) -> Estimate:
    """An area between 0 and 1 with its interval and p against 0.5; `null` is the standard error where `se` is 0."""
    if se < 1e-12:
        return Estimate(area, 0.0, p=two_sided((area - 0.5) / null))
    low, high = max(area - WIDTH * se, 0.0), min(area + WIDTH * se, 1.0)
    return Estimate(area, se, low, high, two_sided((area - 0.5) / se))


def placements(ranking: Ranking, positive: Bools) -> Floats:
    """(n,) of each variant, in its original place, the share of the other class on the right side of it.

    The mean over positives, and over negatives, is the AUROC; DeLong's variances are theirs.
    """
    outranked, outranking = _shares(ranking)
    size = np.diff(ranking.ends)
    result = np.empty(len(positive))
    result[ranking.order] = np.where(positive[ranking.order], np.repeat(outranked, size), np.repeat(outranking, size))
    return result


def paired_difference(one: Floats, other: Floats, positive: Bools) -> Estimate:
    """AUROC of one score minus that of another on the same variants, by their placements (DeLong, paired)."""
    difference = one - other
    parts = difference[positive], difference[~positive]
    if min(len(part) for part in parts) < 2:
        return UNKNOWN
    return difference_from_zero(
        float(parts[0].mean()), math.sqrt(sum(float(part.var(ddof=1)) / len(part) for part in parts))
    )


def difference_from_zero(value: float, se: float) -> Estimate:
    """A difference with its interval and p against 0; scores that never differ have p 1."""
    if se < 1e-12:
        return Estimate(value, 0.0, p=1.0 if abs(value) < 1e-12 else math.nan)
    return Estimate(value, se, value - WIDTH * se, value + WIDTH * se, two_sided(value / se))


def average_precision(ranking: Ranking) -> float:
    """Area under the precision-recall curve in steps, as in scikit-learn; equal scores are one step."""
    positives = ranking.totals[0]
    if positives == 0:
        return math.nan
    found = positives - ranking.hits[:-1]
    called = len(ranking.values) - ranking.ends[:-1]
    return dot(ranking.positives, found / called) / positives


# -- two-by-two tables -------------------------------------------------------------------------------------------------


class Fourfold(NamedTuple):
    """Variants that a cut selects and those that it leaves, by class."""

    selected_positive: int
    selected_negative: int
    other_positive: int
    other_negative: int


class OddsRatio(NamedTuple):
    """Sample odds ratio (0 or infinite where a cell is empty, NaN where a margin is) and its interval.

    The interval is Wald's on the logarithm; `corrected`: 0.5 was added to every cell for it, because one is 0.
    """

    value: float
    low: float
    high: float
    corrected: bool


def cut_at(ranking: Ranking, quantile: float) -> tuple[float, Fourfold]:
    """The score at a quantile (interpolated as np.quantile does) and what it selects.

    From the median on scores >= cut are selected, below it scores <= cut; all variants that tie with the cut are.
    """
    values, (positives, negatives) = ranking.values, ranking.totals
    place = quantile * (len(values) - 1)
    low = values[int(place)]
    cut = float(low + (values[min(int(place) + 1, len(values) - 1)] - low) * (place - int(place)))
    if quantile >= 0.5:
        start = int(np.searchsorted(values, cut, "left"))
        hits, count = positives - _hits_before(ranking, start), len(values) - start
    else:
        count = int(np.searchsorted(values, cut, "right"))
        hits = _hits_before(ranking, count)
    return cut, Fourfold(hits, count - hits, positives - hits, negatives - count + hits)


def _hits_before(ranking: Ranking, place: int) -> int:
    """Positives below a place where a run ends."""
    return int(ranking.hits[np.searchsorted(ranking.ends, place)])


def selects(values: Floats, cut: float, quantile: float) -> Bools:
    """Whether a cut at this quantile selects each score; NaN is never selected."""
    return values >= cut if quantile >= 0.5 else values <= cut


def odds_ratio(table: Fourfold) -> OddsRatio:
    """How much more often the selected variants are positive than the others, in odds."""
    a, b, c, d = table
    if not (a + b and c + d and a + c and b + d):
        return OddsRatio(math.nan, math.nan, math.nan, False)
    value = a * d / (b * c) if b * c else math.inf
    corrected = not all(table)
    half = 0.5 if corrected else 0.0
    cells = [cell + half for cell in table]
    centre = math.log(cells[0]) + math.log(cells[3]) - math.log(cells[1]) - math.log(cells[2])
    wide = WIDTH * math.sqrt(sum(1 / cell for cell in cells))
    return OddsRatio(value, math.exp(centre - wide), math.exp(centre + wide), corrected)


def fisher_exact(table: Fourfold) -> float:
    """Two-sided p of Fisher's exact test: the probability of all tables that are no likelier than this one."""
    a, b, c, d = table
    first, p = _fisher(a + b, a + c, a + b + c + d)
    return float(p[a - first]) if 0 <= a - first < len(p) else 0.0


@lru_cache(maxsize=128)
def _fisher(selected: int, positives: int, total: int) -> tuple[int, Floats]:
    """Fisher's p for every count of selected positives from the first returned on; beyond the array p is 0.

    The hypergeometric probabilities are a running product from one count to the next, which needs no factorials; 40
    standard deviations and 300 counts around the mode hold all that a float can tell from 0.
    """
    mode = (selected + 1) * (positives + 1) // (total + 2)
    spread = selected * positives * (total - positives) * (total - selected) / max(total**2 * (total - 1), 1)
    reach = int(40 * math.sqrt(spread)) + 300
    first = max(0, selected + positives - total, mode - reach)
    count = np.arange(first, min(selected, positives, mode + reach), dtype=np.float64)
    ratio = (positives - count) * (selected - count) / ((count + 1) * (total - positives - selected + count + 1))
    log = np.concatenate([[0.0], np.cumsum(np.log(ratio))])
    log -= log.max()
    order = np.argsort(log)
    ascending = log[order]
    below = np.cumsum(np.exp(ascending))  # the small ones first: they would be lost in the sum of the large ones
    p = below[np.searchsorted(ascending, log + SAME, "right") - 1] / below[-1]
    return first, np.minimum(p, 1.0)


def benjamini_hochberg(p: ArrayLike) -> Floats:
    """q-values: the false discovery rate at which each test is a discovery. NaN is no test and stays NaN."""
    given = np.asarray(p, np.float64)
    known = np.flatnonzero(~np.isnan(given))
    q = np.full(len(given), math.nan)
    order = known[np.argsort(given[known], kind="stable")]
    scaled = given[order] * len(order) / np.arange(1, len(order) + 1)
    q[order] = np.minimum(np.minimum.accumulate(scaled[::-1])[::-1], 1.0)
    return q


# -- logistic models ---------------------------------------------------------------------------------------------------


class Likelihood(NamedTuple):
    """Logarithm of a likelihood, its gradient (k,) and its negative second derivative (k, k)."""

    log: float
    gradient: Floats
    information: Floats


def newton(likelihood: Callable[[Floats], Likelihood], start: Floats) -> tuple[Floats, Likelihood, bool]:
    """The maximum of a concave log likelihood, the likelihood there, and whether it was reached.

    A step that makes the likelihood smaller is halved.
    """
    at, here = start, likelihood(start)
    for _ in range(MOST_STEPS):
        try:
            step = np.linalg.solve(here.information, here.gradient)
        except np.linalg.LinAlgError:
            return at, here, False
        length, shorter = float(here.gradient @ step), 0
        there = likelihood(at + step)
        while not there.log >= here.log - 1e-9 * abs(here.log) and shorter < 30:
            step, shorter = step / 2, shorter + 1
            there = likelihood(at + step)
        if not (np.isfinite(there.log) and np.isfinite(there.information).all() and shorter < 30):
            return at, here, False
        at, here = at + step, there
        if length < CLOSE:
            return at, here, True
    return at, here, False


def logistic(values: Floats, positive: Bools) -> Fit:
    """Logistic regression of the class on one score and a constant, by maximum likelihood; McFadden's pseudo R2."""
    if not len(values) or positive.all() or not positive.any():
        return Fit(outcome="too few")
    if separates(values, positive):
        return Fit(outcome="constant" if values.min() == values.max() else "separated")
    share = positive.mean()
    centred = values - values.mean()
    sign = np.where(positive, 1.0, -1.0)
    start = np.array([math.log(share / (1 - share)), 0.0])
    at, best, converged = newton(lambda slope: _binomial(slope, centred, sign), start)
    null = len(values) * (share * math.log(share) + (1 - share) * math.log1p(-share))
    return _fit(at, best, converged, null)


def separates(values: Floats, positive: Bools) -> bool:
    """Whether no positive lies below a negative, or none above one."""
    one, other = values[positive], values[~positive]
    return bool(one.min() >= other.max() or one.max() <= other.min())


def _binomial(slope: Floats, values: Floats, sign: Floats) -> Likelihood:
    """Log likelihood of classes (+1, -1) given intercept and slope."""
    margin = values * slope[1]
    margin += slope[0]
    margin *= sign
    odds = np.exp(np.minimum(-margin, 700, out=margin), out=margin)  # of being wrong
    log = -float(np.log1p(odds).sum())
    wrong = odds / (1 + odds)
    residual = wrong * sign
    weight = wrong * (1 - wrong)
    weighted = weight * values
    one, two, three = float(weight.sum()), float(weighted.sum()), dot(weighted, values)
    gradient = np.array([float(residual.sum()), dot(residual, values)])
    return Likelihood(log, gradient, np.array([[one, two], [two, three]]))


def _fit(at: Floats, best: Likelihood, converged: bool, null: float) -> Fit:
    """The last coefficient of a model, with Wald's test."""
    if not converged:
        return Fit()
    slope, se = float(at[-1]), math.sqrt(float(np.linalg.inv(best.information)[-1, -1]))
    return Fit(
        slope, se, slope / se, two_sided(slope / se), slope - WIDTH * se, slope + WIDTH * se, 1 - best.log / null,
        "converged",
    )  # fmt: skip


# -- matched designs ---------------------------------------------------------------------------------------------------


@dataclass(frozen=True)
class Sets:
    """A matched design: `members` (m,) places of variants, set after set; `positive` (m,); `starts` (sets,) of each set.

    A variant may be in several sets.
    """

    members: Ints
    positive: Bools
    starts: Ints

    def __len__(self) -> int:
        return len(self.starts)

    @property
    def sizes(self) -> Ints:
        """(sets,) members of each set."""
        return np.diff(np.append(self.starts, len(self.members)))

    @property
    def positives(self) -> Ints:
        """(sets,) positives of each set."""
        hits = np.append(0, np.cumsum(self.positive))
        return np.asarray(np.diff(hits[np.append(self.starts, len(self.members))]), np.int64)

    @property
    def rarer(self) -> Ints:
        """(sets,) members of each set's rarer class."""
        return np.asarray(np.minimum(self.positives, self.sizes - self.positives), np.int64)

    @property
    def number(self) -> Ints:
        """(m,) number of each member's set."""
        return np.repeat(np.arange(len(self)), self.sizes)

    def only(self, kept: Bools) -> Sets:
        """The design with these members (m,) only, without the sets that lack a class then."""
        number = self.number
        sizes = np.bincount(number[kept], minlength=len(self))
        positives = np.bincount(number[kept & self.positive], minlength=len(self))
        kept = kept & ((positives > 0) & (positives < sizes))[number]
        return sets_of(self.members[kept], self.positive[kept], number[kept])


def sets_of(members: Ints, positive: Bools, number: Ints) -> Sets:
    """A matched design from members in any order, with the number of each one's set."""
    order = np.lexsort((members, number))
    starts = np.flatnonzero(np.diff(number[order], prepend=-1))
    return Sets(members[order], positive[order], starts)


def areas_within(ranks: Ints, sets: Sets) -> Floats:
    """(sets,) of each set the share of its pairs of a positive and a negative that are in order; a tie is a half.

    `ranks` (m,) are those of the members' scores; every set has both classes.
    """
    if not len(sets):
        return np.zeros(0)
    key = (sets.number * (int(ranks.max()) + 1) + ranks) * 2 + sets.positive
    key.sort()  # by set, then by score: one sort of whole numbers
    positive = (key & 1).astype(np.int64)
    ends = np.append(np.flatnonzero(np.diff(key >> 1)) + 1, len(key))  # of runs of equal scores in a set
    hits, total = np.cumsum(positive)[ends - 1], np.cumsum(1 - positive)[ends - 1]
    gained, missed = np.diff(hits, prepend=0), np.diff(total, prepend=0)
    first = np.searchsorted(ends, sets.starts, "right")  # the first run of each set
    number = np.repeat(np.arange(len(sets)), np.diff(np.append(first, len(ends))))
    before = np.append(0, total)[first][number]  # negatives of earlier sets
    ordered = gained * (total - missed - before + missed / 2)
    return np.asarray(np.add.reduceat(ordered, first) / (sets.positives * (sets.sizes - sets.positives)))


def auroc_within(areas: Floats) -> Estimate:
    """The probability that a positive outranks a negative of its own set, every set weighing the same; p against 0.5.

    The standard error is that of a mean over sets, which are taken to be independent; where all sets agree, p is that of
    a sign test.
    """
    if len(areas) < 2:
        return UNKNOWN
    return _against(float(areas.mean()), float(areas.std(ddof=1)) / math.sqrt(len(areas)), 0.5 / math.sqrt(len(areas)))


def difference_within(one: Floats, other: Floats) -> Estimate:
    """Difference of two scores' areas within the same sets."""
    if len(one) < 2:
        return UNKNOWN
    difference = one - other
    return difference_from_zero(float(difference.mean()), float(difference.std(ddof=1)) / math.sqrt(len(one)))


def conditional_logistic(values: Floats, sets: Sets) -> Fit:
    """Logistic regression of the class on one score, given how many of each set are positive (`values` (m,)).

    The likelihood is exact, for sets with several positives too: the probability that of all choices of as many members
    the positives were chosen. Classes are separated where every set's positives lie above (or below) its negatives or tie
    with them; sets are too large with more than MOST_CASES of the rarer class.
    """
    if not len(sets):
        return Fit(outcome="too few")
    over, under = separates_within(values, sets)
    if over or under:
        return Fit(outcome="constant" if over and under else "separated")
    rarer = sets.rarer
    if rarer.max() > MOST_CASES:
        return Fit(outcome="sets too large")
    parts = list(_conditional_parts(values, sets, rarer))

    def likelihood(slope: Floats) -> Likelihood:
        with np.errstate(all="ignore"):  # a step too far is seen in the sum, and halved
            found = np.array([part(float(slope[0])) for part in parts]).sum(0)
        return Likelihood(float(found[0]), found[1:2], found[2:3, None])

    start = np.zeros(1)
    null = likelihood(start).log
    return _fit(*newton(likelihood, start), null)


def separates_within(values: Floats, sets: Sets) -> tuple[bool, bool]:
    """Whether in no set a positive lies below a negative, and whether in none above one."""
    positive, starts = sets.positive, sets.starts
    lowest, highest = np.where(positive, values, np.inf), np.where(positive, values, -np.inf)
    above, below = np.where(positive, -np.inf, values), np.where(positive, np.inf, values)
    over = np.minimum.reduceat(lowest, starts) >= np.maximum.reduceat(above, starts)
    under = np.maximum.reduceat(highest, starts) <= np.minimum.reduceat(below, starts)
    return bool(over.all()), bool(under.all())


Part = Callable[[float], tuple[float, float, float]]


def _conditional_parts(values: Floats, sets: Sets, rarer: Ints) -> Iterator[Part]:
    """The log likelihood in parts, each a function of the slope that gives it with its two derivatives.

    Which class is called the cases does not matter when the sign of the scores is turned: the rarer one is quicker.
    """
    number, turned = sets.number, (sets.positives != rarer)
    cases = sets.positive != turned[number]
    centred = np.where(turned[number], -values, values)
    centred = centred - (np.add.reduceat(np.where(cases, centred, 0.0), sets.starts) / rarer)[number]
    single = rarer == 1
    if single.any():
        kept = single[number]
        starts = np.append(0, np.cumsum(sets.sizes[single]))[:-1]
        yield lambda slope, own=centred[kept], first=starts: _one_case(slope, own, first)  # type: ignore[misc]
    place = np.arange(len(number)) - sets.starts[number]
    widths = 2 ** np.ceil(np.log2(sets.sizes)).astype(np.int64)  # sets of similar size share a padded array
    for count, width in sorted(set(zip(rarer[~single].tolist(), widths[~single].tolist()))):
        chosen = (rarer == count) & (widths == width)
        kept = chosen[number]
        block = np.full((int(chosen.sum()), width), np.nan)
        block[(np.cumsum(chosen) - 1)[number[kept]], place[kept]] = centred[kept]
        yield lambda slope, own=block, cases=count: _several_cases(slope, own, cases)  # type: ignore[misc]


def _one_case(slope: float, values: Floats, starts: Ints) -> tuple[float, float, float]:
    """Sets with one case: `values` (m,) are scores minus their case's score."""
    odds = np.exp(slope * values)
    weighted = odds * values
    total, first, second = (np.add.reduceat(part, starts) for part in (odds, weighted, weighted * values))
    mean = first / total
    return -float(np.log(total).sum()), -float(mean.sum()), float((second / total - mean**2).sum())


def _several_cases(slope: float, values: Floats, cases: int) -> tuple[float, float, float]:
    """Sets (sets, width) with the same number of cases: scores minus the mean of their cases', NaN where there is no member.

    The sum over all choices is an elementary symmetric polynomial, built member by member with its two derivatives
    (Gail, Lubin and Rubinstein 1981). Odds are scaled so that the sum stays within a float.
    """
    top = np.nanmax(slope * values, axis=1)
    scale = cases / (~np.isnan(values)).sum(1)
    odds = np.nan_to_num(np.exp(slope * values - top[:, None]) * scale[:, None])
    total, first, second = np.zeros((3, cases + 1, len(values)))
    total[0] = 1
    for u, d in zip(odds.T, np.nan_to_num(values).T):  # of one member per set
        second[1:] += u * (second[:-1] + 2 * d * first[:-1] + d * d * total[:-1])
        first[1:] += u * (first[:-1] + d * total[:-1])
        total[1:] += u * total[:-1]
    mean = first[-1] / total[-1]
    log = np.log(total[-1]) + cases * (top - np.log(scale))
    return -float(log.sum()), -float(mean.sum()), float((second[-1] / total[-1] - mean**2).sum())
