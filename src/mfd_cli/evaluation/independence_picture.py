"""The picture of independence: what fresh probes find of one group in another, beside what chance gives."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import matplotlib.pyplot as plt

from mfd_cli.report.style import COLOURS, STYLE, save

TITLES = {
    "r2": "R2 of predicting one group from another",
    "accuracy": "accuracy, true or shuffled pairs",
    "canonical correlation": "first canonical correlation",
}


def draw_independence(path: Path, probes: Sequence[Mapping[str, Any]], weights: Sequence[Mapping[str, Any]]) -> None:
    """Write the picture as PNG and SVG: a panel per measure, dots with 95 % intervals (of a block bootstrap over bins),
    crosses for chance."""
    measures = list(dict.fromkeys((row["of"], row["measure"]) for row in probes))
    panels = [[row for row in probes if (row["of"], row["measure"]) == measure] for measure in measures]
    heights = [len(rows) for rows in panels] + ([len(weights)] if weights else [])
    with plt.rc_context(STYLE):
        figure, axes = plt.subplots(
            len(heights),
            1,
            figsize=(7.5, 1.1 * len(heights) + 0.28 * sum(heights)),
            layout="constrained",
            height_ratios=[height + 1 for height in heights],
            squeeze=False,
        )
        for axis, measure, rows in zip(axes[:, 0], measures, panels):
            labels = [f"{row['from']} → {row['to']}, {row['probe']}" for row in rows]
            _dots(axis, labels, rows, f"{measure[0].capitalize()}: {TITLES[measure[1]]}")
        if weights:
            rows = [
                {"value": row["accuracy"], "low": None, "high": None, "chance": row["untrained"]} for row in weights
            ]
            labels = [f"{row['factor']} from {row['group']} weights, within {row['within']}" for row in weights]
            title = "A factor from another group's weights (x: untrained)"
            _dots(axes[-1, 0], labels, rows, title)
        axes[0, 0].legend(loc="upper right", bbox_to_anchor=(1, 1.25), ncols=2, frameon=False)
        save(figure, path.with_suffix(""))


def _dots(axis: Any, labels: Sequence[str], rows: Sequence[Mapping[str, Any]], title: str) -> None:
    """One panel: a dot per row, its interval where there is one, a cross for chance."""
    for place, row in enumerate(rows):
        if row["low"] is not None:
            axis.plot([row["low"], row["high"]], [place, place], color=COLOURS[0], linewidth=2, solid_capstyle="butt")
    places = range(len(rows))
    axis.plot([row["value"] for row in rows], places, "o", color=COLOURS[0], label="measured")
    axis.plot([row["chance"] for row in rows], places, "x", color=COLOURS[5], label="chance")
    axis.set_yticks(places, labels)
    axis.set_ylim(len(rows) - 0.5, -0.5)
    low = min(0, *(row["value"] for row in rows), *(row["chance"] for row in rows))
    axis.set_xlim(low - 0.02, 1.02)
    axis.set_title(title, loc="left")
