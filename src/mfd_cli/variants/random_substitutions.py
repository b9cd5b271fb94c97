"""Random substitutions of a genome, wherever they fall or in the trinucleotide contexts of other variants."""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from typing import NamedTuple

import numpy as np

from mfd_cli.base.arrays import Ints
from mfd_cli.genome.alleles import Variant
from mfd_cli.genome.sequence import CODES, UNKNOWN, Genome

DRAWN_PER_WANTED, DRAWN_MORE = 4, 100
"""Random substitutions that one round draws: some fall on unknown bases, on places that are taken, or in other contexts."""


ROUNDS = 400
"""Draws of random positions before rare contexts are given up."""


class Candidates(NamedTuple):
    """Random substitutions in random order, each (n,): contig number, 0-based place, codes of both bases, context or -1."""

    contig: Ints
    place: Ints
    ref: Ints
    alt: Ints
    context: Ints


def candidates(genome: Genome, count: int, rng: np.random.Generator) -> Candidates:
    """Return at most `count` random substitutions of known bases, all places of the genome being equally likely.

    The first and last base of a contig, which have no context, are left out.
    """
    names, lengths = list(genome.lengths), np.array(list(genome.lengths.values()))
    pieces = []
    for number, share in enumerate(rng.multinomial(count, lengths / lengths.sum()).tolist()):
        if share and lengths[number] > 2:
            places = rng.integers(1, lengths[number] - 1, share)
            ref = CODES[genome.sequences[names[number]][places]].astype(np.int64)
            alt = (ref + rng.integers(1, 4, share)) % 4
            pieces.append((np.full(share, number), places, ref, alt, contexts(genome, names[number], places, alt)))
    columns = [np.concatenate(column) for column in zip(*pieces)] if pieces else [np.zeros(0, np.int64)] * 5
    order = rng.permutation(len(columns[0]))
    order = order[columns[2][order] != UNKNOWN]
    return Candidates(*(column[order] for column in columns))


def draw(genome: Genome, count: int, rng: np.random.Generator) -> list[Variant]:
    """Return `count` random substitutions of known bases at different places; fewer where the genome is too small."""
    return _accepted(genome, count, rng, None)


def draw_like(counts: Counter[int], genome: Genome, count: int, rng: np.random.Generator) -> list[Variant]:
    """Return `count` random substitutions with contexts as frequent as in `counts`; fewer where the genome lacks one.

    Shares are rounded by largest remainder, so that they add up to `count`.
    """
    total = sum(counts.values())
    if not total:
        return []
    exact = {code: count * number / total for code, number in counts.items()}
    wanted = Counter({code: int(share) for code, share in exact.items()})
    for code, _ in sorted(exact.items(), key=lambda item: int(item[1]) - item[1])[: count - sum(wanted.values())]:
        wanted[code] += 1
    return _accepted(genome, count, rng, wanted)


def _accepted(genome: Genome, count: int, rng: np.random.Generator, wanted: Counter[int] | None) -> list[Variant]:
    """Return candidates at different places until there are `count`, or until each context has as many as `wanted`."""
    names, accepted = list(genome.lengths), dict[tuple[int, int], Variant]()
    for _ in range(ROUNDS):
        drawn = candidates(genome, DRAWN_PER_WANTED * count + DRAWN_MORE, rng)
        missing = None if wanted is None else [code for code, number in wanted.items() if number > 0]
        useful = slice(None) if missing is None else np.isin(drawn.context, missing)
        for contig, start, ref, alt, code in zip(*(column[useful].tolist() for column in drawn)):
            if (contig, start) in accepted or len(accepted) == count or (wanted is not None and wanted[code] <= 0):
                continue
            if wanted is not None:
                wanted[code] -= 1
            accepted[contig, start] = Variant(names[contig], start + 1, "ACGT"[ref], "ACGT"[alt])
        if len(accepted) == count:
            break
    return _in_order(list(accepted.values()), genome)


def _in_order(variants: Sequence[Variant], genome: Genome) -> list[Variant]:
    """Return the variants in the order of the genome."""
    order = {name: i for i, name in enumerate(genome.sequences)}
    return sorted(variants, key=lambda v: (order[v.contig], v.position, v.alt))


def contexts(genome: Genome, contig: str, places: Ints, alt: Ints) -> Ints:
    """Return (places,) the context of substitutions as trinucleotide (0 to 63) x 4 + new base; -1 at and next to unknown bases.

    A mutation is seen from either strand, so all are read on the strand where the middle base is C or T: 96 contexts.
    """
    bases = genome.sequences[contig]
    three = np.stack([CODES[bases[places + step]] for step in (-1, 0, 1)]).astype(np.int64)
    known = (three != UNKNOWN).all(0)
    purine = (three[1] == 0) | (three[1] == 2)  # A or G: read on the other strand
    folded = np.where(purine, 3 - three[::-1], three)
    other = np.where(purine, 3 - alt, alt)
    code = (folded[0] * 16 + folded[1] * 4 + folded[2]) * 4 + other
    return np.where(known, code, -1)


def spectrum(variants: Sequence[Variant], genome: Genome) -> Counter[int]:
    """Count the substitutions of one base in each context."""
    counts: Counter[int] = Counter()
    single = [v for v in variants if len(v.ref) == len(v.alt) == 1 and 0 < v.start < genome.lengths[v.contig] - 1]
    for contig in dict.fromkeys(v.contig for v in single):
        own = [v for v in single if v.contig == contig]
        places, alts = np.array([v.start for v in own]), np.array(["ACGT".index(v.alt) for v in own])
        counts.update(contexts(genome, contig, places, alts).tolist())
    counts.pop(-1, None)
    return counts
