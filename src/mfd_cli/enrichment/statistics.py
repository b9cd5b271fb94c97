"""Statistics of one score on two classes of variants, as numpy functions: how well it ranks and cuts them.

Everywhere `values` (n,) are finite scores, one per variant, and `positive` (n,) says which variants are of the positive class.
Models and matched designs stand in models.py. Standard errors are over blocks of the genome (jackknife.py) and `blocks` (n,)
are the blocks' numbers, below `count`; a p that is smaller than a float can be is 0. Nothing here opens a file.

What is our own here, and why. DeLong's variance of an AUROC is neither in scipy nor in scikit-learn, and both would sort the
scores again for every block that is left out. Ranks are the runs of
equal scores of one sort that every statistic of a feature shares: of a million scores they take 0.04 s, where a second sort by
scipy.stats.rankdata takes 0.34 s. Fisher's p of all tables with the same margins comes from one running product (0.2 ms, then
1 microsecond a table), where scipy.stats.fisher_exact takes 0.4 to 9 ms for every table; tests compare both.
"""

from __future__ import annotations

import math
from dataclasses import dataclass, fields
from functools import lru_cache
from itertools import pairwise
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import ArrayLike, NDArray
from scipy.stats import false_discovery_control

from mfd_cli.base.arrays import Bools, Doubles, Ints
from mfd_cli.enrichment.jackknife import UNKNOWN, Estimate, half_width, jackknife, sums, two_sided

REACH_SD, REACH_COUNTS = 40, 300
"""Standard deviations and counts around the mode of Fisher's distribution beyond which a double cannot tell p from 0."""
SAME = 1e-7
"""Tables whose probabilities differ by less than this share are equally likely to Fisher's test, as in R."""


def dot(one: NDArray[Any], other: NDArray[Any]) -> float:
    """Return the sum of products, in one thread: features are measured side by side, and the sum must not depend on how many
    threads a BLAS would take."""
    return float(np.einsum("i,i->", one, other))


# -- ranking -----------------------------------------------------------------------------------------------------------


@dataclass(frozen=True)
class Ranking:
    """Scores in ascending order, equal ones in one run: what curves and cuts are made of.

    `order` (n,) sorts the scores, `values` (n,) are sorted; `ends` (runs + 1,) begins with 0 and says where each run of equal
    scores ends; `hits` (runs + 1,) counts the positives up to there, `positives` and `negatives` (runs,) are those of each.
    """

    order: Ints
    values: Doubles
    ends: Ints
    hits: Ints
    positives: Ints
    negatives: Ints

    @property
    def totals(self) -> tuple[int, int]:
        """Positives and negatives in all."""
        hits = int(self.hits[-1])
        return hits, len(self.values) - hits


def rank(values: Doubles, positive: Bools) -> Ranking:
    """Sort scores once for everything that depends on their order."""
    # An unstable sort will do: equal scores form one run, within which nothing depends on the order.
    order = np.argsort(values)
    ordered = values[order]
    inner = np.flatnonzero(ordered[1:] != ordered[:-1]) + 1
    ends = np.concatenate([[0], inner, [len(values)]])
    hits = np.append(0, np.cumsum(positive[order]))[ends]
    positives = np.diff(hits)
    return Ranking(order, ordered, ends, hits, positives, np.diff(ends) - positives)


def ranks(ranking: Ranking) -> Ints:
    """Return (n,) the number of each score's run, in its original place: dense ranks, from 0 on."""
    result = np.empty(len(ranking.order), np.int64)
    result[ranking.order] = np.repeat(np.arange(len(ranking.positives)), np.diff(ranking.ends))
    return result


class Area(NamedTuple):
    """An area under the ROC curve, and DeLong's standard error (1988), which takes every variant to be independent."""

    value: float = math.nan
    se: float = math.nan


def auroc(ranking: Ranking) -> Area:
    """Return the area under the ROC curve with DeLong's standard error; unknown with fewer than two variants of a class."""
    (positives, negatives), (outranked, outranking) = ranking.totals, _shares(ranking)
    if min(positives, negatives) < 2:
        return Area()
    area = dot(ranking.positives, outranked) / positives
    spread = dot(ranking.positives, np.square(outranked - area)) / (positives - 1) / positives
    spread += dot(ranking.negatives, np.square(outranking - area)) / (negatives - 1) / negatives
    return Area(area, math.sqrt(spread))


def _shares(ranking: Ranking) -> tuple[Doubles, Doubles]:
    """Return (runs,) the share of negatives that a positive of each run outranks, and (runs,) the share of positives that
    outrank a negative of it; a tie is a half. They are DeLong's placements, V10 and V01."""
    positives, negatives = (max(total, 1) for total in ranking.totals)
    hits, misses = ranking.hits, ranking.ends - ranking.hits
    outranked = (misses[:-1] + misses[1:]) / (2 * negatives)
    return outranked, 1 - (hits[:-1] + hits[1:]) / (2 * positives)


def placements(ranking: Ranking, positive: Bools) -> Doubles:
    """Return (n,) of each variant, in its original place, the share of the other class on the right side of it.

    The mean over positives, and over negatives, is the AUROC; DeLong's variances are theirs.
    """
    outranked, outranking = _shares(ranking)
    size = np.diff(ranking.ends)
    result = np.empty(len(positive))
    result[ranking.order] = np.where(positive[ranking.order], np.repeat(outranked, size), np.repeat(outranking, size))
    return result


def average_precision(ranking: Ranking) -> float:
    """Return the area under the precision-recall curve in steps, as scikit-learn does; equal scores are one step.

    Here, since the scores are sorted already: scikit-learn would sort them again.
    """
    positives = ranking.totals[0]
    if positives == 0:
        return math.nan
    true_calls = positives - ranking.hits[:-1]  # if everything from this run upwards is called positive
    calls = len(ranking.values) - ranking.ends[:-1]
    return dot(ranking.positives, true_calls / calls) / positives


# -- pairs within and without blocks -----------------------------------------------------------------------------------


@dataclass(frozen=True)
class PairCounts:
    """How many pairs of a positive and a negative there are, and in how many the positive is above; a tie is a half.

    `wins` and `pairs` are over all variants, `wins_left` and `pairs_left` (blocks,) over those outside each block; (blocks,)
    `positives` and `negatives` say how many variants each block has.
    """

    wins: float
    pairs: float
    wins_left: Doubles
    pairs_left: Doubles
    positives: Ints
    negatives: Ints

    @property
    def left_out(self) -> Doubles:
        """Return (occupied blocks,) the area without each block that has a variant; NaN where that leaves no pair."""
        occupied = self.positives + self.negatives > 0
        wins, pairs = self.wins_left[occupied], self.pairs_left[occupied]
        # Of no pair the wins may be a rounding error: divided by 0 that would be infinite.
        return np.divide(wins, pairs, out=np.full(len(wins), np.nan), where=pairs > 0)

    def area(self) -> Estimate:
        """Return the share of pairs that are in order, with its standard error over blocks, p against 0.5.

        Where no block changes it (the classes do not overlap), p is that of a Mann-Whitney test in which every block counts
        as one variant of each class that it has.
        """
        if not self.pairs:
            return UNKNOWN
        left_out = self.left_out
        found = jackknife(self.wins / self.pairs, left_out, 0.5)
        if found.se != 0 or not math.isnan(found.p):
            return found._replace(low=max(found.low, 0.0), high=min(found.high, 1.0))
        one, other = int((self.positives > 0).sum()), int((self.negatives > 0).sum())
        null = math.sqrt((one + other + 1) / (12 * one * other))
        return found._replace(p=two_sided((found.value - 0.5) / null, len(left_out)))


def count_pairs(ranking: Ranking, positive: Bools, blocks: Ints, count: int) -> PairCounts:
    """Count the pairs in order of all variants and of those outside each block; `blocks` (n,) are numbers below `count`.

    No block is really left out: the pairs that a block takes with it are those of its variants with all others, less those
    within it, which were counted twice. So this is exact, and takes one sort more than the area.
    """
    total_positives, total_negatives = ranking.totals
    weight = np.where(positive, total_negatives, total_positives)
    own = sums(placements(ranking, positive) * weight, blocks, count)
    positives, negatives = class_counts(positive, blocks, count)
    wins = ordered_pairs(ranks(ranking), positive, blocks, count)
    all_wins = dot(ranking.positives, _shares(ranking)[0]) * max(total_negatives, 1)
    return PairCounts(
        all_wins,
        float(total_positives * total_negatives),
        all_wins - own + wins,
        (total_positives - positives) * (total_negatives - negatives),
        positives,
        negatives,
    )


def count_pairs_within(values: Doubles, positive: Bools, strata: Ints, blocks: Ints, count: int) -> PairCounts:
    """Count the pairs of variants of the same stratum (n,), from 0 on; those of a negative one have no partner."""
    order = np.argsort(strata, kind="stable")
    ends = np.searchsorted(strata[order], np.arange(int(strata.max(initial=-1)) + 2))
    nothing = np.zeros(count, np.int64)
    counts = [PairCounts(0.0, 0.0, np.zeros(count), np.zeros(count), nothing, nothing)]
    for low, high in pairwise(ends.tolist()):
        members = order[low:high]
        own = positive[members]
        if own.any() and not own.all():  # else its blocks have no part in any pair
            counts.append(count_pairs(rank(values[members], own), own, blocks[members], count))
    return PairCounts(*(sum(getattr(one, field.name) for one in counts) for field in fields(PairCounts)))


def ordered_pairs(ranks: Ints, positive: Bools, groups: Ints, count: int) -> Doubles:
    """Return (count,) in how many pairs of a positive and a negative of each group the positive is above; a tie is a half.

    `ranks` (n,) are those of the scores, `groups` (n,) numbers below `count`.
    """
    if not len(ranks):
        return np.zeros(count)
    key = (groups * (int(ranks.max()) + 1) + ranks) * 2 + positive
    key.sort()  # by group, then by score: one sort of whole numbers
    is_positive = (key & 1).astype(np.int64)
    ends = np.append(np.flatnonzero(np.diff(key >> 1)) + 1, len(key))  # of runs of equal scores in a group
    hits, total = np.cumsum(is_positive)[ends - 1], np.cumsum(1 - is_positive)[ends - 1]
    gained, missed = np.diff(hits, prepend=0), np.diff(total, prepend=0)
    group = (key[ends - 1] >> 1) // (int(ranks.max()) + 1)
    per_group = sums(missed, group, count)
    before = (np.cumsum(per_group) - per_group)[group]  # negatives of earlier groups
    return sums(gained * (total - missed - before + missed / 2), group, count)


def area_difference(one: PairCounts, other: PairCounts) -> Estimate:
    """Return the area of one score minus that of another on the same variants and blocks, p against 0."""
    if not one.pairs:
        return UNKNOWN
    return jackknife(one.wins / one.pairs - other.wins / other.pairs, one.left_out - other.left_out)


# -- two-by-two tables -------------------------------------------------------------------------------------------------


class Fourfold(NamedTuple):
    """Variants that a cut selects and those that it leaves, by class."""

    selected_positive: int
    selected_negative: int
    other_positive: int
    other_negative: int


class OddsRatio(NamedTuple):
    """Sample odds ratio (0 or infinite where a cell is empty, NaN where a margin is) and its interval.

    The interval is on the logarithm, of the larger of the standard error over blocks and Wald's; `corrected`: 0.5 was added to
    every cell for it, because one is 0, or is without some block.
    """

    value: float
    low: float
    high: float
    corrected: bool


def cut_at(ranking: Ranking, quantile: float) -> tuple[float, Ints]:
    """Return the score at a quantile (interpolated as np.quantile does) and the places of the variants that it selects.

    From the median on scores >= cut are selected, below it scores <= cut; all variants that tie with the cut are.
    """
    values = ranking.values
    place = quantile * (len(values) - 1)
    low = values[int(place)]
    cut = float(low + (values[min(int(place) + 1, len(values) - 1)] - low) * (place - int(place)))
    if quantile >= 0.5:
        return cut, ranking.order[int(np.searchsorted(values, cut, "left")) :]
    return cut, ranking.order[: int(np.searchsorted(values, cut, "right"))]


def selects(values: Doubles, cut: float, quantile: float) -> Bools:
    """Return (n,) whether a cut at this quantile selects each score; NaN is never selected."""
    return values >= cut if quantile >= 0.5 else values <= cut


class BlockTable(NamedTuple):
    """A fourfold table of every block, (blocks,) each: variants that a cut selects, and all, by class."""

    selected_positive: Ints
    selected_negative: Ints
    positive: Ints
    negative: Ints

    @property
    def whole(self) -> Fourfold:
        """Return the table of all blocks together."""
        a, b, positives, negatives = (int(cells.sum()) for cells in self)
        return Fourfold(a, b, positives - a, negatives - b)


def class_counts(positive: Bools, blocks: Ints, count: int) -> Ints:
    """Return (2, count) how many positives and negatives each block has."""
    positives = np.bincount(blocks[positive], minlength=count)
    return np.stack([positives, np.bincount(blocks, minlength=count) - positives])


def block_table(places: Ints, positive: Bools, blocks: Ints, everything: Ints) -> BlockTable:
    """Return the table of every block for a cut that selects the variants at these places; `everything`: `class_counts`."""
    selected = class_counts(positive[places], blocks[places], everything.shape[1])
    return BlockTable(*selected, *everything)


def odds_ratio(table: BlockTable) -> OddsRatio:
    """Return how much more often the selected variants are positive than the others, in odds."""
    a, b, c, d = table.whole
    if not (a + b and c + d and a + c and b + d):
        return OddsRatio(math.nan, math.nan, math.nan, False)
    value = a * d / (b * c) if b * c else math.inf
    occupied = table.positive + table.negative > 0
    own = np.array([table[0], table[1], table[2] - table[0], table[3] - table[1]])[:, occupied]  # (4, blocks)
    left = np.array([[a], [b], [c], [d]]) - own
    corrected = not (all(table.whole) and left.all())  # the logarithm of an empty cell has no value (Haldane, Anscombe)
    half = 0.5 if corrected else 0.0
    one, two, three, four = (cell + half for cell in table.whole)
    log = math.log(one * four / (two * three))
    logs = np.log(left + half)
    over_blocks = jackknife(log, logs[0] - logs[1] - logs[2] + logs[3])
    if math.isnan(over_blocks.se):
        return OddsRatio(value, math.nan, math.nan, corrected)
    # Blocks cannot vary where a count is near 0: then Wald's error of independent variants is the larger one.
    se = max(over_blocks.se, math.sqrt(1 / one + 1 / two + 1 / three + 1 / four))
    wide = half_width(se, int(occupied.sum()))
    return OddsRatio(value, math.exp(log - wide), math.exp(log + wide), corrected)


def share_difference(table: BlockTable) -> Estimate:
    """Return the share of positives that a cut selects minus that of negatives, with its standard error over blocks.

    Where no block changes it (it selects one class whole and nothing else), p is Fisher's with every block as one variant of
    each class that it has.
    """
    a, b, c, d = table.whole
    if not (a + c and b + d):
        return UNKNOWN
    occupied = table.positive + table.negative > 0
    left = [total - own[occupied] for total, own in zip((a, b, a + c, b + d), table)]
    with np.errstate(invalid="ignore", divide="ignore"):
        left_out = left[0] / left[2] - left[1] / left[3]
    found = jackknife(a / (a + c) - b / (b + d), left_out)
    if found.se != 0 or abs(found.value) != 1:
        return found
    whole_blocks = Fourfold(int((table.positive > 0).sum()), 0, 0, int((table.negative > 0).sum()))
    return found._replace(p=fisher_exact(whole_blocks))


def fisher_exact(table: Fourfold) -> float:
    """Return the two-sided p of Fisher's exact test: the probability of all tables that are no likelier than this one."""
    a, b, c, d = table
    first, p = _fisher(a + b, a + c, a + b + c + d)
    return float(p[a - first]) if 0 <= a - first < len(p) else 0.0


@lru_cache(maxsize=128)
def _fisher(selected: int, positives: int, total: int) -> tuple[int, Doubles]:
    """Return Fisher's p for every count of selected positives from the first returned on; beyond the array p is 0.

    The hypergeometric probabilities are a running product from one count to the next, which needs no factorials.
    """
    mode = (selected + 1) * (positives + 1) // (total + 2)
    spread = selected * positives * (total - positives) * (total - selected) / max(total**2 * (total - 1), 1)
    reach = int(REACH_SD * math.sqrt(spread)) + REACH_COUNTS
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


def benjamini_hochberg(p: ArrayLike) -> Doubles:
    """Return q-values (n,): the false discovery rate at which each test is a discovery (Benjamini and Hochberg 1995).

    NaN is no test: it stays NaN and does not count among the tests, which scipy's function refuses.
    """
    tests = np.asarray(p, np.float64)
    known = ~np.isnan(tests)
    q = np.full(len(tests), math.nan)
    if known.any():
        q[known] = false_discovery_control(tests[known])
    return q
