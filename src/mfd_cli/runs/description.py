"""What model.json and last/state.json of a run folder must hold."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Annotated, Any, Literal, Self

from pydantic import Field, model_validator

from mfd_cli.base.errors import few
from mfd_cli.base.stored_json import Natural, Sha256, Stored
from mfd_cli.experiments.track import StoredTracks
from mfd_cli.settings.network import ResolvedModel

Positive = Annotated[float, Field(gt=0)]


class StoredLevels(Stored):
    """A factor whose values are levels."""

    type: Literal["category", "multilabel", "year"]
    column: str
    vocabulary: list[str]
    mean: list[float]

    @model_validator(mode="after")
    def _agrees(self) -> Self:
        if len(set(self.vocabulary)) != len(self.vocabulary) or len(self.mean) != len(self.vocabulary):
            raise ValueError("levels are there twice, or are not as many as their means")
        return self


class StoredNumber(Stored):
    """A factor whose values are numbers."""

    type: Literal["number"]
    column: str
    centre: float
    scale: Annotated[float, Field(ge=0)]
    cuts: Annotated[list[float], Field(min_length=2, max_length=2)]
    mean: Annotated[list[float], Field(min_length=2, max_length=2)]


class StoredScale(Stored):
    """The scales of the signal tracks, one value per track in each list."""

    floor: list[Positive]
    mean: list[float]
    sd: list[Positive]
    counts: list[bool]
    ratio: list[Positive] | None = None
    """Absent in a run that never measured it."""


class StoredOrigin(Stored):
    """Another run, from which this one was made: its path as it was given, and the digest of its weights."""

    path: str
    weights_sha256: Sha256


class StoredSource(StoredOrigin):
    """The run or the trunk that a training started from, and what of the network's shape was taken from it because no setting
    said it. `seen` are, by split, the contigs of the bins that are held out here on which that run was trained."""

    shape: dict[str, int | str | dict[str, bool | int | float]]
    seen: dict[str, list[str]] = Field(default_factory=dict)


def is_trunk(source: Mapping[str, Any]) -> bool:
    """Return whether a training started from a trunk: of the network all but its numbers was set, and not by another run."""
    return list(source.get("shape", {})) == ["architecture"]


def seen_sentence(about: Mapping[str, Any], split: str) -> str | None:
    """Return a sentence on bins of a split that the run which a training started from was trained on; None where it was on
    none of them."""
    source = about.get("source") or {}
    contigs = source.get("seen", {}).get(split)
    if not contigs:
        return None
    return (
        f"{split} bins on {few(contigs)} were training bins of {source['path']}, from which the training started: what is "
        "measured on them is too good"
    )


class StoredAbout(Stored):
    """What the model was made from, and how good it was on the validation bins."""

    genome_digest: str
    dataset_digest: str
    weights_sha256: Sha256
    contigs: dict[str, Natural]
    trained_on: list[str]
    windows: Natural
    validation: dict[str, float]
    source: StoredSource | None = None
    added_to: StoredOrigin | None = None
    unfinished: bool = False
    """Whether the training goes on, or was interrupted: these are its best weights so far."""


class Description(StoredTracks):
    """What model.json must hold."""

    configuration: dict[str, Any]
    model: ResolvedModel
    metadata: dict[str, Annotated[StoredLevels | StoredNumber, Field(discriminator="type")]]
    trained: list[bool]
    added: list[bool] | None = None
    """Which of the trained tracks came after the training; absent where none did."""
    signal_scale: StoredScale
    about: StoredAbout

    @model_validator(mode="after")
    def _agrees(self) -> Self:
        kinds, scale = [track.kind for track in self.tracks], self.signal_scale
        if kinds != sorted(kinds):
            raise ValueError("tracks: signals stand before peaks")
        if len(self.trained) != len(kinds) or not any(self.trained):
            raise ValueError("trained: is not one value per track, of which one is true")
        added = self.added or [False] * len(kinds)
        if len(added) != len(kinds) or any(late and not used for late, used in zip(added, self.trained)):
            raise ValueError("added: is not one value per track, or true of one that is not trained")
        if self.trained == added:
            raise ValueError("added: leaves no track that the model was trained on")
        lists = (scale.floor, scale.mean, scale.sd, scale.counts, scale.ratio or scale.floor)
        if {len(values) for values in lists} != {kinds.count("signal")}:
            raise ValueError("signal_scale: is not one value per signal track")
        return self


class State(Stored):
    """What last/state.json must hold."""

    step: Natural
    total_steps: Natural
    seconds: Annotated[float, Field(ge=0)]
    sums: dict[str, float]
    best: Annotated[list[float | None], Field(min_length=3, max_length=3)]
    threads: Annotated[int, Field(ge=1)]
    plan: dict[str, Any]
    dataset: Sha256
    source: StoredSource | None = None
    file: Annotated[str, Field(pattern=r"^state-[0-9]{1,20}\.[a-z]{1,20}$")]  # a name, not a path to elsewhere
    sha256: Sha256

    @model_validator(mode="after")
    def _counted(self) -> Self:
        if not all(number is not None and number >= 0 and number.is_integer() for number in self.best[1:]):
            raise ValueError("best: is not a skill, a step and a count")
        return self
