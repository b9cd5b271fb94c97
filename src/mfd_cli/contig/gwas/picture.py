"""The pictures of a GWAS: where the genome is associated (Manhattan), and whether chance would look so (QQ)."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import scipy.stats

from mfd_cli.base.arrays import Doubles, Ints
from mfd_cli.contig.gwas.chromosomes import codes_of, plain_name
from mfd_cli.report.style import COLOURS, STYLE, plain, plt, save

NAMED = 20
"""Loci whose names are drawn: the strongest ones."""
CELLS = (2000, 400)
"""A picture tells so many places apart, from left to right and up: of the points in one cell, one is drawn."""
LINEAR = 20.0
"""−log10 P up to which a picture with far larger ones is linear."""
TICKS = (0, 5, 10, 15, 20, 50, 100, 200, 500, 1000, 2000, 5000, 10_000)
BAND_POINTS = 300
SHADES = (COLOURS[0], COLOURS[4])
RED = COLOURS[5]


@dataclass(frozen=True)
class Layout:
    """Where variants stand along the genome: place (variants,), a code of the chromosome, and the chromosomes' middles."""

    place: Doubles
    code: Ints
    names: Sequence[str]
    middles: Doubles


def layout_of(chromosome: Sequence[str], position: Ints) -> Layout:
    """Return the places of variants along the genome: chromosomes side by side, a gap between."""
    code = codes_of(chromosome)
    count = int(code.max()) + 1
    low, high = np.full(count, np.iinfo(np.int64).max), np.zeros(count, np.int64)
    np.minimum.at(low, code, position)
    np.maximum.at(high, code, position)
    gap = 0.02 * max(int((high - low).sum()), 50) / count
    starts = np.concatenate([[0.0], np.cumsum(high - low + gap)])[:-1]
    names = [""] * count
    for index, name in zip(code.tolist(), chromosome):
        names[index] = names[index] or plain_name(name)
    return Layout(starts[code] + (position - low[code]), code, names, starts + (high - low) / 2)


def draw_manhattan(
    stem: Path,
    layout: Layout,
    neg_log_10_p: Doubles,
    thresholds: Mapping[str, float],
    loci: Mapping[int, str],
    title: str,
    below: tuple[str, Doubles] | None = None,
) -> None:
    """Write the Manhattan picture of least P (variants,) as PNG and SVG, with the thresholds {name: -log10 P}.

    `loci` names rows of variants, the strongest first. `below` is the title and the least P of another run at the same
    variants, mirrored.
    """
    with plt.rc_context(STYLE):
        figure, axes = plt.subplots(
            2 if below else 1, 1, figsize=(9, 5.2 if below else 3.4), layout="constrained", sharex=True, squeeze=False
        )
        top = axes[0, 0]
        _points(top, layout, neg_log_10_p, thresholds, title)
        for row, name in list(loci.items())[:NAMED]:
            top.annotate(
                plain(name, 18),
                (layout.place[row], neg_log_10_p[row]),
                xytext=(0, 4),
                textcoords="offset points",
                ha="center",
                fontsize=7,
            )
        # One scale for both: a control is not to look stronger than it is.
        shown = [neg_log_10_p, *([below[1]] if below else []), np.array(list(thresholds.values()))]
        highest = max(float(values.max(initial=0, where=~np.isnan(values))) for values in shown)
        height = float(expanded(1.12 * compressed(np.array(highest))))  # room for a name
        _scale(top, height)
        top.set_ylim(0, height)
        top.legend(loc="upper right", frameon=False, fontsize=7)
        if below:
            other = axes[1, 0]
            _points(other, layout, below[1], thresholds, "")
            _scale(other, height)
            other.set_ylim(height, 0)
            other.set_title(below[0], loc="left", x=0.01, y=0.03, va="bottom")
            other.tick_params(axis="x", length=0, labelbottom=False)
            other.spines["bottom"].set_visible(False)
            other.spines["top"].set_visible(True)
        top.set_xticks(layout.middles, layout.names, fontsize=7)
        top.tick_params(axis="x", length=0, labelbottom=True)
        axes[-1, 0].set_xlim(-0.01 * layout.place.max() - 1, 1.01 * layout.place.max() + 1)
        save(figure, stem)


def _points(axis: Any, layout: Layout, values: Doubles, thresholds: Mapping[str, float], title: str) -> None:
    """One panel: the points, chromosome by chromosome in two shades, and the thresholds."""
    for shade in range(2):
        rows = np.flatnonzero((layout.code % 2 == shade) & ~np.isnan(values))
        rows = rows[_one_per_cell(layout.place[rows], values[rows])]
        axis.plot(layout.place[rows], values[rows], ".", color=SHADES[shade], markersize=3, rasterized=True)
    for (name, height), style in zip(thresholds.items(), ("-", "--")):
        axis.axhline(height, color=RED, linewidth=0.8, linestyle=style, label=name)
    axis.set_ylabel("−log10 P")
    if title:
        axis.set_title(title, loc="left")


def compressed(values: Doubles) -> Doubles:
    """Return heights on a scale that is linear up to 20 and logarithmic above, where it goes on as steeply."""
    high = np.maximum(values, LINEAR)
    return np.where(values <= LINEAR, values, LINEAR * (1 + np.log(high / LINEAR)))


def expanded(heights: Doubles) -> Doubles:
    """Return what `compressed` was given."""
    high = np.maximum(heights, LINEAR)
    return np.where(heights <= LINEAR, heights, LINEAR * np.exp(high / LINEAR - 1))


def _scale(axis: Any, height: float) -> None:
    """Compress an axis on which some values are so large that the thresholds and all others would lie at its foot."""
    if height > 2 * LINEAR:
        axis.set_yscale("function", functions=(compressed, expanded))
        axis.set_yticks([tick for tick in TICKS if tick <= height], [f"{tick:,}" for tick in TICKS if tick <= height])


def _one_per_cell(x: Doubles, y: Doubles) -> Ints:
    """The indices of the points that are seen: of those in one cell of a fine grid, the first."""
    if not len(x):
        return np.zeros(0, np.int64)
    columns = np.floor(x / max(float(x.max()), 1e-9) * CELLS[0])
    heights = compressed(y)
    rows = np.floor(heights / max(float(heights.max()), 1e-9) * CELLS[1])
    return np.sort(np.unique(columns * (CELLS[1] + 1) + rows, return_index=True)[1])


def draw_qq(stem: Path, traits: Doubles, least: Doubles, lambdas: Sequence[float]) -> None:
    """Write the QQ picture as PNG and SVG: -log10 P of the traits (variants, k), and of their least P.

    The grey band holds 95 % of what chance gives at each rank.
    """
    with plt.rc_context(STYLE):
        figure, axis = plt.subplots(figsize=(4.6, 4.6), layout="constrained")
        count = int((~np.isnan(least)).sum())
        if count:
            ranks = np.unique(np.geomspace(1, count, BAND_POINTS).astype(np.int64))
            low, high = (scipy.stats.beta.ppf(share, ranks, count - ranks + 1) for share in (0.025, 0.975))
            expected = -np.log10((ranks - 0.5) / count)
            axis.fill_between(
                expected, -np.log10(high), -np.log10(low), color="0.85", linewidth=0, label="95 % of chance"
            )
            axis.plot([0, expected.max()], [0, expected.max()], color="0.5", linewidth=0.8)
        for index, values in enumerate(traits.T):
            _qq(axis, values, color=COLOURS[4], label=None if index else f"each PC (λ {_range(lambdas)})")
        _qq(axis, least, color=COLOURS[0], label="least P of all, × their number")
        tops = [float(values.max(initial=0, where=~np.isnan(values))) for values in (traits, least)]
        _scale(axis, max(tops))
        axis.set_ylim(bottom=0)
        axis.set_xlabel("−log10 P expected of chance")
        axis.set_ylabel("−log10 P")
        axis.legend(loc="upper left", frameon=False, fontsize=7)
        save(figure, stem)


def _range(values: Sequence[float]) -> str:
    """The least and the largest of some numbers."""
    return f"{min(values):.2f}" if len(values) == 1 else f"{min(values):.2f} to {max(values):.2f}"


def _qq(axis: Any, values: Doubles, color: str, label: str | None) -> None:
    """One line of points: observed over expected, of which one per cell is drawn."""
    known = np.sort(values[~np.isnan(values)])[::-1]
    expected = -np.log10((np.arange(1, len(known) + 1) - 0.5) / max(len(known), 1))
    shown = _one_per_cell(expected, known)
    axis.plot(expected[shown], known[shown], ".", color=color, markersize=3, label=label, rasterized=True)
