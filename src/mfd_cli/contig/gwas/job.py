"""What is tested on whom, and what comes of it."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from mfd_cli.base.arrays import Doubles, Floats, Int8s, Ints
from mfd_cli.contig.config import GwasSection
from mfd_cli.contig.core.association import Regression
from mfd_cli.contig.data.plink import PlinkFile
from mfd_cli.contig.gwas.clump import Clump


@dataclass(frozen=True)
class Run:
    """Which of all traits are of one run's features, and where its loci are."""

    name: str
    traits: slice
    loci: Sequence[Clump] = ()


@dataclass(frozen=True)
class Job:
    """What is tested on whom: `rows` are those of the genotype file, `covariates` the names of those that are used."""

    genotypes: PlinkFile
    rows: Ints
    regression: Regression
    settings: GwasSection
    runs: Sequence[Run]
    covariates: tuple[str, ...]

    def load(self, variants: Ints) -> Int8s:
        """Return the dosages (variants, tested persons) of some rows of the file."""
        blocks = self.genotypes.blocks(variants, self.rows, self.settings.memory)
        return np.concatenate([dosages for _, dosages in blocks])


@dataclass(frozen=True)
class Found:
    """All variants of the file: reason (variants,), P and chi-square of each trait, least P of each run (variants, runs)."""

    reason: Ints
    unfit: Sequence[str]
    neg_log_10_p: Floats
    chi_square: Floats
    least: Doubles
