"""Which variants of a genotype file a polygenic score means, and on which strand."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from mfd_cli.base.arrays import Bools, Doubles, Ints
from mfd_cli.contig.data.pgs_catalog import ScoreFile
from mfd_cli.contig.data.plink import Variants

OTHER_STRAND = {"A": "T", "C": "G", "G": "C", "T": "A"}
FAR = 0.1
"""How far from one half both frequencies must be, for them to tell the strand of a variant A/T or C/G."""


@dataclass(frozen=True)
class Matched:
    """The variants of a score that are used: `rows` of the genotype file, `terms` (variants, 3) for 0, 1 and 2 copies of *its*
    effect allele; how many there are in all, and of each kind."""

    rows: Ints
    terms: Doubles
    variants: int
    flipped: int
    ambiguous: int
    repeated: int
    weight_matched: float

    @property
    def share(self) -> float:
        """The share of the variants that are used."""
        return len(self.rows) / self.variants


class Index:
    """The variants of a genotype file by what a score knows them by. `wanted` (variants,) are looked at."""

    def __init__(self, variants: Variants, wanted: Bools) -> None:
        self.variants = variants
        self.by_name: dict[str, list[int]] = {}
        self.by_place: dict[tuple[str, int], list[int]] = {}
        for row in np.flatnonzero(wanted).tolist():
            place = variants.chromosome[row].removeprefix("chr"), int(variants.position[row])
            self.by_name.setdefault(variants.name[row], []).append(row)
            self.by_place.setdefault(place, []).append(row)

    def rows_of(self, score: ScoreFile, number: int) -> Sequence[int]:
        """Return the rows of the file that may be a variant of a score."""
        known: dict[tuple[str, int] | str, list[int]] = self.by_place if score.by_position else self.by_name  # type: ignore[assignment]
        return known.get(score.keys[number], ())


def match(score: ScoreFile, index: Index, ambiguous: str, frequency: Doubles) -> Matched:
    """Return which variants of a score are used, and how.

    Alleles must be the same, on either strand. What both strands agree with (A/T and C/G) is left out (`drop`), taken as it
    stands (`keep`), or settled by frequency: by that of the score beside `frequency` (variants of the file,), of its effect
    allele in training persons. A variant that comes again is left out.
    """
    rows, terms, flipped, unclear, repeated = list[int](), list[Doubles](), 0, 0, 0
    taken: set[int] = set()
    used = 0.0
    spread = (score.terms.max(1) - score.terms.min(1)) / 2
    for number in range(len(score)):
        alleles = score.effect_allele[number], score.other_allele[number]
        settled = None
        for row in index.rows_of(score, number):
            one = _strands(
                *alleles, index.variants.effect_allele[row].upper(), index.variants.other_allele[row].upper()
            )
            if one != (None, None) and (settled is None or (settled[1][0] is None and one[0] is not None)):
                settled = row, one
        if settled is None:
            continue
        row, (direct, other) = settled
        swapped = direct
        if direct is not None and other is not None:
            decided = _by_rule(ambiguous, direct, score.frequency[number], float(frequency[row]))
            if decided is None:
                unclear += 1
                continue
            swapped = decided
            other_strand = decided != direct
        else:
            other_strand = direct is None
            swapped = other if direct is None else direct
        if row in taken:
            repeated += 1
            continue
        taken.add(row)
        flipped += other_strand
        rows.append(row)
        terms.append(score.terms[number][::-1] if swapped else score.terms[number])
        used += float(spread[number])
    share = used / max(float(spread.sum()), 1e-300)
    return Matched(
        np.array(rows, np.int64),
        np.array(terms).reshape(len(rows), 3),
        len(score),
        flipped,
        unclear,
        repeated,
        share,
    )


def _strands(effect: str, other: str, first: str, second: str) -> tuple[bool | None, bool | None]:
    """How a score's alleles fit those of a variant, as they stand and on the other strand: False where its effect allele is the
    `first`, True where it is the `second`, None where they do not fit."""
    turned = OTHER_STRAND.get(effect), OTHER_STRAND.get(other) if other else ""
    flipped = None if turned[0] is None or turned[1] is None else _fit(turned[0], turned[1], first, second)
    return _fit(effect, other, first, second), flipped


def _fit(effect: str, other: str, first: str, second: str) -> bool | None:
    """Whether alleles fit, where the other one may be unknown: False as they stand, True the other way round."""
    if effect == first and other in ("", second):
        return False
    if effect == second and other in ("", first):
        return True
    return None


def _by_rule(rule: str, direct: bool, told: float, frequency: float) -> bool | None:
    """Which allele is meant of a variant that both strands agree with; None where nobody can say."""
    if rule == "keep":
        return direct
    if rule == "drop" or not np.isfinite([told, frequency]).all():
        return None
    here = 1 - frequency if direct else frequency  # of the allele that the score names, if it is on this strand
    if min(abs(told - 0.5), abs(here - 0.5)) < FAR:
        return None
    return direct if (told > 0.5) == (here > 0.5) else not direct
