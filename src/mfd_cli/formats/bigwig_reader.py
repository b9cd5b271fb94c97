"""bigWig files, read without a library: header, contigs, index and data, nothing trusted.

The format (Kent et al., Bioinformatics 2010): a header, a tree of contig names, compressed blocks of values, and an R-tree over
the blocks. Blocks become numpy arrays, not lists.

Why not a library: of 104 damaged files pyBigWig (0.3.29) takes 21 without a word, some with other data, and ends the process
with a segmentation fault on 7; pybigtools (0.3.0) takes 24, panics on 22, hangs on 2 and dies on 3.

More than half of the time goes into inflating blocks. Where the package isal is installed (the extra `fast`), it does that: to
the same bytes, with the same refusals, and dense files are read 1.3 times as fast.
"""

from __future__ import annotations

import importlib
import struct
import zlib
from collections.abc import Iterator
from contextlib import suppress
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Any, BinaryIO, NamedTuple

import numpy as np
from numpy.typing import NDArray

from mfd_cli.base.arrays import Floats, Ints
from mfd_cli.base.errors import SignalError
from mfd_cli.base.files import check_input

_inflater: Any = zlib
with suppress(ImportError):
    _inflater = importlib.import_module("isal.isal_zlib")

_MAGIC = 0x888FFC26
_TREE_MAGIC = 0x78CA8C91
_INDEX_MAGIC = 0x2468ACE0
_GROUP = 1 << 16
"""Values that are handed out together, about: what is made of them stays in a processor's cache."""
_LARGEST_BLOCK = 1 << 28
"""Bytes of an unpacked block: libraries write a few thousand."""
_DEPTH = 8
"""Levels of a tree, at most: with the usual 256 children a node, 6 hold a block for every base of the human genome."""
_AGAIN = "make the file again, or download it again"
_LEAF = np.dtype(
    [("first", "<u4"), ("start", "<u4"), ("last", "<u4"), ("end", "<u4"), ("offset", "<u8"), ("size", "<u8")]
)
_BRANCH = np.dtype([("first", "<u4"), ("start", "<u4"), ("last", "<u4"), ("end", "<u4"), ("offset", "<u8")])
_SECTION = struct.Struct("<IIIIIBBH")
_BED_GRAPH = np.dtype([("start", "<u4"), ("end", "<u4"), ("value", "<f4")])
_VARIABLE = np.dtype([("start", "<u4"), ("value", "<f4")])


class Values(NamedTuple):
    """Runs of one value each, 0-based, sorted, without overlap: `start` and `end` (n,) int64, `value` (n,) float32."""

    start: Ints
    end: Ints
    value: Floats


@dataclass(frozen=True)
class BigWig:
    """An open bigWig: lengths and numbers of its contigs; `data` and `index` are where values and their index begin."""

    path: Path
    file: BinaryIO
    size: int
    contigs: dict[str, int]
    numbers: dict[str, int]
    data: int
    index: int
    buffer: int

    def values(self, contig: str, start: int = 0, end: int | None = None) -> Iterator[Values]:
        """Yield the data of a contig in pieces, in order. SignalError where they are damaged, unsorted or overlap.

        With `start` and `end` only the blocks that overlap [start, end) are read; they may hold values beyond it.
        """
        number, waiting, held, last = self.numbers[contig], list[Values](), 0, 0
        low, high = np.searchsorted(self.blocks["first"], [number, number + 1])
        blocks = self.blocks[low:high]
        if start or end is not None:
            near = (blocks["end"] > start) & (blocks["start"] < (self.contigs[contig] if end is None else end))
            blocks = blocks[near]
        for offset, size in zip(blocks["offset"].tolist(), blocks["size"].tolist()):
            piece = self._block(offset, size, number, contig)
            if not len(piece.start):
                continue
            apart = piece.start[0] >= last and (piece.start[1:] >= piece.end[:-1]).all()
            if not (apart and (piece.end > piece.start).all() and piece.end[-1] <= self.contigs[contig]):
                raise self._misplaced(piece, last, contig)
            last = int(piece.end[-1])
            waiting.append(piece)
            held += len(piece.start)
            if held >= _GROUP:
                yield _together(waiting)
                waiting, held = [], 0
        if waiting:
            yield _together(waiting)

    @cached_property
    def blocks(self) -> NDArray[Any]:
        """The leaves of the index, in the order of the genome: where every block of values lies. SignalError where the index
        is damaged, so that no values can go missing."""
        expected = int.from_bytes(self._read(self.index + 8, 8), "little")
        nodes, seen, leaves, held = [(self.index + 48, 0)], set[int](), [np.zeros(0, _LEAF)], 0
        while nodes:
            at, depth = nodes.pop()
            leaf, _, count = struct.unpack("<BBH", self._read(at, 4))
            if at in seen or depth > _DEPTH or leaf not in (0, 1) or (expected and not count):
                raise self._damaged("index")
            seen.add(at)
            kind = _LEAF if leaf else _BRANCH
            items = np.frombuffer(self._read(at + 4, count * kind.itemsize), kind)
            if leaf:
                leaves.append(items)
                held += count
                if held > expected:  # so that the walk ends
                    break
            else:
                nodes += [(child, depth + 1) for child in items["offset"].tolist()[::-1]]
        blocks = np.concatenate(leaves)
        if held != expected:
            difference = f"{'more' if held > expected else 'fewer'} than {expected:,} blocks of values are listed"
            raise SignalError(f"has a damaged index: {difference}", path=self.path, hint=_AGAIN)
        order = blocks["first"].astype(np.uint64) << np.uint64(32) | blocks["start"]  # contig, then start
        inside = (blocks["offset"] <= self.size) & (blocks["size"] <= self.size - blocks["offset"])
        known = (blocks["first"] == blocks["last"]) & (blocks["first"] < len(self.contigs))
        if not ((order[1:] >= order[:-1]).all() and (inside & known & (blocks["offset"] >= self.data)).all()):
            raise self._damaged("index")
        return blocks

    def _read(self, offset: int, size: int) -> bytes:
        if not 0 <= offset <= offset + size <= self.size:
            raise self._damaged("index")
        self.file.seek(offset)
        data = self.file.read(size)
        if len(data) < size:
            raise self._damaged("index")
        return data

    def _damaged(self, what: str) -> SignalError:
        return SignalError(f"has a damaged {what}", path=self.path, hint=_AGAIN)

    def _misplaced(self, piece: Values, last: int, contig: str) -> SignalError:
        """Return the error for runs of which some end before they start, leave the contig, or begin before `last`."""
        start, end, _ = piece
        before = np.concatenate([[last], end[:-1]])
        faults = {
            "an interval without bases": end <= start,
            "an interval beyond the end of the contig": end > self.contigs[contig],
            "overlapping or unsorted intervals": start < before,
        }
        what, where = next((what, int(wrong.argmax())) for what, wrong in faults.items() if wrong.any())
        return SignalError(f"has {what} at {contig}:{start[where]}-{end[where]}", path=self.path, hint=_AGAIN)

    def _block(self, offset: int, size: int, number: int, contig: str) -> Values:
        """Return the runs of one block, without those of NaN. SignalError where it is damaged or holds an infinite value."""
        data, damaged = self._read(offset, size), self._damaged(f"block of values (at byte {offset:,})")
        if self.buffer:
            inflate = _inflater.decompressobj()
            try:
                data = inflate.decompress(data, self.buffer + 1)
            except _inflater.error as error:
                raise damaged from error
            if not inflate.eof or len(data) > self.buffer:
                raise damaged
        if len(data) < _SECTION.size:
            raise damaged
        chrom, start, _, step, span, kind, _, count = _SECTION.unpack_from(data)
        items = {1: _BED_GRAPH, 2: _VARIABLE, 3: np.dtype("<f4")}.get(kind)
        if chrom != number or items is None or len(data) != _SECTION.size + count * items.itemsize:
            raise damaged
        table = np.frombuffer(data, items, count, _SECTION.size)
        if kind == 3:
            low = start + np.arange(count, dtype=np.int64) * step
            high, value = low + span, table
        else:
            low, value = table["start"].astype(np.int64), table["value"]
            high = table["end"].astype(np.int64) if kind == 1 else low + span
        if np.isfinite(value).all():
            return Values(low, high, value)
        infinite = np.flatnonzero(np.isinf(value))
        if len(infinite):
            raise SignalError(f"has an infinite value at {contig}:{low[infinite[0]]}", path=self.path)
        known = ~np.isnan(value)
        return Values(low[known], high[known], value[known])


def _together(pieces: list[Values]) -> Values:
    return Values(*(np.concatenate([piece[i] for piece in pieces]) for i in range(3)))


def open_bigwig(path: Path) -> BigWig:
    """Open a bigWig and read its header and contigs; the caller closes `file`. SignalError where they are damaged."""
    path = check_input(path, SignalError)
    file, size = path.open("rb"), path.stat().st_size
    try:
        header = file.read(64)
        if len(header) < 64 or header[:4] != _MAGIC.to_bytes(4, "little"):
            raise _not_a_bigwig(header, path, size)
        _, version, zooms, tree, data, index = struct.unpack("<IHHQQQ", header[:32])
        summary, buffer = struct.unpack("<QI", header[44:56])
        levels = file.read(24 * zooms)
        # Zoom levels are not read, but places of theirs outside the file say that it was cut, or damaged.
        coarse = [at for level in struct.iter_unpack("<8xQQ", levels[: len(levels) // 24 * 24]) for at in level]
        places = (tree, data, index, summary or 64, *coarse)
        if not (
            1 <= version <= 4 and zooms <= 64 and all(64 <= at < size for at in places) and buffer <= _LARGEST_BLOCK
        ):
            raise SignalError("has a damaged header, or was cut short", path=path, hint=_AGAIN)
        file.seek(size - 4)
        if struct.unpack("<I", file.read(4))[0] != _MAGIC:
            raise SignalError("was cut short (its closing mark is missing)", path=path, hint=_AGAIN)
        file.seek(index)
        if file.read(4) != _INDEX_MAGIC.to_bytes(4, "little"):
            raise SignalError("has a damaged index", path=path, hint=_AGAIN)
        file.seek(tree)
        tree_of_contigs = _contig_tree(file.read(min(size - tree, 1 << 26)), tree, path)
    except BaseException:
        file.close()
        raise
    contigs = {name: length for _, (name, length) in sorted(tree_of_contigs.items())}
    numbers = {name: number for number, (name, _) in tree_of_contigs.items()}
    return BigWig(path, file, size, contigs, numbers, data, index, buffer)


def _not_a_bigwig(header: bytes, path: Path, size: int) -> SignalError:
    """Return the error for a file that does not begin as a bigWig, which says what it is."""
    for start, what, hint in _OTHERS:
        if header.startswith(start):
            return SignalError(f"is {what}, not a bigWig", path=path, hint=hint)
    if header.startswith(_MAGIC.to_bytes(4, "big")):
        return SignalError(
            "is a big-endian bigWig, which is not supported", path=path, hint="bigWigToWig and wigToBigWig"
        )
    if header.startswith(_MAGIC.to_bytes(4, "little")):
        return SignalError(f"is too short to be a bigWig ({size} bytes)", path=path, hint=_AGAIN)
    return SignalError("is not a bigWig file", path=path, hint="wigToBigWig and bedGraphToBigWig make them from text")


_OTHERS = (
    (b"\xeb\xf2\x89\x87", "a bigBed", "peaks are read from BED files: bigBedToBed"),
    (b"\x1f\x8b", "compressed with gzip", "bigWigs are compressed within: gunzip it"),
    (b"PK\x03\x04", "a ZIP archive", "unpack it"),
    (b"<", "a web page", "download the file again"),
)
"""What people give for a bigWig: first bytes, name, hint."""


def check_bigwig(path: Path) -> dict[str, int]:
    """Return contig names and lengths of a bigWig. SignalError where its head is damaged."""
    signal = open_bigwig(path)
    signal.file.close()
    return signal.contigs


def _contig_tree(raw: bytes, base: int, path: Path) -> dict[int, tuple[str, int]]:
    """Return number to name and length of every contig: a walk through their tree, trusting nothing."""
    damaged = SignalError("has a damaged list of contigs", path=path, hint=_AGAIN)
    try:
        magic, _, key, value, count = struct.unpack_from("<IIIIQ", raw)
        if magic != _TREE_MAGIC or not 1 <= key <= 255 or value != 8 or count == 0:
            raise damaged
        contigs: dict[int, tuple[str, int]] = {}
        nodes, seen = [(32, 0)], set[int]()
        while nodes:
            at, depth = nodes.pop()
            if not 32 <= at < len(raw) or at in seen or depth > _DEPTH:
                raise damaged
            seen.add(at)
            leaf, _, items = struct.unpack_from("<BBH", raw, at)
            if leaf not in (0, 1) or items == 0:
                raise damaged
            for item in range(items):
                at_item = at + 4 + item * (key + 8)
                if leaf:
                    name = raw[at_item : at_item + key].rstrip(b"\0").decode("ascii")
                    number, length = struct.unpack_from("<II", raw, at_item + key)
                    if number in contigs or number >= count or not name.isprintable() or not (name and length):
                        raise damaged
                    contigs[number] = (name, length)
                else:
                    nodes.append((struct.unpack_from("<Q", raw, at_item + key)[0] - base, depth + 1))
    except (struct.error, UnicodeDecodeError) as error:
        raise damaged from error
    if len(contigs) != count or len({name for name, _ in contigs.values()}) != count:
        raise damaged
    return contigs
