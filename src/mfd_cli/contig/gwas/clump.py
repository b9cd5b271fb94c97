"""Loci: greedy clumps of variants around the strongest one."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import numpy as np

from mfd_cli.base.arrays import Doubles, Int8s, Ints


@dataclass(frozen=True)
class Clump:
    """A locus: the row of its strongest variant, and the rows of all its members, itself included, ascending."""

    index: int
    members: Ints


def clumps(
    neg_log_10_p: Doubles,
    chromosome: Ints,
    position: Ints,
    load: Callable[[Ints], Int8s],
    *,
    p1: float,
    p2: float,
    r2: float,
    kb: float,
) -> list[Clump]:
    """Return the loci, the strongest first.

    The strongest variant that is in no locus yet and has P <= `p1` founds one; its members are those with P <= `p2` that are in
    none, lie within `kb` of it on its chromosome, and correlate with it: r2 of dosages, over persons with both calls, at least
    `r2`. NaN is never a member. `load` gives the dosages, int8 (variants, persons), of rows. Equal P: the earlier row first.
    """
    with np.errstate(invalid="ignore"):
        candidates = np.flatnonzero(neg_log_10_p >= -np.log10(p2))
    order = candidates[np.lexsort((candidates, -neg_log_10_p[candidates]))]
    by_place = candidates[np.lexsort((candidates, position[candidates], chromosome[candidates]))]
    places = np.stack([chromosome[by_place], position[by_place]], axis=1)
    free = np.zeros(len(neg_log_10_p), bool)
    free[candidates] = True
    found = []
    for index in order.tolist():
        if neg_log_10_p[index] < -np.log10(p1):
            break
        if not free[index]:
            continue
        near = by_place[_within(places, int(chromosome[index]), int(position[index]), kb * 1000)]
        near = np.sort(near[free[near] & (near != index)])
        members = np.array([index])
        if len(near):
            dosages = load(np.concatenate([members, near]))
            members = np.sort(np.concatenate([members, near[squared_correlations(dosages[0], dosages[1:]) >= r2]]))
        free[members] = False
        found.append(Clump(index, members))
    return found


def _within(places: Ints, chromosome: int, position: int, distance: float) -> slice:
    """Which of the (chromosome, position) rows, in ascending order, lie within a distance."""
    first, last = np.searchsorted(places[:, 0], [chromosome, chromosome + 1])
    there = places[first:last, 1]
    low = np.searchsorted(there, position - distance, "left")
    high = np.searchsorted(there, position + distance, "right")
    return slice(int(first + low), int(first + high))


def squared_correlations(one: Int8s, others: Int8s, rows: int = 256) -> Doubles:
    """Return r2 of one variant's dosages (persons,) with others' (variants, persons), over the persons with both calls.

    0 where one of the two does not vary among these.
    """
    known = (one >= 0).astype(np.float64)
    dosage = np.maximum(one, 0).astype(np.float64)
    result = np.empty(len(others))
    for start in range(0, len(others), rows):
        block = others[start : start + rows]
        there, theirs = (block >= 0).astype(np.float64), np.maximum(block, 0).astype(np.float64)
        count, own, own2 = (there @ np.stack([known, dosage, dosage * dosage], axis=1)).T
        other, product = (theirs @ np.stack([known, dosage], axis=1)).T
        other2 = np.square(theirs) @ known
        shared = count * product - own * other
        spread = (count * own2 - own * own) * (count * other2 - other * other)
        result[start : start + rows] = np.divide(shared * shared, spread, out=np.zeros_like(spread), where=spread > 0)
    return result
