"""How every picture looks: colours, fonts, and how a figure is saved so that its bytes repeat."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import matplotlib

matplotlib.use("Agg")
import matplotlib.pyplot as plt
from matplotlib.figure import Figure

COLOURS = ["#0072B2", "#E69F00", "#009E73", "#CC79A7", "#56B4E9", "#D55E00", "#F0E442", "#000000"]
BASE_COLOURS = dict(zip("ACGT", ["#009E73", "#0072B2", "#E69F00", "#D55E00"]))
STYLE: Any = {
    "font.size": 9, "axes.titlesize": 10, "axes.spines.top": False, "axes.spines.right": False, "svg.hashsalt": "mfd",
    "font.family": "DejaVu Sans",
}  # fmt: skip


def save(figure: Figure, stem: Path) -> None:
    """As PNG and SVG, without a date, so that the same figure gives the same bytes; laid out once, for both."""
    _save_png(figure, stem.with_suffix(".png"))
    figure.set_layout_engine("none")
    figure.savefig(stem.with_suffix(".svg"), metadata={"Date": None})
    plt.close(figure)


def save_png(figure: Figure, path: Path) -> None:
    """As PNG alone, whatever the name of the file, with the same bytes each time."""
    _save_png(figure, path)
    plt.close(figure)


def _save_png(figure: Figure, path: Path) -> None:
    figure.savefig(path, format="png", dpi=130, metadata={"Software": None})


def plain(text: str, most: int = 28) -> str:
    """A label: no mathematics ($), and not too long."""
    clean = text.replace("$", r"\$")
    return clean if len(clean) <= most else clean[: most - 1] + "…"
