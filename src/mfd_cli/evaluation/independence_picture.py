"""The picture of independence: what fresh probes find of one group in another, beside what chance gives."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from mfd_cli.report.dots import DotPanel, draw_dots

TITLES = {
    "r2": "R2 of predicting one group from another",
    "accuracy": "accuracy, true or shuffled pairs",
    "canonical correlation": "first canonical correlation",
}


def draw_independence(path: Path, probes: Sequence[Mapping[str, Any]], weights: Sequence[Mapping[str, Any]]) -> None:
    """Write the picture as PNG and SVG: a panel per measure, dots with 95 % intervals (of a block bootstrap over bins),
    crosses for chance."""
    panels = []
    for of, measure in dict.fromkeys((row["of"], row["measure"]) for row in probes):
        rows = [row for row in probes if (row["of"], row["measure"]) == (of, measure)]
        labels = [f"{row['from']} → {row['to']}, {row['probe']}" for row in rows]
        panels.append(DotPanel(f"{of.capitalize()}: {TITLES[measure]}", labels, rows))
    if weights:
        rows = [{"value": row["accuracy"], "low": None, "high": None, "chance": row["untrained"]} for row in weights]
        labels = [f"{row['factor']} from {row['group']} weights, within {row['within']}" for row in weights]
        panels.append(DotPanel("A factor from another group's weights (x: untrained)", labels, rows))
    draw_dots(path, panels)
