"""The picture of calibration: how often there is a peak, beside the probability that was predicted."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import matplotlib.pyplot as plt
import numpy as np

from mfd_cli.report.style import COLOURS, STYLE, save

FEW = 10
"""Classes with fewer peaks than this are drawn as open dots: their share is uncertain by a third and more."""


def draw_calibration(path: Path, rows: Sequence[Mapping[str, Any]]) -> None:
    """Write the picture as PNG and SVG: a dot per class of the reliability curve, the diagonal, and how many cells it has.

    Classes without a peak have no place on a logarithmic axis: they are in the panel of counts alone. At least one class has
    a peak.
    """
    predicted, observed, cells, peaks = (
        np.array([row[name] for row in rows], float) for name in ("predicted", "observed", "cells", "peaks")
    )
    shown, sure = observed > 0, peaks >= FEW
    least = min(predicted[shown].min(), observed[shown].min()) / 2
    with plt.rc_context(STYLE):
        figure, (curve, counts) = plt.subplots(
            2, 1, figsize=(5, 6.2), layout="constrained", height_ratios=[4, 1], sharex=True
        )
        curve.plot([least, 1], [least, 1], color="0.6", linewidth=1, label="right")
        curve.plot(predicted[shown], observed[shown], color=COLOURS[0], linewidth=1)
        for chosen, face, label in (
            (shown & sure, COLOURS[0], "measured"),
            (shown & ~sure, "white", f"fewer than {FEW} peaks"),
        ):
            if chosen.any():
                style = {"markerfacecolor": face, "markeredgecolor": COLOURS[0], "label": label}
                curve.plot(predicted[chosen], observed[chosen], "o", **style)
        curve.set(xscale="log", yscale="log", xlim=(least, 1.2), ylim=(least, 1.2), ylabel="Share of cells with a peak")
        curve.set_title("Probabilities and peaks, all rated training tracks", loc="left")
        curve.legend(loc="upper left", frameon=False)
        counts.vlines(predicted, 0.5, cells, color=COLOURS[0], linewidth=4)
        counts.set(yscale="log", ylim=(0.5, None), xlabel="Mean predicted probability", ylabel="Cells")
        save(figure, path.with_suffix(""))
