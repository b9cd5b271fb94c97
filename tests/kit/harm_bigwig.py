"""bigWig: a signal track of `mfd preprocess`.

Headers, trees and sections are changed byte by byte in the good file, or built anew with `built`, which writes any number into
any field. A file that is damaged where nobody looks (zoom levels) is read, since what is read is right.
"""

from __future__ import annotations

import gzip
import struct
import zlib
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path

import numpy as np
import pyBigWig

from kit.harm import CONTIGS, Change, Expected, Kind, any_file, bytes_changed, flipped, replaced
from mfd_cli.formats.bigwig_writer import MAGIC, StoredBlock, contig_tree, spatial_index

Section = tuple[int, bytes]
"""The number of a contig, and a section as it stands before it is compressed."""

# -- bigWigs of any content --------------------------------------------------------------------------------------------


def section(
    contig: int,
    rows: Sequence[tuple[float, ...]],
    kind: int = 1,
    *,
    step: int = 0,
    span: int = 0,
    start: int | None = None,
    count: int | None = None,
) -> Section:
    """A section of rows: (start, end, value) of kind 1, (start, value) of kind 2, (value,) of kind 3."""
    form = {2: "<If", 3: "<f"}.get(kind, "<IIf")
    body = b"".join(struct.pack(form, *row) for row in rows)
    first = start if start is not None else int(rows[0][0]) if rows else 0
    head = struct.pack(
        "<IIIIIBBH", contig, first, first + 1, step, span, kind, 0, len(rows) if count is None else count
    )
    return contig, head + body


def good_sections() -> list[Section]:
    """Bed graph sections over every contig."""
    rng = np.random.default_rng(3)
    return [
        section(number, [(at, at + 50, round(float(rng.gamma(1, 2)), 2)) for at in range(low, low + 5_000, 50)])
        for number, length in enumerate(CONTIGS.values())
        for low in range(0, length, 5_000)
        if low + 5_000 <= length
    ]


def built(
    sections: Sequence[Section],
    lengths: Mapping[str, int] = CONTIGS,
    *,
    packed: bool = True,
    version: int = 4,
    summary: bool = True,
    pack: Callable[[bytes], bytes] = zlib.compress,
) -> bytes:
    """A bigWig of these sections, without zoom levels: header, summary, contigs, sections, index, closing mark."""
    head = 64 + 40
    tree = contig_tree(lengths, head)
    body, blocks, at = [struct.pack("<Q", len(sections))], [], head + len(tree) + 8
    for contig, raw in sections:
        stored = pack(raw) if packed else raw
        start = int.from_bytes(raw[4:8], "little")
        blocks.append(StoredBlock(contig, start, start + 1, at, len(stored)))
        body.append(stored)
        at += len(stored)
    header = struct.pack(
        "<IHHQQQHHQQIQ",
        MAGIC,
        version,
        0,
        head,
        head + len(tree),
        at,
        0,
        0,
        0,
        64 * summary,
        1 << 16 if packed else 0,
        0,
    )
    told = struct.pack("<Qdddd", 1000, 0.0, 1.0, 10.0, 10.0)
    return b"".join([header, told, tree, *body, spatial_index(blocks, at), struct.pack("<I", MAGIC)])


def of(sections: Sequence[Section], **settings: object) -> Callable[[Path], None]:
    """A change into a file of these sections."""
    return bytes_changed(lambda _: built(sections, **settings))  # type: ignore[arg-type]


def rows_of(*rows: tuple[float, ...], kind: int = 1, **settings: int) -> Callable[[Path], None]:
    """A change into a file of one section on chr1."""
    return of([section(0, rows, kind, **settings)])


def rewritten(write: Callable[..., None]) -> Callable[[Path], None]:
    """A change into a file that pyBigWig writes."""

    def change(path: Path) -> None:
        path.unlink()
        with pyBigWig.open(str(path), "w") as file:
            write(file)

    return change


def renamed(names: Mapping[str, int]) -> Callable[[Path], None]:
    """The good sections on contigs of other names and lengths."""
    return of(good_sections(), lengths=names)


# -- fields of the good file -------------------------------------------------------------------------------------------

HEADER = {
    "magic": (0, "<I"),
    "version": (4, "<H"),
    "zooms": (6, "<H"),
    "tree": (8, "<Q"),
    "data": (16, "<Q"),
    "index": (24, "<Q"),
    "fields": (32, "<H"),
    "summary": (44, "<Q"),
    "buffer": (52, "<I"),
    "extension": (56, "<Q"),
}


def put(raw: bytes, place: int, form: str, *values: int) -> bytes:
    """Other numbers at a place of a file."""
    stored = struct.pack(form, *values)
    return raw[:place] + stored + raw[place + len(stored) :]


def field(raw: bytes, name: str) -> int:
    place, form = HEADER[name]
    return int(struct.unpack_from(form, raw, place)[0])


def header(name: str, value: int) -> Callable[[Path], None]:
    """Another number in a field of the header."""
    return bytes_changed(lambda raw: put(raw, *HEADER[name], value))


def pointed(name: str, target: str) -> Callable[[Path], None]:
    """An offset of the header that leads to another part of the file."""
    return bytes_changed(lambda raw: put(raw, *HEADER[name], field(raw, target)))


def within(name: str, offset: int, form: str, *values: int) -> Callable[[Path], None]:
    """Other numbers at an offset from where a field of the header leads."""
    return bytes_changed(lambda raw: put(raw, field(raw, name) + offset, form, *values))


def cut(share: float) -> Callable[[Path], None]:
    return bytes_changed(lambda raw: raw[: int(len(raw) * share)])


NODE, LEAF = 32, 36
"""From where the tree of contigs begins: its root, the root's first item (name of 5 bytes, number, length)."""
INDEX_NODE, INDEX_LEAF = 48, 52
"""From where the index begins: its root, the root's first item (contig, start, contig, end, offset, size)."""


def branched(raw: bytes, place: int) -> bytes:
    """The root of the tree of contigs as a branch, whose only child lies at a place of the file."""
    root = field(raw, "tree")
    return put(put(raw, root + NODE, "<BBH", 0, 0, 1), root + LEAF + 5, "<Q", place)


def headers() -> list[Change]:
    """Every field of the header."""
    return [
        Change("magic number 0", header("magic", 0), says="is not a bigWig"),
        Change("magic number of a bigBed", header("magic", 0x8789F2EB), says="is a bigBed"),
        Change("big-endian", bytes_changed(lambda raw: put(raw, 0, ">I", MAGIC)), says="big-endian"),
        Change("version 0", header("version", 0), says="damaged header"),
        Change("version 5", header("version", 5), says="damaged header"),
        Change("version 65535", header("version", 65535), says="damaged header"),
        Change("65535 zoom levels", header("zooms", 65535), says="damaged header"),
        Change("65 zoom levels", header("zooms", 65), says="damaged header"),
        Change("a zoom level more than there is", header("zooms", 2), says="damaged header"),
        Change(
            "a zoom level beyond the file",
            bytes_changed(lambda raw: put(raw, 72, "<Q", 1 << 40)),
            says="damaged header",
        ),
        Change("the index of a zoom level beyond the file", bytes_changed(lambda raw: put(raw, 80, "<Q", len(raw)))),
        *(
            Change(f"{name} at {value}", header(name, value), says="damaged")
            for name in ("tree", "data", "index")
            for value in (0, 8, 1 << 40, (1 << 64) - 1)
        ),
        Change("the summary at 8", header("summary", 8), says="damaged header"),
        Change("the summary beyond the file", header("summary", 1 << 40), says="damaged header"),
        Change("contigs where the index is", pointed("tree", "index"), says="contigs"),
        Change("contigs where the values are", pointed("tree", "data"), says="contigs"),
        Change("index where the contigs are", pointed("index", "tree"), says="index"),
        Change("index where the values are", pointed("index", "data"), says="index"),
        Change("values behind the index", pointed("data", "index"), says="index"),
        # The index has the places of all blocks, so where they begin altogether is not needed.
        Change("values where the contigs are", pointed("data", "tree"), "either"),
        Change("buffer of no bytes", header("buffer", 0), says="block of values"),
        Change("buffer of one byte", header("buffer", 1), says="block of values"),
        Change("buffer of 4 GiB", header("buffer", (1 << 32) - 1), says="damaged header"),
        # Nothing of these is used in a bigWig: they are of bigBed.
        Change("fields of a bigBed", header("fields", 12), "read"),
        Change("no zoom levels", header("zooms", 0), "read"),
        Change("no summary", header("summary", 0), "read"),
        Change("version 3", header("version", 3), "read"),
    ]


NEITHER = r"no contig of \S*five\.bw is in the genome \(scaffold40000, .* against chr1, chr10, chr2\)"
"""Both vocabularies are named."""


def contigs() -> list[Change]:
    """The tree of contigs."""
    said = "list of contigs"
    return [
        Change("contigs: magic number 0", within("tree", 0, "<I", 0), says=said),
        Change("contigs: name of 0 bytes", within("tree", 8, "<I", 0), says=said),
        Change("contigs: name of 255 bytes", within("tree", 8, "<I", 255), says=said),
        Change("contigs: name of 2 GiB", within("tree", 8, "<I", 1 << 31), says=said),
        Change("contigs: values of 9 bytes", within("tree", 12, "<I", 9), says=said),
        Change("contigs: none", within("tree", 16, "<Q", 0), says=said),
        Change("contigs: one more than there are", within("tree", 16, "<Q", 4), says=said),
        Change("contigs: one fewer", within("tree", 16, "<Q", 2), says=said),
        Change("contigs: 2^63", within("tree", 16, "<Q", 1 << 63), says=said),
        Change("contigs: a node of type 7", within("tree", NODE, "<B", 7), says=said),
        Change("contigs: a leaf that says it branches", within("tree", NODE, "<B", 0), says=said),
        *(
            Change(f"contigs: a branch to {at}", bytes_changed(lambda raw, at=at: branched(raw, at)), says=said)
            for at in (0, 1 << 40, (1 << 63) + 1, (1 << 64) - 1)
        ),
        Change("contigs: 65535 in a node", within("tree", NODE + 2, "<H", 65535), says=said),
        Change("contigs: 0 in a node", within("tree", NODE + 2, "<H", 0), says=said),
        Change("contigs: a node that is its own child", bytes_changed(own_child), says=said),
        Change("contigs: a chain of nodes", bytes_changed(chain), says=said),
        Change("contigs: a number out of range", within("tree", LEAF + 5, "<I", 3), says=said),
        Change("contigs: a number of 2^32 - 1", within("tree", LEAF + 5, "<I", (1 << 32) - 1), says=said),
        Change("contigs: a number twice", within("tree", LEAF + 5, "<I", 1), says=said),
        Change("contigs: numbers changed over", bytes_changed(swapped_numbers)),
        Change("contigs: a name twice", within("tree", LEAF + 13, "<5s", b"chr1"), says=said),
        Change("contigs: an empty name", within("tree", LEAF, "<5s", b""), says=said),
        Change("contigs: a name that is not ASCII", within("tree", LEAF, "<5s", b"chr\xff1"), says=said),
        Change("contigs: a name with an escape code", within("tree", LEAF, "<5s", b"\x1b[31m"), says=said),
        Change("contigs: a name with a line end", within("tree", LEAF, "<5s", b"ch\nr1"), says=said),
        Change("contigs: a name with a NUL byte", within("tree", LEAF, "<5s", b"ch\0r1"), says=said),
        Change("contigs: 0 bp long", within("tree", LEAF + 9, "<I", 0), says=said),
        Change("contigs: 4 Gbp long", within("tree", LEAF + 9, "<I", (1 << 32) - 1), says="another assembly"),
        Change("contigs: one bp longer", within("tree", LEAF + 9, "<I", CONTIGS["chr1"] + 1), says="another assembly"),
        Change("no contig of the genome", renamed({f"scaffold{n}": n for n in CONTIGS.values()}), says=NEITHER),
        Change(
            "values only on contigs that the genome lacks",
            of([section(1, [(0, 50, 1.0)])], lengths={"chr1": 40_000, "chrUn_7": 500, "chr2": 20_000}),
            says=r"no values on any contig of the genome \(chrUn_7 against chr1, chr10, chr2\)",
        ),
        Change(
            "one contig under two names",
            of(good_sections(), lengths={"chr1": 40_000, "1": 40_000, "chr10": 12_000}),
            says="same contig",
        ),
        Change("names without chr", renamed({name.removeprefix("chr"): n for name, n in CONTIGS.items()}), "read"),
        Change("contigs that the genome lacks", renamed({**CONTIGS, "chrUn_1": 500, "HLA-A*01:01": 3_000}), "read"),
        Change("fewer contigs than the genome has", of(good_sections()[:8], lengths={"chr1": 40_000}), "read"),
        Change(
            "300 contigs in a tree of two levels", renamed({**CONTIGS, **{f"s{i}": 200 for i in range(300)}}), "read"
        ),
    ]


def own_child(raw: bytes) -> bytes:
    at = field(raw, "tree")
    return put(put(raw, at + NODE, "<BBH", 0, 0, 1), at + LEAF + 5, "<Q", at + NODE)


def chain(raw: bytes) -> bytes:
    """A thousand nodes, each the only child of the one before, at the end of the file."""
    low = len(raw) - 4
    nodes = b"".join(struct.pack("<BBH5sQ", 0, 0, 1, b"chr1", low + 17 * (i + 1)) for i in range(1000))
    at = field(raw, "tree")
    raw = put(put(raw, at + NODE, "<BBH", 0, 0, 1), at + LEAF + 5, "<Q", low)
    return raw[:low] + nodes + bytes(64) + raw[low:]


def swapped_numbers(raw: bytes) -> bytes:
    """chr1 gets the number of chr2: its length is right, but the values are those of the other, and too short or long."""
    at = field(raw, "tree") + LEAF
    return put(put(raw, at + 5, "<I", 1), at + 13 + 5, "<I", 0)


def index() -> list[Change]:
    """The tree of blocks."""
    said = "index"
    return [
        Change("index: magic number 0", within("index", 0, "<I", 0), says=said),
        Change("index: no blocks", within("index", INDEX_NODE + 2, "<H", 0), says=said),
        Change("index: no blocks, as its head says", bytes_changed(no_blocks), says="no values"),
        Change("index: one block fewer", within("index", INDEX_NODE + 2, "<H", 2), says="fewer than 3 blocks"),
        Change("index: one block more", within("index", INDEX_NODE + 2, "<H", 4), says=said),
        Change("index: 65535 blocks", within("index", INDEX_NODE + 2, "<H", 65535), says=said),
        Change("index: 2^63 blocks in its head", within("index", 8, "<Q", 1 << 63), says=said),
        Change("index: a node of type 9", within("index", INDEX_NODE, "<B", 9), says=said),
        Change("index: a leaf that says it branches", within("index", INDEX_NODE, "<B", 0), says=said),
        Change("index: a node that is its own child", bytes_changed(own_block), says=said),
        Change("index: contig out of range", within("index", INDEX_LEAF, "<I", 77), says=said),
        Change("index: a block of two contigs", within("index", INDEX_LEAF + 8, "<I", 1), says=said),
        Change("index: all contigs out of range", bytes_changed(unknown_contigs), says=said),
        Change("index: contigs not in order", within("index", INDEX_LEAF, "<IIII", 2, 0, 2, 100), says=said),
        Change(
            "index: a contig that is not the block's",
            within("index", INDEX_LEAF + 32, "<IIII", 0, 39_990, 0, 40_000),
            says="block of values",
        ),
        Change(
            "index: starts not in order", of([good_sections()[1], good_sections()[0], *good_sections()[2:]]), says=said
        ),
        Change("index: a block before the values", within("index", INDEX_LEAF + 16, "<Q", 64), says=said),
        Change("index: a block beyond the file", within("index", INDEX_LEAF + 16, "<Q", 1 << 40), says=said),
        Change("index: a block at 2^64 - 1", within("index", INDEX_LEAF + 16, "<Q", (1 << 64) - 1), says=said),
        Change("index: a block of no bytes", within("index", INDEX_LEAF + 24, "<Q", 0), says="block of values"),
        Change("index: a block of 2^64 - 1 bytes", within("index", INDEX_LEAF + 24, "<Q", (1 << 64) - 1), says=said),
        Change("index: a block one byte short", bytes_changed(shorter_block), says="block of values"),
        Change("index: the same block twice", of([good_sections()[0], *good_sections()]), says="overlapping"),
        Change("index: three levels", of([section(0, [(at, at + 1, 1.0)]) for at in range(30_000)]), "read"),
    ]


def no_blocks(raw: bytes) -> bytes:
    at = field(raw, "index")
    return put(put(raw, at + 8, "<Q", 0), at + INDEX_NODE + 2, "<H", 0)


def own_block(raw: bytes) -> bytes:
    at = field(raw, "index")
    return put(put(raw, at + INDEX_NODE, "<BBH", 0, 0, 1), at + INDEX_LEAF + 16, "<Q", at + INDEX_NODE)


def unknown_contigs(raw: bytes) -> bytes:
    for number in range(3):
        place = field(raw, "index") + INDEX_LEAF + 32 * number
        raw = put(put(raw, place, "<I", 7 + number), place + 8, "<I", 7 + number)
    return raw


def shorter_block(raw: bytes) -> bytes:
    place = field(raw, "index") + INDEX_LEAF + 24
    return put(raw, place, "<Q", struct.unpack_from("<Q", raw, place)[0] - 1)


def sections() -> list[Change]:
    """Sections of values, damaged."""
    said = "block of values"
    first, others = good_sections()[0][1], good_sections()[1:]

    def instead(raw: bytes) -> Callable[[Path], None]:
        return of([(0, raw), *others])

    return [
        Change("a section that cannot be unpacked", of(good_sections(), pack=lambda raw: b"\x78\x9c" + raw), says=said),
        Change("a section with a wrong checksum", of(good_sections(), pack=lambda raw: zlib.compress(raw)[:-1] + b"!")),
        Change("a section of 256 MiB in 256 kB", of([(0, bytes(1 << 28))]), says=said),
        Change("a section of 24 bytes", instead(first[:24]), says=said),
        Change("a section of 10 bytes", instead(first[:10]), says=said),
        Change("a section of no bytes", of(others, pack=lambda raw: zlib.compress(b"")), says=said),
        Change("a section with half a value", instead(first[:-5]), says=said),
        Change("a section with more values than it says", instead(put(first, 22, "<H", 99)), says=said),
        Change("a section with fewer values than it says", instead(put(first, 22, "<H", 65535)), says=said),
        Change("a section of type 0", instead(put(first, 20, "<B", 0)), says=said),
        Change("a section of type 9", instead(put(first, 20, "<B", 9)), says=said),
        Change("a section of type 3 that is of type 1", instead(put(first, 20, "<B", 3)), says=said),
        Change("a section of another contig", instead(put(first, 0, "<I", 1)), says=said),
        Change("an interval that ends where it starts", rows_of((10, 10, 1)), says="without bases at chr1:10"),
        Change(
            "an interval that ends before it starts", rows_of((10, 60, 1), (90, 80, 1)), says="without bases at chr1:90"
        ),
        Change(
            "an interval beyond the contig", rows_of((39_990, 40_001, 1)), says="beyond the end .* chr1:39990-40001"
        ),
        Change("an interval that starts beyond the contig", rows_of((50_000, 50_010, 1)), says="beyond the end"),
        Change("an interval up to 2^32 - 1", rows_of((10, (1 << 32) - 1, 1)), says="beyond the end"),
        Change("intervals not in order", rows_of((100, 150, 1), (50, 90, 1)), says="unsorted .* chr1:50-90"),
        Change("overlapping intervals", rows_of((100, 150, 1), (149, 190, 1)), says="overlapping .* chr1:149-190"),
        Change("an interval twice", rows_of((100, 150, 1), (100, 150, 1)), says="overlapping"),
        Change("overlapping sections", of([section(0, [(0, 90, 1)]), section(0, [(80, 120, 1)])]), says="chr1:80-120"),
        Change("span of 0", rows_of((100, 1), (150, 1), kind=2), says="without bases"),
        Change("span of 4 Gbp", rows_of((100, 1), kind=2, span=(1 << 32) - 1), says="beyond the end"),
        Change(
            "span longer than what is between starts", rows_of((100, 1), (150, 1), kind=2, span=60), says="overlapping"
        ),
        Change("step of 0", rows_of((1,), (2,), kind=3, span=5, start=100), says="overlapping"),
        Change(
            "step shorter than the span", rows_of((1,), (2,), kind=3, span=5, step=4, start=100), says="overlapping"
        ),
        Change(
            "step of 4 Gbp", rows_of((1,), (2,), kind=3, span=5, step=(1 << 32) - 1, start=100), says="beyond the end"
        ),
    ]


def values() -> list[Change]:
    """What values there may be, and in what form."""
    inf, nan = float("inf"), float("nan")
    fixed = section(0, [(float(i % 7),) for i in range(1000)], 3, step=30, span=20, start=100)
    variable = section(1, [(at, float(at % 5)) for at in range(0, 19_000, 40)], 2, span=25)
    return [
        Change("infinity", rows_of((10, 60, 1), (100, 150, inf)), says="infinite value at chr1:100"),
        Change("minus infinity", rows_of((10, 60, 1), (100, 150, -inf)), says="infinite value at chr1:100"),
        Change("infinity in steps", rows_of((1,), (inf,), kind=3, span=5, step=10, start=100), says="chr1:110"),
        Change("only NaN", rows_of((10, 60, nan), (100, 150, nan)), says="no values"),
        Change("no values at all", of([]), says="no values"),
        Change(
            "values on contigs that the genome lacks only",
            of([section(3, [(10, 60, 1)])], lengths={**CONTIGS, "chrUn": 500}),
            says="no values on any contig of the genome",
        ),
        Change("NaN among values", rows_of((10, 60, 1), (100, 150, nan), (200, 250, 2)), "read"),
        Change("1e38", rows_of((10, 60, 1e38), (128, 384, 3.4e38)), "read"),
        Change("1e-45", rows_of((10, 60, 1e-45), (100, 150, 1)), "read"),
        Change("values below zero", rows_of((10, 60, -1), (100, 150, -7.5)), "read"),
        Change("only zeros", rows_of((10, 60, 0), (100, 150, 0)), "read"),
        Change("one value over a whole contig", rows_of((0, 40_000, 2)), "read"),
        Change("only the last base of a contig", rows_of((39_999, 40_000, 2)), "read"),
        Change("a contig without values", of(good_sections()[:8]), "read"),
        Change("bed graph, variable and fixed steps", of([fixed, variable, section(2, [(0, 100, 1.0)])]), "read"),
        Change("sections that are not compressed", of(good_sections(), packed=False), "read"),
        Change("version 1 without a summary", of(good_sections(), version=1, summary=False, packed=False), "read"),
        Change("an empty section among others", of([section(0, []), *good_sections()]), "read"),
        Change(
            "as pyBigWig writes fixed steps",
            rewritten(
                lambda file: (
                    file.addHeader(list(CONTIGS.items())),
                    file.addEntries("chr1", 0, values=[1.0] * 900, span=40, step=40),
                )
            ),
            "read",
        ),
        Change(
            "as pyBigWig writes variable steps",
            rewritten(
                lambda file: (
                    file.addHeader(list(CONTIGS.items())),
                    file.addEntries("chr1", [1, 90, 300], values=[1.0, 2.0, 3.0], span=9),
                )
            ),
            "read",
        ),
        Change(
            "as pyBigWig writes no zoom levels",
            rewritten(
                lambda file: (
                    file.addHeader(list(CONTIGS.items()), maxZooms=0),
                    file.addEntries(["chr1"], [5], ends=[9], values=[1.0]),
                )
            ),
            "read",
        ),
    ]


def files() -> list[Change]:
    """Another file, or only a part of it."""
    wiggle = b"track type=wiggle_0\nfixedStep chrom=chr1 start=1 step=10 span=10\n1.5\n2.5\n" + b"3.0\n" * 50
    graph = b"".join(b"chr1\t%d\t%d\t1.5\n" % (at, at + 50) for at in range(0, 5000, 50))
    bed = b"chr1\t100\t200\tpeak1\t500\n" * 20
    return [
        *(
            Change(f"cut at {percent} %", cut(percent / 100))
            for percent in (1, 2, 4, 10, 25, 50, 75, 80, 85, 90, 95, 99)
        ),
        Change("cut behind the header", bytes_changed(lambda raw: raw[:64]), says="cut short"),
        Change("cut within the header", bytes_changed(lambda raw: raw[:63]), says="too short"),
        Change("cut within the contigs", bytes_changed(lambda raw: raw[: field(raw, "tree") + 40])),
        Change("cut within the index", bytes_changed(lambda raw: raw[: field(raw, "index") + 60]), says="cut short"),
        Change("cut by four bytes", bytes_changed(lambda raw: raw[:-4]), says="closing mark"),
        Change("cut by one byte", bytes_changed(lambda raw: raw[:-1]), says="closing mark"),
        Change(
            "a hole of zeros in the values", bytes_changed(lambda raw: put(raw, 1000, "<4096x")), says="block of values"
        ),
        Change(
            "the second half is random",
            bytes_changed(lambda raw: raw[: len(raw) // 2] + np.random.default_rng(1).bytes(len(raw) // 2)),
        ),
        Change("as text: line ends changed", bytes_changed(lambda raw: raw.replace(b"\n", b"\r\n"))),
        Change(
            "as text: bytes that are not UTF-8 replaced",
            bytes_changed(lambda raw: raw.decode("utf-8", "replace").encode()),
        ),
        Change("something behind the end", bytes_changed(lambda raw: raw + b"something"), says="closing mark"),
        Change("gzip", bytes_changed(gzip.compress), says="gzip"),
        Change("wiggle text", bytes_changed(lambda _: wiggle), says="is not a bigWig"),
        Change("bed graph text", bytes_changed(lambda _: graph), says="is not a bigWig"),
        Change("BED", bytes_changed(lambda _: bed), says="is not a bigWig"),
        Change(
            "a FASTA",
            lambda path: replaced(path, lambda p: p.write_bytes((p.parent.parent / "genome.fa").read_bytes())),
        ),
        Change(
            "a link to another bigWig",
            lambda path: (path.rename(path.parent / "other"), path.symlink_to("other"), None)[2],
            "read",
        ),
        # Zoom levels are not read: what is read is right.
        Change("zoom levels are random", bytes_changed(random_zooms), "read"),
    ]


def random_zooms(raw: bytes) -> bytes:
    """Noise in the data of the first zoom level and its index."""
    begin, end = struct.unpack_from("<Q", raw, 72)[0] + 4, len(raw) - 4
    return raw[:begin] + np.random.default_rng(5).bytes(end - begin) + raw[end:]


def flips(count: int = 40) -> list[Change]:
    """One bit changed somewhere: where nobody looks it does no harm, and elsewhere it is told."""
    places = np.random.default_rng(11).integers(0, 1 << 30, (count, 2)).tolist()
    # An unused bit of the header, a zoom level or a value's neighbour: both are right, a crash is not.
    expected: Expected = "either"
    return [
        Change(
            f"bit flipped, number {number}", bytes_changed(lambda raw, p=place, b=bit: flipped(raw, p, b % 8)), expected
        )
        for number, (place, bit) in enumerate(places)
    ]


CHANGES = [*any_file(), *headers(), *contigs(), *index(), *sections(), *values(), *files(), *flips()]

KINDS = [Kind("bigwig", "tracks/five.bw", ("preprocess", "-q", "--threads", "1"), ("dataset",), CHANGES)]
