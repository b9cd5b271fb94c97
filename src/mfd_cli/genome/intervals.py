"""Intervals of a genome as values, and how a user writes one: chr1:1001-2000."""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from mfd_cli.base.arrays import Ints
from mfd_cli.base.errors import GenomeError, RegionError, few
from mfd_cli.base.notebook import one_line
from mfd_cli.genome.sequence import Genome, contig_of, match_contigs


@dataclass(frozen=True)
class Interval:
    """A stretch of a contig: 0-based, end not included.

    >>> str(Interval("chr7", 100, 228))
    'chr7:100-228'
    """

    contig: str
    start: int
    end: int
    strand: str = ""

    def __post_init__(self) -> None:
        if not 0 <= self.start < self.end:
            raise RegionError(f"{self.contig}:{self.start}-{self.end} is not an interval")

    def __str__(self) -> str:
        return f"{self.contig}:{self.start}-{self.end}{':' + self.strand if self.strand else ''}"


@dataclass(frozen=True)
class Intervals:
    """Many intervals in columns: `contig` (n,) index into `names`; `start`, `end` and `line` (n,) int64.

    `empty` is how many rows of the file had no bases (start equal to end) and are not among them.
    """

    path: Path
    names: tuple[str, ...]
    contig: NDArray[np.int32]
    start: Ints
    end: Ints
    line: Ints
    empty: int = 0

    def __len__(self) -> int:
        return len(self.start)

    def __repr__(self) -> str:
        return one_line(self, f"{str(self.path)!r}: {len(self):,} intervals on {len(self.names):,} contigs")

    def on(self, lengths: Mapping[str, int]) -> dict[str, tuple[Ints, Ints]]:
        """Return starts and ends per contig of a genome, aliases resolved; those on other contigs are left out.

        Raises GenomeError where no contig is shared, RegionError where an interval ends beyond its contig.
        """
        mapping = match_contigs(self.names, lengths, str(self.path))
        places: dict[str, tuple[Ints, Ints]] = {}
        for index, name in enumerate(self.names):
            if name not in mapping:
                continue
            on_contig, length = self.contig == index, lengths[mapping[name]]
            start, end = self.start[on_contig], self.end[on_contig]
            beyond = np.flatnonzero(end > length)
            if len(beyond):
                first = beyond[0]
                raise RegionError(
                    f"{name[:60]}:{start[first]}-{end[first]} ends beyond the contig ({length:,} bp in the genome)",
                    path=self.path,
                    line=int(self.line[on_contig][first]),
                    hint="the file belongs to another assembly",
                )
            if mapping[name] in places:  # a file may call one contig both chr1 and 1
                before = places[mapping[name]]
                start, end = np.append(before[0], start), np.append(before[1], end)
            places[mapping[name]] = start, end
        return places

    def elsewhere(self, lengths: Mapping[str, int]) -> dict[str, int]:
        """Return how many intervals lie on each contig that the genome lacks, which `on` leaves out."""
        mapping = match_contigs(self.names, lengths, str(self.path))
        counts = np.bincount(self.contig, minlength=len(self.names)).tolist()
        return {name: count for name, count in zip(self.names, counts) if name not in mapping}

    def first_elsewhere(self, lengths: Mapping[str, int]) -> int:
        """Return the line of the first interval on a contig that the genome lacks; 0 where there is none."""
        mapping = match_contigs(self.names, lengths, str(self.path))
        known = np.array([name in mapping for name in self.names], bool)
        lines = self.line[~known[self.contig]]
        return int(lines.min()) if len(lines) else 0


_COUNT = "[0-9][0-9,]{0,19}"
_REGION = re.compile(rf"(?P<contig>.+?)(?::(?P<first>{_COUNT})(?:(?P<dash>-)(?P<last>{_COUNT})?)?)?")


# -- regions on the command line ---------------------------------------------------------------------------------------


def is_region(text: str, genome: Genome) -> bool:
    """Return whether a text is meant as a region: it is a contig's name, or ends like one (`chrX:1-100`)."""
    match = _REGION.fullmatch(text)
    return contig_of(text, genome) is not None or (match is not None and match["first"] is not None)


def parse_region(text: str, genome: Genome) -> Interval:
    """Return the interval that a user means by `chr1:1001-2000` (1-based, both ends included), `chr1:1001-` (to the contig's
    end), `chr1:1001` (one base) or `chr1`.

    Aliases of contigs are resolved, and an end beyond the contig is its end. Raises GenomeError where the region does not
    begin on the genome.
    """
    whole = contig_of(text, genome)  # a contig's own name may hold a colon: the whole text is tried first
    if whole is not None:
        return Interval(whole, 0, genome.lengths[whole])
    match = _REGION.fullmatch(text)
    contig = contig_of(match["contig"], genome) if match else None
    if match is None or contig is None or match["first"] is None:
        raise GenomeError(f"{text!r} is no region of the genome", hint=f"contigs are {few(genome.sequences)}")
    length, first = genome.lengths[contig], int(match["first"].replace(",", ""))
    open_ended = length if match["dash"] else first
    last = int(match["last"].replace(",", "")) if match["last"] else open_ended
    if not 1 <= first <= length:
        raise GenomeError(f"region {text!r} is not on {contig}, which has {length:,} bp")
    if last < first:
        raise GenomeError(f"region {text!r} ends before it begins")
    return Interval(contig, first - 1, min(last, length))
