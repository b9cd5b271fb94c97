"""How parts of a prediction are drawn: their colours, the same on every page, and which of them share an axis."""

from __future__ import annotations

from mfd_cli.predictions.predicted_columns import PROBABILITY
from mfd_cli.settings.names import BIOLOGICAL, DEBIASED, SHARED, SURE_COLUMN, TECHNICAL, TOTAL

DATA, POSITIVE, OTHER = "#666666", "#0072b2", "#cc79a7"
COLOURS = {TOTAL: "#1d2733", SHARED: "#999933", BIOLOGICAL: "#009e73", TECHNICAL: "#d55e00", DEBIASED: "#0072b2"}


def colour_of(part: str) -> str:
    """Return the colour of a part of a prediction, or of how sure it is; other groups than the two usual ones share one."""
    return COLOURS.get(part.removesuffix(SURE_COLUMN), OTHER)


def axis_of(track: str, part: str, scale: str) -> str:
    """Return the axis of a part: one for all that add up to a track, so that their sizes compare, one for all probabilities;
    empty, which is an axis of its own, for everything else.

    `debiased` holds the bias, beside which the parts would be flat; a total that is a signal has units of its own.
    """
    if part in (TOTAL, DEBIASED):
        return scale if scale == PROBABILITY else ""
    return f"parts of {track}"
