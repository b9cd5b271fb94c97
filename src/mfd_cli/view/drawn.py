"""How parts of a prediction are drawn: their colours, the same on every page, and which of them share an axis."""

from __future__ import annotations

from mfd_cli.settings.names import BIOLOGICAL, DEBIASED, SHARED, TECHNICAL, TOTAL

DATA, POSITIVE, OTHER = "#666666", "#0072b2", "#cc79a7"
COLOURS = {TOTAL: "#1d2733", SHARED: "#999933", BIOLOGICAL: "#009e73", TECHNICAL: "#d55e00", DEBIASED: "#0072b2"}


def colour_of(part: str) -> str:
    """Return the colour of a part of a prediction; other groups than the two usual ones share one."""
    return COLOURS.get(part, OTHER)


def axis_of(track: str, part: str) -> str:
    """Return the axis of a part: one for all that add up to a track, so that their sizes compare; empty for an axis of its own.

    `debiased` holds the bias, beside which the parts would be flat; a total has units of its own.
    """
    return "" if part in (TOTAL, DEBIASED) else f"parts of {track}"
