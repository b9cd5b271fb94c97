"""Linear regression of many traits on each of many variants, with shared covariates. Arrays only, in float64.

With Q the orthonormal covariates (n x p) and Y what they leave of the traits, a block G of variants (variants x persons) needs
one product G [Q | Y]:   gg = sum g^2 - |GQ|^2,   beta = GY / gg,   se^2 = (YY - beta GY) / (df gg),   df = n - p - 1.
A variant with missing calls is fitted to its own complete cases, exactly: Q'Q, Q'Y and YY less the sums over the persons whose
call is missing, which one sparse product per block gives.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable
from dataclasses import dataclass

import numpy as np
import scipy.linalg
import scipy.sparse
import scipy.special
import scipy.stats
from numpy.typing import NDArray

from mfd_cli.base.arrays import Bools, Doubles, Floats, Int8s, Ints

TESTED, MONOMORPHIC, RARE, MISSING, COLLINEAR = range(5)
REASONS = ("", "monomorphic", "maf", "missing", "collinear")
"""Why a variant cannot be tested, by code; the first is tested."""
COLLINEAR_BELOW = 1e-8
"""Share of a variant's centred sum of squares that the covariates must leave."""
MEDIAN_CHI_SQUARE = float(scipy.stats.chi2.median(1))
"""0.4549: of chance alone, one degree of freedom."""
CHUNK_BYTES = 16 << 20
"""Dosages are made float64 so many bytes at a time."""
CHUNK_PERSONS = 512
"""Persons whose products are made together, for the variants with missing calls: a table that a core's cache holds."""
OVERSAMPLED, PASSES = 10, 6
"""Axes beyond those that are asked for, and how often they are multiplied by the genotypes: more change no leading axis."""
_UNDERFLOW = 1e-280
"""Below it the tail of t is taken from its continued fraction, in logarithms."""


# -- traits ------------------------------------------------------------------------------------------------------------


def principal_components(features: Doubles, count: int) -> Doubles:
    """Return the leading principal components (persons, k) of features (persons, dims), k at most `count`.

    The features are centred, not scaled. Components that hold less than 1e-10 of the first one's size are left out. Of each the
    largest weight is positive, so that the same features give the same signs.
    """
    centred = features - features.mean(axis=0)
    left, sizes, right = np.linalg.svd(centred, full_matrices=False)
    kept = int((sizes[:count] > 1e-10 * max(sizes[0], np.finfo(float).tiny)).sum())
    largest = np.abs(right[:kept]).argmax(axis=1)
    signs = np.sign(right[np.arange(kept), largest])
    return left[:, :kept] * (sizes[:kept] * signs)


def inverse_normal(values: Doubles) -> Doubles:
    """Return values (n, k), column by column, as normal scores of their ranks (Blom): ties have their mean rank."""
    ranks = scipy.stats.rankdata(values, axis=0)
    return scipy.special.ndtri((ranks - 0.375) / (len(values) + 0.25))


def orthonormal(covariates: Doubles) -> tuple[Doubles, Ints]:
    """Return an orthonormal basis (n, p) of the intercept and of covariates (n, c), and which columns added nothing to it.

    The first column of the basis is the intercept's. A column adds nothing where those before it leave less than 1e-8 of its
    centred length.
    """
    count = len(covariates)
    basis, idle = [np.full(count, 1 / np.sqrt(count))], []
    for index, column in enumerate(covariates.T):
        centred = column - column.mean()
        length = np.linalg.norm(centred)
        rest = centred / length if length > 1e-12 * np.linalg.norm(column) else np.zeros(count)
        for _ in range(2):  # twice is enough: the second time removes what rounding left
            so_far = np.stack(basis)
            rest = rest - so_far.T @ (so_far @ rest)
        size = np.linalg.norm(rest)
        if size < 1e-8:
            idle.append(index)
        else:
            basis.append(rest / size)
    return np.stack(basis, axis=1), np.array(idle, np.int64)


def traits_of(components: Doubles, basis: Doubles) -> Doubles:
    """Return the traits (n, k) of a GWAS: what the covariates leave of the components, as normal scores."""
    return inverse_normal(components - basis @ (basis.T @ components))


# -- regression --------------------------------------------------------------------------------------------------------


@dataclass(frozen=True)
class Fits:
    """The regressions of a block: calls, frequency and reason (variants,); the others (variants, traits), NaN if not tested."""

    calls: Ints
    frequency: Doubles
    reason: NDArray[np.uint8]
    beta: Doubles
    standard_error: Doubles
    neg_log_10_p: Doubles

    def of(self, rows: Ints, traits: slice) -> Fits:
        """Return the regressions of some variants on some traits."""
        effects = (values[rows, traits] for values in (self.beta, self.standard_error, self.neg_log_10_p))
        return Fits(self.calls[rows], self.frequency[rows], self.reason[rows], *effects)

    @property
    def chi_square(self) -> Doubles:
        """Return the squares of beta / standard error (variants, traits)."""
        return np.square(self.beta / self.standard_error)


class Regression:
    """What all variants share: the covariates' basis (n, p), and traits (n, k) without what the covariates explain."""

    def __init__(self, basis: Doubles, traits: Doubles, maf: float = 0.0, max_missing: float = 1.0) -> None:
        self.maf, self.max_missing = maf, max_missing
        self.basis = basis
        self.traits = traits - basis @ (basis.T @ traits)
        self.squares = np.square(self.traits).sum(axis=0)
        # The first row counts alleles: whole numbers, so that frequencies are exact.
        self.right = np.concatenate([np.ones((1, len(basis))), self.basis.T, self.traits.T])
        self.upper = np.triu_indices(basis.shape[1])

    def fit(self, dosages: Int8s) -> Fits:
        """Return the regressions of dosages, int8 (variants, persons), -1 where missing."""
        people, inner = self.basis.shape
        lowest = dosages.min(axis=1, initial=0)
        products, squares = self._products(dosages, bool(lowest.min(initial=0) < 0))
        sums, gq, gy = products[:, 0], products[:, 1 : 1 + inner], products[:, 1 + inner :]
        gaps = np.flatnonzero(lowest < 0)
        calls = np.full(len(dosages), people)
        yy = np.repeat(self.squares[None], len(dosages), axis=0)
        gg, gy = squares - np.square(gq).sum(axis=1), gy.copy()
        singular = np.zeros(len(dosages), bool)
        if len(gaps):
            some = dosages if len(gaps) == len(dosages) else dosages[gaps]
            adjusted = self._complete_cases(some, squares[gaps], gq[gaps], gy[gaps])
            calls[gaps], gg[gaps], gy[gaps], yy[gaps], singular[gaps] = adjusted
        return self._tested(calls, sums, squares, gg, gy, yy, singular)

    def _products(self, dosages: Int8s, gaps: bool) -> tuple[Doubles, Doubles]:
        """Sums of g, gQ and gY (variants, 1 + p + k), and of g^2 (variants,), over the persons with a call.

        The dosages become float64 in a buffer that is used again: memory that is new each time takes longer than the sums.
        """
        count, people = dosages.shape
        products, squares = np.empty((count, len(self.right))), np.empty(count)
        step = max(CHUNK_BYTES // (8 * max(people, 1)), 1)
        buffer = np.empty((min(step, count), people))
        for start in range(0, count, step):
            some = dosages[start : start + step]
            if gaps:
                some = np.maximum(some, 0)  # a missing call adds nothing to any sum
            block = buffer[: len(some)]
            np.copyto(block, some, casting="unsafe")
            products[start : start + step] = (self.right @ block.T).T
            # g^2 = g + 2 where g is 2, and g elsewhere: counting takes a third of the time of squaring.
            squares[start : start + step] = [2 * np.count_nonzero(row) for row in some & 2]
        squares += products[:, 0]
        return products, squares

    def _complete_cases(
        self, dosages: Int8s, squares: Doubles, gq: Doubles, gy: Doubles
    ) -> tuple[Ints, Doubles, Doubles, Doubles, Bools]:
        """Calls, gg, GY and YY of variants after the covariates of the persons with a call, and whether those are collinear."""
        inner, traits = self.basis.shape[1], self.traits.shape[1]
        missed, calls = self._sums_over_missing(dosages)
        pairs = len(self.upper[0])
        gram = np.zeros((len(dosages), inner, inner))
        gram[:, self.upper[0], self.upper[1]] = -missed[:, :pairs]
        gram[:, self.upper[1], self.upper[0]] = -missed[:, :pairs]
        diagonal = np.arange(inner)
        gram[:, diagonal, diagonal] += 1.0  # Q'Q of all persons
        qy = -missed[:, pairs : pairs + inner * traits].reshape(-1, inner, traits)  # Q'Y of all persons is 0
        yy = self.squares - missed[:, pairs + inner * traits :]
        singular = _singular(gram)
        gram[singular] = np.eye(inner)
        solved = np.linalg.solve(gram, np.concatenate([gq[:, :, None], qy], axis=2))
        gg = squares - np.einsum("vp,vp->v", gq, solved[:, :, 0])
        gy = gy - np.einsum("vp,vpk->vk", gq, solved[:, :, 1:])
        yy = yy - np.einsum("vpk,vpk->vk", qy, solved[:, :, 1:])
        return calls, gg, gy, yy, singular

    def _sums_over_missing(self, dosages: Int8s) -> tuple[Doubles, Ints]:
        """The sums of the products of q and y over each variant's missing persons (variants, p(p+1)/2 + pk + k), and the calls.

        The products are made for a chunk of persons at a time: the table of all would be the largest thing in memory.
        """
        inner, traits = self.basis.shape[1], self.traits.shape[1]
        missed = np.zeros((len(dosages), len(self.upper[0]) + inner * traits + traits))
        calls = np.full(len(dosages), len(self.basis))
        table = np.empty((min(CHUNK_PERSONS, len(self.basis)), missed.shape[1]))
        for start in range(0, len(self.basis), CHUNK_PERSONS):
            some = slice(start, start + CHUNK_PERSONS)
            absent = dosages[:, some] < 0
            width = absent.shape[1]
            places = np.flatnonzero(absent)  # of one dimension: of two it takes five times as long
            pointers = np.searchsorted(places, np.arange(len(dosages) + 1) * width)
            calls -= np.diff(pointers)
            shape = absent.shape
            chosen = scipy.sparse.csr_array((np.ones(len(places)), places % width, pointers), shape=shape)
            missed += chosen @ self._products_of(some, table[:width])
        return missed, calls

    def _products_of(self, some: slice, table: Doubles) -> Doubles:
        """Fill a table with each person's products, q q' above the diagonal, q y' and y^2, and return it."""
        q, y = self.basis[some], self.traits[some]
        inner, traits = q.shape[1], y.shape[1]
        place = 0
        for index in range(inner):
            end = place + inner - index
            np.multiply(q[:, index : index + 1], q[:, index:], out=table[:, place:end])
            place = end
        for index in range(inner):
            end = place + traits
            np.multiply(q[:, index : index + 1], y, out=table[:, place:end])
            place = end
        np.square(y, out=table[:, place:])
        return table

    def _tested(
        self, calls: Ints, sums: Doubles, squares: Doubles, gg: Doubles, gy: Doubles, yy: Doubles, singular: Bools
    ) -> Fits:
        """The regressions from their sums, NaN where a variant cannot be tested."""
        people, inner = self.basis.shape
        with np.errstate(divide="ignore", invalid="ignore"):
            frequency = sums / (2.0 * calls)
            centred = squares - np.square(sums) / calls
        rarer = np.minimum(frequency, 1 - frequency)
        freedom = calls - inner - 1
        reason = np.select(
            [
                (calls == 0) | (1 - calls / people > self.max_missing),
                # Whole numbers: a variant of one genotype alone has exactly n sum g^2 = (sum g)^2.
                squares * calls == np.square(sums),
                rarer < self.maf,
                singular | (gg < COLLINEAR_BELOW * centred) | (freedom < 1),
            ],
            [MISSING, MONOMORPHIC, RARE, COLLINEAR],
            TESTED,
        ).astype(np.uint8)
        untested = reason != TESTED
        with np.errstate(divide="ignore", invalid="ignore"):
            beta = gy / gg[:, None]
            # Where a variant explains a trait to the last digit, rounding is what is left of it.
            rest = np.maximum(yy - beta * gy, 1e-15 * yy)
            error = np.sqrt(rest / (freedom * gg)[:, None])
            t = beta / error  # of a trait without variance, 0 / 0: nothing is known
        for values in (beta, error, t):
            values[untested] = np.nan
        chance = neg_log_10_p(t, np.broadcast_to(freedom[:, None], beta.shape))
        return Fits(calls, frequency, reason, beta, error, chance)


def _singular(gram: Doubles) -> Bools:
    """Whether the covariates of the complete cases are collinear, by their products (variants, p, p), which are I - M'M.

    No eigenvalue is below 1 - trace(M'M): most variants miss too few persons for a closer look.
    """
    trace = gram.shape[1] - np.trace(gram, axis1=1, axis2=2)
    near = np.flatnonzero(trace > 0.99)
    found = np.zeros(len(gram), bool)
    if len(near):
        found[near] = np.linalg.eigvalsh(gram[near])[:, 0] < COLLINEAR_BELOW
    return found


# -- probabilities -----------------------------------------------------------------------------------------------------


def neg_log_10_p(t: Doubles, freedom: Doubles | Ints) -> Doubles:
    """Return -log10 of the two-sided P of t statistics, finite at any size; NaN stays NaN."""
    squares = np.square(np.asarray(t, np.float64))
    half = np.asarray(freedom, np.float64) / 2
    with np.errstate(all="ignore"):
        x = 1 / (1 + squares / (2 * half))
        tail = scipy.special.betainc(half, 0.5, x)
        result = -np.log10(tail)
    tiny = np.flatnonzero(tail < _UNDERFLOW)
    if len(tiny):
        flat = result.reshape(-1)
        flat[tiny] = -_log_tail(squares.reshape(-1)[tiny], np.broadcast_to(half, squares.shape).reshape(-1)[tiny])
        result = flat.reshape(squares.shape)
    return result + 0.0  # of P = 1 it would be -0


def _log_tail(squares: Doubles, half: Doubles) -> Doubles:
    """log10 of the two-sided P of t statistics, by their squares and half their degrees of freedom, far in the tail.

    P = I_x(a, 1/2) with a = df / 2 and x = df / (df + t^2), by the continued fraction of the incomplete beta function (DLMF
    8.17.22, evaluated as Lentz does): far in the tail it converges in a few steps, and its factors are taken as logarithms.
    """
    ratio = squares / (2 * half)
    x = 1 / (1 + ratio)
    factor = -half * np.log1p(ratio) + 0.5 * (np.log(ratio) - np.log1p(ratio))
    factor -= np.log(half) + scipy.special.betaln(half, 0.5)
    value, c, d = np.ones_like(x), np.ones_like(x), np.zeros_like(x)
    for step in range(1, 500):
        m = step // 2
        if step % 2:
            term = -(half + m) * (half + 0.5 + m) * x / ((half + 2 * m) * (half + 2 * m + 1))
        else:
            term = m * (0.5 - m) * x / ((half + 2 * m - 1) * (half + 2 * m))
        d = 1 / (1 + term * d)
        c = 1 + term / c
        value = value * (c * d)
        if np.all(np.abs(c * d - 1) < 1e-15):
            break
    return (factor - np.log(value)) / np.log(10)


def least_p(neg_log_10: Doubles) -> tuple[Doubles, Ints]:
    """Return -log10 of the least P over k traits, times k and at most 1 (Bonferroni), and which trait it is of.

    `neg_log_10` is (variants, k). NaN and -1 of a variant that was not tested.
    """
    known = ~np.isnan(neg_log_10).any(axis=1)
    best = np.where(np.isnan(neg_log_10), -np.inf, neg_log_10).argmax(axis=1)
    largest = neg_log_10[np.arange(len(best)), best] - np.log10(neg_log_10.shape[1])
    return np.where(known, np.maximum(largest, 0.0), np.nan), np.where(known, best, -1)


def genomic_control(chi_square: Doubles) -> Doubles:
    """Return lambda_GC of each trait: the median chi-square (variants, k) over chance's; variants of NaN do not count."""
    tested = chi_square[~np.isnan(chi_square).any(axis=1)]
    if not len(tested):
        return np.full(chi_square.shape[1], np.nan)
    return np.median(tested, axis=0) / MEDIAN_CHI_SQUARE


# -- genetic principal components --------------------------------------------------------------------------------------


class Pruner:
    """Keeps variants that correlate with none kept before on their chromosome, of which the last `window` are looked at.

    Variants come in blocks, in the order of the genome.
    """

    def __init__(self, r2: float = 0.1, window: int = 200) -> None:
        self.r2, self.window = r2, window
        self.recent: Floats | None = None
        self.here, self.kept = -1, 0

    def keep(self, dosages: Int8s, chromosome: Ints) -> Ints:
        """Return which variants of a block are kept: those whose r2 with each of the kept ones is below `r2`.

        `dosages` is int8 (variants, persons), `chromosome` a number for each variant. One without variance is not kept.
        """
        scaled = standardised(dosages, *moments(dosages))
        scaled -= scaled.mean(axis=1, keepdims=True)
        lengths = np.linalg.norm(scaled, axis=1)
        if self.recent is None:
            self.recent = np.zeros((self.window, dosages.shape[1]), np.float32)
        chosen = list[int]()
        for row in np.flatnonzero(lengths > 0).tolist():
            if chromosome[row] != self.here:
                self.here, self.kept = int(chromosome[row]), 0
            one = scaled[row] / lengths[row]
            if self.kept and np.square(self.recent[: self.kept] @ one).max() >= self.r2:
                continue
            self.recent[self.kept % self.window] = one  # the oldest one goes
            self.kept += 1
            chosen.append(row)
        return np.array(chosen, np.int64)


def moments(dosages: Int8s) -> tuple[Doubles, Doubles]:
    """Return the mean and the expected sd, sqrt(2 f (1 - f)), of each variant (variants,) over the persons with a call."""
    known = dosages >= 0
    means = np.where(known, dosages, 0).sum(axis=1) / np.maximum(known.sum(axis=1), 1)
    return means, np.sqrt(means * (1 - means / 2))


def standardised(dosages: Int8s, means: Doubles, sds: Doubles) -> Floats:
    """Return dosages (variants, persons) less the mean, over the sd; 0 where a call is missing or the sd is 0."""
    scale = np.divide(1.0, sds, out=np.zeros_like(sds), where=sds > 0)
    values = dosages.astype(np.float32)
    values -= means[:, None].astype(np.float32)
    values *= scale[:, None].astype(np.float32)
    if dosages.size and dosages.min() < 0:
        values[dosages < 0] = 0.0
    return values


def genetic_components(blocks: Callable[[], Iterable[Int8s]], fitted: Bools, count: int) -> Doubles:
    """Return `count` principal components (persons, count) of genotypes: fitted on some persons, all projected alike.

    `blocks` gives the dosages, int8 (variants, persons), of pruned variants in blocks, as often as it is called; `fitted` says
    which persons the frequencies and axes are of. Missing calls are 0 after standardising. Block Krylov iteration from a fixed
    start: memory is that of a block and of `fitted` x 7 (count + 10), and the same blocks give the same numbers.
    """
    scales = [moments(block[:, fitted]) for block in blocks()]
    people = int(fitted.sum())
    axes = np.linalg.qr(np.random.default_rng(0).standard_normal((people, min(count + OVERSAMPLED, people))))[0]
    seen = [axes]
    for _ in range(PASSES):
        image = np.zeros_like(axes)
        for block, scale in zip(blocks(), scales):
            x = standardised(block[:, fitted], *scale)
            image += x.T @ (x @ axes.astype(np.float32))
        axes = np.linalg.qr(image)[0]
        seen.append(axes)
    # Of all directions that were seen, those in which the genotypes vary most.
    space = np.linalg.qr(np.concatenate(seen, axis=1))[0].astype(np.float32)
    gram = np.zeros((space.shape[1],) * 2)
    for block, scale in zip(blocks(), scales):
        weights = standardised(block[:, fitted], *scale) @ space  # (variants, directions)
        gram += weights.T @ weights
    sizes, rotation = np.linalg.eigh(gram)
    leading = (space @ rotation[:, ::-1][:, :count]).astype(np.float32)
    scores = np.zeros((len(fitted), leading.shape[1]))
    for block, scale in zip(blocks(), scales):
        x = standardised(block, *scale)
        scores += x.T @ (x[:, fitted] @ leading)
    scores /= np.sqrt(np.maximum(sizes[::-1][:count], np.finfo(float).tiny))
    largest = np.abs(scores).argmax(axis=0)
    return scores * np.sign(scores[largest, np.arange(scores.shape[1])])
