"""Scoring files as the PGS Catalog has them: of the planted traits, of others, of the other strand, and of unknown variants."""

from __future__ import annotations

import gzip
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from mfd_cli.base.arrays import Bools, Doubles
from mfd_cli.contig.data.pgs_match import OTHER_STRAND
from mfd_cli.contig.simulate.people import LATENTS, Born

OTHERS = 3
"""Scores of traits that no picture shows."""
UNKNOWN = 9_000_000
"""From this number on rsIDs are of variants that were not genotyped."""


@dataclass(frozen=True)
class Planted:
    """A scoring file and the truth of it: the weights (SNPs,) of the effect alleles, which trait it is of, whether its alleles
    are of the other strand, and whether its variants are those of the genotypes."""

    name: str
    trait: str
    weights: Doubles
    other_strand: bool = False
    known: bool = True


def planted_scores(people: Born, rng: np.random.Generator) -> list[Planted]:
    """Return scores: of each latent the true weights with noise of the same variance; those of the first once more, on the
    other strand; of other traits; and one of variants that nobody has."""
    spread = np.maximum(people.copies.astype(np.float32).std(1), 1e-6)
    size = np.sqrt((people.effects**2).sum(1).mean() or 1.0)

    def noise() -> Doubles:
        """Weights that mean nothing, whose sum over a person has about the variance of a genetic value."""
        return rng.standard_normal(len(spread)) * size / np.sqrt(len(spread)) / spread

    weights = []
    for rows, effects in zip(people.causal, people.effects):
        true = np.zeros(len(spread))
        true[rows] = effects / spread[rows]
        weights.append(true)
    planted = [(trait, true + noise(), False, True) for trait, true in zip(LATENTS, weights)]
    planted.append((LATENTS[0], weights[0] + noise(), True, True))
    planted += [(f"other trait {number + 1}", noise(), False, True) for number in range(OTHERS)]
    planted.append(("unknown variants", noise(), False, False))
    return [Planted(f"PGS9{number:05}", *one) for number, one in enumerate(planted, start=1)]


def write_scores(folder: Path, people: Born, scores: list[Planted]) -> None:
    """Write the scoring files, packed by gzip."""
    folder.mkdir()
    for score in scores:
        lines = ["###PGS CATALOG SCORING FILE", f"#pgs_id={score.name}", f"#trait_reported={score.trait}"]
        lines += ["#genome_build=GRCh38", "#weight_type=beta"]
        lines.append("rsID\tchr_name\tchr_position\teffect_allele\tother_allele\teffect_weight")
        variants = people.variants
        for row, weight in enumerate(score.weights.tolist()):
            alleles = variants.effect_allele[row], variants.other_allele[row]
            effect, other = (OTHER_STRAND[one] for one in alleles) if score.other_strand else alleles
            name = variants.name[row] if score.known else f"rs{UNKNOWN + row}"
            lines.append(
                f"{name}\t{variants.chromosome[row]}\t{variants.position[row]}\t{effect}\t{other}\t{weight:.6g}"
            )
        text = "".join(f"{line}\n" for line in lines).encode()
        (folder / f"{score.name}.txt.gz").write_bytes(gzip.compress(text, mtime=0))


def truth_of(scores: list[Planted], people: Born, genotyped: Bools) -> list[dict[str, Any]]:
    """Return what is true of each score: its trait, and the squared correlation with each latent in those who are genotyped."""
    copies = people.copies[:, genotyped].astype(np.float64)
    rows = []
    for score in scores:
        value = score.weights @ copies
        facts: dict[str, Any] = {"score": score.name, "trait": score.trait}
        facts |= {"other_strand": "yes" if score.other_strand else "no", "known": "yes" if score.known else "no"}
        for number, latent in enumerate(LATENTS):
            r = np.corrcoef(value, people.latents[genotyped, number])[0, 1] if score.known else np.nan
            facts[f"r2 {latent}"] = float(r**2)
        rows.append(facts)
    return rows
