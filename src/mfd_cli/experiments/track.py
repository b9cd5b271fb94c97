"""A track: one experiment's peaks or signal, and the row of the metadata table that says how it was made."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Annotated, Any, Literal, Self

from pydantic import Field, model_validator

from mfd_cli.base.stored_json import Natural, Stored

Kind = Literal["peaks", "signal"]


@dataclass(frozen=True)
class Track:
    """One track: a peak set or a signal, and the row of the metadata table that says how it was made.

    `positives` counts the training bins with a peak, `measured` those where the track was measured; `mean_signal` is the mean
    over these (0 for peak tracks), `assayed` names the contigs on which it was measured (None: all).
    """

    id: str
    kind: Kind
    metadata: Mapping[str, str]
    positives: int = 0
    measured: int = 0
    mean_signal: float = 0.0
    assayed: tuple[str, ...] | None = None


class StoredTrack(Stored):
    """A track as a row of tracks.arrow, or in model.json."""

    id: Annotated[str, Field(min_length=1)]
    kind: Kind
    metadata: dict[str, str]
    positives: Natural
    measured: Natural
    mean_signal: float
    assayed: list[str] | None


class StoredTracks(Stored):
    """All tracks of a dataset or a run, each with a name of its own."""

    tracks: Annotated[list[StoredTrack], Field(min_length=1)]

    @model_validator(mode="after")
    def _once(self) -> Self:
        seen = set[str]()
        for track in self.tracks:
            if track.id in seen:
                raise ValueError(f"track {track.id[:60]!r} is there twice")
            seen.add(track.id)
        return self


def in_kinds(kinds: Sequence[Kind]) -> str:
    """Return how many tracks there are of each kind, in words.

    >>> in_kinds(["peaks", "peaks", "signal"])
    '2 peaks, 1 signal'
    """
    return ", ".join(f"{kinds.count(kind):,} {kind}" for kind in dict.fromkeys(kinds))


def tracks_of(stored: Sequence[Mapping[str, Any]]) -> tuple[Track, ...]:
    """Return tracks from plain values that have been checked."""
    return tuple(
        Track(
            id=row["id"],
            kind=row["kind"],
            metadata=row["metadata"],
            positives=row["positives"],
            measured=row["measured"],
            mean_signal=row["mean_signal"],
            assayed=None if row["assayed"] is None else tuple(row["assayed"]),
        )
        for row in stored
    )
