"""The picture of a sweep: accuracy against leakage, one dot per value."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import matplotlib.pyplot as plt

from mfd_cli.report.style import COLOURS, STYLE, save


def draw_sweep(
    stem: Path,
    key: str,
    means: Sequence[Mapping[str, Any]],
    recommended: str | None,
    tolerance: float,
    measure: str,
    label: str,
) -> None:
    """Write STEM.png and STEM.svg: mean accuracy against leakage, bars of one standard deviation over seeds.

    `measure` is the column of the accuracy, `label` what it is called; `recommended` is None where the first value stays.
    """
    with plt.rc_context(STYLE):
        figure, axes = plt.subplots(1, 2, figsize=(9, 3.8), layout="constrained", sharey=True)
        best = max(row[measure] for row in means)
        for axis, of in zip(axes, ("contributions", "latents")):
            name = f"leakage_{of}"
            axis.axhspan(best - tolerance, best, color="0.92", zorder=0)
            axis.plot([row[name] for row in means], [row[measure] for row in means], color="0.7", zorder=1)
            for row in means:
                size, colour = (8, COLOURS[5]) if row["value"] == recommended else (5, COLOURS[0])
                bars = [0.0 if math.isnan(row[f"{each}_sd"]) else row[f"{each}_sd"] for each in (name, measure)]
                at = (row[name], row[measure])
                axis.errorbar(*at, xerr=bars[0], yerr=bars[1], fmt="o", markersize=size, color=colour)
                axis.annotate(row["value"], at, xytext=(6, 6), textcoords="offset points")
            if all(math.isnan(row[name]) for row in means):
                axis.text(0, best, "too few validation bins to measure it", ha="center", va="top")
            axis.set_xlabel(f"leakage: best probe's R2 of {of}, beyond chance")
        axes[0].set_ylabel(f"validation {label}")
        advice = f"recommended {recommended}" if recommended is not None else f"no change from {means[0]['value']}"
        axes[0].set_title(f"{key}; {advice}; grey: within {tolerance:g} of the best", loc="left")
        save(figure, stem)
