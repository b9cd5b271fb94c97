"""What metadata say about which tracks are alike: one kernel (tracks x tracks) for each factor, or product of factors.

A term's effect on the output weights is a draw from N(0, variance x kernel). Categories: tracks that share a level are alike
(1), others are not (0); of several levels in a cell, as many as are shared. Numbers and years: the mean of a linear kernel and
a smooth one (radial basis, one standard deviation wide); a missing number is like other missing ones. A product of factors
is alike where both are. An unseen level is like nothing: its effect is zero, with the variance of any level.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from itertools import combinations
from typing import NamedTuple

import numpy as np

from mfd_cli.base.arrays import Doubles
from mfd_cli.core.metadata import LevelEncoder, MetadataEncoder, NumberEncoder, YearEncoder, is_missing
from mfd_cli.settings.config import FactorConfig
from mfd_cli.settings.names import RESIDUAL

Rows = Sequence[Mapping[str, str]]


class Term(NamedTuple):
    """One source of variance: its name in tables, the group that it belongs to, and its factors."""

    name: str
    group: str
    factors: tuple[str, ...]


def product_name(factors: Sequence[str]) -> str:
    """Return what a product of factors is called in tables.

    >>> product_name(["target", "biosample"])
    'target x biosample'
    """
    return " x ".join(factors)


def terms_of(
    factors: Mapping[str, FactorConfig], metadata: MetadataEncoder, rows: Rows, between: bool = False
) -> list[Term]:
    """Return the terms that the training rows can tell anything about: factors in which they differ, and pairs of factors of
    one group; with `between` also pairs of factors of two groups, last, which belong to the residual: what biology and
    technique do together belongs to neither.

    A pair is left out where it says no more than one of its factors does (one is nested in the other), or than which track it
    is: then every row has its own combination. Of pairs between groups that say the same the first one stands for all.
    """
    kernels = {name: factor_kernel(metadata, name, rows, rows) for name in factors}
    singles = [Term(name, factor.group, (name,)) for name, factor in factors.items() if varies(kernels[name])]
    within, across = list[Term](), list[Term]()
    for a, b in combinations(singles, 2):
        of_one_group = a.group == b.group
        if not of_one_group and not between:
            continue
        joint = kernels[a.name] * kernels[b.name]
        known = [kernels[a.name], kernels[b.name], np.diag(np.diag(joint))]
        if not of_one_group:
            known += [kernels[term.name] for term in across]
        if any(np.allclose(joint, one) for one in known):
            continue
        pair = Term(product_name((a.name, b.name)), a.group if of_one_group else RESIDUAL, (a.name, b.name))
        (within if of_one_group else across).append(pair)
        kernels[pair.name] = joint
    return singles + within + across


def varies(kernel: Doubles) -> bool:
    """Return whether a kernel (rows, rows) tells any two rows apart."""
    return not np.allclose(kernel, kernel[0, 0])


def term_kernel(metadata: MetadataEncoder, term: Term, rows: Rows, others: Rows) -> Doubles:
    """Return how alike rows are to others in a term, (rows, others): the product over its factors."""
    kernel = np.ones((len(rows), len(others)))
    for name in term.factors:
        kernel *= factor_kernel(metadata, name, rows, others)
    return kernel


def kernel_among(metadata: MetadataEncoder, term: Term, rows: Rows) -> Doubles:
    """Return how alike rows are to each other in a term, (rows, rows), where a level that nobody measured is like itself.

    Its effect is not 0: it is unknown.
    """
    kernel = np.ones((len(rows), len(rows)))
    for name in term.factors:
        alike = factor_kernel(metadata, name, rows, rows)
        cells = np.array([row[metadata.columns[name]] for row in rows])
        unseen = alike.diagonal() == 0
        kernel *= np.where(unseen[:, None] & (cells[:, None] == cells), 1, alike)
    return kernel


def factor_kernel(metadata: MetadataEncoder, factor: str, rows: Rows, others: Rows) -> Doubles:
    """Return how alike rows are to others in one factor, (rows, others). MetadataError where a cell is wrong."""
    encoder, column = metadata.encoders[factor], metadata.columns[factor]
    cells = [[row[column] for row in given] for given in (rows, others)]
    if isinstance(encoder, NumberEncoder):
        codes = [encoder.encode(values, "mean").astype(float) for values in cells]
        return number_kernel(*[np.where(code[:, 1] > 0, np.nan, code[:, 0]) for code in codes])
    if isinstance(encoder, YearEncoder):
        centre, scale = spread_of_years(encoder)
        return number_kernel(*[(years_of(encoder, values) - centre) / scale for values in cells])
    members = [encoder.membership(values).astype(float) for values in cells]
    product: Doubles = members[0] @ members[1].T
    return product


def years_of(encoder: LevelEncoder, cells: Sequence[str]) -> Doubles:
    """Return the years in cells (cells,), NaN where there is none."""
    levels = [encoder.split(cell)[0] for cell in cells]
    return np.array([np.nan if is_missing(level) else float(level) for level in levels])


def spread_of_years(encoder: LevelEncoder) -> tuple[float, float]:
    """Return mean and standard deviation of the training rows' years; a deviation of 1 where they are one."""
    years, share = years_of(encoder, encoder.vocabulary), encoder.mean.astype(float)
    known = ~np.isnan(years) & (share > 0)  # no training row has a level that came with an added track
    if not known.any():
        return 0.0, 1.0
    centre = float(np.average(years[known], weights=share[known]))
    spread = float(np.sqrt(np.average((years[known] - centre) ** 2, weights=share[known])))
    return centre, spread or 1.0


def number_kernel(numbers: Doubles, others: Doubles) -> Doubles:
    """Return how alike standardised numbers (n,) are to others (m,), NaN where missing: (n, m)."""
    known, known_others = ~np.isnan(numbers), ~np.isnan(others)
    a, b = np.nan_to_num(numbers), np.nan_to_num(others)
    both_known, both_missing = np.outer(known, known_others), np.outer(~known, ~known_others)
    smooth = np.exp(-((a[:, None] - b[None]) ** 2) / 2)
    return both_known * (np.outer(a, b) + smooth) / 2 + both_missing
