"""One alternate allele of a variant: its canonical spelling, why it may not be scored, and the windows it is seen in.

Positions are 1-based as in VCF; `start` and `end` are 0-based, the end not included. A variant that sits in a repeat can
be written at several places and in several ways; all of them are `normalised` to one, and windows depend on that one only.
"""

from __future__ import annotations

import re
from collections.abc import Sequence
from dataclasses import dataclass
from typing import NamedTuple

import numpy as np

from mfd_cli.base.arrays import Bytes
from mfd_cli.base.errors import VariantError
from mfd_cli.genome.sequence import CODES, UNKNOWN, Genome, encode

LONGEST = 128
"""Trimmed alleles longer than this are not scored: they would fill the bin."""
MOVED = (-32, 0, 32)
"""An indel is measured in bins moved by these (bp), and its reference in bins moved by its length, at most by 32 bp."""


@dataclass(frozen=True)
class Variant:
    """One alternate allele: contig, 1-based position, reference and alternate bases.

    >>> str(Variant("chr7", 101, "A", "G")), Variant("chr7", 101, "A", "G").start
    ('chr7:101:A>G', 100)
    """

    contig: str
    position: int
    ref: str
    alt: str

    def __post_init__(self) -> None:
        if self.position < 1:
            raise VariantError(f"position {self.position} is not 1 or more")

    @property
    def start(self) -> int:
        """0-based position of the first reference base."""
        return self.position - 1

    @property
    def end(self) -> int:
        """0-based position after the last reference base; of an insertion, `start`."""
        return self.start + len(self.ref)

    @property
    def same_length(self) -> bool:
        """Whether nothing moves: a substitution of one base or more."""
        return len(self.ref) == len(self.alt)

    def __str__(self) -> str:
        return f"{self.contig}:{self.position}:{self.ref or '-'}>{self.alt or '-'}"

    def trimmed(self) -> Variant:
        """Return the variant without the bases that both alleles share, at the end first; an allele may become empty.

        >>> str(Variant("1", 5, "CAT", "CT").trimmed()), str(Variant("1", 5, "AC", "AG").trimmed())
        ('1:6:A>-', '1:6:C>G')
        """
        ref, alt, position = self.ref.upper(), self.alt.upper(), self.position
        while ref and alt and ref[-1] == alt[-1]:
            ref, alt = ref[:-1], alt[:-1]
        shared = 0
        while shared < min(len(ref), len(alt)) and ref[shared] == alt[shared]:
            shared += 1
        return Variant(self.contig, position + shared, ref[shared:], alt[shared:])

    def as_written(self) -> Variant:
        """Return the variant without the bases that both alleles share, at the start first: where the file says that it
        happens, when other variants are near.

        >>> str(Variant("1", 5, "AA", "A").as_written()), str(Variant("1", 5, "AA", "A").trimmed())
        ('1:6:A>-', '1:5:A>-')
        """
        ref, alt, shared = self.ref.upper(), self.alt.upper(), 0
        while shared < min(len(ref), len(alt)) and ref[shared] == alt[shared]:
            shared += 1
        ref, alt = ref[shared:], alt[shared:]
        while ref and alt and ref[-1] == alt[-1]:
            ref, alt = ref[:-1], alt[:-1]
        return Variant(self.contig, self.position + shared, ref, alt)

    def moved(self, by: int) -> Variant:
        """Return an insertion or deletion written so many bases further right, where `slide` says that it is the same."""
        ref, alt = (_rotated(allele, by) for allele in (self.ref, self.alt))
        return Variant(self.contig, self.position + by, ref, alt)

    def normalised(self, genome: Genome) -> Variant:
        """Return the variant trimmed and as far left as it can be written (Tan et al. 2015), without an anchor base."""
        small = self.trimmed()
        return small.moved(-slide(small, genome).left)

    def key(self, genome: Genome) -> str:
        """Return CHROM:POS:REF>ALT of the normalised variant with VCF's anchor base, as `bcftools norm` writes it."""
        small = self.normalised(genome)
        if small.ref and small.alt:
            return str(small)
        if small.start > 0:
            anchor = genome.bases(small.contig, small.start - 1, small.start)
            return f"{small.contig}:{small.start}:{anchor}{small.ref}>{anchor}{small.alt}"
        anchor = genome.bases(small.contig, small.end, small.end + 1)  # at the very start the base behind is the anchor
        return f"{small.contig}:1:{small.ref}{anchor}>{small.alt}{anchor}"


def _rotated(allele: str, by: int) -> str:
    """Return an allele that is read in a repeat from `by` bases further right."""
    by %= max(len(allele), 1)
    return allele[by:] + allele[:by]


class Slide(NamedTuple):
    """How many bases further left, and right, an insertion or deletion can be written."""

    left: int
    right: int


def slide(variant: Variant, genome: Genome) -> Slide:
    """Return how far a trimmed variant can be moved without changing what it means; nowhere unless one allele is empty."""
    if bool(variant.ref) == bool(variant.alt):
        return Slide(0, 0)
    unit, bases = encode(variant.ref or variant.alt), genome.sequences[variant.contig]
    before, after = bases[: variant.start][::-1], bases[variant.end :]
    return Slide(_repeats(before, unit[::-1]), _repeats(after, unit))


def _repeats(bases: Bytes, unit: Bytes) -> int:
    """Return how many of the first bases (ASCII) follow the unit (codes), repeated without end."""
    at, step = 0, 64  # most repeats are short, a few go on for thousands of bases: each piece is twice the last
    while at < len(bases):
        piece = CODES[bases[at : at + step]]
        wrong = piece != unit[np.arange(at, at + len(piece)) % len(unit)]
        wrong |= piece == UNKNOWN
        if wrong.any():
            return at + int(wrong.argmax())
        at, step = at + len(piece), step * 2
    return at


# -- which alleles can be scored ---------------------------------------------------------------------------------------

_BASES = re.compile("[ACGTacgt]+")
_IUPAC = re.compile("[ACGTNRYSWKMBDHVacgtnryswkmbdhv]+")
BEYOND = "not within the contig"
MISMATCH = "REF is"
"""What the reason of a reference mismatch begins with."""


def why_not(position: int, ref: str, alt: str, genome: Genome, contig: str | None) -> str | None:
    """Return the reason why an allele is not scored, in words; None if it can be. Mismatches of REF begin with MISMATCH."""
    if alt in (".", ""):
        return "no alternate allele"
    if alt in ("<*>", "<NON_REF>"):
        return f"any other allele ({alt}), as gVCFs have it"
    if alt == "*":
        return "allele lost to an overlapping deletion (*)"
    if "[" in alt or "]" in alt or alt.startswith(".") or alt.endswith("."):
        return "breakend"
    if alt.startswith("<"):
        return "symbolic allele"
    if not _BASES.fullmatch(alt):
        return "the alternate allele is not of A, C, G, T"
    if not _IUPAC.fullmatch(ref):
        return "the reference allele is not a sequence"
    if contig is None:
        return "the genome has no such contig"
    end = position - 1 + len(ref)
    if position < 1 or end > genome.lengths[contig]:
        return BEYOND
    here = genome.bases(contig, position - 1, end)
    if not _agree(ref.upper(), here):
        return f"{MISMATCH} {_shortened(ref)}, the genome has {_shortened(here)} (ALT {_shortened(alt)})"
    if here == alt.upper():
        return "both alleles are the same"
    trimmed = Variant(contig, position, here, alt).trimmed()
    if "N" in trimmed.ref:
        return "the genome does not know the reference bases (N)"
    if max(len(trimmed.ref), len(trimmed.alt)) > LONGEST:
        return f"longer than {LONGEST} bp"
    return None


def _shortened(allele: str) -> str:
    return allele if len(allele) <= 20 else f"{allele[:17]}..."


_MEANS = {
    "R": "AG", "Y": "CT", "S": "CG", "W": "AT", "K": "GT", "M": "AC", "B": "CGT", "D": "AGT", "H": "ACT", "V": "ACG",
    "N": "ACGT",
}  # fmt: skip
"""What the letters of IUPAC stand for."""


def _agree(ref: str, genome: str) -> bool:
    """Return whether two sequences of one length can be the same: a letter of the file may stand for several bases."""
    return all(a == b or b in _MEANS.get(a, "") or b == "N" for a, b in zip(ref, genome))


# -- windows -----------------------------------------------------------------------------------------------------------


@dataclass(frozen=True)
class Haplotype:
    """A stretch of sequence around a variant that carries one of its alleles: `codes`, and where the allele begins."""

    codes: Bytes
    at: int

    def window(self, start: int, width: int) -> Bytes:
        """Return `width` codes that begin `start` bases after the allele's first base (before it, where negative)."""
        low = self.at + start
        return self.codes[low : low + width]


def haplotype(variant: Variant, allele: str, genome: Genome, reach: int) -> Haplotype:
    """Return an allele in the genome, with `reach` bases to either side; beyond the contig's ends bases are unknown."""
    before = genome.codes(variant.contig, variant.start - reach, variant.start)
    after = genome.codes(variant.contig, variant.end, variant.end + reach)
    return Haplotype(np.concatenate([before, encode(allele), after]), reach)


class WeightedWindows(NamedTuple):
    """Windows (windows, width) of both alleles; a latent of an allele is the weighted mean of its windows' latents."""

    ref: Bytes
    ref_weights: Sequence[float]
    alt: Bytes
    alt_weights: Sequence[float]


def indel_windows(variant: Variant, genome: Genome, width: int, centre: int) -> WeightedWindows:
    """Return the windows in which an allele of another length than its reference is measured.

    The bases beside an indel slide against the bins, and that alone changes a prediction. So both haplotypes are seen at
    matching places: the longer one in windows that share their left, or their right, edge with the window of the shorter one;
    the shorter one in that window (half the weight) and moved by the difference in length to either side, where its bases
    lie as they do in the longer one. All that in bins moved by MOVED. The middle of the shorter allele, in the middle of the
    stretch over which the variant can be written, is at index `centre`.

    Exchanging the alleles exchanges the windows, so the score of the way back is the same with the other sign; and a variant's
    spelling does not matter. Beyond the contig's ends bases are unknown.
    """
    left, right = slide(variant, genome)
    variant = variant.moved((right - left) // 2)
    difference = abs(len(variant.alt) - len(variant.ref))
    longer_is_alt = len(variant.alt) > len(variant.ref)
    short_allele, long_allele = (variant.ref, variant.alt) if longer_is_alt else (variant.alt, variant.ref)
    reach = width + 2 * LONGEST
    short, long = (haplotype(variant, allele, genome, reach) for allele in (short_allele, long_allele))
    start, step = len(short_allele) // 2 - centre, min(difference, max(MOVED))
    seen_short = [short.window(start + bin_ + by, width) for bin_ in MOVED for by in (-step, 0, step)]
    seen_long = [long.window(start + bin_ + by, width) for bin_ in MOVED for by in (0, difference)]
    of_short = np.stack(seen_short), [weight / len(MOVED) for _ in MOVED for weight in (0.25, 0.5, 0.25)]
    of_long = np.stack(seen_long), [0.5 / len(MOVED)] * len(seen_long)
    return WeightedWindows(*of_short, *of_long) if longer_is_alt else WeightedWindows(*of_long, *of_short)


def substituted(codes: Bytes, variant: Variant, start: int) -> Bytes:
    """Return a window of reference codes that begins at `start` with the alternate bases of a substitution in it."""
    changed = codes.copy()
    low = variant.start - start
    alt = encode(variant.alt)
    first, last = max(low, 0), min(low + len(alt), len(codes))
    changed[first:last] = alt[first - low : last - low]
    return changed


def merged(variants: Sequence[Variant], genome: Genome) -> Variant:
    """Return the variants of one haplotype as one: the stretch from the first to the last, with all alternate alleles.

    They are trimmed, on one contig, sorted and do not overlap.
    """
    contig, start, end = variants[0].contig, variants[0].start, max(variant.end for variant in variants)
    pieces, at = [], start
    for variant in variants:
        pieces += [genome.bases(contig, at, variant.start), variant.alt]
        at = variant.end
    alt = "".join([*pieces, genome.bases(contig, at, end)])
    return Variant(contig, start + 1, genome.bases(contig, start, end), alt).trimmed()
