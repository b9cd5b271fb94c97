"""Columns of a table as numbers for a network: chosen by name or pattern, two words as 0 and 1, noise beside them."""

from __future__ import annotations

import hashlib
from collections.abc import Sequence
from fnmatch import fnmatchcase

import numpy as np

from mfd_cli.base.arrays import Bools, Doubles
from mfd_cli.base.errors import ConfigError, TableError, few, nearest
from mfd_cli.contig.data.tables import Table

NOISE = "noise."
"""What the names of columns of noise begin with, before their number from 1."""
MOSTLY = 0.5
"""Share of a row that may be missing: with more the person counts as absent."""


def chosen_columns(table: Table, patterns: Sequence[str], setting: str) -> tuple[str, ...]:
    """Return the columns of a table that the patterns name, in the order of the table. ConfigError where one names none."""
    for pattern in patterns:
        if not any(fnmatchcase(name, pattern) for name in table.names):
            raise ConfigError(
                f"{setting} names {pattern!r}, which {table.path} does not have{nearest(pattern, table.names)}"
            )
    return tuple(name for name in table.names if any(fnmatchcase(name, pattern) for pattern in patterns))


def numbers_of(table: Table, names: Sequence[str], setting: str) -> Doubles:
    """Return columns of a table as numbers (persons, columns), NaN where missing.

    Of a column of two words the one that comes first in the alphabet is 0, the other 1. TableError for one of other words.
    """
    columns = [_numbers(table, name, setting) for name in names]
    return np.stack(columns, 1) if columns else np.zeros((len(table.persons), 0))


def _numbers(table: Table, name: str, setting: str) -> Doubles:
    """One column as numbers."""
    column = table.columns[name]
    if isinstance(column, np.ndarray):
        return column
    levels = sorted({text for text in column if text})
    if len(levels) > 2:
        raise TableError(
            f"column {name} has {len(levels):,} different words ({few(levels, 3)}): a network takes numbers, or two words",
            path=table.path,
            hint=f"name the columns to use in {setting}",
        )
    value = {text: float(number) for number, text in enumerate(levels)}
    return np.array([value.get(text, np.nan) for text in column])


def noise_names(count: int) -> tuple[str, ...]:
    """Return the names of so many columns of noise."""
    return tuple(f"{NOISE}{number}" for number in range(1, count + 1))


def noise_of(persons: Sequence[str], count: int, seed: int) -> Doubles:
    """Return numbers from 0 to 1 (persons, columns) that mean nothing; those of a person depend on the id and the seed alone,
    so that who else is there changes none of them."""
    drawn = np.empty((len(persons), count))
    for row, person in enumerate(persons):
        own = hashlib.sha256(f"{seed}\n{person}".encode()).digest()[:8]
        drawn[row] = np.random.default_rng(int.from_bytes(own, "little")).random(count)
    return drawn


def mostly_missing(values: Doubles) -> Bools:
    """Return which rows (persons,) have more than half of their cells missing, and count as absent."""
    if not values.shape[1]:
        return np.zeros(len(values), bool)
    missing: Bools = np.isnan(values).mean(1) > MOSTLY
    return missing
