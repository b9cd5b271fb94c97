"""How a long step tells how far it is, and how long it will take."""

from __future__ import annotations

from collections.abc import Callable

Progress = Callable[[str, int, int], None]
"""What is being done, how many of it are done, of how many."""


def lasting(seconds: float) -> str:
    """Return a length of time in the unit that people would use.

    >>> [lasting(seconds) for seconds in (0.4, 90, 200, 3600 * 5)]
    ['1 second', '90 seconds', '3 minutes', '5.0 hours']
    """
    if seconds < 120:
        whole = max(round(seconds), 1)
        return f"{whole} second{'s' if whole > 1 else ''}"
    return f"{seconds / 60:.0f} minutes" if seconds < 7200 else f"{seconds / 3600:.1f} hours"
