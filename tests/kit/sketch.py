"""Pictures as sketches: drawing them as a user gets them is a third to a half of what many commands take.

A sketch has few dots and is not laid out; what is drawn on it is the same. What one function draws is drawn so twice in a file
of tests, and then it is an empty picture, but for the learning curves, which a run replaces. Tests that compare pictures ask
for every sketch (`every_sketch`), those that look at one have it drawn as ever (`whole_pictures`), and so does
whole/test_shapes.py for some; MFD_SOAK (`make soak`) draws all of them.
"""

from __future__ import annotations

import base64
import os
import sys
from collections import Counter
from pathlib import Path
from typing import Any

from matplotlib.figure import Figure

AS_EVER = Figure.savefig
"""How matplotlib saves a figure."""
DOTS = 20
"""Dots per inch of a sketch."""
TWICE = 2
EVERY = "MFD_EVERY_SKETCH"
"""A variable of the environment, which processes that a test starts have too: no picture is left empty."""
DRAWN: Counter[tuple[str, str, str]] = Counter()
"""How often this process has drawn a picture: the file of tests, the function that draws it, the kind of file."""
EMPTY_SVG = '<?xml version="1.0" encoding="utf-8"?>\n<svg xmlns="http://www.w3.org/2000/svg" width="9" height="9"/>\n'
EMPTY_PNG = base64.b64decode(
    "iVBORw0KGgoAAAANSUhEUgAAAAEAAAABCAYAAAAfFcSJAAAADUlEQVR4nGP4//8/AwAI/AL+p5qgoAAAAABJRU5ErkJggg=="
)


def sketched(figure: Figure, path: Path, dpi: int = 0, **options: Any) -> None:
    """Save a figure as a sketch, whatever resolution is asked for."""
    kind = "svg" if path.suffix == ".svg" else "png"
    wanted = EVERY in os.environ or "curves" in path.name
    what = (os.environ.get("PYTEST_CURRENT_TEST", "").split("::")[0], drawer(), kind)
    DRAWN[what] += 1
    if DRAWN[what] > TWICE and not wanted:
        path.write_bytes(EMPTY_SVG.encode() if kind == "svg" else EMPTY_PNG)
        return
    figure.set_layout_engine("none")
    AS_EVER(figure, path, dpi=DOTS, **options)


def drawer() -> str:
    """The function of mfd that asks for a picture."""
    frame = sys._getframe(1)
    while frame.f_back is not None and (
        "mfd_cli" not in frame.f_code.co_filename or frame.f_code.co_filename.endswith("style.py")
    ):
        frame = frame.f_back
    return f"{frame.f_code.co_filename}:{frame.f_code.co_qualname}"


def sketch() -> None:
    """Make figures that this process saves sketches."""
    if "MFD_SOAK" not in os.environ:
        Figure.savefig = sketched  # type: ignore[assignment, method-assign]
