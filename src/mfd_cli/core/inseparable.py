"""Sets of factors that nothing tells apart, and the sentences on them: of tracks in a table, of images in a manifest."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from itertools import combinations

import numpy as np

from mfd_cli.core.association import moving_together

Levels = dict[str, list[str]]
"""The level of every row (a track, an image), for every factor."""
MOST_SETS = 12
"""Sets that are told at most."""


def inseparable_sets(levels: Levels, factors: Iterable[str]) -> list[tuple[tuple[str, ...], int]]:
    """Return sets of factors and the number of rows on which all their pairs move together, the most rows first.

    Only sets that are not part of a larger one with as many rows.
    """
    names = list(factors)
    together = {pair: moving_together(levels[pair[0]], levels[pair[1]]) for pair in combinations(names, 2)}
    sets: dict[tuple[str, ...], int] = {}
    for size in range(len(names), 1, -1):
        for chosen in combinations(names, size):
            count = int(np.logical_and.reduce([together[pair] for pair in combinations(chosen, 2)]).sum())
            in_larger = any(set(chosen) < set(other) and n >= count for other, n in sets.items())
            if count and not in_larger:
                sets[chosen] = count
    return sorted(sets.items(), key=lambda item: (-item[1], -len(item[0])))[:MOST_SETS]


Family = dict[tuple[str, ...], int]
"""A set of factors with the number of its tracks, then the sets that hold it with theirs."""


def families(sets: Sequence[tuple[tuple[str, ...], int]]) -> list[tuple[tuple[str, ...], Family]]:
    """Return each set that holds no other one, with the family of it; `sets` come with the most tracks first.

    A set of more factors cannot be told apart on fewer tracks, so it belongs to the sentence on the smaller one.
    """
    found: dict[tuple[str, ...], Family] = {}
    for names, count in sets:
        smaller = next((first for first in found if set(first) < set(names)), None)
        found.setdefault(smaller or names, {})[names] = count
    return list(found.items())


def pairs_within(sets: Iterable[Sequence[str]]) -> frozenset[frozenset[str]]:
    """Return every pair of factors within one of these sets."""
    return frozenset(frozenset(pair) for names in sets for pair in combinations(names, 2))


def set_sentence(names: Sequence[str], family: Family, total: int, of: str = "tracks") -> str:
    """Return a sentence on an inseparable set and those that hold it, such as: lab and year cannot be told apart on 509 of 536
    tracks (with caller: 499)."""
    count, *others = family.values()
    more = [joined([name for name in larger if name not in names]) for larger in list(family)[1:]]
    larger = "; ".join(f"with {which}: {tracks:,}" for which, tracks in zip(more, others))
    return f"{joined(names)} cannot be told apart on {count:,} of {total:,} {of}{f' ({larger})' if larger else ''}"


def joined(names: Sequence[str]) -> str:
    """Return names in a sentence: a, b and c."""
    return f"{', '.join(names[:-1])} and {names[-1]}" if len(names) > 1 else "".join(names)
