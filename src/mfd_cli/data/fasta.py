"""FASTA files, plain, gzip or bgzip, read by a strict streaming reader: nothing is written beside the input."""

from __future__ import annotations

import gzip
import re
import zlib
from collections.abc import Iterator
from pathlib import Path

import numpy as np

from mfd_cli.data.sequence import Bytes, Genome
from mfd_cli.errors import GenomeError, MfdError
from mfd_cli.files import check_input

BGZF_EOF = bytes.fromhex("1f8b08040000000000ff0600424302001b0003000000000000000000")
_UPPER = bytes.maketrans(b"acgtRYSWKMBDHVryswkmbdhvn", b"ACGTNNNNNNNNNNNNNNNNNNNNN")
_ALLOWED = b"ACGTN"
_LONGEST_LINE = 1 << 30


def read_fasta(path: Path) -> Genome:
    """The genome in a FASTA file: upper-case A, C, G, T; every other IUPAC letter becomes N.

    Names are the first word of each header. Raises GenomeError with the line for an empty, repeated or missing name, an
    empty contig, a letter that is not IUPAC DNA, a damaged or cut file; and where a .fai beside the file disagrees.
    """
    check_input(path, GenomeError)
    sequences: dict[str, Bytes] = {}
    name, parts = "", list[bytes]()
    for number, line in read_lines(path, GenomeError):
        if line[:1] == b">":
            _close(sequences, name, parts, path, number)
            name, parts = _name(line, sequences, path, number), []
        elif line:
            if not name:
                what = "is FASTQ, not FASTA" if line[:1] == b"@" else "has sequence before the first header line"
                raise GenomeError(what, path=path, line=number)
            parts.append(_bases(line, path, number))
    _close(sequences, name, parts, path, None)
    if not sequences:
        raise GenomeError("holds no contig", path=path)
    genome = Genome(sequences, str(path))
    _check_index(genome, path)
    return genome


def _name(line: bytes, known: dict[str, Bytes], path: Path, number: int) -> str:
    found = re.match(rb">([!-~]+)", line)
    if not found:
        raise GenomeError("a header line has no name right after the >", path=path, line=number)
    name = found[1].decode("ascii")
    if name in known:
        raise GenomeError(f"contig {name[:60]!r} is there twice", path=path, line=number)
    return name


def _bases(line: bytes, path: Path, number: int) -> bytes:
    upper = line.translate(_UPPER)
    wrong = upper.translate(None, _ALLOWED)
    if wrong:
        raise GenomeError(f"{chr(wrong[0])!r} is not a base", path=path, line=number, hint="a FASTA of DNA is needed")
    return upper


def _close(sequences: dict[str, Bytes], name: str, parts: list[bytes], path: Path, number: int | None) -> None:
    if not name:
        return
    bases = np.frombuffer(b"".join(parts), np.uint8)
    if not len(bases):
        raise GenomeError(f"contig {name[:60]!r} is empty", path=path, line=number)
    sequences[name] = bases


def _check_index(genome: Genome, path: Path) -> None:
    """A .fai beside the file must tell the same names and lengths: a FASTA that was cut shows nowhere else."""
    index = path.with_name(path.name + ".fai")
    if not index.is_file():
        return
    told = {}
    for number, line in read_lines(index, GenomeError):
        cells = line.decode("utf-8", "replace").split("\t")
        if len(cells) < 2 or not cells[1].isdigit():
            raise GenomeError("is not a FASTA index", path=index, line=number, hint="remove it, or samtools faidx")
        told[cells[0]] = int(cells[1])
    if told != genome.lengths:
        differing = sorted(set(told.items()) ^ set(genome.lengths.items()))[0][0]
        raise GenomeError(
            f"does not agree with its index {index.name} ({differing[:60]}: {genome.lengths.get(differing, 0):,} bp "
            f"against {told.get(differing, 0):,})",
            path=path, hint="the FASTA was cut or changed, or the index is old: samtools faidx makes it anew",
        )  # fmt: skip


def read_lines(path: Path, error: type[MfdError]) -> Iterator[tuple[int, bytes]]:
    """Numbered lines (1-based, without their ends) of a plain, gzip or bgzip file; `error` where it is damaged.

    LF and CRLF are line ends; a UTF-8 byte order mark at the start is dropped.
    """
    with path.open("rb") as raw:
        magic = raw.read(18)
    packed = magic[:2] == b"\x1f\x8b"
    if packed and magic[12:14] == b"BC":
        check_bgzf_end(path, error)
    number = 0
    try:
        with gzip.open(path, "rb") if packed else path.open("rb") as file:
            for number, line in enumerate(file, start=1):
                if number == 1:
                    if line[:2] in (b"\xff\xfe", b"\xfe\xff"):
                        raise error("is UTF-16 text", path=path, hint="save it as plain text")
                    line = line.removeprefix(b"\xef\xbb\xbf")
                yield number, line.rstrip(b"\r\n")
    except (EOFError, zlib.error, gzip.BadGzipFile) as problem:
        raise error("is damaged or was cut short (gzip)", path=path, line=number + 1) from problem


def check_bgzf_end(path: Path, error: type[MfdError]) -> None:
    """A bgzip file ends with an empty block; without it the file was cut short."""
    with path.open("rb") as file:
        file.seek(max(path.stat().st_size - len(BGZF_EOF), 0))
        if file.read() != BGZF_EOF:
            raise error("was cut short (the end mark of bgzip is missing)", path=path)
