"""Intervals from the BED family: BED3 and up, narrowPeak, broadPeak; plain, gzip or bgzip.

Why not a library: pyarrow.csv takes 0x5 for 5, -0 for 0 and a blank for a part of a name, wants as many columns in every line,
and knows no line numbers; pysam.asBed and int() take far more. Of two million narrowPeak rows (120 MB; processor seconds,
medians of 5, side by side) this reader takes 0.51, pyarrow.csv alone 0.27, and with the checks that make it as strict 0.96.
"""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from itertools import pairwise
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from mfd_cli.base.arrays import Bytes, Ints
from mfd_cli.base.errors import GenomeError, RegionError
from mfd_cli.base.files import check_input
from mfd_cli.formats.text import BLOCK, read_lines, whole_lines
from mfd_cli.genome.intervals import Interval, Intervals, parse_region
from mfd_cli.genome.sequence import Genome

_NUMBER = re.compile(rb"0*([0-9]{1,10})")
_NAME = re.compile(rb"[!-~]+")
_SKIPPED = (b"#", b"track ", b"track\t", b"browser ", b"browser\t")
_ODD_START = np.isin(np.arange(256), np.frombuffer(b"tb \t\r\n", np.uint8))
_SEPARATOR = re.compile(rb" *\t *| +")
"""What stands between two columns: one tab, with blanks around it or not, or blanks alone. Two tabs hold an empty cell."""
_HINT = "BED columns are chrom, start, end, with tabs or blanks between; a header line begins with #"
COLUMNS_OF_BLOCKS = 12
"""Columns of a BED file that has blocks: their number, sizes and starts are the last three."""
_BYTES_BEFORE = np.array([(1 << 8 * (8 - width)) - 1 for width in range(9)], np.uint64)
_ASCII_ZEROS = np.uint64(0x3030303030303030)
_Columns = tuple[Ints, Ints, Ints, Ints]


def read_intervals(path: Path, size: int = BLOCK) -> Intervals:
    """Return the intervals of a BED-like file, of which `size` bytes are parsed together.

    Of a line of BED12 each block is an interval of its own; of all others the first three columns are read. Columns may be
    separated by tabs, blanks or both; an interval without bases (start equal to end, which the specification allows) is left
    out and counted in `Intervals.empty`. Raises RegionError with the line and the value where a row is not an interval.
    """
    path = check_input(path, RegionError)
    names: dict[bytes, int] = {}
    pieces, empty, before, number = list[_Columns](), 0, b"", 1
    for block in whole_lines(path, RegionError, size):
        if not block.endswith(b"\n"):
            _check_last_line(block, before, path, number)
            block += b"\n"
        columns, lines = _parse_block(block, names, number)
        if columns is None:
            columns, skipped = _parse_lines(block, names, number, path)
            empty += skipped
        pieces.append(columns)
        before, number = block, number + lines
    contig, start, end, line = (np.concatenate([p[i] for p in pieces] or [np.zeros(0, np.int64)]) for i in range(4))
    known = tuple(name.decode("ascii") for name in names)
    return Intervals(path, known, contig.astype(np.int32), start, end, line, empty)


def _check_last_line(line: bytes, before: bytes, path: Path, number: int) -> None:
    """Raise RegionError where a last line without its end has fewer columns than the one `before`: it was cut short, maybe
    within a number. Names may hold blanks: columns must be fewer by tabs and by all separators."""
    whole, line = (text.strip(b" \t\n") for text in (before[before.rfind(b"\n", 0, -1) + 1 :], line))
    fewer = line.count(b"\t") < whole.count(b"\t") and len(_SEPARATOR.split(line)) < len(_SEPARATOR.split(whole))
    if line and fewer and b"#" not in (whole[:1], line[:1]):
        raise RegionError(
            "the last line was cut short: it has fewer columns than the one before, and no end",
            path=path,
            line=number,
            hint="fetch the file again; or end the line, if it is right",
        )


def _parse_lines(block: bytes, names: dict[bytes, int], number: int, path: Path) -> tuple[_Columns, int]:
    """Return contig, start, end and line number of every row of some whole lines, and how many had no bases.

    Makes every check and knows every liberty of the format. Adds to `names`.
    """
    rows, empty = list[tuple[int, int, int, int]](), 0
    for line_number, line in enumerate(block.rstrip(b"\n").split(b"\n"), start=number):  # a block may be line ends only
        if not line.strip(b" \t") or line.startswith(_SKIPPED):
            continue
        cells = columns_of(line)
        start, end = _checked(cells, line, path, line_number)
        if start == end:
            empty += 1
            continue
        contig = names.setdefault(cells[0], len(names))
        rows += [(contig, low, high, line_number) for low, high in blocks_of(cells, line, start, end)]
    contigs, starts, ends, lines = np.array(rows, np.int64).reshape(-1, 4).T
    return (contigs, starts, ends, lines), empty


def columns_of(line: bytes) -> list[bytes]:
    """Return the first three columns of a line, as far as it has them, and the text of all others as the fourth.

    Blanks before the first column are left out of a line without tabs alone: a tab there stands behind an empty contig.
    """
    return _SEPARATOR.split(line.rstrip(b" \t") if b"\t" in line else line.strip(b" "), 3)


def blocks_of(cells: Sequence[bytes], line: bytes, start: int, end: int) -> list[tuple[int, int]]:
    """Return the blocks of a line of BED12, [low, high) each; the whole interval where it names none, or one.

    Other formats have other numbers in these columns (bedMethyl): those are no blocks that begin and end with the interval.
    """
    if len(cells) < 4 or cells[3].count(b",") < 2:
        return [(start, end)]
    by_tabs, by_all = line.split(b"\t"), _SEPARATOR.split(line.strip(b" \t"))  # between tabs, a name may hold blanks
    for columns in (by_tabs, by_all):
        if len(columns) < COLUMNS_OF_BLOCKS:
            continue
        counts, sizes, offsets = (_numbers_of(cell) for cell in columns[COLUMNS_OF_BLOCKS - 3 : COLUMNS_OF_BLOCKS])
        blocks = [(start + offset, start + offset + size) for offset, size in zip(offsets, sizes)]
        if counts == [len(sizes)] == [len(offsets)] and _cover_both_ends(blocks, start, end):
            return blocks
    return [(start, end)]


def _numbers_of(cell: bytes) -> list[int]:
    """Return the numbers of a cell with commas between, and maybe one behind; none where one is no number."""
    texts = cell.strip(b" ").removesuffix(b",").split(b",")
    return [int(text) for text in texts] if all(_NUMBER.fullmatch(text) for text in texts) else []


def _cover_both_ends(blocks: Sequence[tuple[int, int]], start: int, end: int) -> bool:
    """Return whether blocks ascend, do not overlap, hold bases, and begin and end where the interval does."""
    ordered = all(low < high for low, high in blocks) and all(a[1] <= b[0] for a, b in pairwise(blocks))
    return bool(blocks) and ordered and (blocks[0][0], blocks[-1][1]) == (start, end)


def read_names(path: Path, lines: Ints) -> list[str]:
    """Return the fourth column of the lines with these numbers, which ascend; empty where it is missing or a dot."""
    wanted, names = iter(lines.tolist()), list[str]()
    next_line = next(wanted, None)
    for number, line in read_lines(path, RegionError):
        while number == next_line:  # more than once: a line of BED12 has several blocks
            *_, further = [*columns_of(line), b""][:4]
            # Where there are tabs a name may hold blanks.
            text = further.split(b"\t" if b"\t" in line else b" ", 1)[0].decode("utf-8", "replace").strip()
            names.append("" if text == "." else text)
            next_line = next(wanted, None)
    return names


def _parse_block(data: bytes, names: dict[bytes, int], number: int) -> tuple[_Columns | None, int]:
    """Return contig, start, end and line number of every row of plain lines, and how many lines there are.

    Plain is a line with one tab between columns, fewer than twelve of them, one base or more, and nothing odd; None for the
    columns where one line is not. Faults are not judged here: `_parse_lines` finds them again and says what they are.
    """
    raw = np.frombuffer(data, np.uint8)
    if _ODD_START[raw[0]]:
        return None, data.count(b"\n")
    # Tabs and line ends are the only bytes up to a line end (10) in a plain file: cells lie between neighbours of this list.
    marks = np.flatnonzero(raw <= ord("\n"))
    kinds = raw[marks]
    ends = np.flatnonzero(kinds == ord("\n"))
    lines = len(ends)
    at = np.concatenate([[0], ends[:-1] + 1])  # a line's first mark
    line_start = np.concatenate([[0], marks[ends[:-1]] + 1])
    line, first = np.arange(number, number + lines), raw[line_start]
    comment = first == ord("#")
    if comment.any():
        at, ends, line_start, line, first = (values[~comment] for values in (at, ends, line_start, line, first))
    if not len(line):
        return (line, line, line, line), lines
    # What may be a `track` or `browser` line, or one of white space, is for the other reader.
    if (
        kinds.min() < ord("\t")
        or _ODD_START[first].any()
        or (ends - at < 2).any()
        or (ends - at >= COLUMNS_OF_BLOCKS - 1).any()
    ):
        return None, lines
    one, two, three = marks[at], marks[at + 1], marks[at + 2]
    start, end = _whole_numbers(raw, one + 1, two), _whole_numbers(raw, two + 1, three)
    if start is None or end is None or (end <= start).any():
        return None, lines
    contig = _name_numbers(data, raw, line_start, one, names)
    return None if contig is None else (contig, start, end, line), lines


def _last_eight(raw: Bytes, end: Ints, width: Ints) -> NDArray[np.uint64]:
    """Return the last eight bytes before each `end`, as one number each, (rows,); those beyond `width` bytes are zero."""
    if len(end) and end[0] < 8:  # the first line may begin too near the start of the text
        raw, end = np.concatenate([np.zeros(8, np.uint8), raw]), end + 8
    words = np.ndarray((max(len(raw) - 7, 0),), "<u8", raw, strides=(1,))  # the eight bytes from every position on
    last: NDArray[np.uint64] = words[end - 8] & ~_BYTES_BEFORE[np.minimum(width, 8)]
    return last


def _whole_numbers(raw: Bytes, low: Ints, high: Ints) -> Ints | None:
    """Return the whole numbers at [low, high) of a text, (rows,); None unless all are of one to ten digits.

    Eight digits at a time, as the bytes of one number: neighbours are joined to pairs, pairs to fours, fours to eight. One
    multiplication joins all neighbours of a number: 2561 = 10 * 2^8 + 1, 6553601 = 100 * 2^16 + 1, and 42949672960001 =
    10000 * 2^32 + 1.
    """
    width = high - low
    if width.min() < 1 or width.max() > 10:
        return None
    eight = _last_eight(raw, high, width) | (_ASCII_ZEROS & _BYTES_BEFORE[np.minimum(width, 8)])
    # A digit has 3 in its upper half, and still has when 6 is added (0x39 + 6 = 0x3F); any other byte fails one of the two.
    high_halves = np.uint64(0xF0F0F0F0F0F0F0F0)
    digits = ((eight & high_halves) | (((eight + np.uint64(0x0606060606060606)) & high_halves) >> np.uint64(4))) == (
        _ASCII_ZEROS | _ASCII_ZEROS >> np.uint64(4)
    )
    if not digits.all():
        return None
    pairs = (eight & np.uint64(0x0F0F0F0F0F0F0F0F)) * np.uint64(2561) >> np.uint64(8)
    fours = (pairs & np.uint64(0x00FF00FF00FF00FF)) * np.uint64(6553601) >> np.uint64(16)
    value = ((fours & np.uint64(0x0000FFFF0000FFFF)) * np.uint64(42949672960001) >> np.uint64(32)).astype(np.int64)
    for digit_index in (8, 9):
        rows = np.flatnonzero(width > digit_index)
        if len(rows):
            digit = raw[high[rows] - 1 - digit_index].astype(np.int64) - ord("0")
            if ((digit < 0) | (digit > 9)).any():
                return None
            value[rows] += digit * 10**digit_index
    return value


def _name_numbers(data: bytes, raw: Bytes, low: Ints, high: Ints, names: dict[bytes, int]) -> Ints | None:
    """Return the number of each name at [low, high), (rows,); None where one is no contig name. Adds to `names`.

    Files come sorted: only the first name of a run of equal ones is looked up.
    """
    width = high - low
    same = np.concatenate([[False], width[1:] == width[:-1]])
    for done in range(0, int(width.max()), 8):
        words = _last_eight(raw, np.maximum(high - done, low), np.clip(width - done, 0, 8))
        same[1:] &= words[1:] == words[:-1]
    heads = np.flatnonzero(~same)
    numbers = []
    for begin, end in zip(low[heads].tolist(), high[heads].tolist()):
        name = data[begin:end]
        if not _NAME.fullmatch(name):
            return None
        numbers.append(names.setdefault(name, len(names)))
    return np.array(numbers, np.int64)[np.cumsum(~same) - 1]


def _checked(cells: list[bytes], line: bytes, path: Path, number: int) -> tuple[int, int]:
    """Return start and end of a line's cells. RegionError for what is not an interval."""
    if len(cells) < 3:
        count = "one column" if len(cells) == 1 else f"{len(cells)} columns"
        raise RegionError(f"has {count}, not three or more", path=path, line=number, hint=_HINT)
    if not _NAME.fullmatch(cells[0]):
        shown = (cells[0] or line.split(b"\t", 1)[0])[:40].decode("utf-8", "replace")
        raise RegionError(f"{shown!r} is not a contig name", path=path, line=number, hint=_HINT)
    start, end = _position("start", cells[1], path, number), _position("end", cells[2], path, number)
    if end < start:
        raise RegionError(f"end {end} is before start {start}", path=path, line=number, hint=_HINT)
    return start, end


def _position(what: str, cell: bytes, path: Path, number: int) -> int:
    """Return the number in a cell. RegionError that names `what` it should have been."""
    digits = _NUMBER.fullmatch(cell)
    if digits:
        return int(digits[1])
    wrong = "is not a whole number"
    if cell.removeprefix(b"-").isdigit():
        wrong = "is negative" if cell[:1] == b"-" else "is too large"
    shown = cell[:40].decode("utf-8", "replace")
    raise RegionError(f"{what} {wrong} ({shown!r})", path=path, line=number, hint=_HINT)


def read_known_intervals(
    path: Path, lengths: Mapping[str, int]
) -> tuple[dict[str, tuple[Ints, Ints]], dict[str, int], int]:
    """Read a file's intervals per contig of a genome (see Intervals.on), and count those on contigs that it lacks.

    The last value is the line of the first of these, 0 where there is none.

    Raises RegionError, which names the file, where the genome has none of the contigs.
    """
    intervals = read_intervals(path)
    try:
        return intervals.on(lengths), intervals.elsewhere(lengths), intervals.first_elsewhere(lengths)
    except GenomeError as error:
        raise RegionError(error.message, path=path, hint=error.hint) from error


def parse_regions(texts: Sequence[str], file: Path | None, genome: Genome) -> tuple[Interval, ...]:
    """Return the regions of `-r` options (each one region, or several with commas between) and of a BED file.

    Raises GenomeError where there is none, or one is not on the genome.
    """
    regions = [parse_region(part, genome) for text in texts for part in _single_regions(text, genome)]
    if file is not None:
        for contig, (starts, ends) in read_intervals(file).on(genome.lengths).items():
            regions += [Interval(contig, start, end) for start, end in zip(starts.tolist(), ends.tolist())]
    if not regions:
        raise GenomeError("no region is named", path=file, hint="-r chr1:1001-2000, or -R regions.bed")
    return tuple(regions)


def _single_regions(text: str, genome: Genome) -> list[str]:
    """Return one region, whose numbers may hold commas, or several."""
    try:
        parse_region(text, genome)
    except GenomeError:
        return [part for part in text.split(",") if part]
    return [text]
