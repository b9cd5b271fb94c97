"""What every kind of modality is on its way from files into a cohort."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Protocol

import numpy as np

from mfd_cli.base.arrays import Bools, Bytes, Doubles, Floats, Ints
from mfd_cli.base.errors import ConfigError, InputError, nearest
from mfd_cli.base.files import check_input
from mfd_cli.contig.config import ContigProject, ModalitySection
from mfd_cli.contig.data.modality_columns import ModalityColumns, named_columns
from mfd_cli.contig.data.plink import PlinkFile
from mfd_cli.contig.data.tables import Table, read_table
from mfd_cli.contig.data.vcf_genotypes import open_genotypes
from mfd_cli.contig.data.wide_table import MOSTLY, NOISE, mostly_missing

LEAST_SD = 1e-6
"""Of dosages in training persons: a variant that is the same in all cannot be standardised; of other numbers as a share of
their mean."""


@dataclass(frozen=True)
class Chosen:
    """The inputs of a modality, and why others are not used.

    `values` gives what shards hold of some rows of the file: packed dosages (rows, bytes) or standardised numbers (rows,
    inputs); `absent` (rows of the file,) says of whom they mean nothing. `facts` are the rows of a table of the report.
    """

    columns: ModalityColumns
    left_out: Mapping[str, int]
    values: Callable[[Ints], Bytes | Floats]
    absent: Bools
    facts: Sequence[Mapping[str, Any]] = ()


class Source(Protocol):
    """An opened modality. `persons` names who has a row, and `absent` (persons,) those whose row is mostly missing."""

    @property
    def path(self) -> Path:
        """The file that an error names."""

    @property
    def persons(self) -> tuple[str, ...]:
        """Who has a row in it."""

    @property
    def absent(self) -> Bools:
        """Who (persons,) has one that is mostly missing."""

    def choose(self, training: Ints) -> Chosen:
        """Return the inputs, by what these rows of the file have: those of training persons."""

    def files(self) -> list[Path]:
        """Return the files that it is made of."""


@dataclass(frozen=True)
class Genotyped:
    """A genotype file with a name for each person, and who (persons,) has more than half of the autosomal calls missing."""

    file: PlinkFile
    persons: tuple[str, ...]
    absent: Bools


@dataclass
class Opening:
    """A project whose files are being opened: one that several modalities name is read once."""

    project: ContigProject
    genotypes: dict[Path, Genotyped] = field(default_factory=dict)
    tables: dict[Path, Table] = field(default_factory=dict)

    def genotyped(self, name: str, modality: ModalitySection) -> Genotyped:
        """Return the genotypes of a modality: its file, or data.genotypes. ConfigError where neither is named."""
        path = self._path(name, modality.file, "genotypes")
        if path not in self.genotypes:
            config = self.project.config
            file = open_genotypes(path, config.data.dosage)
            self.genotypes[path] = Genotyped(file, file.names(config.persons.id), mostly_uncalled(file))
        return self.genotypes[path]

    def table(self, name: str, modality: ModalitySection) -> Table:
        """Return the table of a modality: its file, or data.covariates. ConfigError where neither is named."""
        path = self._path(name, modality.file, "covariates")
        if path not in self.tables:
            self.tables[path] = read_table(check_input(path, InputError), self.project.config.persons.missing)
        return self.tables[path]

    def files_of(self, patterns: Sequence[str], setting: str) -> list[Path]:
        """Return the files that patterns name, relative to the project, by name. ConfigError where one names none."""
        found: dict[Path, None] = {}
        for pattern in patterns:
            relative = Path(pattern)
            base = Path(relative.anchor) if relative.is_absolute() else self.project.folder
            matching = sorted(base.glob(str(relative.relative_to(relative.anchor))))
            if not matching:
                beside = {path.name for path in self.project.path(pattern).parent.glob("*")}
                raise ConfigError(
                    f"{setting}: there is no file {pattern}{nearest(relative.name, beside)}", path=self.project.file
                )
            found |= dict.fromkeys(matching)
        return list(found)

    def _path(self, name: str, file: str | None, default: str) -> Path:
        chosen = file or getattr(self.project.config.data, default)
        if chosen is None:
            raise ConfigError(
                f"modalities.{name} has no file, and there is no data.{default}",
                path=self.project.file,
                hint=f'{default} = "FILE" in [data]',
            )
        return self.project.path(chosen)


AUTOSOMES = frozenset(map(str, range(1, 23)))


def autosomal(file: PlinkFile) -> Bools:
    """Return which variants (variants,) of a file lie on chromosomes 1 to 22."""
    return np.array([chromosome.removeprefix("chr") in AUTOSOMES for chromosome in file.variants.chromosome], bool)


def mostly_uncalled(file: PlinkFile, mib: int = 64) -> Bools:
    """Return who (persons,) has more than half of the autosomal calls missing; the file is read once."""
    rows = np.flatnonzero(autosomal(file))
    missing = np.zeros(len(file.persons), np.int64)
    for _, dosages in file.blocks(rows, None, mib):
        missing += np.count_nonzero(dosages < 0, axis=0)
    uncalled: Bools = missing > MOSTLY * len(rows)
    return uncalled


def chosen_numbers(
    name: str,
    kind: str,
    names: Sequence[str],
    values: Doubles,
    absent: Bools,
    training: Ints,
    path: Path,
    *,
    chromosome: Sequence[str] = (),
    position: Sequence[int] = (),
    left_out: Mapping[str, int] | None = None,
    facts: Sequence[Mapping[str, Any]] = (),
) -> Chosen:
    """Return columns of numbers (rows, columns), NaN where missing, standardised by the training rows; the chromosomes and
    positions of genes are told.

    A row with more than half of its cells missing, noise aside, is absent. A column that is the same in all training persons,
    or known in none, is left out. InputError where none is left.
    """
    real = np.array([not column.startswith(NOISE) for column in names], bool)
    absent = absent | mostly_missing(values[:, real])
    known = values[np.setdiff1d(training, np.flatnonzero(absent))]
    count = (~np.isnan(known)).sum(0)
    mean = np.where(np.isnan(known), 0, known).sum(0) / np.maximum(count, 1)
    spread = np.where(np.isnan(known), 0, known - mean)
    sd = np.sqrt((spread**2).sum(0) / np.maximum(count, 1))
    varied = (count > 0) & (sd > LEAST_SD * np.maximum(np.abs(mean), 1e-6))
    reasons = dict(left_out or {})
    reasons["the same in all training persons, or missing in all"] = int((~varied).sum())
    kept = np.flatnonzero(varied)
    if not len(kept):
        raise InputError(
            f"modalities.{name}: no column is left ({'; '.join(f'{n:,} {why}' for why, n in reasons.items() if n)})",
            path=path,
        )
    standardised = (values[:, kept] - mean[kept]) / sd[kept]
    numbers = np.where(np.isnan(standardised), 0, standardised).astype(np.float32)
    labels = [names[column] for column in kept.tolist()]
    where = [chromosome[number] for number in kept.tolist()] if chromosome else []
    at = [position[number] for number in kept.tolist()] if position else []
    columns = ModalityColumns(
        named_columns(labels, where, at),
        mean[kept],
        sd[kept],
        1 - count[kept] / max(len(known), 1),
        kind,
        packed=False,
    )
    return Chosen(columns, {why: n for why, n in reasons.items() if n}, lambda rows: numbers[rows], absent, facts)
