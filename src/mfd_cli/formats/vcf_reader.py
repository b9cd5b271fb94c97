"""A strict reader of VCF's first five columns, from every kind of file that holds them.

Everything after the ALT column passes through byte for byte, even where it breaks the specification. Positions are
1-based as in VCF.

Why not pysam (0.24.1): it takes 26 of 94 broken VCFs without a word (an empty POS is 0, "high" as QUAL is 0.0), stops at 12 of
112 files that EBI's validator calls right, for INFO and FORMAT that nobody here reads, and what it writes is not what it read.
BCF, which is not text, does go through it.
"""

from __future__ import annotations

import gzip
import io
import re
import shutil
import sys
import tempfile
import zlib
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, replace
from pathlib import Path
from typing import BinaryIO

from mfd_cli.base.errors import VariantError
from mfd_cli.base.files import check_input
from mfd_cli.base.urls import is_url
from mfd_cli.formats.text import BGZF_EOF, LONGEST_LINE, check_bgzf_end

_CONTIG = re.compile(rb"##contig=<(?:.*,)?ID=([^,>]+)")
_LENGTH = re.compile(rb"##contig=<(?:.*,)?length=([0-9]{1,12})[,>]")
_FORMAT = re.compile(rb"##fileformat=VCFv4\.[0-9]+(?:\s|$)")
_NAME = re.compile(rb"[!-~]+")
_LONGEST_HEADER_LINE = 1 << 20
"""Bytes: a header is held in memory, and htslib takes 5 s for a line of 64 MiB."""


@dataclass(frozen=True)
class Record:
    """One data line: `cells` are all its columns as they are (bytes), the first five also parsed."""

    line: int
    cells: list[bytes]
    contig: str
    position: int
    ref: str
    alts: tuple[str, ...]


@dataclass(frozen=True)
class VariantFile:
    """An open VCF: header lines (bytes, without line ends, the #CHROM line last) and the records, read once."""

    name: str
    header: list[bytes]
    records: Iterator[Record]

    @property
    def contigs(self) -> list[str]:
        """Names in the ##contig lines."""
        entries = (_CONTIG.match(line) for line in self.header)
        return [entry[1].decode("utf-8", "replace") for entry in entries if entry]

    @property
    def lengths(self) -> dict[str, int]:
        """Lengths of the contigs whose ##contig lines tell them."""
        result = {}
        for line in self.header:
            name, length = _CONTIG.match(line), _LENGTH.match(line)
            if name and length:
                result[name[1].decode("utf-8", "replace")] = int(length[1])
        return result


@contextmanager
def open_variants(source: str | Path) -> Iterator[VariantFile]:
    """Open VCF (plain, gzip, bgzip), BCF, or standard input (`-`). VariantError with the line where it is broken."""
    name = str(source)
    if name == "-":
        with _standard_input() as variants:
            yield variants
        return
    path = check_input(Path(source), VariantError, "standard input is read with -: bcftools view ... | mfd ... -")
    name = str(path) if is_url(name) else name
    with path.open("rb") as file:
        magic = file.read(18)
    packed = magic[:2] == b"\x1f\x8b"
    if packed and magic[12:14] == b"BC":
        check_bgzf_end(path, VariantError)
    if _is_bcf(path, packed):
        yield _read_bcf(path, str(path))
        return
    with gzip.open(path, "rb") if packed else path.open("rb") as stream:
        yield _read(stream, name)  # type: ignore[arg-type]


def _is_bcf(path: Path, packed: bool) -> bool:
    with gzip_errors(path), gzip.open(path, "rb") if packed else path.open("rb") as stream:
        return bytes(stream.read(3)) == b"BCF"


class _Joined(io.RawIOBase):
    """Bytes that were read already, then the rest of their stream; remembers the last bytes that went by."""

    def __init__(self, start: bytes, rest: BinaryIO) -> None:
        self.start, self.rest, self.last = start, rest, b""

    def readable(self) -> bool:
        return True

    def readinto(self, buffer: bytearray | memoryview) -> int:  # type: ignore[override]
        data = self.start[: len(buffer)] or self.rest.read(len(buffer))
        self.start = self.start[len(data) :]
        buffer[: len(data)] = data
        self.last = (self.last + data)[-len(BGZF_EOF) :]
        return len(data)


@contextmanager
def _standard_input() -> Iterator[VariantFile]:
    """Open what `bcftools view` may pipe: VCF, plain or compressed, or BCF (which goes through a temporary file)."""
    name, stdin = "standard input", sys.stdin.buffer
    magic = stdin.read(18)
    raw = _Joined(magic, stdin)
    stream: BinaryIO = io.BufferedReader(raw)
    if magic[:2] == b"\x1f\x8b":
        stream = gzip.GzipFile(fileobj=stream)  # type: ignore[assignment]
    with gzip_errors(name):
        start = stream.read(3)
    stream = io.BufferedReader(_Joined(start, stream))
    bgzip = raw if magic[:2] == b"\x1f\x8b" and magic[12:14] == b"BC" else None
    if start != b"BCF":
        variants = _read(stream, name)
        yield replace(variants, records=_to_the_end(variants.records, bgzip, name))
        return
    with tempfile.NamedTemporaryFile(suffix=".bcf") as file:
        with gzip_errors(name):
            shutil.copyfileobj(stream, file)
        file.flush()
        variants = _read_bcf(Path(file.name), name)
        yield replace(variants, records=_to_the_end(variants.records, bgzip, name))


def _to_the_end(records: Iterator[Record], bgzip: _Joined | None, name: str) -> Iterator[Record]:
    """Yield all records; an error after the last one where a bgzip stream came without its end mark."""
    yield from records
    if bgzip is not None and bgzip.last != BGZF_EOF:
        raise VariantError("was cut short (the end mark of bgzip is missing)", path=name)


@contextmanager
def gzip_errors(name: str | Path) -> Iterator[None]:
    """Turn what gzip says of damaged or cut data into one plain VariantError."""
    try:
        yield
    except (EOFError, zlib.error, gzip.BadGzipFile) as error:
        raise VariantError("is damaged or was cut short (gzip)", path=name) from error


def quiet_htslib() -> None:
    """Keep htslib from writing to the terminal: what matters of it we say ourselves."""
    import pysam

    pysam.set_verbosity(0)


def _read_bcf(path: Path, name: str) -> VariantFile:
    """Read a BCF file as the VCF text that htslib makes of it; `name` is what errors call it."""
    import pysam

    quiet_htslib()
    try:
        file = pysam.VariantFile(str(path))
        header = str(file.header).rstrip("\n").encode().split(b"\n")
    except (OSError, ValueError) as error:
        raise VariantError("cannot be opened as BCF", path=name) from error

    def lines() -> Iterator[tuple[int, bytes]]:
        number = 0
        try:
            for number, record in enumerate(file, start=1):
                yield number, str(record).rstrip("\n").encode()
        except (OSError, ValueError) as error:
            raise VariantError("is damaged or was cut short (BCF)", path=name, line=number + 1) from error

    columns = len(header[-1].split(b"\t"))
    return VariantFile(name, header, (_parse(cells, number, columns, name) for number, cells in lines()))


def _read(stream: BinaryIO, name: str) -> VariantFile:
    """Read the header of a VCF; records are read when they are asked for. VariantError where the header is broken."""
    lines = _lines(stream, name)
    header: list[bytes] = []
    for number, line in lines:
        if number == 1:
            line = line.removeprefix(b"\xef\xbb\xbf")
            if not _FORMAT.match(line):
                raise VariantError(
                    f"does not start with ##fileformat=VCFv4.N ({line[:40].decode('utf-8', 'replace')!r})",
                    path=name,
                    line=1,
                    hint="a VCF or BCF file is needed",
                )
        if len(line) > _LONGEST_HEADER_LINE:
            raise VariantError(f"a header line has {len(line):,} characters", path=name, line=number)
        if not line:
            continue
        header.append(line)
        if line.startswith(b"#CHROM"):
            return VariantFile(name, header, _records(lines, len(_header_columns(line, name, number)), name))
        if not line.startswith(b"##"):
            what = "a line that begins with one #" if line[:1] == b"#" else "a record"
            raise VariantError(f"{what} stands before the #CHROM line", path=name, line=number)
    old = "lines must end as on Unix or Windows, not as on an old Macintosh" if b"\r" in b"".join(header) else None
    raise VariantError("has no #CHROM line" if header else "is empty", path=name, hint=old)


def _header_columns(line: bytes, name: str, number: int) -> list[bytes]:
    columns = line.split(b"\t")
    if columns[:8] != [b"#CHROM", b"POS", b"ID", b"REF", b"ALT", b"QUAL", b"FILTER", b"INFO"]:
        raise VariantError(
            "the #CHROM line does not name VCF's eight columns, with tabs between", path=name, line=number
        )
    return columns


def _lines(stream: BinaryIO, name: str) -> Iterator[tuple[int, bytes]]:
    """Yield numbered lines without their ends (LF or CRLF). VariantError where they are damaged or no text."""
    number = 0
    try:
        while line := stream.readline(LONGEST_LINE + 1):
            number += 1
            if len(line) > LONGEST_LINE:
                raise VariantError(f"a line has more than {LONGEST_LINE:,} characters", path=name, line=number)
            line = line.removesuffix(b"\n").removesuffix(b"\r")
            if number == 1 and line[:2] in (b"\xff\xfe", b"\xfe\xff"):
                raise VariantError("is UTF-16 text", path=name, line=1, hint="save it as plain text")
            if b"\0" in line:
                raise VariantError("has a NUL byte", path=name, line=number)
            yield number, line
    except (EOFError, zlib.error, gzip.BadGzipFile) as error:
        raise VariantError("is damaged or was cut short (gzip)", path=name, line=number + 1) from error


def _records(lines: Iterator[tuple[int, bytes]], columns: int, name: str) -> Iterator[Record]:
    for number, line in lines:
        if line[:1] == b"#":
            raise VariantError(
                "a line of the header, or a comment, stands among the records",
                path=name,
                line=number,
                hint="bcftools concat joins files",
            )
        if line:
            yield _parse(line, number, columns, name)


def _parse(line: bytes, number: int, columns: int, name: str) -> Record:
    """Return a data line as a record. VariantError where its number of columns or one of the first five is wrong."""
    cells = line.split(b"\t")
    if len(cells) != columns:
        short = "the file was cut short, or its columns are not separated by tabs" if len(cells) < columns else None
        raise VariantError(
            f"has {len(cells)} column{'s' * (len(cells) > 1)} where the #CHROM line has {columns}",
            path=name,
            line=number,
            hint=short,
        )
    contig, position, _, ref, alt = (cell.decode("utf-8", "replace") for cell in cells[:5])
    if not _NAME.fullmatch(cells[0]):
        raise VariantError(f"CHROM is not a contig name ({contig[:40]!r})", path=name, line=number)
    if not re.fullmatch("[0-9]{1,10}", position):
        what = "too large" if cells[1].isdigit() else "not a whole number"
        raise VariantError(f"POS is {what} ({position[:40]!r})", path=name, line=number)
    if not ref or not alt or any(not allele for allele in alt.split(",")):
        raise VariantError(f"has an empty allele (REF {ref[:20]!r}, ALT {alt[:20]!r})", path=name, line=number)
    return Record(number, cells, contig, int(position), ref, tuple(alt.split(",")))


def split_info(info: bytes) -> Sequence[bytes]:
    """Return the entries of an INFO cell; none for a dot."""
    return [] if info in (b".", b"") else info.split(b";")
