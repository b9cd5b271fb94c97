"""A small planted world of genotypes, features and covariates, for the tests of associations."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

import numpy as np

from mfd_cli.base.arrays import Doubles, Int8s
from mfd_cli.contig.data.plink import PlinkFile, Variants, open_plink, write_plink
from mfd_cli.contig.data.tables import Table
from mfd_cli.contig.gwas.inputs import Features

CAUSAL = 12
"""The row of the variant that moves the features."""


def variants_of(count: int, per_block: int = 5, blocks_per_chromosome: int = 4) -> Variants:
    """Variants in blocks 1 Mb apart, on as many chromosomes as it takes."""
    block = np.arange(count) // per_block
    chromosome = tuple(str(1 + number // blocks_per_chromosome) for number in block.tolist())
    position = 1_000_000 * (1 + block % blocks_per_chromosome) + 1000 * (np.arange(count) % per_block)
    bases = "ACGT"
    effect = tuple(bases[row % 4] for row in range(count))
    other = tuple(bases[(row + 1) % 4] for row in range(count))
    return Variants(chromosome, tuple(f"rs{row + 1}" for row in range(count)), position, effect, other)


def linked_dosages(
    persons: int, count: int, rng: np.random.Generator, per_block: int = 5, missing: float = 0.0
) -> Int8s:
    """Dosages (variants, persons) in blocks of linked variants (latent correlation 0.7)."""
    shape = (2, -(-count // per_block), per_block, persons)
    shared = rng.standard_normal((2, shape[1], 1, persons))
    latent = np.sqrt(0.7) * shared + np.sqrt(0.3) * rng.standard_normal(shape)
    cut = rng.uniform(-0.7, 0.7, (1, shape[1], per_block, 1))
    dosages = (latent > cut).sum(axis=0).reshape(-1, persons)[:count].astype(np.int8)
    dosages[rng.random(dosages.shape) < missing] = -1
    return dosages


@dataclass(frozen=True)
class GeneticWorld:
    """What a GWAS needs, and the dosages (variants, persons) that were written."""

    genotypes: PlinkFile
    dosages: Int8s
    features: Features
    covariates: Table


def genetic_world(
    folder: Path, persons: int = 400, count: int = 60, seed: int = 1, missing: float = 0.01, effect: float = 1.2
) -> GeneticWorld:
    """One causal variant moves the first of eight features; sex and age move it too."""
    rng = np.random.default_rng(seed)
    dosages = linked_dosages(persons, count, rng, missing=missing)
    ids = tuple(f"p{number:04d}" for number in range(persons))
    variants = variants_of(count)
    write_plink(folder / "g.bed", ids, ["0"] * persons, variants, dosages)
    age, sex = rng.uniform(40, 70, persons), rng.integers(0, 2, persons)
    matrix: Doubles = rng.standard_normal((persons, 8))
    matrix[:, 0] *= 2
    matrix[:, 0] += effect * np.maximum(dosages[CAUSAL], 0) + 0.05 * age + 0.5 * sex
    order = rng.permutation(persons)
    features = Features(
        "model", tuple(ids[i] for i in order), matrix[order], tuple(ids[i] for i in order), np.ones(persons)
    )
    table = Table(None, ids, {"sex": tuple("FM"[one] for one in sex), "age": age})
    return GeneticWorld(open_plink(folder / "g.bed"), dosages, features, table)
