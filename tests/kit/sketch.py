"""Pictures as sketches: drawing them as a user gets them is a third of what many commands take.

A sketch has few dots and is not laid out; what is drawn on it is the same. whole/test_shapes.py draws some as ever, and
MFD_SOAK (`make soak`) all of them.
"""

from __future__ import annotations

import os
from pathlib import Path
from typing import Any

from matplotlib.figure import Figure

AS_EVER = Figure.savefig
"""How matplotlib saves a figure."""
DOTS = 20
"""Dots per inch of a sketch."""


def sketched(figure: Figure, path: Path, dpi: int = 0, **options: Any) -> None:
    """Save a figure as a sketch, whatever resolution is asked for."""
    figure.set_layout_engine("none")
    AS_EVER(figure, path, dpi=DOTS, **options)


def sketch() -> None:
    """Make figures that this process saves sketches."""
    if "MFD_SOAK" not in os.environ:
        Figure.savefig = sketched  # type: ignore[assignment, method-assign]
