"""Genetic principal components as covariates: of independent, frequent, autosomal variants, fitted on some persons."""

from __future__ import annotations

from collections.abc import Iterator

import numpy as np

from mfd_cli.base.arrays import Doubles, Int8s, Ints
from mfd_cli.base.errors import InputError
from mfd_cli.base.progress import Progress
from mfd_cli.contig.core.association import Pruner, genetic_components, moments
from mfd_cli.contig.data.plink import PlinkFile
from mfd_cli.contig.gwas.chromosomes import autosomal, codes_of

MOST_VARIANTS = 20_000
"""Variants that the components are of."""
MOST_CANDIDATES = 60_000
"""Variants, evenly spaced, that are looked at for correlation."""
MOST_FOR_CORRELATION = 2_000
"""Persons, evenly spaced, by whom correlations are judged: r2 of 0.1 is told from 0 by far fewer."""
FREQUENT = 0.05
"""Rarer variants tell families apart rather than ancestries."""
COMPLETE = 0.9
"""Share of calls that a variant must have."""
R2 = 0.1


def genetic_pcs(
    genotypes: PlinkFile, tested: Ints, fitted: Ints, count: int, mib: int, progress: Progress | None = None
) -> tuple[Doubles, int]:
    """Return `count` components (tested persons, count), fitted on the rows `fitted`, and of how many variants they are.

    `tested` and `fitted` are rows of the genotype file. Raises InputError where there are too few variants or persons.
    """
    variants = independent_variants(genotypes, fitted, mib, progress)
    people = np.union1d(tested, fitted)
    if len(variants) <= count or len(fitted) <= count:
        raise InputError(
            f"{count} genetic components cannot be made of {len(variants):,} independent variants "
            f"and {len(fitted):,} persons",
            path=genotypes.path,
            hint="gwas.genetic_pcs = 0 does without, or with those of the covariates",
        )

    def blocks() -> Iterator[Int8s]:
        return (dosages for _, dosages in genotypes.blocks(variants, people, max(mib // 8, 1)))  # they become float64

    components = genetic_components(blocks, np.isin(people, fitted), count)
    return components[np.searchsorted(people, tested)], len(variants)


def independent_variants(genotypes: PlinkFile, fitted: Ints, mib: int = 64, progress: Progress | None = None) -> Ints:
    """Return the rows of frequent autosomal variants that do not correlate with each other (r2 < 0.1), at most 20,000."""
    candidates = evenly(autosomal(genotypes.variants.chromosome), MOST_CANDIDATES)
    code = codes_of(genotypes.variants.chromosome)
    people = evenly(fitted, MOST_FOR_CORRELATION)
    pruner, kept, done = Pruner(R2), list[Ints](), 0
    for rows, dosages in genotypes.blocks(candidates, people, max(mib // 8, 1)):
        frequency = moments(dosages)[0] / 2
        good = (np.minimum(frequency, 1 - frequency) >= FREQUENT) & ((dosages >= 0).mean(axis=1) >= COMPLETE)
        rows, dosages = rows[good], dosages[good]
        kept.append(rows[pruner.keep(dosages, code[rows])])
        done += len(good)
        if progress:
            progress("choosing independent variants", done, len(candidates))
    return evenly(np.concatenate(kept) if kept else np.zeros(0, np.int64), MOST_VARIANTS)


def evenly(values: Ints, most: int) -> Ints:
    """Return at most so many of some values, evenly spaced.

    >>> evenly(np.arange(10), 4).tolist()
    [0, 2, 5, 7]
    """
    return values if len(values) <= most else values[np.arange(most) * len(values) // most]
