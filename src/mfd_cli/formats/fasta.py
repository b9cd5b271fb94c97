"""FASTA files, plain, gzip or bgzip, read by a strict streaming reader: nothing is written beside the input.

Why not pysam (0.24.1): it writes an index beside the user's file, takes 26 of 81 broken FASTAs without a word (cut ones give a
shorter genome, digits and letters of proteins are bases), and believes an index of another file, which gives wrong bases.
"""

from __future__ import annotations

import re
from collections.abc import Iterator
from pathlib import Path

import numpy as np

from mfd_cli.base.arrays import Bytes
from mfd_cli.base.errors import GenomeError
from mfd_cli.base.files import check_input
from mfd_cli.formats.text import BLOCK, check_length, read_blocks, read_lines
from mfd_cli.genome.sequence import Genome

_KNOWN, _AMBIGUOUS = b"ACGTacgt", b"RYSWKMBDHVNryswkmbdhvn"
_BASE = bytes(byte if byte in _KNOWN else ord("N") if byte in _AMBIGUOUS else 0 for byte in range(256)).upper()
"""Every byte as the base that it stands for; 0 for what is none."""
_NO_BASE = re.compile(rb"[^\n" + _KNOWN + _AMBIGUOUS + rb"]")
_NAME = re.compile(rb"[!-~]+")
_INDEXED = re.compile(rb"([!-~]+)\t([0-9]{1,15})(?:\t.*)?")


def read_fasta(path: Path, size: int = BLOCK) -> Genome:
    """Read the genome in a FASTA file in blocks of `size` bytes: upper-case A, C, G, T; every other IUPAC letter becomes N.

    Names are the first word of each header. Raises GenomeError with the line for an empty, repeated or missing name, an
    empty contig, a letter that is not IUPAC DNA, a damaged or cut file; and where a .fai beside the file disagrees.
    """
    path = check_input(path, GenomeError)
    sequences: dict[str, Bytes] = {}
    name, begun, parts = "", 0, list[bytes]()
    for number, is_header, text in _stretches(path, size):
        if is_header:
            _close(sequences, name, parts, path, begun)
            name, begun, parts = _contig_name(text, sequences, path, number), number, []
        elif name:
            parts.append(_bases(text, path, number))
        elif text.strip(b"\n"):
            raise _no_header(text, path, number)
    _close(sequences, name, parts, path, begun)
    if not sequences:
        raise GenomeError("holds no contig", path=path)
    genome = Genome(sequences, str(path))
    _check_index(genome, path)
    return genome


def _stretches(path: Path, size: int) -> Iterator[tuple[int, bool, bytes]]:
    """Yield header lines (without their ends), and the text between them in stretches that may end within a line.

    Each comes with the number of its (first) line, and whether it is a header.
    """
    number, rest, line_begins = 1, b"", True
    for block in read_blocks(path, GenomeError, size):
        text, at, rest = rest + block, 0, b""
        while at < len(text):
            if line_begins and text[at] == ord(">"):
                end = text.find(b"\n", at)
                if end < 0:
                    rest = text[at:]  # the block ends within the header
                    check_length(rest, path, GenomeError, number)
                    break
                yield number, True, text[at:end]
                at, number = end + 1, number + 1
            else:
                end = text.find(b"\n>", at) + 1 or len(text)
                yield number, False, text[at:end]
                number += text.count(b"\n", at, end)
                at, line_begins = end, text[end - 1] == ord("\n")
    if rest:
        yield number, True, rest


def _contig_name(line: bytes, known: dict[str, Bytes], path: Path, number: int) -> str:
    """Return the first word of a header line. GenomeError where it is no name, or is `known`."""
    word = re.split(rb"[ \t]", line[1:], maxsplit=1)[0]
    if not word:
        raise GenomeError("a header line has no name right after the >", path=path, line=number)
    name = word.decode("ascii", "backslashreplace")
    if not _NAME.fullmatch(word):
        raise GenomeError(f"{name[:60]!r} is not a contig name: it is not plain ASCII", path=path, line=number)
    if name in known:
        raise GenomeError(f"contig {name[:60]!r} is there twice", path=path, line=number)
    return name


def _no_header(text: bytes, path: Path, number: int) -> GenomeError:
    """Return the error for a file that begins with something else than a header line."""
    begun = text.lstrip(b"\n")
    first, number = begun.split(b"\n", 1)[0], number + len(text) - len(begun)
    if first[:1] == b"@":
        return GenomeError("is FASTQ, not FASTA", path=path, line=number)
    shown = first[:20].decode("utf-8", "replace")
    return GenomeError(f"{shown!r} stands before the first header line (>name)", path=path, line=number)


def _bases(text: bytes, path: Path, number: int) -> bytes:
    """Return upper-case bases without line ends; `number` is the first line. GenomeError with the line of what is no base."""
    bases = text.translate(_BASE, b"\n")
    if b"\0" in bases:
        wrong = _NO_BASE.search(text)
        assert wrong is not None
        raise GenomeError(
            f"{chr(wrong[0][0])!r} is not a base",
            path=path,
            line=number + text.count(b"\n", 0, wrong.start()),
            hint="a FASTA of DNA is needed: A, C, G, T, N and the other letters of IUPAC, nothing else",
        )
    return bases


def _close(sequences: dict[str, Bytes], name: str, parts: list[bytes], path: Path, number: int) -> None:
    """Put the contig that has been read, if there is one, into `sequences`. GenomeError where it is empty."""
    if not name:
        return
    bases = np.frombuffer(b"".join(parts), np.uint8)
    if not len(bases):
        raise GenomeError(f"contig {name[:60]!r} is empty", path=path, line=number)
    sequences[name] = bases


def _check_index(genome: Genome, path: Path) -> None:
    """Raise GenomeError where a .fai beside the file tells other names or lengths: a FASTA that was cut shows nowhere else."""
    index = path.with_name(path.name + ".fai")
    if not index.is_file():
        return
    listed = {}
    for number, line in read_lines(index, GenomeError):
        entry = _INDEXED.fullmatch(line)
        if not entry:
            raise GenomeError("is not a FASTA index", path=index, line=number, hint="remove it, or samtools faidx")
        listed[entry[1].decode("ascii")] = int(entry[2])
    if listed != genome.lengths:
        differing = sorted(set(listed.items()) ^ set(genome.lengths.items()))[0][0]
        here, there = (
            f"{all_of[differing]:,} bp" if differing in all_of else "missing" for all_of in (genome.lengths, listed)
        )
        raise GenomeError(
            f"does not agree with its index {index.name} ({differing[:60]}: {here} against {there})",
            path=path,
            hint="the FASTA was cut or changed, or the index is old: samtools faidx makes it anew",
        )
