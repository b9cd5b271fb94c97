"""Intervals and the BED family: BED3 and up, narrowPeak, broadPeak; plain, gzip or bgzip."""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from mfd_cli.data.fasta import read_lines
from mfd_cli.data.sequence import match_contigs
from mfd_cli.errors import GenomeError, RegionError
from mfd_cli.files import check_input


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
    """Many intervals in columns: `contig` (n,) index into `names`; `start`, `end` and `line` (n,) int64."""

    path: Path
    names: tuple[str, ...]
    contig: NDArray[np.int32]
    start: NDArray[np.int64]
    end: NDArray[np.int64]
    line: NDArray[np.int64]

    def __len__(self) -> int:
        return len(self.start)

    def on(self, lengths: Mapping[str, int]) -> dict[str, tuple[NDArray[np.int64], NDArray[np.int64]]]:
        """Starts and ends per contig of a genome, aliases resolved; those on other contigs are left out.

        Raises GenomeError where no contig is shared, RegionError where an interval ends beyond its contig.
        """
        mapping = match_contigs(self.names, lengths, str(self.path))
        found: dict[str, tuple[NDArray[np.int64], NDArray[np.int64]]] = {}
        for index, name in enumerate(self.names):
            if name not in mapping:
                continue
            chosen = self.contig == index
            start, end = self.start[chosen], self.end[chosen]
            beyond = np.flatnonzero(end > lengths[mapping[name]])
            if len(beyond):
                first = beyond[0]
                raise RegionError(
                    f"{name}:{start[first]}-{end[first]} ends beyond the contig ({lengths[mapping[name]]:,} bp)",
                    path=self.path, line=int(self.line[chosen][first]), hint="the file belongs to another assembly",
                )  # fmt: skip
            before = found.get(mapping[name])
            found[mapping[name]] = (
                (start, end) if before is None else (np.append(before[0], start), np.append(before[1], end))
            )
        return found


_NUMBER = re.compile(rb"[0-9]{1,10}")
_SKIPPED = (b"#", b"track", b"browser")


def read_intervals(path: Path) -> Intervals:
    """The first three columns of a BED-like file. RegionError with line and value for anything else."""
    check_input(path, RegionError)
    names: dict[bytes, int] = {}
    contigs, starts, ends, lines = list[int](), list[int](), list[int](), list[int]()
    for number, line in read_lines(path, RegionError):
        if not line.strip() or line.startswith(_SKIPPED):
            continue
        cells = line.split(b"\t", 3) if b"\t" in line else line.split(None, 3)
        start, end = _checked(cells, path, number)
        contigs.append(names.setdefault(cells[0], len(names)))
        starts.append(start)
        ends.append(end)
        lines.append(number)
    return Intervals(
        path, tuple(name.decode("ascii") for name in names), np.array(contigs, np.int32), np.array(starts, np.int64),
        np.array(ends, np.int64), np.array(lines, np.int64),
    )  # fmt: skip


def _checked(cells: list[bytes], path: Path, number: int) -> tuple[int, int]:
    hint = "BED columns are chrom, start, end"
    if len(cells) < 3:
        raise RegionError(f"has {len(cells)} columns, not three or more", path=path, line=number, hint=hint)
    if not re.fullmatch(rb"[!-~]+", cells[0]):
        raise RegionError(f"{cells[0][:40]!r} is not a contig name", path=path, line=number, hint=hint)
    for what, cell in (("start", cells[1]), ("end", cells[2])):
        if not _NUMBER.fullmatch(cell):
            shown = cell[:40].decode("utf-8", "replace")
            raise RegionError(f"{what} is not a whole number ({shown!r})", path=path, line=number, hint=hint)
    start, end = int(cells[1]), int(cells[2])
    if end <= start:
        raise RegionError(f"end {end} is not after start {start}", path=path, line=number, hint=hint)
    return start, end


def read_known_intervals(
    path: Path, lengths: Mapping[str, int]
) -> dict[str, tuple[NDArray[np.int64], NDArray[np.int64]]]:
    """Intervals of a file per contig of a genome, see Intervals.on; an error names the file."""
    intervals = read_intervals(path)
    try:
        return intervals.on(lengths)
    except GenomeError as error:
        raise RegionError(error.message, path=path, hint=error.hint) from error
