"""Colours of tracks: one for each part, the same on every page."""

from __future__ import annotations

from mfd_cli.settings.names import BIOLOGICAL, DEBIASED, SHARED, TECHNICAL, TOTAL

DATA, POSITIVE, OTHER = "#666666", "#0072b2", "#cc79a7"
COLOURS = {TOTAL: "#1d2733", SHARED: "#999933", BIOLOGICAL: "#009e73", TECHNICAL: "#d55e00", DEBIASED: "#0072b2"}


def colour_of(part: str) -> str:
    """Return the colour of a part of a prediction; other groups than the two usual ones share one."""
    return COLOURS.get(part, OTHER)
