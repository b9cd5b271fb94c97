"""Which factors of a metadata table go together, and which experiments would tell them apart."""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from itertools import combinations
from pathlib import Path
from typing import Any

import numpy as np

from mfd_cli.base.arrays import Doubles
from mfd_cli.core.association import (
    CRAMERS_V,
    UNLIKELY,
    Association,
    FactorValues,
    associate,
    is_nested,
    moving_together,
)
from mfd_cli.core.inseparable import Levels, families, inseparable_sets, pairs_within, set_sentence
from mfd_cli.core.metadata import ENCODERS, MISSING, level_cell
from mfd_cli.experiments.left_over import LeftOver, sentences
from mfd_cli.experiments.sources import controls_sentence
from mfd_cli.settings.config import FactorConfig

MOST_TRACKS = 0.6
"""Share of the tracks from which factors that move together are worth a warning."""
STRONG = 0.8
"""Association from which a number and another factor are worth a warning: two thirds of its variance, or more."""
SHOWN_PAIRS = 10
WEAK = 0.1
"""Association below which a pair of factors is not worth a line: a hundredth of its variance, or less."""


@dataclass(frozen=True)
class Pair:
    """Two factors: how far they go together, on how many tracks they move together, and which is nested within which.

    `measure`, `association` and `chance` are those of an Association; `nested` is the name of the factor each level of which
    occurs with one level of the other only, or empty.
    """

    first: str
    second: str
    measure: str
    association: float
    chance: float
    together: int
    nested: str
    across_groups: bool

    @property
    def numeric(self) -> bool:
        """Whether a number is strongly tied to the other factor, which the levels alone may not show."""
        return self.measure != CRAMERS_V and self.association >= STRONG and self.chance < UNLIKELY

    @property
    def names(self) -> tuple[str, str]:
        """The two factors."""
        return self.first, self.second

    def severity(self, tracks: int) -> float:
        """Return how bad it is, from 0 to 1: the share of the tracks on which they move together, or a number's association."""
        return max(self.together / tracks, self.association if self.numeric else 0.0)

    def line(self, tracks: int) -> str:
        """Return a sentence on two factors of which nothing else is said."""
        where = "across groups" if self.across_groups else "within a group"
        return f"{self.first} and {self.second} ({where}): {self.measure} {self.association:.2f}{self._more(tracks)}"

    def number_sentence(self, tracks: int) -> str:
        """Return a warning about a number and another factor."""
        measured = f"{self.measure} {self.association:.2f} over {tracks} tracks"
        return f"{self.first} and {self.second} go together ({measured}){self._more(tracks)}"

    def nested_sentence(self) -> str:
        """Return a warning about a factor within another."""
        return (
            f"{self.nested_words()} (each of its levels occurs with one level of that only, so that what these have in common "
            f"cannot be told from {self._outer()})"
        )

    def nested_words(self) -> str:
        """Return which of the two is nested within the other."""
        return f"{self.nested} is nested within {self._outer()}"

    def _more(self, tracks: int) -> str:
        together = f"; nothing tells them apart on {self.together} of {tracks} tracks" if self.together else ""
        return f"{together}{f'; {self.nested_words()}' if self.nested else ''}"

    def _outer(self) -> str:
        return self.second if self.nested == self.first else self.first


@dataclass(frozen=True)
class DesignReport:
    """The design of a set of tracks: what technical factors have left, a row on each factor, all pairs with the worst first,
    sets that cannot be told apart. `technical` are the technical groups."""

    tracks: int
    left: Sequence[LeftOver]
    technical: Sequence[str]
    factors: Sequence[Mapping[str, Any]]
    pairs: Sequence[Pair]
    sets: Sequence[tuple[tuple[str, ...], int]]
    suggestions: Sequence[str]
    controls: Sequence[str] = ()
    control_column: str | None = None
    folder: Path | None = None

    def to_json(self) -> dict[str, Any]:
        """Return the same as plain values."""
        return {
            "tracks": self.tracks,
            "controls": list(self.controls),
            "left": [vars(one) for one in self.left],
            "factors": list(self.factors),
            "pairs": [vars(pair) for pair in self.pairs],
            "inseparable_sets": [{"factors": list(names), "tracks": count} for names, count in self.sets],
            "suggestions": list(self.suggestions),
        }

    def confounds(self) -> list[str]:
        """Return a sentence on each set that cannot be told apart, number that goes with another factor, and nesting."""
        return [confound.sentence for confound in confounds_of(self.sets, self.pairs, self.tracks)]

    def lines(self) -> list[str]:
        """Return the report in words. A pair of factors is in one of its lines only."""
        lines = [f"{self.tracks} tracks", *controls_sentence(self.controls, self.control_column), ""]
        lines += [*sentences(self.left, self.technical), ""]
        lines += [factor_line(row) for row in self.factors]
        lines += ["", *self.confounds(), *self._other_pairs()]
        if self.suggestions:
            lines += ["", "experiments that would help most to tell them apart:"]
            lines += [f"  {text}" for text in self.suggestions]
        if self.folder is not None:
            lines.append(f"wrote {self.folder}")
        return lines

    def _other_pairs(self) -> list[str]:
        """Return a line on each pair of which the confounds say nothing, the strongest first; of weak ones their number."""
        told = {pair for one in confounds_of(self.sets, self.pairs, self.tracks) for pair in one.pairs}
        others = [pair for pair in self.pairs if frozenset(pair.names) not in told]
        shown = [pair for pair in others if pair.association >= WEAK or pair.nested][:SHOWN_PAIRS]
        lines = [pair.line(self.tracks) for pair in shown]
        if left := others[len(shown) :]:
            strongest = max(pair.association for pair in left)
            lines.append(f"the other {len(left)} pairs of factors: {strongest:.2f} at most")
        return lines


@dataclass(frozen=True)
class Confound:
    """Factors that go together: a sentence, and every pair of factors that it speaks of, so that each is told once."""

    sentence: str
    pairs: frozenset[frozenset[str]]


def confounds_of(
    sets: Sequence[tuple[tuple[str, ...], int]], pairs: Sequence[Pair], tracks: int, limit: int | None = None
) -> list[Confound]:
    """Return what goes together among `tracks` tracks, each pair of factors in one sentence; at most `limit` of a kind.

    They are the `sets` that cannot be told apart, numbers that go with another factor, and factors nested within one of
    another group (within a group, such as tissues of an organ, it is no confound).
    """
    numeric = {frozenset(pair.names): pair for pair in pairs if pair.numeric}
    nested = {frozenset(pair.names): pair for pair in pairs if pair.nested and pair.across_groups}
    found = list[Confound]()
    for names, larger in families(sets):
        count, own = larger[names], pairs_within(larger)
        if own <= numeric.keys() and count < MOST_TRACKS * tracks:
            continue  # the sentence on the number tells how many tracks these are
        within = [nested[pair].nested_words() for pair in nested if pair in own]
        found.append(Confound("; ".join([set_sentence(names, larger, tracks), *within]), own))
    in_sets = {pair for confound in found for pair in confound.pairs}
    numbers = [
        Confound(pair.number_sentence(tracks), frozenset([names]))
        for names, pair in numeric.items()
        if names not in in_sets
    ]
    nestings = [
        Confound(pair.nested_sentence(), frozenset([names]))
        for names, pair in nested.items()
        if names not in in_sets and names not in numeric
    ]
    return [*found[:limit], *numbers[:limit], *nestings[:limit]]


def worst_confounds(
    rows: Sequence[Mapping[str, str]], factors: Mapping[str, FactorConfig], limit: int = 3
) -> list[str]:
    """Return one sentence, for warnings, for each of the worst confounds of these metadata rows; at most `limit` of a kind.

    They are those of `confounds_of`, but only sets of factors that move together on most tracks.
    """
    values = values_by_factor(rows, factors)
    sets = inseparable_sets({name: list(value.levels) for name, value in values.items()}, factors)
    worst = [(names, count) for names, count in sets if count >= MOST_TRACKS * len(rows)]
    return [one.sentence for one in confounds_of(worst, pairs_of(values, factors), len(rows), limit)]


# -- what the tracks say -----------------------------------------------------------------------------------------------


def levels_by_factor(rows: Sequence[Mapping[str, str]], factors: Mapping[str, FactorConfig]) -> Levels:
    """Return the level of every row for every factor, as training will see it, but a multi-label cell as one level.

    Raises MetadataError for a cell that is not of its factor's type.
    """
    return {
        name: [level_cell(ENCODERS[factor.type], row[factor.column]) for row in rows]
        for name, factor in factors.items()
    }


def labels_by_factor(
    rows: Sequence[Mapping[str, str]], factors: Mapping[str, FactorConfig]
) -> dict[str, list[list[str]]]:
    """Return the labels of every row for every factor: several of a multi-label cell, one of any other."""
    return {name: [ENCODERS[factor.type].split(row[factor.column]) for row in rows] for name, factor in factors.items()}


def values_by_factor(rows: Sequence[Mapping[str, str]], factors: Mapping[str, FactorConfig]) -> dict[str, FactorValues]:
    """Return the levels of every row for every factor, with the numbers of those that are numbers or years."""
    levels = levels_by_factor(rows, factors)
    values = {}
    for name, factor in factors.items():
        if factor.type in ("number", "year"):
            values[name] = FactorValues(levels[name], numbers_of(levels[name]), ordered_only=factor.type == "number")
        else:
            values[name] = FactorValues(levels[name])
    return values


def numbers_of(levels: Sequence[str]) -> Doubles:
    """Return (tracks,) levels as numbers, NaN for one that is none."""

    def number(text: str) -> float:
        try:
            value = float(text)
        except ValueError:
            return np.nan
        return value if np.isfinite(value) else np.nan

    return np.array([number(text) for text in levels])


def describe_factors(rows: Sequence[Mapping[str, str]], factors: Mapping[str, FactorConfig]) -> list[dict[str, Any]]:
    """Return one row on each factor: how many levels it has, and how many tracks have them."""
    levels = levels_by_factor(rows, factors)
    return [describe_factor(name, factor, levels[name]) for name, factor in factors.items()]


def describe_factor(name: str, factor: FactorConfig, cells: Sequence[str]) -> dict[str, Any]:
    """Return one row on a factor from `level_cell` of every track: its levels, and how its tracks are spread over them."""
    several = factor.type == "multilabel"
    counts = Counter(level for cell in cells for level in (cell.split(",") if several else [cell]))
    common, most = counts.most_common(1)[0]
    numbers = numbers_of(cells) if factor.type == "number" else np.zeros(0)
    known = numbers[~np.isnan(numbers)]
    return {
        "factor": name,
        "group": factor.group,
        "type": factor.type,
        "levels": len(counts),
        "single": sum(count == 1 for count in counts.values()),
        "missing": counts.get(MISSING, 0),
        "most_common": common[:40],
        "most": most,
        "lowest": float(known.min()) if len(known) else None,
        "highest": float(known.max()) if len(known) else None,
    }


def factor_line(row: Mapping[str, Any]) -> str:
    """Return a row of `describe_factor` in words; a number's values are a range, and no levels."""
    head = f"{row['factor']:<13} {row['group']:<11} "
    missing = f"{row['missing']} tracks without a value"
    if row["lowest"] is not None:
        return f"{head}number from {row['lowest']:g} to {row['highest']:g}, {missing}"
    return (
        f"{head}{row['levels']:>4} levels, {row['single']} with one track, {missing}; "
        f"most common: {row['most_common']} ({row['most']})"
    )


# -- what goes together ------------------------------------------------------------------------------------------------


def pairs_of(values: Mapping[str, FactorValues], factors: Mapping[str, FactorConfig]) -> list[Pair]:
    """Return every pair of factors, the worst first."""
    pairs = []
    for a, b in combinations(values, 2):
        association: Association = associate(values[a], values[b])
        together = int(moving_together(values[a].levels, values[b].levels).sum())
        across = factors[a].group != factors[b].group
        nested = next((x for x, y in ((a, b), (b, a)) if is_nested(values[x].levels, values[y].levels)), "")
        pairs.append(Pair(a, b, association.measure, association.value, association.chance, together, nested, across))
    tracks = len(next(iter(values.values())).levels) if values else 0
    return sorted(pairs, key=lambda pair: (-pair.severity(tracks), -pair.association))


# -- what would tell them apart ----------------------------------------------------------------------------------------


def suggestions(values: Mapping[str, FactorValues], pairs: Sequence[Pair], limit: int = 5) -> list[str]:
    """Return experiments that would break the worst confounds, in words."""
    texts = []
    for pair in pairs:
        a, b = values[pair.first], values[pair.second]
        if pair.together:
            texts.append(crossing(pair, a.levels, b.levels))
        elif pair.numeric:
            texts.append(stretching(pair, a, b))
    return [text for text in texts if text][:limit]


def crossing(pair: Pair, a: Sequence[str], b: Sequence[str]) -> str:
    """Return a suggestion to measure a level together with another one than that which it always occurs with."""
    mask = moving_together(a, b)
    level, partner = Counter(xy for xy, m in zip(zip(a, b), mask) if m).most_common(1)[0][0]
    others = Counter(y for y in b if y not in (partner, MISSING))
    if not others:
        return ""
    return (
        f"{pair.first} = {level} with {pair.second} = {others.most_common(1)[0][0]} "
        f"(so far only with {pair.second} = {partner})"
    )


def stretching(pair: Pair, a: FactorValues, b: FactorValues) -> str:
    """Return a suggestion to measure the level with the lowest numbers at the middle of the one with the highest."""
    if a.numbers is not None and b.numbers is not None:
        return f"high {pair.first} with low {pair.second}, and the other way round, if they rise together"
    (number, values), (factor, levels) = (
        ((pair.first, a), (pair.second, b)) if a.numbers is not None else ((pair.second, b), (pair.first, a))
    )
    assert values.numbers is not None
    known = [(level, x) for level, x in zip(levels.levels, values.numbers.tolist()) if not np.isnan(x)]
    by_level = {name: [x for level, x in known if level == name] for name in dict.fromkeys(level for level, _ in known)}
    if len(by_level) < 2:  # the number is missing with one level of the factor
        return f"tracks of other {factor} than {next(iter(by_level), '')} of which {number} is known"
    low, high = (pick(by_level, key=lambda name: float(np.mean(by_level[name]))) for pick in (min, max))
    return (
        f"{factor} = {low} with {number} near {np.median(by_level[high]):g} "
        f"(so far {min(by_level[low]):g} to {max(by_level[low]):g})"
    )
