"""Intervals and the BED family: BED3 and up, narrowPeak, broadPeak; plain, gzip or bgzip."""

from __future__ import annotations

import gzip
import re
import zlib
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from mfd_cli.data.fasta import check_bgzf_end, read_lines
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
_NAME = re.compile(rb"[!-~]+")
_SKIPPED = (b"#", b"track", b"browser")
_BLOCK = 1 << 24
"""Bytes of text that are parsed together."""


def read_intervals(path: Path) -> Intervals:
    """The first three columns of a BED-like file. RegionError with line and value for anything else."""
    check_input(path, RegionError)
    plain = _read_in_blocks(path)
    return _read_by_line(path) if plain is None else plain


def _read_by_line(path: Path) -> Intervals:
    """Line by line, with every check and every liberty of the format: what is not plain goes this way."""
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


def _read_in_blocks(path: Path, size: int = _BLOCK) -> Intervals | None:
    """The same for a plain file, tabs between all columns and nothing odd, in whole blocks; None for any other file.

    Faults are not judged here: the reader of lines finds them again and says what they are.
    """
    with path.open("rb") as file:
        magic = file.read(18)
    packed = magic[:2] == b"\x1f\x8b"
    if packed and magic[12:14] == b"BC":
        check_bgzf_end(path, RegionError)
    names: dict[bytes, int] = {}
    pieces, rest, number = list[tuple[NDArray[np.int64], ...]](), b"", 1
    try:
        with gzip.open(path, "rb") if packed else path.open("rb") as stream:
            while block := stream.read(size):
                whole, newline, rest = (rest + block).rpartition(b"\n")
                if len(rest) > size:
                    return None
                if newline:
                    piece = _parse_block(whole + newline, names, number)
                    if piece is None:
                        return None
                    pieces.append(piece)
                    number += whole.count(b"\n") + 1
    except (OSError, EOFError, zlib.error):
        return None
    if rest:
        piece = _parse_block(rest + b"\n", names, number)
        if piece is None:
            return None
        pieces.append(piece)
    contig, start, end, line = (np.concatenate([p[i] for p in pieces] or [np.zeros(0, np.int64)]) for i in range(4))
    return Intervals(path, tuple(name.decode("ascii") for name in names), contig.astype(np.int32), start, end, line)


def _parse_block(data: bytes, names: dict[bytes, int], number: int) -> tuple[NDArray[np.int64], ...] | None:
    """Contig, start, end and line number of every row of whole lines; None where one is not plain. Adds to `names`."""
    raw = np.frombuffer(data, np.uint8)
    if (raw == 0).any():
        return None
    line_end = np.flatnonzero(raw == ord("\n"))
    line_start = np.concatenate([[0], line_end[:-1] + 1])
    line = np.arange(number, number + len(line_end))
    first = raw[line_start]
    keep = first != ord("#")
    # What may be a `track` or `browser` line, or one of white space, is for the other reader.
    if np.isin(first[keep], np.frombuffer(b"tb \t\r\n", np.uint8)).any():
        return None
    line_start, line_end, line = line_start[keep], line_end[keep], line[keep]
    if not len(line):
        return line, line, line, line
    tabs = np.append(np.flatnonzero(raw == ord("\t")), [len(raw)] * 3)
    at = np.searchsorted(tabs, line_start)
    one, two, three = tabs[at], tabs[at + 1], np.minimum(tabs[at + 2], line_end)
    if (two >= line_end).any() or (line_end - line_start).max() > _BLOCK:
        return None
    start, end = _numbers(raw, one + 1, two), _numbers(raw, two + 1, three)
    if start is None or end is None or (end <= start).any():
        return None
    contig = _name_numbers(data, raw, line_start, one, names)
    return None if contig is None else (contig, start, end, line)


def _numbers(raw: NDArray[np.uint8], low: NDArray[np.int64], high: NDArray[np.int64]) -> NDArray[np.int64] | None:
    """The whole numbers at [low, high) of some text; None unless all are of one to ten digits."""
    width = high - low
    longest = int(width.max())
    if width.min() < 1 or longest > 10:
        return None
    value = np.zeros(len(low), np.int64)
    for place in range(longest):  # from the last digit
        here = place < width
        digit = raw[np.where(here, high - 1 - place, 0)].astype(np.int64) - ord("0")
        if ((digit < 0) | (digit > 9))[here].any():
            return None
        value += np.where(here, digit, 0) * 10**place
    return value


def _name_numbers(
    data: bytes, raw: NDArray[np.uint8], low: NDArray[np.int64], high: NDArray[np.int64], names: dict[bytes, int]
) -> NDArray[np.int64] | None:
    """The number of each name at [low, high); None where one is no contig name. Only the first of a run of equals is read."""
    width = high - low
    same = np.concatenate([[False], width[1:] == width[:-1]])
    for place in range(int(width.max())):
        letter = raw[np.where(place < width, low + place, 0)]
        same[1:] &= (letter[1:] == letter[:-1]) | (place >= width[1:])
    heads = np.flatnonzero(~same)
    numbers = []
    for begin, end in zip(low[heads].tolist(), high[heads].tolist()):
        name = data[begin:end]
        if not _NAME.fullmatch(name):
            return None
        numbers.append(names.setdefault(name, len(names)))
    return np.array(numbers, np.int64)[np.cumsum(~same) - 1]


def _checked(cells: list[bytes], path: Path, number: int) -> tuple[int, int]:
    hint = "BED columns are chrom, start, end"
    if len(cells) < 3:
        raise RegionError(f"has {len(cells)} columns, not three or more", path=path, line=number, hint=hint)
    if not _NAME.fullmatch(cells[0]):
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
