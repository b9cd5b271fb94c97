"""Labels: what somebody said of persons or images, as columns of a table, and as numbers that a network can learn."""

from __future__ import annotations

import math
from collections import Counter
from collections.abc import Collection, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from mfd_cli.base.arrays import Bools, Doubles, Ints
from mfd_cli.base.errors import ConfigError, TableError, few, nearest
from mfd_cli.contig.data.cohort import Share
from mfd_cli.contig.data.persons import People
from mfd_cli.contig.data.tables import MISSING, PERSON, Table, read_table

IMAGE = "image"
ALL = "*"
MOST_LEVELS = 50
"""Of a column of words: more are names, and no classes."""


@dataclass(frozen=True)
class LabelColumn:
    """How a column becomes numbers, by what training rows have: a number less `mean`, over `sd`; of words, the place among
    `levels`, which have these `shares`."""

    name: str
    levels: tuple[str, ...]
    shares: tuple[float, ...]
    mean: float
    sd: float

    @property
    def outputs(self) -> int:
        """How many numbers a network says of it."""
        return len(self.levels) or 1


def read_labels(path: Path, wanted: Sequence[str], missing: Collection[str] = MISSING) -> Table:
    """Read a table with the column image, or else person, and keep the `wanted` columns, of which * stands for all.

    TableError for what is no such table, ConfigError for a column that it lacks.
    """
    table = read_table(path, missing, (IMAGE, PERSON))
    if ALL not in wanted:
        for name in wanted:
            if name not in table.columns:
                raise ConfigError(f"there is no column {name!r} in {path}{nearest(name, table.names)}")
        table = Table(table.path, table.persons, {name: table.columns[name] for name in wanted}, table.key)
    if not table.columns:
        raise TableError(f"has no column beside {table.key}", path=path)
    return table


def rows_of_images(table: Table, share: Share, people: People) -> Ints:
    """Return which row of the table each image of a split has (images,); -1 where none."""
    row_of = {name: row for row, name in enumerate(table.persons)}
    if table.key == IMAGE:
        return np.array([row_of.get(name, -1) for name in share.images.name], np.int64)
    of_person = np.array([row_of.get(people.persons[place], -1) for place in share.persons.tolist()], np.int64)
    return of_person[share.images.owner]


def check_shared(table: Table, rows: Ints, share: Share, people: People, split: str) -> None:
    """Raise TableError, with ids of both, where no image of a split has a row in the table."""
    if (rows >= 0).any():
        return
    known = share.images.name if table.key == IMAGE else [people.persons[place] for place in share.persons.tolist()]
    raise TableError(
        f"no {split} {table.key} of the cohort ({few(known, 3)}) is in the column {table.key} ({few(table.persons, 3)})",
        path=table.path,
        hint="ids are compared letter by letter",
    )


def fit_column(table: Table, name: str, rows: Ints) -> LabelColumn:
    """Return how a column becomes numbers, by these training rows (those below 0 are none).

    TableError where they are all the same, or not known, or more different words than classes can be.
    """
    column, rows = table.columns[name], rows[rows >= 0]
    if isinstance(column, np.ndarray):
        known = column[rows][~np.isnan(column[rows])]
        if len(known) < 2 or not known.std() > 0:
            raise TableError(f"column {name}: {_why(rows, np.isnan(column), table.key)}", path=table.path)
        return LabelColumn(name, (), (), float(known.mean()), float(known.std()))
    counts = Counter(column[row] for row in rows.tolist() if column[row])
    if len(counts) < 2:
        unknown = np.array([not cell for cell in column])
        raise TableError(f"column {name}: {_why(rows, unknown, table.key)}", path=table.path)
    if len(counts) > MOST_LEVELS:
        raise TableError(
            f"column {name} has {len(counts):,} different words: a label has at most {MOST_LEVELS}",
            path=table.path,
            hint="choose the columns of the table that are labels",
        )
    levels = tuple(sorted(counts))
    whole = sum(counts.values())
    return LabelColumn(name, levels, tuple(counts[level] / whole for level in levels), 0.0, 1.0)


def _why(rows: Ints, unknown: Bools, key: str) -> str:
    """Why nothing can be learnt of a column of which these rows of the table (rows,) are training ones."""
    known = int((~unknown[np.unique(rows)]).sum())
    return f"the {known:,} training {key}s that have it all have the same" if known else f"no training {key} has it"


def as_numbers(table: Table, columns: Sequence[LabelColumn], rows: Ints) -> Doubles:
    """Return the labels (rows, columns) as numbers; NaN where there is none, or a word that no training row has."""
    values = np.full((len(rows), len(columns)), math.nan)
    some = rows >= 0
    for number, column in enumerate(columns):
        cells = table.columns[column.name]
        if isinstance(cells, np.ndarray):
            values[some, number] = (cells[rows[some]] - column.mean) / column.sd
            continue
        place = {level: float(index) for index, level in enumerate(column.levels)}
        values[some, number] = [place.get(cells[row], math.nan) for row in rows[some].tolist()]
    return values
