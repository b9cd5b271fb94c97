"""The picture of a fine-tuning: the main measure of each run, along the number of labelled persons."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import matplotlib.pyplot as plt
import numpy as np

from mfd_cli.report.style import COLOURS, STYLE, plain, save_png


def draw_curve(path: Path, rows: Sequence[Mapping[str, Any]]) -> None:
    """Write the picture as PNG: a panel per label, of rows of metrics.tsv of one measure.

    Points are means over draws of labelled persons; bars are the 95 % intervals over families, their ends averaged likewise.
    """
    labels, runs = list(dict.fromkeys(row["label"] for row in rows)), list(dict.fromkeys(row["run"] for row in rows))
    with plt.rc_context(STYLE):
        figure, axes = plt.subplots(
            1, len(labels), figsize=(1.2 + 3.4 * len(labels), 3.4), layout="constrained", squeeze=False
        )
        for axis, label in zip(axes[0], labels):
            for number, run in enumerate(runs):
                own = [row for row in rows if row["label"] == label and row["run"] == run]
                _line(axis, own, number, len(runs))
            axis.set_title(plain(label))
            axis.set_xlabel("labelled persons")
            axis.set_xscale("log")
            counts = sorted({row["labelled"] for row in rows if row["label"] == label})
            axis.set_xticks(counts, [f"{count:,}" for count in counts])
            axis.minorticks_off()
        axes[0, 0].set_ylabel(str(rows[0]["measure"]))
        axes[0, 0].legend(frameon=False)
        save_png(figure, path)


def _line(axis: Any, rows: Sequence[Mapping[str, Any]], number: int, runs: int) -> None:
    """Draw a run: points a little beside each other, where several stand at one place."""
    colour = COLOURS[number % len(COLOURS)]
    counts = sorted({row["labelled"] for row in rows})
    means = [np.mean([row["value"] for row in rows if row["labelled"] == count]) for count in counts]
    aside = 1 + 0.03 * (number - (runs - 1) / 2)
    places = [count * aside for count in counts]
    axis.plot(places, means, "o-", color=colour, label=plain(str(rows[0]["run"])))
    for place, count in zip(places, counts):
        ends = [(row["low"], row["high"]) for row in rows if row["labelled"] == count and row["low"] is not None]
        if ends:
            axis.plot([place, place], np.mean(ends, 0), "-", color=colour, alpha=0.5)
