"""A number for each variant: a column of a table of scores, such as `mfd score-variants` writes."""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq

from mfd_cli.base.arrays import Doubles, Ints
from mfd_cli.base.errors import ConfigError, InputError, few, nearest
from mfd_cli.base.files import check_input
from mfd_cli.contig.data.plink import Variants
from mfd_cli.formats.tables import read_tsv

PLACE = ("contig", "position", "ref", "alt")
"""The columns that say which variant is meant, where there are no names, as in the tables of mfd score-variants."""
NAMES = ("variant", "id")


@dataclass(frozen=True)
class Weights:
    """A number for variants, by name or by (chromosome, position, the two alleles in the order of the alphabet)."""

    path: Path
    column: str
    values: Mapping[Any, float]
    by_place: bool

    def of(self, variants: Variants, rows: Ints) -> Doubles:
        """Return the weights of some variants, NaN where there is none."""
        return np.array([self.values.get(self._key(variants, row), math.nan) for row in rows.tolist()])

    def _key(self, variants: Variants, row: int) -> Any:
        if not self.by_place:
            return variants.name[row]
        alleles = variants.effect_allele[row], variants.other_allele[row]
        return _place(variants.chromosome[row], int(variants.position[row]), *alleles)


def file_and_column(text: str, setting: str) -> tuple[str, str]:
    """Return the file and the column that FILE:COLUMN names. ConfigError where it names none."""
    file, colon, column = text.rpartition(":")
    if not colon or not file or not column:
        raise ConfigError(f'{setting} is "{text}", not FILE:COLUMN')
    return file, column


def read_weights(path: Path, column: str) -> Weights:
    """Read the weights of variants from Parquet or a tab-separated table, with the columns contig, position, ref and alt, or
    variant. InputError where it lacks them, or a weight is not finite."""
    check_input(path, InputError)
    table = _parquet(path) if path.suffix in (".parquet", ".pq") else None
    rows = [] if table is not None else read_tsv(path, ())
    columns = list(table) if table is not None else list(rows[0]) if rows else []
    if column not in columns:
        raise InputError(f"has no column {column!r}{nearest(column, columns)}", path=path)
    by_place = all(name in columns for name in PLACE)
    name = next((name for name in NAMES if name in columns), None)
    if not by_place and name is None:
        raise InputError(
            f"has neither the columns {', '.join(PLACE)} nor variant; it has {few(columns, 20)}", path=path, line=1
        )
    needed = [*(PLACE if by_place else [str(name)]), column]
    cells = [table[one] if table is not None else [row[one] for row in rows] for one in needed]
    values: dict[Any, float] = {}
    for line, row in enumerate(zip(*cells), start=2):
        *key, value = row
        weight = _finite(value)
        if weight is None:
            raise InputError(f"{column} is {str(value)[:40]!r}, no number", path=path, line=line)
        values[_place(key[0], int(key[1]), key[2], key[3]) if by_place else key[0]] = weight
    return Weights(path, column, values, by_place)


def _parquet(path: Path) -> dict[str, list[Any]]:
    """The columns of a Parquet file, as lists."""
    try:
        return dict(pq.read_table(path).to_pydict())
    except (pa.ArrowException, OSError) as error:
        raise InputError("is no Parquet file, or is damaged", path=path) from error


def _finite(value: Any) -> float | None:
    """A finite number, or None."""
    try:
        number = float(value)
    except (TypeError, ValueError):
        return None
    return number if math.isfinite(number) else None


def _place(chromosome: str, position: int, one: str, other: str) -> tuple[str, int, str, str]:
    """What a variant is known by, whichever of its alleles is counted."""
    first, second = sorted((one.upper(), other.upper()))
    return chromosome.removeprefix("chr"), position, first, second
