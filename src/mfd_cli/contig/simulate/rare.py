"""Genes with rare variants, of which three make lesions."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from mfd_cli.base.arrays import Bools, Bytes, Doubles, Ints
from mfd_cli.contig.data.plink import Variants
from mfd_cli.contig.simulate.options import CohortOptions, Scale

GENES, PER_GENE = 40, 10
CAUSAL_GENES = 3
EXPLAINED = 0.12
"""Share of the variance of the latent of lesions that a causal gene explains."""
RAREST, COMMONEST = 0.002, 0.009
CLASSES = ("LoF", "missense", "synonymous")
"""The first two of which do something."""
START, APART, WITHIN = 200_000_000, 50_000, 300
"""Position of the first gene of a chromosome, from one gene to the next, from one variant of a gene to the next: base pairs."""


@dataclass(frozen=True)
class Exome:
    """Rare variants: `copies` (variants, persons), the `gene` (variants,) and the class of each; `causal` (genes,) says which
    genes make lesions, `effects` (genes,) how strongly, in sd of the latent for a carrier; `lesions` (persons,) is the
    latent."""

    variants: Variants
    copies: Bytes
    gene: Ints
    classes: tuple[str, ...]
    names: tuple[str, ...]
    causal: Bools
    effects: Doubles
    lesions: Doubles


def exome_of(scale: Scale, options: CohortOptions, rng: np.random.Generator) -> Exome:
    """Draw rare variants and what they do. Siblings have of each gene one of each parent's two, whole."""
    gene = np.repeat(np.arange(GENES), PER_GENE)
    names = tuple(f"GENE{number + 1:02}" for number in range(GENES))
    chromosome = np.arange(GENES) % scale.chromosomes + 1
    position = START + np.arange(GENES) // scale.chromosomes * APART
    classes = tuple(CLASSES[number] for number in rng.choice(3, len(gene), p=(0.3, 0.4, 0.3)))
    pairs = [("A", "G"), ("C", "T"), ("G", "A"), ("T", "C")]
    drawn = [pairs[number] for number in rng.integers(0, 4, len(gene))]
    variants = Variants(
        tuple(map(str, chromosome[gene].tolist())),
        tuple(f"rare{number + 1:03}" for number in range(len(gene))),
        (position[gene] + np.arange(len(gene)) % PER_GENE * WITHIN).astype(np.int64),
        tuple(effect for effect, _ in drawn),
        tuple(other for _, other in drawn),
    )
    copies = _copies(scale, rng.uniform(RAREST, COMMONEST, len(gene)), gene, rng)
    causal = np.zeros(GENES, bool)
    causal[rng.permutation(GENES)[:CAUSAL_GENES]] = not options.null
    damaging = np.array(classes) != CLASSES[2]
    carrier = np.stack([(copies[(gene == one) & damaging] > 0).any(0) for one in range(GENES)]).astype(float)
    spread = np.maximum(carrier.std(1), 1e-9)
    effects = np.where(causal, np.sqrt(EXPLAINED) / spread, 0.0)
    genetic = effects @ (carrier - carrier.mean(1, keepdims=True))
    rest = 1 - EXPLAINED * causal.sum()
    lesions = genetic + np.sqrt(rest) * rng.standard_normal(scale.persons)
    return Exome(variants, copies, gene, classes, names, causal, effects, lesions)


def _copies(scale: Scale, frequency: Doubles, gene: Ints, rng: np.random.Generator) -> Bytes:
    """Copies of the rare alleles (variants, persons); siblings come first, two by two."""

    def haplotypes(number: int) -> Bytes:
        return (rng.random((len(gene), number)) < frequency[:, None]).astype(np.uint8)

    parents = [haplotypes(scale.pairs) for _ in range(4)]  # two of each parent
    siblings = np.zeros((len(gene), 2 * scale.pairs), np.uint8)
    for child in range(2):
        for one, other in ((parents[0], parents[1]), (parents[2], parents[3])):
            which = rng.integers(0, 2, (GENES, scale.pairs), dtype=np.uint8)[gene]
            siblings[:, child::2] += np.where(which == 0, one, other)
    others = scale.persons - 2 * scale.pairs
    return np.concatenate([siblings, haplotypes(others) + haplotypes(others)], 1)
