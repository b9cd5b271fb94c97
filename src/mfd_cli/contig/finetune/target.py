"""What is asked: a column of a table, or several yes-or-no columns together, as numbers."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

import numpy as np

from mfd_cli.base.arrays import Doubles
from mfd_cli.base.errors import ConfigError, TableError
from mfd_cli.contig.data.labels import MOST_LEVELS, fit_column
from mfd_cli.contig.data.tables import Table
from mfd_cli.contig.finetune.units import Units

CLASSIFICATION, MULTILABEL, ORDINAL, REGRESSION = "classification", "multilabel", "ordinal", "regression"


@dataclass(frozen=True)
class Target:
    """A question and its answers: the `values` (units, columns) of the `units` of each split.

    A class or grade is its place among `levels`, yes is 1 and no 0, NaN where not known; a number is less `mean`, over `sd`, of
    the training units.
    """

    task: str
    label: str
    columns: tuple[str, ...]
    levels: tuple[str, ...]
    mean: float
    sd: float
    units: Mapping[str, Units]
    values: Mapping[str, Doubles]
    unseen: int = 0
    """Test units that are left out, since no training unit has their answer."""


def task_of(table: Table, task: str) -> str:
    """Return the task that is meant: `auto` is classification of words and regression of numbers. ConfigError where it does not
    fit the columns."""
    words = [name for name, column in table.columns.items() if not isinstance(column, np.ndarray)]
    if task == "auto":
        if 0 < len(words) < len(table.columns):
            raise ConfigError(
                f"{table.path} has columns of words ({', '.join(words[:3])}) and of numbers",
                hint="--column chooses some, or --task says what is asked of all",
            )
        return CLASSIFICATION if words else REGRESSION
    if words and task in (MULTILABEL, ORDINAL, REGRESSION):
        what = {MULTILABEL: "0 and 1", ORDINAL: "grades as numbers", REGRESSION: "numbers"}[task]
        raise ConfigError(f"column {words[0]} of {table.path} is words: {task} needs {what}")
    return task


def targets_of(table: Table, task: str, units: Mapping[str, Units]) -> list[Target]:
    """Return what is asked: each column by itself, or all of them at once where the task is multilabel.

    TableError where a column says the same of all training units, or a split has no answer.
    """
    if task == MULTILABEL:
        return [_multilabel(table, units)]
    return [_of_column(table, task, name, units) for name in table.names]


def _of_column(table: Table, task: str, name: str, units: Mapping[str, Units]) -> Target:
    """A column by itself; units without an answer are left out."""
    cells = table.columns[name]
    fitted = fit_column(table, name, units["train"].rows)
    levels: tuple[str, ...] = ()
    if task in (CLASSIFICATION, ORDINAL):
        levels = fitted.levels
        if isinstance(cells, np.ndarray):
            of_training = cells[units["train"].rows]
            levels = tuple(f"{value:g}" for value in np.unique(of_training[~np.isnan(of_training)]))
        if len(levels) > MOST_LEVELS:
            raise TableError(
                f"column {name} has {len(levels):,} different values: {task} has at most {MOST_LEVELS}",
                path=table.path,
                hint="--task regression is for numbers",
            )
    chosen, values, unseen = dict[str, Units](), dict[str, Doubles](), 0
    for split, those in units.items():
        if isinstance(cells, np.ndarray):
            numbers = cells[those.rows]
            answer = (numbers - fitted.mean) / fitted.sd
            texts = ["" if np.isnan(number) else f"{number:g}" for number in numbers.tolist()]
        else:
            texts = [cells[row] for row in those.rows.tolist()]
        if levels:
            place = {level: float(index) for index, level in enumerate(levels)}
            answer = np.array([place.get(text, np.nan) for text in texts])
            unseen = sum(bool(text) and text not in place for text in texts)
        known = ~np.isnan(answer)
        if not known.any():
            raise TableError(f"column {name}: no {split} {table.key} has it", path=table.path)
        chosen[split], values[split] = those.only(known), answer[known][:, None]
    mean, sd = (0.0, 1.0) if levels else (fitted.mean, fitted.sd)
    return Target(task, name, (name,), levels, mean, sd, chosen, values, unseen)


def _multilabel(table: Table, units: Mapping[str, Units]) -> Target:
    """All columns at once, of 0 and 1."""
    whole = np.stack([np.asarray(column) for column in table.columns.values()], 1)
    for number, name in enumerate(table.names):
        odd = set(np.unique(whole[:, number][~np.isnan(whole[:, number])]).tolist()) - {0.0, 1.0}
        if odd:
            raise TableError(f"column {name} has {min(odd):g}: multilabel needs 0 and 1", path=table.path)
        fit_column(table, name, units["train"].rows)
    for split, those in units.items():
        if np.isnan(whole[those.rows]).all():
            raise TableError(f"no {split} {table.key} has a label", path=table.path)
    values = {split: whole[those.rows] for split, those in units.items()}
    return Target(MULTILABEL, MULTILABEL, table.names, (), 0.0, 1.0, units, values)
