"""bigWig files, written together in one pass: values of equal span, contig by contig, starts ascending.

Written here and not by pyBigWig (0.3.29): in its files some zoom records have a sum of zero, which browsers show as false
zeros, and it crashes where the disk is full. The layout is that of Kent et al., Bioinformatics 2010, supplement; numbers are
little-endian. bigwig_reader.py reads it.
"""

from __future__ import annotations

import io
import struct
import zlib
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Self

import numpy as np
from numpy.typing import NDArray

from mfd_cli.base.arrays import Doubles, Floats, Ints, Reals

Entry = tuple[bytes, bytes]
MAGIC, TREE_MAGIC, INDEX_MAGIC = 0x888FFC26, 0x78CA8C91, 0x2468ACE0
VARIABLE_STEP, FIXED_STEP = 2, 3
ITEMS, BRANCHES, RECORDS = 1024, 256, 512
"""Values in a section, children of a node, zoom records in a block."""
ZOOMS, FIRST_ZOOM, NEXT_ZOOM = 10, 8, 4
"""At most so many levels; bases per record: FIRST_ZOOM spans, then NEXT_ZOOM times as many at each level."""
HEADER = 64 + 24 * ZOOMS + 40
COUNTS, SUMS = ("contig", "start", "end", "valid"), ("low", "high", "sum", "squares")
ZOOM = np.dtype([(name, "<u4") for name in COUNTS] + [(name, "<f4") for name in SUMS])


@dataclass
class StoredBlock:
    """Where a section or block of zoom records lies in the genome and in the file."""

    contig: int
    start: int
    end: int
    offset: int
    size: int


@dataclass
class _File:
    """A bigWig that is being written, and where its sections lie so far."""

    stream: io.BufferedRandom
    path: Path
    blocks: list[StoredBlock] = field(default_factory=list)


class BigWigs:
    """Several bigWigs open together, as a context manager; they are complete when the block ends without an error.

    `lengths` are the contigs in the order in which they will be written. OSError where the disk is full.
    """

    def __init__(self, paths: Sequence[Path], lengths: Mapping[str, int]) -> None:
        self.lengths = dict(lengths)
        self.number = {name: number for number, name in enumerate(self.lengths)}
        self.last = (-1, -1)
        self.span = 1
        self.files = [_File(path.open("w+b"), path) for path in paths]
        tree = contig_tree(self.lengths, HEADER)
        for file in self.files:
            file.stream.write(bytes(HEADER) + tree + bytes(8))
        self.data_at = HEADER + len(tree)

    def __enter__(self) -> Self:
        return self

    def __exit__(self, kind: type[BaseException] | None, *_: object) -> None:
        try:
            if kind is None:
                for file in self.files:
                    self._finish(file)
        finally:
            for file in self.files:
                file.stream.close()

    def write(self, contig: str, starts: Ints, values: Reals, span: int) -> None:
        """Write the values (starts, files) of intervals of `span` bp, 0-based; NaN and infinity are left out.

        Raises ValueError where contigs or starts are not in order, or an interval ends behind its contig.
        """
        if not len(starts):
            return
        number = self.number[contig]
        ordered = (number, int(starts[0])) >= self.last and bool((np.diff(starts) >= span).all())
        if not ordered or starts[0] < 0 or starts[-1] + span > self.lengths[contig]:
            raise ValueError(f"intervals of {contig} are not in order, or not within it")
        self.last, self.span = (number, int(starts[-1]) + span), span
        for file, column in zip(self.files, values.T.astype(np.float32)):
            known = np.isfinite(column)
            low_ends, numbers = (starts, column) if known.all() else (starts[known], column[known])
            for low in range(0, len(low_ends), ITEMS):
                self._section(file, number, low_ends[low : low + ITEMS], numbers[low : low + ITEMS], span)

    def _section(self, file: _File, contig: int, starts: Ints, values: Floats, span: int) -> None:
        even = bool((np.diff(starts) == span).all())
        begin, end = int(starts[0]), int(starts[-1]) + span
        kind, step = (FIXED_STEP, span) if even else (VARIABLE_STEP, 0)
        head = struct.pack("<IIIIIBBH", contig, begin, end, step, span, kind, 0, len(starts))
        if even:
            body = values.astype("<f4").tobytes()
        else:
            items = np.empty(len(starts), [("start", "<u4"), ("value", "<f4")])
            items["start"], items["value"] = starts, values
            body = items.tobytes()
        file.blocks.append(_put_packed(file.stream, contig, begin, end, head + body))

    def _finish(self, file: _File) -> None:
        """Write index, zoom levels, header and closing magic number."""
        stream = file.stream
        index_at = stream.tell()
        stream.write(spatial_index(file.blocks, index_at))
        total, records = self._first_zoom(file)
        bases = FIRST_ZOOM * self.span
        zooms: list[bytes] = []
        while len(records) and len(zooms) < ZOOMS and bases < 1 << 31:
            data_at = stream.tell()
            stream.write(struct.pack("<I", len(records)))
            blocks = [_put_records(stream, part) for part in _of_one_contig(records)]
            zoom_at = stream.tell()
            stream.write(spatial_index(blocks, zoom_at))
            zooms.append(struct.pack("<IIQQ", bases, 0, data_at, zoom_at))
            bases *= NEXT_ZOOM
            coarser = joined(records, bases, list(self.lengths.values()))
            if len(coarser) == len(records):
                break
            records = coarser
        stream.write(struct.pack("<I", MAGIC))
        stream.seek(0)
        largest = max(24 + 8 * ITEMS, ZOOM.itemsize * RECORDS)
        stream.write(
            struct.pack(
                "<IHHQQQHHQQIQ", MAGIC, 4, len(zooms), HEADER, self.data_at, index_at, 0, 0, 0, HEADER - 40, largest, 0
            )
        )
        stream.write(b"".join(zooms))
        stream.seek(HEADER - 40)
        stream.write(struct.pack("<Qdddd", *total))
        stream.seek(self.data_at)
        stream.write(struct.pack("<Q", len(file.blocks)))
        stream.flush()

    def _first_zoom(self, file: _File) -> tuple[tuple[int, float, float, float, float], NDArray[Any]]:
        """Return the summary (bases, low, high, sum, sum of squares) of a file's values, and the records of the first zoom."""
        bases, pieces = FIRST_ZOOM * self.span, []
        covered, low, high, total, squares = 0, np.inf, -np.inf, 0.0, 0.0
        file.stream.flush()
        with file.path.open("rb") as written:
            for contig, starts, values in _values(written, file.blocks, self.span):
                wide = values.astype(np.float64)
                covered += len(values) * self.span
                low, high = min(low, float(wide.min())), max(high, float(wide.max()))
                total += float(wide.sum()) * self.span
                squares += float((wide**2).sum()) * self.span
                records = np.zeros(len(values), ZOOM)
                records["contig"], records["start"], records["valid"] = contig, starts, self.span
                records["low"] = records["high"] = values
                records["sum"], records["squares"] = (
                    _within_float32(wide * self.span),
                    _within_float32(wide**2 * self.span),
                )
                pieces.append(joined(records, bases, list(self.lengths.values())))
        summary = (covered, low, high, total, squares) if covered else (0, 0.0, 0.0, 0.0, 0.0)
        # A record may begin in one section and go on in the next.
        everything = np.concatenate(pieces) if pieces else np.zeros(0, ZOOM)
        return summary, joined(everything, bases, list(self.lengths.values()))


def _put_packed(stream: io.BufferedRandom, contig: int, start: int, end: int, raw: bytes) -> StoredBlock:
    packed, offset = zlib.compress(raw, 1), stream.tell()
    stream.write(packed)
    return StoredBlock(contig, start, end, offset, len(packed))


def _put_records(stream: io.BufferedRandom, records: NDArray[Any]) -> StoredBlock:
    return _put_packed(
        stream, int(records["contig"][0]), int(records["start"][0]), int(records["end"][-1]), records.tobytes()
    )


def _of_one_contig(records: NDArray[Any]) -> Iterator[NDArray[Any]]:
    """Yield zoom records in blocks of one contig."""
    edges = np.flatnonzero(np.diff(records["contig"])) + 1
    for part in np.split(records, edges):
        for low in range(0, len(part), RECORDS):
            yield part[low : low + RECORDS]


def _values(stream: io.BufferedReader, blocks: Sequence[StoredBlock], span: int) -> Iterator[tuple[int, Ints, Floats]]:
    """Yield contig, starts and values of each section, as they were written."""
    for block in blocks:
        stream.seek(block.offset)
        raw = zlib.decompress(stream.read(block.size))
        kind, count = raw[20], int.from_bytes(raw[22:24], "little")
        if kind == FIXED_STEP:
            starts = block.start + span * np.arange(count, dtype=np.int64)
            yield block.contig, starts, np.frombuffer(raw, "<f4", count, 24)
        else:
            items = np.frombuffer(raw, [("start", "<u4"), ("value", "<f4")], count, 24)
            yield block.contig, items["start"].astype(np.int64), items["value"]


def _within_float32(sums: Doubles) -> Doubles:
    """Return sums cut at the largest number of float32, in which zoom records hold them: the square of 2e19 is beyond it."""
    largest = float(np.finfo(np.float32).max)
    return np.clip(sums, -largest, largest)


def joined(records: NDArray[Any], bases: int, lengths: Sequence[int]) -> NDArray[Any]:
    """Return zoom records, in order, put together to records of `bases` bp: one for every stretch that any begins in."""
    if not len(records):
        return records
    stretch = records["start"].astype(np.int64) // bases
    contig = records["contig"].astype(np.int64)
    first = np.flatnonzero((np.diff(stretch, prepend=-1) != 0) | (np.diff(contig, prepend=-1) != 0))
    result = np.zeros(len(first), ZOOM)
    result["contig"] = records["contig"][first]
    result["start"] = stretch[first] * bases
    ends = np.array(lengths, np.int64)[result["contig"]]
    result["end"] = np.minimum((stretch[first] + 1) * bases, ends)
    result["valid"] = np.add.reduceat(records["valid"], first)
    result["low"], result["high"] = (
        np.minimum.reduceat(records["low"], first),
        np.maximum.reduceat(records["high"], first),
    )
    for name in ("sum", "squares"):
        result[name] = _within_float32(np.add.reduceat(records[name].astype(np.float64), first))
    return result


def contig_tree(lengths: Mapping[str, int], at: int) -> bytes:
    """Return the B+ tree of contigs: names in the order of their bytes, numbers in the order of `lengths`."""
    names = [name.encode() for name in lengths]
    width = max((len(name) for name in names), default=1)
    entries = {
        name: struct.pack("<II", number, length) for number, (name, length) in enumerate(zip(names, lengths.values()))
    }
    branches = min(max(len(names), 1), BRANCHES)
    head = struct.pack("<IIIIQQ", TREE_MAGIC, branches, width, 8, len(names), 0)
    leaves = [(name.ljust(width, b"\0"), entries[name]) for name in sorted(names)]
    return head + tree(leaves, branches, at + len(head), lambda node: node[0][0])


def spatial_index(blocks: Sequence[StoredBlock], at: int) -> bytes:
    """Return the R tree of blocks, which are in the order of the genome."""
    first, last = (blocks[0], blocks[-1]) if blocks else (StoredBlock(0, 0, 0, 0, 0),) * 2
    head = struct.pack(
        "<IIQIIIIQII",
        INDEX_MAGIC,
        BRANCHES,
        len(blocks),
        first.contig,
        first.start,
        last.contig,
        last.end,
        last.offset + last.size,
        ITEMS,
        0,
    )
    leaves = [
        (struct.pack("<IIII", b.contig, b.start, b.contig, b.end), struct.pack("<QQ", b.offset, b.size)) for b in blocks
    ]
    return head + tree(leaves, BRANCHES, at + len(head), lambda node: node[0][0][:8] + node[-1][0][8:])


def tree(leaves: Sequence[Entry], branches: int, at: int, key_of: Callable[[Sequence[Entry]], bytes]) -> bytes:
    """Return nodes of at most so many (key, value) entries, the root first, level by level, for a position in the file.

    An inner node's entry has the key that `key_of` gives its child, and where the child lies.
    """
    levels = [_nodes(leaves, branches)]
    while len(levels[0]) > 1:
        levels.insert(0, _nodes([(key_of(node), bytes(8)) for node in levels[0]], branches))
    pieces: list[bytes] = []
    for depth, level in enumerate(levels):
        at += sum(_bytes_of(node) for node in level)  # where the next level begins
        leaf, child, below = depth == len(levels) - 1, at, iter(levels[depth + 1] if depth + 1 < len(levels) else ())
        for node in level:
            pieces.append(struct.pack("<BBH", leaf, 0, len(node)))
            for key, value in node:
                pieces += [key, value if leaf else struct.pack("<Q", child)]
                child += 0 if leaf else _bytes_of(next(below))
    return b"".join(pieces)


def _nodes(entries: Sequence[Entry], branches: int) -> list[Sequence[Entry]]:
    return [entries[low : low + branches] for low in range(0, max(len(entries), 1), branches)]


def _bytes_of(node: Sequence[Entry]) -> int:
    return 4 + sum(len(key) + len(value) for key, value in node)


def write_bigwig(path: Path, lengths: Mapping[str, int], pieces: Sequence[tuple[str, int, Any]]) -> None:
    """Write a bigWig of per-base values: (contig, start, values (n,)); where pieces overlap the first one counts."""
    with BigWigs([path], lengths) as file:
        for contig in lengths:
            here = [(start + np.arange(len(values)), values) for name, start, values in pieces if name == contig]
            if here:
                every = np.concatenate([positions for positions, _ in here])
                positions, first = np.unique(every, return_index=True)  # the first of each position
                inside = (positions >= 0) & (positions < lengths[contig])
                values = np.concatenate([values for _, values in here])[first]
                file.write(contig, positions[inside], values[inside, None], 1)
