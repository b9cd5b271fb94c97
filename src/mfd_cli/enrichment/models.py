"""Logistic models of one score on two classes of variants, and the statistics of matched designs (`Sets`).

Everywhere `values` (n,) are finite scores, one per variant, and `positive` (n,) says which variants are of the positive class.
`blocks` (n,) are the numbers of the blocks of the genome that they lie in. Nothing here opens a file.

A slope's standard error is over blocks: without each block the model is not fitted again, but takes one step of Newton's method
from its maximum.

What is our own here, and why. scikit-learn's logistic regression has no standard errors, and neither it nor scipy has the
conditional one. statsmodels has both, but does not say which of the reasons in `Fit` leaves a feature without a slope, and its
conditional likelihood is a recursion in Python. Both are Newton's method in one dimension or two here; tests compare the
conditional likelihood with the sum over all assignments.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from functools import partial
from typing import NamedTuple

import numpy as np

from mfd_cli.base.arrays import Bools, Doubles, Ints
from mfd_cli.enrichment.jackknife import jackknife, sums
from mfd_cli.enrichment.statistics import dot, ordered_pairs

MOST_STEPS, CLOSE = 50, 1e-7
"""Newton's method ends when a step is shorter than the root of CLOSE standard errors; its last step squares that."""
MOST_CASES = 100
"""The rarer class of a set may have this many members in the conditional likelihood, whose cost grows with them."""


class Fit(NamedTuple):
    """The slope of a logistic model; `se`, `t`, `p` and the interval are over blocks.

    `outcome` is `converged`, or why there is no slope: `too few` variants of a class, `constant` score, `separated` classes
    (the best slope is infinite), `sets too large`, `not converged`.
    """

    coefficient: float = math.nan
    se: float = math.nan
    t: float = math.nan
    p: float = math.nan
    low: float = math.nan
    high: float = math.nan
    pseudo_r2: float = math.nan
    outcome: str = "not converged"


# -- logistic models ---------------------------------------------------------------------------------------------------


class Likelihood(NamedTuple):
    """Logarithm of a likelihood, its gradient (k,) and its negative second derivative (k, k)."""

    log: float
    gradient: Doubles
    information: Doubles


def newton(likelihood: Callable[[Doubles], Likelihood], start: Doubles) -> tuple[Doubles, Likelihood, bool]:
    """Return the maximum of a concave log likelihood, the likelihood there, and whether it was reached.

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


def logistic(values: Doubles, positive: Bools, blocks: Ints) -> Fit:
    """Fit the class to one score and a constant by logistic regression (maximum likelihood); R2 is McFadden's."""
    if not len(values) or positive.all() or not positive.any():
        return Fit(outcome="too few")
    if separates(values, positive):
        return Fit(outcome="constant" if values.min() == values.max() else "separated")
    share = positive.mean()
    centred = values - values.mean()
    sign = np.where(positive, 1.0, -1.0)
    start = np.array([math.log(share / (1 - share)), 0.0])
    at, best, converged = newton(lambda slope: _binomial(slope, centred, sign), start)
    if not converged:
        return Fit()
    null = len(values) * (share * math.log(share) + (1 - share) * math.log1p(-share))
    return _fit(at, best, null, _of_blocks(at, centred, sign, blocks))


def separates(values: Doubles, positive: Bools) -> bool:
    """Return whether no positive lies below a negative, or none above one."""
    one, other = values[positive], values[~positive]
    return bool(one.min() >= other.max() or one.max() <= other.min())


def _binomial(slope: Doubles, values: Doubles, sign: Doubles) -> Likelihood:
    """Return the log likelihood of classes (+1, -1) given intercept and slope."""
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


class BlockShares(NamedTuple):
    """What each block adds to the gradient (blocks, k) and to the information (blocks, k, k) at the maximum."""

    gradient: Doubles
    information: Doubles


def _of_blocks(slope: Doubles, values: Doubles, sign: Doubles, blocks: Ints) -> BlockShares:
    """Return the shares of blocks in the derivatives of `_binomial`; only blocks with a variant are there."""
    wrong = 1 / (1 + np.exp(np.minimum(sign * (slope[0] + slope[1] * values), 700)))
    weight, residual = wrong * (1 - wrong), wrong * sign
    gradient = np.stack([sums(part, blocks) for part in (residual, residual * values)], axis=-1)
    one, two, three = (sums(weight * values**power, blocks) for power in range(3))
    information = np.stack([np.stack([one, two], axis=-1), np.stack([two, three], axis=-1)], axis=-1)
    occupied = np.bincount(blocks) > 0
    return BlockShares(gradient[occupied], information[occupied])


def _fit(at: Doubles, best: Likelihood, null: float, shares: BlockShares) -> Fit:
    """Return the last coefficient of a model at its maximum, with its standard error over blocks; `null` is the log
    likelihood without the score."""
    slope, pseudo_r2 = float(at[-1]), 1 - best.log / null
    try:
        solved = np.linalg.solve(best.information - shares.information, shares.gradient[..., None])
    except np.linalg.LinAlgError:  # without some block there is nothing to fit
        return Fit(slope, pseudo_r2=pseudo_r2, outcome="converged")
    found = jackknife(slope, slope - np.asarray(solved[:, -1, 0], np.float64))
    t = slope / found.se if found.se else math.nan
    return Fit(slope, found.se, t, found.p, found.low, found.high, pseudo_r2, "converged")


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
        """Return (sets,) how many members each set has."""
        return np.diff(np.append(self.starts, len(self.members)))

    @property
    def positives(self) -> Ints:
        """Return (sets,) how many positives each set has."""
        hits = np.append(0, np.cumsum(self.positive))
        return np.asarray(np.diff(hits[np.append(self.starts, len(self.members))]), np.int64)

    @property
    def rarer(self) -> Ints:
        """Return (sets,) how many members each set's rarer class has."""
        return np.asarray(np.minimum(self.positives, self.sizes - self.positives), np.int64)

    @property
    def number(self) -> Ints:
        """Return (m,) the number of each member's set."""
        return np.repeat(np.arange(len(self)), self.sizes)

    def blocks(self, of_variants: Ints) -> Ints:
        """Return (sets,) the block of each set: that of its first positive, where its variants lie in several."""
        positives = np.flatnonzero(self.positive)
        first = positives[np.searchsorted(positives, self.starts)]
        return of_variants[self.members[first]]

    def only(self, kept: Bools) -> Sets:
        """Return the design with these members (m,) only, without the sets that lack a class then."""
        number = self.number
        sizes = np.bincount(number[kept], minlength=len(self))
        positives = np.bincount(number[kept & self.positive], minlength=len(self))
        kept = kept & ((positives > 0) & (positives < sizes))[number]
        return sets_of(self.members[kept], self.positive[kept], number[kept])


def sets_of(members: Ints, positive: Bools, number: Ints) -> Sets:
    """Return a matched design from members in any order, with the number of each one's set."""
    order = np.lexsort((members, number))
    starts = np.flatnonzero(np.diff(number[order], prepend=-1))
    return Sets(members[order], positive[order], starts)


def areas_within(ranks: Ints, sets: Sets) -> Doubles:
    """Return (sets,) of each set the share of its pairs of a positive and a negative that are in order; a tie is a half.

    `ranks` (m,) are those of the members' scores; every set has both classes.
    """
    return ordered_pairs(ranks, sets.positive, sets.number, len(sets)) / (
        sets.positives * (sets.sizes - sets.positives)
    )


def conditional_logistic(values: Doubles, sets: Sets, blocks: Ints) -> Fit:
    """Fit the class to one score by logistic regression, given how many of each set are positive (`values` (m,)).

    `blocks` (sets,) are those of the sets.

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

    def by_set(slope: Doubles) -> Doubles:
        """Return (3, sets) the log likelihood of each set and its two derivatives, in the order of `parts`."""
        with np.errstate(all="ignore"):  # a step too far is seen in the sum, and halved
            return np.concatenate([derivatives(float(slope[0])) for _, derivatives in parts], axis=1)

    def likelihood(slope: Doubles) -> Likelihood:
        found = by_set(slope).sum(1)
        return Likelihood(float(found[0]), found[1:2], found[2:3, None])

    start = np.zeros(1)
    null = likelihood(start).log
    at, best, converged = newton(likelihood, start)
    if not converged:
        return Fit()
    own = blocks[np.concatenate([numbers for numbers, _ in parts])]
    _, gradient, information = by_set(at)
    occupied = np.bincount(own) > 0
    shares = BlockShares(sums(gradient, own)[occupied, None], sums(information, own)[occupied, None, None])
    return _fit(at, best, null, shares)


def separates_within(values: Doubles, sets: Sets) -> tuple[bool, bool]:
    """Return whether in no set a positive lies below a negative, and whether in none above one."""
    positive, starts = sets.positive, sets.starts
    lowest, highest = np.where(positive, values, np.inf), np.where(positive, values, -np.inf)
    above, below = np.where(positive, -np.inf, values), np.where(positive, np.inf, values)
    over = np.minimum.reduceat(lowest, starts) >= np.maximum.reduceat(above, starts)
    under = np.maximum.reduceat(highest, starts) <= np.minimum.reduceat(below, starts)
    return bool(over.all()), bool(under.all())


Part = tuple[Ints, Callable[[float], Doubles]]


def _conditional_parts(values: Doubles, sets: Sets, rarer: Ints) -> Iterator[Part]:
    """Yield the log likelihood in parts: numbers of sets, and a function of the slope that gives (3, those sets) of it: the
    log likelihood of each set and its two derivatives.

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
        yield np.flatnonzero(single), partial(_one_case, values=centred[kept], starts=starts)
    place = np.arange(len(number)) - sets.starts[number]
    widths = 2 ** np.ceil(np.log2(sets.sizes)).astype(np.int64)  # sets of similar size share a padded array
    for count, width in sorted(set(zip(rarer[~single].tolist(), widths[~single].tolist()))):
        chosen = (rarer == count) & (widths == width)
        kept = chosen[number]
        block = np.full((int(chosen.sum()), width), np.nan)
        block[(np.cumsum(chosen) - 1)[number[kept]], place[kept]] = centred[kept]
        yield np.flatnonzero(chosen), partial(_several_cases, values=block, cases=count)


def _one_case(slope: float, values: Doubles, starts: Ints) -> Doubles:
    """Return (3, sets) the parts of sets with one case: `values` (m,) are scores minus their case's score."""
    odds = np.exp(slope * values)
    weighted = odds * values
    total, first, second = (np.add.reduceat(part, starts) for part in (odds, weighted, weighted * values))
    mean = first / total
    return np.stack([-np.log(total), -mean, second / total - mean**2])


def _several_cases(slope: float, values: Doubles, cases: int) -> Doubles:
    """Return (3, sets) the parts of sets with the same number of cases.

    `values` (sets, width) are scores minus the mean of their cases', NaN where there is no member.

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
    return np.stack([-log, -mean, second[-1] / total[-1] - mean**2])
