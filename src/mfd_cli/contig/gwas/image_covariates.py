"""Technical factors of images as covariates of a GWAS: of each person the share of every level, or the mean number."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import numpy as np

from mfd_cli.base.arrays import Doubles, Ints
from mfd_cli.base.errors import InputError
from mfd_cli.contig.gwas.inputs import MOST_LEVELS, Covariates
from mfd_cli.core.metadata import number_of


def image_covariates(
    persons: Sequence[str], owner: Ints, factors: Mapping[str, Sequence[str]], types: Mapping[str, str]
) -> Covariates:
    """Return the covariates of persons that their images make.

    `owner` (images,) is the row of the person of each image, `factors` has a text for every image, `types` says which are
    numbers. A level is a column but for the first one, the share of a person's images that have it; a missing value is a level
    too. A number is the mean of those that are known; who has none is not among the persons. InputError for more than 50
    levels.
    """
    names, columns = list[str](), list[Doubles]()
    images = np.bincount(owner, minlength=len(persons)).astype(np.float64)
    complete = images > 0
    for name, cells in factors.items():
        if types[name] == "number":
            numbers = np.array([number_of(cell) for cell in cells])
            known = ~np.isnan(numbers)
            counts = np.bincount(owner[known], minlength=len(persons))
            complete &= counts > 0
            names.append(name)
            columns.append(np.bincount(owner[known], numbers[known], len(persons)) / np.maximum(counts, 1))
            continue
        levels, which = np.unique(np.array(cells, object).astype(str), return_inverse=True)
        if len(levels) > MOST_LEVELS:
            raise InputError(f"factor {name} has {len(levels):,} levels: a covariate has at most {MOST_LEVELS}")
        for number, level in enumerate(levels.tolist()[1:], start=1):
            names.append(f"{name}={level}")
            columns.append(np.bincount(owner, which == number, len(persons)) / np.maximum(images, 1))
    kept = np.flatnonzero(complete)
    values = np.stack(columns, 1)[kept] if columns else np.zeros((len(kept), 0))
    rows = {persons[row]: place for place, row in enumerate(kept.tolist())}
    return Covariates(tuple(factors), tuple(names), values, rows)


def both(one: Covariates | None, other: Covariates | None) -> Covariates | None:
    """Return the covariates of two kinds side by side, of the persons who have both; None where there are none."""
    if one is None or other is None:
        return one or other
    persons = [person for person in one.row_of if person in other.row_of]
    values = np.concatenate([one.of(persons), other.of(persons)], 1)
    rows = {person: row for row, person in enumerate(persons)}
    return Covariates((*one.chosen, *other.chosen), (*one.names, *other.names), values, rows)
