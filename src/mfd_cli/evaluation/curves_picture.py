"""The picture of a training: its loss and its accuracy from validation to validation."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import matplotlib.pyplot as plt
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.ticker import EngFormatter, MaxNLocator

from mfd_cli.base.files import whole_file
from mfd_cli.report.style import COLOURS, STYLE, save_png

PANELS: dict[str, dict[str, str]] = {
    "Loss": {"train_loss": "training", "loss": "validation"},
    "AUROC, mean over tracks": {"auroc_mean": "all bins", "auroc_occupied_mean": "occupied bins"},
    "AUPRC, mean over tracks": {"auprc_mean": "all bins"},
    "Correlation, mean over signals": {"pearson_mean": "all bins"},
}
"""Panels, title -> column of metrics.jsonl -> what its curve is called. One without a number is left out."""
COLUMNS = 2
"""Panels side by side: the picture can be read on a telephone."""
LEGEND = 0.15
"""Room above the curves for their names, as a share of the axis."""


def write_curves(path: Path, lines: Sequence[Mapping[str, Any]]) -> None:
    """Write the picture of the lines of a metrics.jsonl as a PNG, whole; the same lines give the same bytes."""
    with whole_file(path) as temporary, plt.rc_context(STYLE):
        save_png(draw_curves(lines), temporary)


def draw_curves(lines: Sequence[Mapping[str, Any]]) -> Figure:
    """Return the picture: a panel for each thing that was measured, over training windows; a dashed line where the kept
    weights are from."""
    shown = {title: names for title, names in PANELS.items() if any(name in line for name in names for line in lines)}
    rows = max(-(-len(shown) // COLUMNS), 1)
    figure, axes = plt.subplots(rows, COLUMNS, figsize=(7.2, 2.5 * rows), squeeze=False)
    # Margins by hand: a layout that is computed takes longer than all the rest, and this is drawn after each validation.
    figure.subplots_adjust(
        left=0.075, right=0.985, bottom=0.45 / (2.5 * rows), top=1 - 0.28 / (2.5 * rows), hspace=0.42
    )
    best = [line["windows"] for line in lines if line.get("best")]
    for axis, (title, names) in zip(axes.flat, shown.items()):
        draw_panel(axis, names, lines)
        if best:
            axis.axvline(best[-1], color="0.6", linewidth=0.8, linestyle="--", zorder=0)
        axis.set_title(title, loc="left")
    for axis in axes.flat[len(shown) :]:
        axis.axis("off")
    return figure


def draw_panel(axis: Axes, names: Mapping[str, str], lines: Sequence[Mapping[str, Any]]) -> None:
    """Draw curves, column -> what it is called, over the training windows; a validation without the number is left out."""
    for colour, (name, label) in zip(COLOURS, names.items()):
        known = [(line["windows"], line[name]) for line in lines if name in line]
        if known:
            axis.plot(*zip(*known), "o-", color=colour, markersize=3, linewidth=1.2, label=label)
    axis.xaxis.set_major_locator(MaxNLocator(4))
    axis.xaxis.set_major_formatter(EngFormatter(sep=""))
    axis.set_xlabel("training windows")
    if len(names) > 1:
        low, high = axis.get_ylim()
        axis.set_ylim(low, high + LEGEND * (high - low))
        axis.legend(frameon=False, fontsize=8, loc="upper left", ncols=2, borderaxespad=0.1)
