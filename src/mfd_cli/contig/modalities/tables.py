"""Kind `table`, and burdens that were made elsewhere: columns of numbers, a row per person."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

import numpy as np

from mfd_cli.base.arrays import Bools, Doubles, Ints
from mfd_cli.base.errors import ConfigError
from mfd_cli.contig.config import ModalitySection
from mfd_cli.contig.data.wide_table import (
    NOISE,
    chosen_columns,
    mostly_missing,
    noise_names,
    noise_of,
    numbers_of,
)
from mfd_cli.contig.modalities.source import Chosen, Opening, chosen_numbers


@dataclass(frozen=True)
class TableSource:
    """Columns of a table, as numbers (persons, columns)."""

    name: str
    kind: str
    path: Path
    persons: tuple[str, ...]
    columns: tuple[str, ...]
    values: Doubles
    absent: Bools

    def files(self) -> list[Path]:
        """Return the table."""
        return [self.path]

    def choose(self, training: Ints) -> Chosen:
        """Return the columns, standardised by training persons. InputError where none is left."""
        return chosen_numbers(self.name, self.kind, self.columns, self.values, self.absent, training, self.path)


def open_table(opening: Opening, name: str, modality: ModalitySection) -> TableSource:
    """Open the table of a modality, and add its columns of noise. ConfigError or TableError where it does not fit."""
    table = opening.table(name, modality)
    setting = f"modalities.{name}.columns"
    names = chosen_columns(table, modality.columns, setting)
    values = numbers_of(table, names, setting)
    added = noise_names(modality.noise)
    if any(column.startswith(NOISE) for column in names):
        raise ConfigError(
            f"{setting}: a column is called {NOISE}N, as the columns of noise that mfd adds",
            path=table.path,
            hint="give it another name",
        )
    noise = noise_of(table.persons, modality.noise, opening.project.config.split.seed)
    path = table.path or opening.project.folder
    every = np.concatenate([values, noise], 1)
    return TableSource(name, modality.kind, path, table.persons, (*names, *added), every, mostly_missing(values))
