"""Tables with a row per person: covariates, or any other numbers and words that are known of people."""

from __future__ import annotations

import math
from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from mfd_cli.base.arrays import Doubles
from mfd_cli.base.errors import MetadataError, TableError
from mfd_cli.formats import metadata_table

PERSON = "person"
"""The column that says who."""
MISSING = ("", ".", "NA", "NaN", "nan")


@dataclass(frozen=True)
class Table:
    """What is known of persons: a column is float64, NaN where missing, or a tuple of texts, empty where missing."""

    path: Path | None
    persons: tuple[str, ...]
    columns: Mapping[str, Doubles | tuple[str, ...]]
    key: str = PERSON
    """Which column says who, or of which image a row is; `persons` has what it says."""

    @property
    def names(self) -> tuple[str, ...]:
        """The names of the columns, without the one that says who."""
        return tuple(self.columns)


def read_table(path: Path, missing: Collection[str] = MISSING, keys: Sequence[str] = (PERSON,)) -> Table:
    """Read a tab-separated table with a header and a column `person`, plain or gzip; ids are text, compared exactly.

    The first of `keys` that the table has says what a row is of.

    A column is one of numbers where more than half of its known values are; then all must be. Raises TableError with file and
    line where a person comes twice, a number is none or not finite, or the text is no table.
    """
    try:
        read = metadata_table.read_table(path)
    except MetadataError as error:
        raise TableError(error.message, path=error.path, line=error.line, hint=error.hint) from error
    key = next((key for key in keys if key in read.columns), None)
    if key is None:
        raise TableError(
            f"has no column {' or '.join(keys)}", path=path, hint=f"there are {', '.join(read.columns[:8])}"
        )
    persons = [row[key] for row in read.rows]
    _check_persons(persons, read.lines, path, key)
    names = [name for name in read.columns if name not in (key, PERSON)]
    columns = {name: _column([row[name] for row in read.rows], name, missing, read.lines, path) for name in names}
    return Table(path, tuple(persons), columns, key)


def _check_persons(persons: Sequence[str], lines: Sequence[int], path: Path, key: str) -> None:
    """Raise TableError where a row names nobody, or somebody again. Nobody is named in the message."""
    first: dict[str, int] = {}
    for person, line in zip(persons, lines):
        if not person:
            raise TableError(f"{key} is empty", path=path, line=line)
        if first.setdefault(person, line) != line:
            raise TableError(f"has the {key} of line {first[person]} again", path=path, line=line)


def _column(
    cells: Sequence[str], name: str, missing: Collection[str], lines: Sequence[int], path: Path
) -> Doubles | tuple[str, ...]:
    """One column: as numbers where most of its known values are numbers, else as texts."""
    known = ["" if cell in missing else cell for cell in cells]
    numbers = [_number(cell) for cell in known]
    given = sum(bool(cell) for cell in known)
    if 2 * sum(number is not None for cell, number in zip(known, numbers) if cell) <= given and given:
        return tuple(known)
    for cell, number, line in zip(known, numbers, lines):
        if cell and number is None:
            raise TableError(
                f"column {name}: {cell[:40]!r} is no number",
                path=path,
                line=line,
                hint="what means missing is named by persons.missing",
            )
    return np.array([math.nan if number is None else number for number in numbers])


def _number(cell: str) -> float | None:
    """A finite number, or None."""
    try:
        value = float(cell) if "_" not in cell else math.nan
    except ValueError:
        return None
    return value if math.isfinite(value) else None
