"""Which factors of a metadata table move together, and which experiments would tell them apart."""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from itertools import combinations
from pathlib import Path
from typing import Any

import numpy as np

from mfd_cli.settings.config import FactorConfig

Levels = dict[str, list[str]]
MISSING = "(missing)"
STRONG = 0.6
"""Share of the tracks from which factors that move together are worth a warning."""


@dataclass(frozen=True)
class Pair:
    """Two factors: Cramer's V, and on how many tracks they move together."""

    first: str
    second: str
    cramers_v: float
    together: int
    across_groups: bool


@dataclass(frozen=True)
class DesignReport:
    """The design of a set of tracks."""

    tracks: int
    factors: Sequence[Mapping[str, Any]]
    pairs: Sequence[Pair]
    sets: Sequence[tuple[tuple[str, ...], int]]
    suggestions: Sequence[str]
    folder: Path | None = None

    def to_json(self) -> dict[str, Any]:
        return {
            "tracks": self.tracks,
            "factors": list(self.factors),
            "pairs": [vars(pair) for pair in self.pairs],
            "inseparable_sets": [{"factors": list(names), "tracks": count} for names, count in self.sets],
            "suggestions": list(self.suggestions),
        }

    def lines(self) -> list[str]:
        lines = [f"{self.tracks} tracks", ""]
        for row in self.factors:
            lines.append(
                f"{row['factor']:<13} {row['group']:<11} {row['levels']:>4} levels, {row['single']} with one track, "
                f"{row['missing']} tracks without a value; most common: {row['most_common']} ({row['most']})"
            )
        lines.append("")
        lines += [set_sentence(names, count, self.tracks) for names, count in self.sets]
        for pair in self.pairs[:10]:
            where = "across groups" if pair.across_groups else "within a group"
            lines.append(
                f"{pair.first} and {pair.second} ({where}): Cramer's V {pair.cramers_v:.2f}, moving together on "
                f"{pair.together} of {self.tracks} tracks"
            )
        if self.suggestions:
            lines += ["", "experiments that would help most to tell them apart:"]
            lines += [f"  {text}" for text in self.suggestions]
        if self.folder is not None:
            lines.append(f"wrote {self.folder}")
        return lines


def worst_confounds(
    rows: Sequence[Mapping[str, str]], factors: Mapping[str, FactorConfig], limit: int = 3
) -> list[str]:
    """One sentence for each of the worst inseparable sets of factors, for warnings."""
    sets = inseparable_sets(levels_of(rows, factors), factors)
    return [set_sentence(names, count, len(rows)) for names, count in sets[:limit] if count >= STRONG * len(rows)]


def set_sentence(names: Sequence[str], count: int, total: int) -> str:
    """Such as: assay, lab and year cannot be told apart on 381 of 390 tracks."""
    listed = f"{', '.join(names[:-1])} and {names[-1]}"
    return f"{listed} cannot be told apart on {count} of {total} tracks"


def levels_of(rows: Sequence[Mapping[str, str]], factors: Mapping[str, FactorConfig]) -> Levels:
    """The level of every row for every factor, as core.metadata will see it (a multi-label cell counts as one level)."""

    def level(factor: FactorConfig, cell: str) -> str:
        if factor.type == "year" and (found := re.search(r"(?<!\d)(1[89]\d\d|20\d\d)(?!\d)", cell)):
            return found[1]
        return cell.strip() or MISSING

    return {name: [level(factor, row[factor.column]) for row in rows] for name, factor in factors.items()}


def describe(name: str, factor: FactorConfig, values: Sequence[str]) -> dict[str, Any]:
    """One row on a factor."""
    counts = Counter(values)
    common, most = counts.most_common(1)[0]
    return {
        "factor": name,
        "group": factor.group,
        "type": factor.type,
        "levels": len(counts),
        "single": sum(count == 1 for count in counts.values()),
        "missing": counts.get(MISSING, 0),
        "most_common": common[:40],
        "most": most,
    }


def pair_of(a: str, b: str, levels: Levels, factors: Mapping[str, FactorConfig]) -> Pair:
    """How far two factors go together."""
    across = factors[a].group != factors[b].group
    return Pair(a, b, cramers_v(levels[a], levels[b]), int(moving_together(levels[a], levels[b]).sum()), across)


def cramers_v(a: Sequence[str], b: Sequence[str]) -> float:
    """Bias-corrected Cramer's V of two columns of levels (Bergsma 2013)."""
    table = contingency(a, b)
    n = table.sum()
    expected = table.sum(1, keepdims=True) * table.sum(0, keepdims=True) / n
    phi = ((table - expected) ** 2 / expected).sum() / n
    r, k = table.shape
    if n < 2 or min(r, k) < 2:
        return 0.0
    phi = max(0.0, phi - (r - 1) * (k - 1) / (n - 1))
    smaller = min(r - (r - 1) ** 2 / (n - 1), k - (k - 1) ** 2 / (n - 1)) - 1
    return float(min(1.0, np.sqrt(phi / smaller))) if smaller > 0 else 0.0


def contingency(a: Sequence[str], b: Sequence[str]) -> np.ndarray:
    """Counts of every pair of levels."""
    rows, columns = sorted(set(a)), sorted(set(b))
    table = np.zeros((len(rows), len(columns)))
    np.add.at(table, ([rows.index(x) for x in a], [columns.index(x) for x in b]), 1)
    return table


def moving_together(a: Sequence[str], b: Sequence[str]) -> np.ndarray:
    """(tracks,) tracks whose two levels occur with each other only; a level of a single track says nothing."""
    seen = Counter(zip(a, b))
    partners_a, partners_b = Counter(x for x, _ in seen), Counter(y for _, y in seen)
    return np.array([partners_a[x] == 1 and partners_b[y] == 1 and seen[x, y] > 1 for x, y in zip(a, b)], bool)


def inseparable_sets(levels: Levels, factors: Mapping[str, FactorConfig]) -> list[tuple[tuple[str, ...], int]]:
    """Sets of factors and the number of tracks on which all their pairs move together, the most tracks first.

    Only sets that are not part of a larger one with as many tracks.
    """
    names = list(factors)
    together = {pair: moving_together(levels[pair[0]], levels[pair[1]]) for pair in combinations(names, 2)}
    found: dict[tuple[str, ...], int] = {}
    for size in range(len(names), 1, -1):
        for chosen in combinations(names, size):
            count = int(np.logical_and.reduce([together[pair] for pair in combinations(chosen, 2)]).sum())
            larger = any(set(chosen) < set(other) and n >= count for other, n in found.items())
            if count and not larger:
                found[chosen] = count
    return sorted(found.items(), key=lambda item: (-item[1], -len(item[0])))[:12]


def suggestions(levels: Levels, pairs: Sequence[Pair], limit: int = 5) -> list[str]:
    """Experiments that would break the worst confounds: a common level measured together with another common one."""
    texts = list[str]()
    for pair in pairs:
        if len(texts) == limit or pair.together == 0:
            break
        a, b = levels[pair.first], levels[pair.second]
        mask = moving_together(a, b)
        level, partner = Counter(xy for xy, m in zip(zip(a, b), mask) if m).most_common(1)[0][0]
        others = Counter(y for y in b if y not in (partner, MISSING))
        if others:
            texts.append(
                f"{pair.first} = {level} with {pair.second} = {others.most_common(1)[0][0]} "
                f"(so far only with {pair.second} = {partner})"
            )
    return texts
