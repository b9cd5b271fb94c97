"""The reference genome in memory: names, lengths and bases, and windows cut from them.

Coordinates are 0-based, the end not included. A base is a byte: A, C, G, T, or N for anything unknown.
"""

from __future__ import annotations

import hashlib
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from functools import cached_property

import numpy as np

from mfd_cli.base.arrays import Bytes
from mfd_cli.base.errors import GenomeError, few
from mfd_cli.base.notebook import one_line

UNKNOWN = 4
"""The code of a base that is not A, C, G or T; their codes are 0, 1, 2, 3."""
CODES: Bytes = np.full(256, UNKNOWN, np.uint8)
for _code, _letters in enumerate(("Aa", "Cc", "Gg", "Tt")):
    for _letter in _letters:
        CODES[ord(_letter)] = _code
BASES: Bytes = np.frombuffer(b"ACGTN", np.uint8)
"""The inverse of CODES: `BASES[codes]` are ASCII bases."""


def encode(sequence: str | bytes) -> Bytes:
    """Return the base codes of a sequence: A, C, G, T (either case) are 0 to 3, everything else is UNKNOWN.

    >>> encode("ACgtN").tolist()
    [0, 1, 2, 3, 4]
    """
    raw = sequence.encode("ascii") if isinstance(sequence, str) else sequence
    return CODES[np.frombuffer(raw, np.uint8)]


def decode(codes: Bytes) -> str:
    """Return the bases, in upper case, that codes stand for.

    >>> decode(encode("acgtR"))
    'ACGTN'
    """
    return BASES[codes].tobytes().decode("ascii")


def reverse_complement(codes: Bytes) -> Bytes:
    """Return the other strand, read in its own direction, along the last axis.

    >>> decode(reverse_complement(encode("AACGN")))
    'NCGTT'
    """
    flipped = codes[..., ::-1]
    return np.where(flipped < UNKNOWN, np.uint8(3) - flipped, np.uint8(UNKNOWN))


def gc_share(codes: Bytes) -> float:
    """Return the share of G and C among the known bases; NaN where none is known.

    >>> gc_share(encode("ACGTNN"))
    0.5
    """
    known = codes[codes < UNKNOWN]
    return float(((known == 1) | (known == 2)).mean()) if len(known) else float("nan")


@dataclass(frozen=True)
class Genome:
    """Contigs in the order of their file, each an array of upper-case ASCII bases (which may be a memory map)."""

    sequences: Mapping[str, Bytes]
    source: str = "genome"
    known_digest: str = ""
    """The digest, where the file that the genome was read from has been checked against one: it is not computed again."""

    def __repr__(self) -> str:
        return one_line(self, f"{self.source!r}: {len(self.sequences):,} contigs, {sum(self.lengths.values()):,} bp")

    @cached_property
    def lengths(self) -> dict[str, int]:
        """Length in bp per contig."""
        return {name: len(bases) for name, bases in self.sequences.items()}

    def __str__(self) -> str:
        return f"{self.source}: {len(self.sequences)} contigs, {sum(self.lengths.values()):,} bp"

    def digest(self) -> str:
        """Return the sha256 over names, lengths and bases: the same for plain, gzip and soft-masked copies of one genome."""
        if self.known_digest:
            return self.known_digest
        total = hashlib.sha256()
        for name, bases in self.sequences.items():
            total.update(f">{name} {len(bases)}\n".encode())
            total.update(np.ascontiguousarray(bases).data)
        return total.hexdigest()

    def bases(self, contig: str, start: int, end: int) -> str:
        """Return the upper-case bases of an interval. GenomeError where it does not lie on the contig."""
        if contig not in self.sequences:
            raise GenomeError(f"the genome has no contig {contig!r}", path=self.source)
        if not 0 <= start <= end <= len(self.sequences[contig]):
            raise GenomeError(
                f"{contig}:{start}-{end} is not on the contig (length {len(self.sequences[contig])})", path=self.source
            )
        return self.sequences[contig][start:end].tobytes().decode("ascii")

    def codes(self, contig: str, start: int, end: int) -> Bytes:
        """Return the base codes of an interval that may reach beyond the contig on both sides; UNKNOWN there."""
        bases = self.sequences[contig]
        inside = CODES[bases[max(start, 0) : max(min(end, len(bases)), 0)]]
        if len(inside) == end - start:
            return inside
        left = min(max(-start, 0), end - start)
        return np.pad(inside, (left, end - start - left - len(inside)), constant_values=UNKNOWN)

    def flat(self, pad: int) -> tuple[Bytes, dict[str, int]]:
        """Return all contigs as codes in one array, with at least `pad` UNKNOWN before and after each, and where position 0
        of each contig lies in it: what a batch on a device is cut from."""
        offsets, at = {}, pad
        for name, length in self.lengths.items():
            offsets[name] = at
            at += length + pad
        codes = np.full(at, UNKNOWN, np.uint8)
        for name, bases in self.sequences.items():
            codes[offsets[name] : offsets[name] + len(bases)] = CODES[bases]
        return codes, offsets


def match_contigs(names: Iterable[str], genome_names: Iterable[str], what: str) -> dict[str, str]:
    """Return the genome's name for each contig of a file, resolving `chr1`/`1` and `chrM`/`MT`.

    Names that the genome lacks are left out of the answer. Raises GenomeError when none is shared, showing both.
    """
    names, known = list(dict.fromkeys(names)), set(genome_names)
    mapping = {}
    for name in names:
        for candidate in aliases(name):
            if candidate in known:
                mapping[name] = candidate
                break
    if names and not mapping:
        raise GenomeError(
            f"no contig of {what} is in the genome ({few(names)} against {few(sorted(known))})",
            hint="the file belongs to another assembly, or its contigs are named in another way",
        )
    return mapping


def first_renamed(names: Iterable[str], genome_names: Iterable[str]) -> dict[str, str]:
    """Return the first contig of a file that the genome has under another name, with that name; empty where there is none.

    >>> first_renamed(["X", "1", "2"], ["X", "chr1", "chr2"])
    {'1': 'chr1'}
    """
    known = set(genome_names)
    pairs = ((name, alias) for name in names if name not in known for alias in aliases(name) if alias in known)
    return dict([pair]) if (pair := next(pairs, None)) else {}


def aliases(name: str) -> list[str]:
    """Return the ways a contig may be named: as it is, without and with `chr`, M and MT."""
    bare = name.removeprefix("chr")
    mito = {"M": ["chrM", "chrMT", "MT", "M"], "MT": ["MT", "chrMT", "chrM", "M"]}
    return [name, bare, f"chr{bare}", *mito.get(bare, [])]


def contig_of(name: str, genome: Genome) -> str | None:
    """Return the genome's name for a contig, `chr1` and `1` being the same; None if it has none."""
    if name in genome.sequences:
        return name
    return next((alias for alias in aliases(name) if alias in genome.sequences), None)
