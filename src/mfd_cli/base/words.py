"""Counts in sentences."""

from __future__ import annotations


def counted(count: int, what: str) -> str:
    """Return a count with its noun, which takes an s where there is more than one.

    >>> counted(1, "track"), counted(2000, "track")
    ('1 track', '2,000 tracks')
    """
    return f"{count:,} {what}{'' if count == 1 else 's'}"
