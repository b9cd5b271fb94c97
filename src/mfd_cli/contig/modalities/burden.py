"""Kind `burden`: how many rare alleles a person has in a gene, per mask; or a ready table of such numbers."""

from __future__ import annotations

from collections import Counter
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from mfd_cli.base.arrays import Bools, Doubles, Ints
from mfd_cli.base.errors import InputError, few
from mfd_cli.contig.config import ModalitySection
from mfd_cli.contig.data.burden_sets import BurdenPlan, read_plan
from mfd_cli.contig.data.plink import PlinkFile
from mfd_cli.contig.data.variant_weights import Weights, file_and_column, read_weights
from mfd_cli.contig.modalities.snps import dosage_statistics
from mfd_cli.contig.modalities.source import Chosen, Opening, Source, chosen_numbers
from mfd_cli.contig.modalities.tables import open_table


@dataclass(frozen=True)
class BurdenSource:
    """Rare variants of a genotype file, and which of them count for which gene."""

    name: str
    modality: ModalitySection
    file: PlinkFile
    persons: tuple[str, ...]
    absent: Bools
    plan: BurdenPlan
    weights: Weights | None
    tables: tuple[Path, ...]

    @property
    def path(self) -> Path:
        """The genotype file."""
        return self.file.path

    def files(self) -> list[Path]:
        """Return the genotype file and the tables."""
        return [self.file.path, *self.tables]

    def choose(self, training: Ints) -> Chosen:
        """Count the rare alleles of all persons in each gene, per mask. A missing call counts as none of them, and where all of
        a gene's are missing, so is the count. InputError where no column is left."""
        names, values, places, left_out = [], [], list[tuple[str, int]](), Counter[str]()
        rare = _rare_alleles(self.file, training)
        row_of = {name: row for row, name in enumerate(self.file.variants.name)}
        for gene in self.plan.sets:
            for mask in self.plan.masks:
                known = [row_of[name] for name in self.plan.counted(gene, mask) if name in row_of]
                rows = np.array(sorted(row for row in known if rare[row] <= self.modality.max_maf), np.int64)
                if not len(rows):
                    left_out[f"without a genotyped variant rarer than {self.modality.max_maf:g}"] += 1
                    continue
                weights = np.ones(len(rows)) if self.weights is None else self.weights.of(self.file.variants, rows)
                rows, weights = rows[~np.isnan(weights)], weights[~np.isnan(weights)]
                if not len(rows):
                    left_out["without a variant that has a weight"] += 1
                    continue
                copies = rare_copies(self.file, rows, training)
                carriers = int((copies[:, training] > 0).any(0).sum())
                if carriers < self.modality.min_carriers:
                    left_out[f"with fewer than {self.modality.min_carriers} carriers in training persons"] += 1
                    continue
                names.append(f"{gene.gene}.{mask}")
                values.append(burden_of(copies, self.modality.build, weights))
                places.append((gene.chromosome, gene.position))
        if not names:
            why = "; ".join(f"{count:,} {reason}" for reason, count in left_out.items())
            raise InputError(f"modalities.{self.name}: no burden is left ({why})", path=self.path)
        return chosen_numbers(
            self.name,
            "burden",
            names,
            np.stack(values, 1),
            self.absent,
            training,
            self.path,
            chromosome=[place[0] for place in places],
            position=[place[1] for place in places],
            left_out=left_out,
        )


def open_burden(opening: Opening, name: str, modality: ModalitySection) -> Source:
    """Open a modality of kind burden: genotypes with annotation, sets and masks, or a ready table."""
    if modality.annotation is None or modality.sets is None or modality.masks is None:
        return open_table(opening, name, modality)
    tables = [opening.project.path(text) for text in (modality.annotation, modality.sets, modality.masks)]
    weights = None
    if modality.weights:
        text, column = file_and_column(modality.weights, f"modalities.{name}.weights")
        weights = read_weights(opening.project.path(text), column)
        tables.append(weights.path)
    plan = read_plan(tables[0], tables[1], tables[2])
    genotyped = opening.genotyped(name, modality)
    known = set(genotyped.file.variants.name)
    named = [variant for gene in plan.sets for variant in gene.variants]
    if not known & set(named):
        raise InputError(
            f"names no variant of {genotyped.file.path} ({few(named, 3)} beside {few(genotyped.file.variants.name, 3)})",
            path=tables[1],
            hint="variants are named as in the .bim; those of a VCF without a name are CHROMOSOME:POSITION:REF:ALT",
        )
    persons, absent = genotyped.persons, genotyped.absent
    return BurdenSource(name, modality, genotyped.file, persons, absent, plan, weights, tuple(tables))


def _rare_alleles(file: PlinkFile, training: Ints) -> Doubles:
    """The frequency of the rarer allele (variants,) in training persons, NaN where none was called."""
    frequency = dosage_statistics(file, training)[0] / 2
    rarer: Doubles = np.minimum(frequency, 1 - frequency)
    return rarer


def rare_copies(file: PlinkFile, rows: Ints, training: Ints) -> Doubles:
    """Return copies of the allele that is rarer in training persons (variants, persons of the file), NaN where missing."""
    parts = []
    for _, dosages in file.blocks(rows):
        copies = np.where(dosages < 0, np.nan, dosages.astype(np.float64))
        known = copies[:, training]
        mean = np.where(np.isnan(known), 0, known).sum(1) / np.maximum((~np.isnan(known)).sum(1), 1)
        parts.append(np.where(mean[:, None] > 1, 2 - copies, copies))
    return np.concatenate(parts)


def burden_of(copies: Doubles, build: str, weights: Doubles) -> Doubles:
    """Return a burden (persons,) of copies (variants, persons): their largest (`max`), their sum, or with weights; NaN where
    all are missing."""
    known = np.where(np.isnan(copies), 0, copies)
    value = known.max(0) if build == "max" else weights @ known
    return np.where(np.isnan(copies).all(0), np.nan, value)
