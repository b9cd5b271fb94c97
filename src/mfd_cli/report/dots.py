"""A picture of measures with intervals: a panel for each, dots for what was measured, crosses for what chance gives."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from mfd_cli.report.style import COLOURS, STYLE, plt, save


@dataclass(frozen=True)
class DotPanel:
    """A panel: its title, and for each of its lines a label and a row with value, low, high (None: no interval) and chance."""

    title: str
    labels: Sequence[str]
    rows: Sequence[Mapping[str, Any]]


def draw_dots(path: Path, panels: Sequence[DotPanel]) -> None:
    """Write the picture as PNG and SVG, the panels one below the other; the axis goes from 0, or below, to 1."""
    heights = [len(panel.rows) for panel in panels]
    with plt.rc_context(STYLE):
        figure, axes = plt.subplots(
            len(heights),
            1,
            figsize=(7.5, 1.1 * len(heights) + 0.28 * sum(heights)),
            layout="constrained",
            height_ratios=[height + 1 for height in heights],
            squeeze=False,
        )
        for axis, panel in zip(axes[:, 0], panels):
            _draw(axis, panel)
        axes[0, 0].legend(loc="upper right", bbox_to_anchor=(1, 1.25), ncols=2, frameon=False)
        save(figure, path.with_suffix(""))


def _draw(axis: Any, panel: DotPanel) -> None:
    """One panel: a dot per row, its interval where there is one, a cross for chance."""
    rows = panel.rows
    for place, row in enumerate(rows):
        if row["low"] is not None:
            axis.plot([row["low"], row["high"]], [place, place], color=COLOURS[0], linewidth=2, solid_capstyle="butt")
    places = range(len(rows))
    axis.plot([row["value"] for row in rows], places, "o", color=COLOURS[0], label="measured")
    axis.plot([row["chance"] for row in rows], places, "x", color=COLOURS[5], label="chance")
    axis.set_yticks(places, panel.labels)
    axis.set_ylim(len(rows) - 0.5, -0.5)
    low = min(0, *(row["value"] for row in rows), *(row["chance"] for row in rows))
    axis.set_xlim(low - 0.02, 1.02)
    axis.set_title(panel.title, loc="left")
