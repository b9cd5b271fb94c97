"""What `check` and `prepare` say of technical factors: which cannot be told apart, and whose pictures are faulty."""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from itertools import combinations
from typing import Any

import numpy as np

from mfd_cli.contig.config import FactorSection
from mfd_cli.core.association import CRAMERS_V, UNLIKELY, FactorValues, associate, is_nested
from mfd_cli.core.inseparable import families, inseparable_sets, pairs_within, set_sentence
from mfd_cli.core.metadata import number_of

LEVEL_COLUMNS = ("factor", "level", "images", "faulty", "share_faulty")
"""What factors.tsv of the report says of each level."""
WORTH_A_LINE = 0.1
"""Association from which two factors that can be told apart are told of: a hundredth of the variance."""
SHOWN = 6
"""Levels that are told of a factor."""
LOSES = 0.01
"""Share of faulty pictures beyond that of all from which the level that loses most is told."""


@dataclass(frozen=True)
class LookedAt:
    """An image: what it has of each factor, and whether its picture can be used."""

    factors: Mapping[str, str]
    good: bool


def level_rows(images: Sequence[LookedAt], factors: Mapping[str, FactorSection]) -> list[dict[str, Any]]:
    """Return a row for each level of each factor that has levels, the most images first: images, and how many are faulty."""
    rows = []
    for name, factor in factors.items():
        if factor.type == "number":
            continue
        counts = Counter(image.factors[name] for image in images)
        faulty = Counter(image.factors[name] for image in images if not image.good)
        rows += [
            {
                "factor": name,
                "level": level,
                "images": count,
                "faulty": faulty[level],
                "share_faulty": faulty[level] / count,
            }
            for level, count in sorted(counts.items(), key=lambda item: (-item[1], item[0]))
        ]
    return rows


def factor_lines(
    levels: Sequence[Mapping[str, Any]], images: Sequence[LookedAt], factors: Mapping[str, FactorSection]
) -> tuple[str, ...]:
    """Return what is told of the factors: their levels, which lose most pictures, and which factors go together.

    `levels` are the rows of `level_rows` on the same images.
    """
    lines = []
    for name in factors:
        own = [row for row in levels if row["factor"] == name]
        if own:
            shown = ", ".join(f"{row['level']} {row['images']:,}" for row in own[:SHOWN])
            more = f" and {len(own) - SHOWN:,} more" if len(own) > SHOWN else ""
            lines.append(f"{name}, images of each level: {shown}{more}{_loser(name, own)}")
    return (*lines, *confound_lines(images, factors))


def _loser(name: str, own: Sequence[Mapping[str, Any]]) -> str:
    """Which level loses the largest share of its pictures, where it is clearly more than that of all."""
    worst = max(own, key=lambda row: row["share_faulty"])
    overall = sum(row["faulty"] for row in own) / sum(row["images"] for row in own)
    if worst["share_faulty"] < overall + LOSES:
        return ""
    return (
        f"; {name} {worst['level']} loses most: {worst['faulty']:,} of {worst['images']:,} pictures are faulty "
        f"({worst['share_faulty']:.0%}; of all {overall:.0%})"
    )


def confound_lines(images: Sequence[LookedAt], factors: Mapping[str, FactorSection]) -> list[str]:
    """Return a sentence on each set of factors that nothing tells apart, and on other factors that go together."""
    levels = {name: [image.factors[name] for image in images] for name in factors}
    sets = families(inseparable_sets(levels, factors))
    lines = [set_sentence(names, family, len(images), "images") for names, family in sets]
    told = frozenset[frozenset[str]]().union(*(pairs_within(family) for _, family in sets))
    for a, b in combinations(factors, 2):
        if frozenset((a, b)) in told:
            continue
        one, other = (_values(levels[name], factors[name].type) for name in (a, b))
        found = associate(one, other)
        nested = next(
            (f"; {x} is nested within {y}" for x, y in ((a, b), (b, a)) if is_nested(levels[x], levels[y])), ""
        )
        if nested or (found.value >= WORTH_A_LINE and (found.measure != CRAMERS_V or found.chance < UNLIKELY)):
            lines.append(f"{a} and {b} go together on {len(images):,} images ({found}){nested}")
    return lines


def _values(levels: list[str], kind: str) -> FactorValues:
    """A factor's values as associations are measured."""
    if kind == "category":
        return FactorValues(levels)
    return FactorValues(levels, np.array([number_of(text) for text in levels]), ordered_only=kind == "number")
