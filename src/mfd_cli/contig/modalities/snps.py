"""Kind `snps`: the dosages of common variants."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

import numpy as np

from mfd_cli.base.arrays import Bools, Bytes, Doubles, Floats, Ints
from mfd_cli.base.errors import GenotypeError
from mfd_cli.contig.config import ModalitySection
from mfd_cli.contig.data.modality_columns import ModalityColumns
from mfd_cli.contig.data.packed_calls import MISSING, packed
from mfd_cli.contig.data.plink import PlinkFile
from mfd_cli.contig.modalities.source import LEAST_SD, Chosen, Opening, autosomal


@dataclass(frozen=True)
class SnpsSource:
    """The variants of a genotype file."""

    name: str
    modality: ModalitySection
    file: PlinkFile
    persons: tuple[str, ...]
    absent: Bools

    @property
    def path(self) -> Path:
        """The genotype file."""
        return self.file.path

    def files(self) -> list[Path]:
        """Return the genotype file."""
        return [self.file.path]

    def choose(self, training: Ints) -> Chosen:
        """Choose the variants by what training persons have; the file is read once. GenotypeError where none is left."""
        rows, columns, left_out = choose_variants(self.file, training, self.name, self.modality)
        encode = packed_codes if columns.packed else standardised_dosages
        return Chosen(columns, left_out, lambda some: encode(self.file, rows, some, columns), self.absent)


def open_snps(opening: Opening, name: str, modality: ModalitySection) -> SnpsSource:
    """Open the genotypes of a modality of kind snps."""
    genotyped = opening.genotyped(name, modality)
    return SnpsSource(name, modality, genotyped.file, genotyped.persons, genotyped.absent)


def choose_variants(
    file: PlinkFile, training: Ints, name: str, modality: ModalitySection, mib: int = 64
) -> tuple[Ints, ModalityColumns, dict[str, int]]:
    """Return the rows of the variants that are inputs, what is known of them, and why others are not; by what these persons of
    the file have, which is read in blocks of `mib` MiB.

    GenotypeError where none is left.
    """
    on_autosomes = autosomal(file)
    mean, sd, missing = dosage_statistics(file, training, mib)
    frequency = mean / 2
    # A variant that no training person was called at has no frequency: NaN compares as false.
    common = np.minimum(frequency, 1 - frequency) >= modality.maf
    called = missing <= modality.max_missing
    varied = sd > LEAST_SD
    kept = np.flatnonzero(on_autosomes & called & common & varied)
    rows = kept[:: modality.every]
    left_out = {
        "not on chromosomes 1 to 22": int((~on_autosomes).sum()),
        f"missing in more than {modality.max_missing:.0%} of training persons": int((on_autosomes & ~called).sum()),
        f"rarer than {modality.maf:g} in training persons": int((on_autosomes & called & ~(common & varied)).sum()),
        f"passed over by every = {modality.every}": len(kept) - len(rows),
    }
    if not len(rows):
        raise GenotypeError(
            f"modalities.{name}: no variant is left ({'; '.join(f'{n:,} {why}' for why, n in left_out.items() if n)})",
            path=file.path,
        )
    columns = ModalityColumns(file.variants.take(rows), mean[rows], sd[rows], missing[rows], packed=file.called)
    return rows, columns, {why: count for why, count in left_out.items() if count}


def dosage_statistics(file: PlinkFile, persons: Ints, mib: int = 64) -> tuple[Doubles, Doubles, Doubles]:
    """Return the mean and sd of the dosages of some persons, and the share of missing calls, of every variant (variants,)."""
    count = len(file.variants)
    mean, sd, missing = np.full(count, np.nan), np.zeros(count), np.ones(count)
    for rows, dosages in file.blocks(None, persons, mib):
        called = dosages >= 0
        known = called.sum(1)
        some = np.maximum(known, 1)
        first = np.where(called, dosages, 0).sum(1, dtype=np.float64) / some
        second = (np.where(called, dosages, 0).astype(np.float64) ** 2).sum(1) / some
        mean[rows] = np.where(known > 0, first, np.nan)
        sd[rows] = np.sqrt(np.maximum(second - first**2, 0))
        missing[rows] = 1 - known / max(len(persons), 1)
    return mean, sd, missing


def packed_codes(file: PlinkFile, rows: Ints, persons: Ints, columns: ModalityColumns) -> Bytes:
    """Return the packed dosages (persons, bytes) of some variants and persons of a file."""
    copies, start = np.empty((len(persons), len(rows)), np.uint8), 0
    for some, dosages in file.blocks(rows, persons):
        copies[:, start : start + len(some)] = np.where(dosages < 0, MISSING, dosages).T
        start += len(some)
    return packed(copies)


def standardised_dosages(file: PlinkFile, rows: Ints, persons: Ints, columns: ModalityColumns) -> Floats:
    """Return the standardised dosages (persons, variants) of some variants and persons of a file, 0 where missing."""
    numbers, start = np.empty((len(persons), len(rows)), np.float32), 0
    for some, dosages in file.blocks(rows, persons):
        part = slice(start, start + len(some))
        numbers[:, part] = np.where(dosages.T < 0, 0, (dosages.T - columns.mean[part]) / columns.sd[part])
        start += len(some)
    return numbers
