"""Persons who were never born: haplotypes in blocks, siblings, and latents that genes, age and sex move."""

from __future__ import annotations

from dataclasses import dataclass
from statistics import NormalDist

import numpy as np

from mfd_cli.base.arrays import Bytes, Doubles, Ints
from mfd_cli.contig.data.plink import Variants
from mfd_cli.contig.simulate.centres import SHIFT_SHARE, SHIFTED, Structure, structure_of
from mfd_cli.contig.simulate.options import CohortOptions, Scale

BLOCK = 5
"""SNPs of a block of linkage disequilibrium."""
LINKAGE = 0.7
"""Correlation of what lies behind the alleles of a block, on one haplotype."""
CAUSAL_CHROMOSOMES = 0.6
"""Share of the chromosomes, the first ones, that may hold causes."""
CAUSES = 2
"""Causal SNPs of each latent."""
AGE_AND_SEX = 0.1
"""Share of a latent's variance that age and sex explain, half each."""
LATENTS = ("disc radius", "disc angle", "vessel curvature")
APART = 400_000
"""Base pairs from one block to the next, more than any clump spans."""
WITHIN = 5_000
"""Base pairs from one SNP of a block to the next."""


@dataclass(frozen=True)
class Born:
    """Persons and what is true of them.

    `copies` (SNPs, persons) of the effect allele; `latents` (persons, latents) of mean 0 and sd 1; `causal` (latents, CAUSES)
    the rows of causal SNPs and `effects` of the same shape, in sd of the latent per sd of the dosage.
    """

    variants: Variants
    copies: Bytes
    families: tuple[str, ...]
    age: Doubles
    sex: Ints
    latents: Doubles
    causal: Ints
    effects: Doubles
    structure: Structure | None = None


def born(
    scale: Scale, options: CohortOptions, rng: np.random.Generator, of_centres: np.random.Generator | None = None
) -> Born:
    """Draw the persons of a cohort; siblings are the first ones, two by two. `of_centres` draws what a world with structure has
    beside."""
    variants = _variants(scale, rng)
    frequency = rng.uniform(0.1, 0.5, scale.snps // BLOCK * BLOCK)
    structure = None
    if options.structure:
        structure = structure_of(scale, frequency, options.structure, of_centres or np.random.default_rng(0))
    copies = _genotypes(scale, variants, frequency, structure, rng)
    causal = _causes(scale, variants, rng)
    age, sex = rng.uniform(40, 70, scale.persons).round(1), rng.integers(0, 2, scale.persons)
    effects = np.where(rng.random(causal.shape) < 0.5, -1.0, 1.0) * np.sqrt(options.h2 / CAUSES)
    if options.null:
        effects = np.zeros_like(effects)
    genetic = np.stack([_standard(copies[rows]).T @ weights for rows, weights in zip(causal, effects)], 1)
    signs = np.where(rng.random((2, len(LATENTS))) < 0.5, -1.0, 1.0) * np.sqrt(AGE_AND_SEX / 2)
    known = _standard(age)[:, None] * signs[0] + _standard(sex)[:, None] * signs[1]
    rest = 1 - AGE_AND_SEX - (effects**2).sum(1)
    between = np.zeros(len(LATENTS))
    if structure is not None:
        between[SHIFTED] = SHIFT_SHARE * rest[SHIFTED]
    latents = genetic + known + np.sqrt(rest - between) * rng.standard_normal((scale.persons, len(LATENTS)))
    if structure is not None:
        latents[:, SHIFTED] += structure.shift(between[SHIFTED])
    pairs = [f"F{number // 2:05}" if number < 2 * scale.pairs else f"F{number:05}x" for number in range(scale.persons)]
    return Born(variants, copies, tuple(pairs), age, sex, latents, causal, effects, structure)


def _variants(scale: Scale, rng: np.random.Generator) -> Variants:
    """Names and places of the SNPs: blocks of five, evenly over the chromosomes."""
    blocks = np.arange(scale.snps) // BLOCK
    chromosome = blocks * scale.chromosomes // (scale.snps // BLOCK) + 1
    first = np.searchsorted(chromosome, chromosome)
    position = 1_000_000 + (blocks - blocks[first]) * APART + np.arange(scale.snps) % BLOCK * WITHIN
    alleles = [("A", "G"), ("C", "T"), ("G", "A"), ("T", "C")]
    drawn = [alleles[number] for number in rng.integers(0, 4, scale.snps)]
    return Variants(
        tuple(map(str, chromosome.tolist())),
        tuple(f"rs{1_000 + number}" for number in range(scale.snps)),
        position.astype(np.int64),
        tuple(effect for effect, _ in drawn),
        tuple(other for _, other in drawn),
    )


def _genotypes(
    scale: Scale, variants: Variants, frequency: Doubles, structure: Structure | None, rng: np.random.Generator
) -> Bytes:
    """Copies of the effect allele (SNPs, persons). A sibling has of each chromosome one of each parent's two, whole."""
    count = len(frequency)
    threshold = np.array([_quantile(share) for share in frequency])[:, None]
    of_pairs = of_others = threshold
    if structure is not None:
        each = np.array([[_quantile(share) for share in row] for row in structure.frequency.tolist()])
        of_pairs = each[:, structure.population[: 2 * scale.pairs : 2]]
        of_others = each[:, structure.population[2 * scale.pairs :]]

    def haplotypes(number: int, below: Doubles) -> Bytes:
        """(SNPs, number) alleles of haplotypes that were drawn independently; `below` are their thresholds."""
        shared = np.repeat(rng.standard_normal((count // BLOCK, number)), BLOCK, 0)
        own = rng.standard_normal((count, number))
        liability = np.sqrt(LINKAGE) * shared + np.sqrt(1 - LINKAGE) * own
        return (liability < below).astype(np.uint8)

    chromosome = np.unique(np.array(variants.chromosome, int), return_inverse=True)[1]
    parents = [haplotypes(scale.pairs, of_pairs) for _ in range(4)]  # two of each parent
    siblings = np.empty((count, 2 * scale.pairs), np.uint8)
    for child in range(2):
        got = np.zeros((count, scale.pairs), np.uint8)
        for one, other in ((parents[0], parents[1]), (parents[2], parents[3])):
            which = rng.integers(0, 2, (scale.chromosomes, scale.pairs), dtype=np.uint8)[chromosome]
            got += np.where(which == 0, one, other)
        siblings[:, child::2] = got
    others = scale.persons - 2 * scale.pairs
    return np.concatenate([siblings, haplotypes(others, of_others) + haplotypes(others, of_others)], 1)


def _causes(scale: Scale, variants: Variants, rng: np.random.Generator) -> Ints:
    """Rows of causal SNPs (latents, CAUSES), each in a block of its own on the chromosomes that may hold causes."""
    allowed = np.array(variants.chromosome, int) <= round(CAUSAL_CHROMOSOMES * scale.chromosomes)
    blocks = np.unique(np.flatnonzero(allowed) // BLOCK)
    chosen = rng.permutation(blocks)[: len(LATENTS) * CAUSES]
    return np.sort((chosen * BLOCK + BLOCK // 2).reshape(len(LATENTS), CAUSES), 1)


def _standard(values: Doubles | Ints | Bytes) -> Doubles:
    """Values of mean 0 and sd 1, along the last axis."""
    centred = values - values.mean(-1, keepdims=True)
    return np.asarray(centred / np.maximum(centred.std(-1, keepdims=True), 1e-12), np.float64)


def _quantile(share: float) -> float:
    """The number below which a standard normal one falls with this probability."""
    return NormalDist().inv_cdf(share)
