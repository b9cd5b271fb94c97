"""A region as a genome browser shows it: contributions, what the data say, genes, on one axis."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.ticker import MaxNLocator

from mfd_cli.explain.results import Gene, OnDna, Surroundings
from mfd_cli.genome.grid import BIN
from mfd_cli.report.style import COLOURS, plain, plt

MOST_GENE_ROWS = 4
GENES_APART = 400
"""Bases between two genes of a row, at least: room for a name."""


def draw_browser(one: OnDna, own: str) -> Figure:
    """Return the picture of a direction's strongest region; `own` says whose data are shown against the others'."""
    strongest = one.strongest_first[0]
    around, region, values = one.around, one.regions[strongest], one.contributions[strongest]
    assert around is not None
    rows = gene_rows(around.genes)
    heights = {"contribution": 1.3, "own": 0.8, "others": 0.8, "genes": 0.3 + 0.22 * len(rows)}  # inches
    if not np.isfinite(around.own).any():
        del heights["own"]
    if not around.genes:
        del heights["genes"]
    figure, grid = plt.subplots(
        len(heights),
        1,
        figsize=(7.6, 1.0 + sum(heights.values())),
        sharex=True,
        layout="constrained",
        height_ratios=list(heights.values()),
        squeeze=False,
    )
    panels = dict(zip(heights, grid[:, 0]))
    begin = region.start - (len(values) - BIN) // 2
    _draw_contributions(panels["contribution"], begin, values)
    _label(panels["contribution"], "contribution per base")
    limit = 1.0 if around.what.startswith("share") else None
    if "own" in panels:
        _draw_bins(panels["own"], around, around.own, COLOURS[0], limit)
        _label(panels["own"], f"{around.what}: {plain(own, 48)}")
    _draw_bins(panels["others"], around, around.others, "#8a8a8a", limit)
    _label(panels["others"], f"{around.what}: all other tracks" if "own" in panels else f"{around.what}: all tracks")
    if "genes" in panels:
        _draw_genes(panels["genes"], rows, around)
    last = grid[-1, 0]
    last.set_xlim(around.low, around.high)
    places = np.asarray(
        MaxNLocator(5, integer=True).tick_values(around.low + 1, around.high)
    )  # round numbers, counted from 1
    places = places[(places > around.low) & (places <= around.high)]
    last.set_xticks(places - 1, [f"{int(place):,}" for place in places])
    last.set_xlabel(f"{plain(around.contig)} (bp); white: bins without labels")
    for axes in grid[:, 0]:
        axes.axvspan(region.start, region.end, color="#f3e3b3", zorder=0, linewidth=0)
    shown = f"{plain(around.contig)}:{region.start + 1:,}-{region.end:,}"
    figure.suptitle(f"{plain(one.name, 40)} around {shown} (the bin is shaded)", x=0.02, ha="left", fontsize=10)
    return figure


def _label(axes: Axes, text: str) -> None:
    """Write what a lane shows above it."""
    axes.set_title(text, loc="left", fontsize=8, pad=2)
    axes.tick_params(labelsize=7)
    axes.yaxis.set_major_locator(MaxNLocator(2))


def _draw_contributions(axes: Axes, begin: int, values: np.ndarray[Any, Any]) -> None:
    """Draw a value per base from `begin` on, what raises the score in another colour than what lowers it."""
    edges = np.arange(begin, begin + len(values) + 1)
    axes.stairs(np.maximum(values, 0), edges, fill=True, color=COLOURS[2], linewidth=0)
    axes.stairs(np.minimum(values, 0), edges, fill=True, color=COLOURS[5], linewidth=0)
    axes.axhline(0, color="#444444", linewidth=0.5)


def _draw_bins(
    axes: Axes, around: Surroundings, values: np.ndarray[Any, Any], colour: str, limit: float | None
) -> None:
    """Draw a value per bin that has one, over a grey bar up to `limit` if there is one."""
    known = np.isfinite(values)
    if limit is not None:
        axes.set_ylim(0, limit)
        axes.bar(around.start[known], limit, width=BIN, align="edge", color="#eeeeee", linewidth=0)
    axes.bar(around.start[known], values[known], width=BIN, align="edge", color=colour, linewidth=0)


def gene_rows(genes: Sequence[Gene]) -> list[list[Gene]]:
    """Return genes in rows, so that names do not run into each other; at most MOST_GENE_ROWS."""
    rows: list[list[Gene]] = []
    for gene in genes:
        free = next((row for row in rows if row[-1].end + GENES_APART < gene.start), None)
        if free is not None:
            free.append(gene)
        elif len(rows) < MOST_GENE_ROWS:
            rows.append([gene])
    return rows


def _draw_genes(axes: Axes, rows: Sequence[Sequence[Gene]], around: Surroundings) -> None:
    """Draw genes as bars with names, a lane for each row."""
    for place, row in enumerate(rows):
        for gene in row:
            low, high = max(gene.start, around.low), min(gene.end, around.high)
            axes.plot([low, high], [place, place], color="#31415e", linewidth=4, solid_capstyle="butt")
            arrow = {"+": " \u2192", "-": " \u2190"}.get(gene.strand, "")
            axes.annotate(
                f"{plain(gene.name, 16)}{arrow}",
                (low, place),
                xytext=(2, 5),
                textcoords="offset points",
                fontsize=7,
                annotation_clip=False,
                va="bottom",
            )
    axes.set_ylim(-0.6, len(rows) - 0.1)
    axes.set_yticks([])
    axes.spines["left"].set_visible(False)
    axes.set_title("genes", loc="left", fontsize=8, pad=2)
