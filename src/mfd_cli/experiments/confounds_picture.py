"""The picture of a design: how far every pair of factors goes together, and the tracks of the worst pair."""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping, Sequence
from pathlib import Path

import matplotlib.pyplot as plt
import numpy as np
from matplotlib.axes import Axes

from mfd_cli.core.association import (
    CORRELATION_RATIO,
    CRAMERS_V,
    MISSING_TOGETHER,
    RANK_CORRELATION,
    FactorValues,
)
from mfd_cli.experiments.confounds import Pair
from mfd_cli.report.style import COLOURS, STYLE, plain, save

MOST_LEVELS = 12
"""Levels of a factor that are shown, of the most common ones."""
SYMBOLS = {CRAMERS_V: "V", CORRELATION_RATIO: "η", MISSING_TOGETHER: "V?", RANK_CORRELATION: "ρ"}
"""How a cell says by which measure its two factors were compared."""
NESTED, AROUND = "⊂", "⊃"
"""Marks of a cell whose row's factor is nested within the column's, and the other way round."""
SCALE = "1: one factor tells the other; less what chance gives, so lower where levels have few tracks"
SPREAD = 0.3
"""Half the width of the column over which the tracks of a level are spread, so that equal numbers can be counted."""


def draw_design(stem: Path, factors: Sequence[str], pairs: Sequence[Pair], values: Mapping[str, FactorValues]) -> None:
    """Write STEM.png and STEM.svg: the matrix of all pairs, and beside it the tracks of the first of `pairs`, the worst."""
    with plt.rc_context(STYLE):
        figure, (left, right) = plt.subplots(1, 2, figsize=(11, 4.6), layout="constrained")
        draw_matrix(left, factors, pairs)
        figure.colorbar(left.images[0], ax=left, shrink=0.8)
        if pairs:
            draw_pair(right, pairs[0], values)
        else:
            right.axis("off")
        save(figure, stem)


def draw_matrix(axes: Axes, factors: Sequence[str], pairs: Sequence[Pair]) -> None:
    """Draw the association of every pair of factors, with the symbol of its measure."""
    matrix, symbols, nested = np.eye(len(factors)), dict[tuple[int, int], str](), dict[tuple[int, int], str]()
    for pair in pairs:
        i, j = factors.index(pair.first), factors.index(pair.second)
        matrix[i, j] = matrix[j, i] = pair.association
        symbols[i, j] = symbols[j, i] = SYMBOLS[pair.measure]
        if pair.nested:
            inner, outer = (i, j) if pair.nested == pair.first else (j, i)
            nested |= {(inner, outer): NESTED, (outer, inner): AROUND}
    axes.imshow(matrix, cmap="cividis", vmin=0, vmax=1)
    axes.set_xticks(range(len(factors)), factors, rotation=45, ha="right")
    axes.set_yticks(range(len(factors)), factors)
    for (i, j), symbol in symbols.items():
        colour = "black" if matrix[i, j] > 0.5 else "white"
        mark = f"\n{nested[i, j]}" if (i, j) in nested else ""
        axes.text(j, i, f"{matrix[i, j]:.2f} {symbol}{mark}", ha="center", va="center", fontsize=6.5, color=colour)
    axes.set_title("How far two factors go together", loc="left")
    meanings = [f"{symbol}: {measure}" for measure, symbol in SYMBOLS.items() if symbol in symbols.values()]
    meanings += [f"{NESTED}: the row's factor is nested within the column's"] if nested else []
    axes.set_xlabel("\n".join([SCALE, "   ".join(meanings)]), fontsize=7)


def draw_pair(axes: Axes, pair: Pair, values: Mapping[str, FactorValues]) -> None:
    """Draw the tracks of two factors as their measure saw them: a table of counts, numbers by level, or number by number."""
    a, b = values[pair.first], values[pair.second]
    if pair.measure == RANK_CORRELATION:
        draw_numbers(axes, pair, a, b)
    elif pair.measure in (CORRELATION_RATIO, MISSING_TOGETHER):
        # Of a year and a number, the year is the one with levels.
        number, levels = (pair.first, pair.second) if a.ordered_only or b.numbers is None else (pair.second, pair.first)
        draw_number_by_level(axes, number, levels, values[number], values[levels])
    else:
        draw_counts(axes, pair, a, b)


def draw_counts(axes: Axes, pair: Pair, a: FactorValues, b: FactorValues) -> None:
    """Draw how many tracks each pair of levels has."""
    rows, columns = most_common(a), most_common(b)
    seen = Counter(zip(a.levels, b.levels))
    counts = np.array([[seen[x, y] for y in columns] for x in rows], float)
    axes.imshow(np.log1p(counts), cmap="Blues", aspect="auto")
    axes.set_xticks(range(len(columns)), [plain(level, 18) for level in columns], rotation=45, ha="right")
    axes.set_yticks(range(len(rows)), [plain(level, 18) for level in rows])
    for i, j in zip(*np.nonzero(counts)):
        colour = "white" if counts[i, j] > 0.2 * counts.max() else "black"
        axes.text(j, i, f"{counts[i, j]:.0f}", ha="center", va="center", fontsize=7, color=colour)
    axes.set_title(f"Tracks per level of {pair.first} and {pair.second} ({shown(a, b)})", loc="left")


def draw_number_by_level(axes: Axes, number: str, factor: str, a: FactorValues, b: FactorValues) -> None:
    """Draw the number of every track, in a column for each level of the other factor; below, tracks without a number."""
    assert a.numbers is not None
    columns = most_common(b)
    for column, level in enumerate(columns):
        numbers = a.numbers[[other == level for other in b.levels]]
        known = numbers[~np.isnan(numbers)]
        across = column + np.linspace(-SPREAD, SPREAD, len(known)) if len(known) > 1 else np.full(len(known), column)
        axes.scatter(across, known, s=14, color=COLOURS[0], alpha=0.7, linewidths=0)
    texts = []
    for level in columns:
        unknown = sum(np.isnan(x) for x, other in zip(a.numbers, b.levels) if other == level)
        texts.append(plain(level, 18) + (f"\n({unknown} unknown)" if unknown else ""))
    axes.set_xticks(range(len(columns)), texts, rotation=45, ha="right")
    axes.set_ylabel(number)
    axes.set_title(f"The tracks' {number} by {factor} ({shown(b)})", loc="left")


def draw_numbers(axes: Axes, pair: Pair, a: FactorValues, b: FactorValues) -> None:
    """Draw the two numbers of every track."""
    assert a.numbers is not None and b.numbers is not None
    axes.scatter(a.numbers, b.numbers, s=14, color=COLOURS[0], alpha=0.7, linewidths=0)
    axes.set_xlabel(pair.first)
    axes.set_ylabel(pair.second)
    axes.set_title(f"The tracks' {pair.first} and {pair.second}", loc="left")


def most_common(values: FactorValues) -> list[str]:
    """Return the most common levels of a factor, at most MOST_LEVELS."""
    return [level for level, _ in Counter(values.levels).most_common(MOST_LEVELS)]


def shown(*factors: FactorValues) -> str:
    """Return whether a picture shows all levels of some factors."""
    more = any(len(set(values.levels)) > MOST_LEVELS for values in factors)
    return f"the {MOST_LEVELS} most common" if more else "all levels"
