"""The trinucleotide change of a substitution, such as A[C>T]G: mutation rates differ between these by more than tenfold.

Classes of variants, such as rare and common ones, differ in how often they have each change, and scores differ between changes
too. So a score can tell classes apart without saying anything else; compared within one change it cannot.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from mfd_cli.base.arrays import Ints
from mfd_cli.base.errors import GenomeError
from mfd_cli.enrichment.score_table import Places
from mfd_cli.genome.alleles import Variant
from mfd_cli.genome.sequence import BASES, CODES, UNKNOWN, Genome, decode, match_contigs

NO_CONTEXT = -1
_BOTH_STRANDS = 3
"""A base code and that of its complement add up to this."""


@dataclass(frozen=True)
class Contexts:
    """The trinucleotide change of each variant: `number` (n,) into `names`, NO_CONTEXT where it has none."""

    number: Ints
    names: tuple[str, ...]

    @property
    def without(self) -> int:
        """Return how many variants have none: they are no substitution of one base, or a base beside them is unknown."""
        return int((self.number == NO_CONTEXT).sum())


def contexts_of(places: Places, ref: pa.Array, alt: pa.Array, genome: Genome) -> Contexts:
    """Return the trinucleotide changes of variants, written for the strand on which the changed base is C or T.

    Raises GenomeError where a reference base is not that of the genome, or no contig is in it.
    """
    ref, alt = (pc.fill_null(pc.utf8_upper(allele), "") for allele in (ref, alt))
    start, old, new = single_bases(places.start, ref, alt)
    codes = np.full((len(start), 3), UNKNOWN, np.uint8)
    own_contigs = match_contigs(places.names, genome.sequences, "the scores")
    for index, name in enumerate(places.names):
        if name in own_contigs:
            here = np.flatnonzero((places.contig == index) & (old < UNKNOWN))
            codes[here] = triplets(genome, own_contigs[name], start[here])
    wrong = np.flatnonzero((codes[:, 1] != old) & (codes[:, 1] < UNKNOWN) & (old < UNKNOWN))
    if len(wrong):
        first = wrong[0]
        where = f"{places.names[places.contig[first]]}:{start[first] + 1}"
        raise GenomeError(
            f"has {decode(codes[first, 1:2])} at {where}, where the scores have REF {decode(old[first : first + 1])}",
            path=genome.source,
            hint="the scores are of another assembly",
        )
    return named(codes, new)


def single_bases(start: Ints, ref: pa.Array, alt: pa.Array) -> tuple[Ints, np.ndarray, np.ndarray]:
    """Return the 0-based places (n,) and the codes (n,) of old and new base, UNKNOWN where more or less than one changes.

    `ref` and `alt` are upper-case texts (n,); bases that both alleles share are left out.
    """
    start, old, new = start.copy(), np.full(len(start), UNKNOWN, np.uint8), np.full(len(start), UNKNOWN, np.uint8)
    lengths = [pc.binary_length(allele).to_numpy(zero_copy_only=False) for allele in (ref, alt)]
    single = (lengths[0] == 1) & (lengths[1] == 1)
    for codes, allele in ((old, ref), (new, alt)):
        letters = "".join(allele.filter(pa.array(single)).to_pylist()).encode("ascii")
        codes[single] = CODES[np.frombuffer(letters, np.uint8)]
    for place in np.flatnonzero((lengths[0] == lengths[1]) & (lengths[0] > 1)).tolist():
        small = Variant("", int(start[place]) + 1, ref[place].as_py(), alt[place].as_py()).trimmed()
        if len(small.ref) == len(small.alt) == 1 and (small.ref + small.alt).isascii():
            start[place], old[place], new[place] = small.start, CODES[ord(small.ref)], CODES[ord(small.alt)]
    unknown = (old == UNKNOWN) | (new == UNKNOWN) | (old == new)
    old[unknown] = new[unknown] = UNKNOWN
    return start, old, new


def triplets(genome: Genome, contig: str, start: Ints) -> np.ndarray:
    """Return (n, 3) the codes of the bases at these places and beside them; UNKNOWN beyond the contig's ends."""
    bases = genome.sequences[contig]
    places = start[:, None] + np.arange(-1, 2)
    inside = (places >= 0) & (places < len(bases))
    return np.where(inside, CODES[bases[np.clip(places, 0, len(bases) - 1)]], np.uint8(UNKNOWN))


def named(codes: np.ndarray, new: np.ndarray) -> Contexts:
    """Return the changes of base triplets (n, 3) to a new middle base (n,), as codes."""
    known = (codes < UNKNOWN).all(1) & (new < UNKNOWN)
    purine = (codes[:, 1] % 2 == 0)[:, None]  # A is 0 and G is 2
    change = np.concatenate([codes, new[:, None]], axis=1)
    turned = _BOTH_STRANDS - change[:, [2, 1, 0, 3]].astype(np.int64)
    left, old, right, alt = np.where(purine, turned, change)[known].T
    present, places = np.unique(((old * 4 + alt) * 4 + left) * 4 + right, return_inverse=True)
    number = np.full(len(codes), NO_CONTEXT, np.int64)
    number[known] = places
    letters = BASES.tobytes().decode("ascii")
    names = tuple(
        f"{letters[key // 4 % 4]}[{letters[key // 64]}>{letters[key // 16 % 4]}]{letters[key % 4]}"
        for key in present.tolist()
    )
    return Contexts(number, names)
