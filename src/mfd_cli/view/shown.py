"""What a page of `mfd view` shows, as values: regions, a table of them, and tracks. Intervals are 0-based, end excluded."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Protocol

import numpy as np

from mfd_cli.base.arrays import Floats, Ints
from mfd_cli.core.metadata import MISSING
from mfd_cli.genome.genes import Elements, Genes
from mfd_cli.genome.intervals import Interval
from mfd_cli.genome.sequence import Genome

LABEL_LEVELS = 3
"""Levels in the label of a track: those of the factors that mfd.toml names first. Its popup has all."""


@dataclass(frozen=True)
class Table:
    """Regions of interest: a title, a sentence, and for every row its cells and the place that a click on it leads to."""

    title: str
    about: str
    rows: Sequence[Mapping[str, Any]]
    places: Sequence[Interval]


@dataclass(frozen=True)
class Runs:
    """Numbers along a contig, sorted, without overlap: `start` and `end` (n,) int64, `value` (n,) float32."""

    contig: str
    start: Ints
    end: Ints
    value: Floats


@dataclass(frozen=True)
class NumbersTrack:
    """A track of numbers in some regions. `letters`: they are drawn as bases of that height where there is room.

    `top` is the largest number of an axis from 0 that is known beforehand; tracks without one are scaled to what is seen, those
    with the same `axis` together. `part` of which experiment (`of`) it is, and the `levels` of that one by factor, make its
    label, where they are known; `unit` is what its numbers are.
    """

    name: str
    about: str
    runs: Sequence[Runs]
    colour: str
    letters: bool = False
    top: float | None = None
    axis: str = ""
    part: str = ""
    of: str = ""
    levels: Mapping[str, str] = field(default_factory=dict)
    unit: str = ""

    @property
    def label(self) -> str:
        """What stands on the track: what tells a reader most comes first, as a narrow page cuts the end."""
        known = [level for level in self.levels.values() if level and level != MISSING]
        return " · ".join([self.part, *known[:LABEL_LEVELS], self.of]) if known else self.name

    def has_numbers(self, place: Interval) -> bool:
        """Return whether there is a number at a place, be it 0."""
        return any(len(cut(runs, place).value) for runs in self.runs if runs.contig == place.contig)

    def has_some(self, place: Interval) -> bool:
        """Return whether there is a number other than 0 at a place."""
        return any(cut(runs, place).value.any() for runs in self.runs if runs.contig == place.contig)


@dataclass(frozen=True)
class VariantsTrack:
    """Scored variants, as the text of a VCF."""

    name: str
    vcf: str


@dataclass(frozen=True)
class FeaturesTrack:
    """Named intervals such as genes: contig, start, end, name, strand (+, - or empty)."""

    name: str
    features: Sequence[tuple[str, int, int, str, str]]


Track = NumbersTrack | VariantsTrack | FeaturesTrack


class Source(Protocol):
    """Something that mfd wrote: `tables` says what is worth a look in it, `tracks` what it knows of some regions."""

    @property
    def lengths(self) -> Mapping[str, int]:
        """Return the lengths of its contigs."""

    def tables(self, within: Sequence[Interval]) -> list[Table]:
        """Return its tables of regions, strongest first; of what overlaps the regions `within`, where there are any."""

    def tracks(self, regions: Sequence[Interval]) -> list[Track]:
        """Return its tracks within these regions, which do not overlap."""


def written(place: Interval) -> str:
    """Return a place as genome browsers and `-r` write it.

    >>> written(Interval("chr7", 100, 228))
    'chr7:101-228'
    """
    return f"{place.contig}:{place.start + 1}-{place.end}"


def merged(places: Sequence[Interval], flank: int, lengths: Mapping[str, int]) -> list[Interval]:
    """Return these places with `flank` bp on both sides, those that touch as one, in the order of the contigs.

    >>> [str(region) for region in merged([Interval("a", 50, 60), Interval("a", 5, 6)], 25, {"a": 70})]
    ['a:0-70']
    """
    order = {contig: number for number, contig in enumerate(lengths)}
    regions = list[Interval]()
    for place in sorted(places, key=lambda place: (order[place.contig], place.start)):
        start, end = max(place.start - flank, 0), min(place.end + flank, lengths[place.contig])
        last = regions[-1] if regions else None
        if last is not None and last.contig == place.contig and start <= last.end:
            regions[-1] = Interval(last.contig, last.start, max(last.end, end))
        else:
            regions.append(Interval(place.contig, start, end))
    return regions


def most_shown(places: Sequence[Interval], tracks: Sequence[Track]) -> int:
    """Return the number of the place where most tracks have numbers other than 0, of several the first: a page opens there."""
    numeric = [track for track in tracks if isinstance(track, NumbersTrack)]
    filled = [sum(track.has_some(place) for track in numeric) for place in places]
    return filled.index(max(filled))


def covered(places: Sequence[Interval], tracks: Sequence[Track]) -> int:
    """Return at how many of these places some track has numbers."""
    numeric = [track for track in tracks if isinstance(track, NumbersTrack)]
    return sum(any(track.has_numbers(place) for track in numeric) for place in places)


def overlaps(place: Interval, regions: Sequence[Interval]) -> bool:
    """Return whether a place overlaps one of the regions."""
    near = (region for region in regions if region.contig == place.contig)
    return any(region.start < place.end and region.end > place.start for region in near)


def cut(runs: Runs, region: Interval) -> Runs:
    """Return the part of some runs that lies in a region; a run that crosses its edge ends there."""
    inside = (runs.end > region.start) & (runs.start < region.end)
    start, end = np.maximum(runs.start[inside], region.start), np.minimum(runs.end[inside], region.end)
    return Runs(region.contig, start, end, runs.value[inside])


def elements_track(elements: Elements, regions: Sequence[Interval]) -> FeaturesTrack:
    """Return the named elements of a BED file that overlap the regions."""
    rows = zip(elements.contig.tolist(), elements.start.tolist(), elements.end.tolist(), elements.label.tolist())
    features = [(elements.contigs[c], start, end, elements.names[label], "") for c, start, end, label in rows]
    return FeaturesTrack(elements.name, [one for one in features if overlaps(Interval(*one[:3]), regions)])


def genes_track(genes: Genes, path: Path, regions: Sequence[Interval]) -> FeaturesTrack:
    """Return the genes that overlap the regions."""
    rows = zip(genes.contig.tolist(), genes.start.tolist(), genes.end.tolist(), genes.names, genes.strand)
    features = [
        (genes.contigs[c], start, end, name, strand if strand in "+-" else "") for c, start, end, name, strand in rows
    ]
    return FeaturesTrack(f"genes ({path.name})", [one for one in features if overlaps(Interval(*one[:3]), regions)])


def sequence_of(genome: Genome | None, region: Interval) -> str:
    """Return the bases of a region; NN where no genome is known: igv.js knows a contig by a stretch of two bases or more."""
    return genome.bases(region.contig, region.start, region.end) if genome is not None else "NN"
