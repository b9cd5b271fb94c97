"""Who is tested, and with which covariates: features, genotypes and a table brought together."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np

from mfd_cli.base.arrays import Doubles, Ints
from mfd_cli.base.errors import ConfigError, InputError, few, nearest
from mfd_cli.contig.config import GwasSection
from mfd_cli.contig.data.tables import Table

MOST_LEVELS = 50
"""Levels of a text covariate: each but the first becomes a column."""


@dataclass(frozen=True)
class Features:
    """What a network sees of each person: a matrix (persons, dims), averaged over a person's images.

    `families` names each person's family, `images` counts the images that the mean is of. Raises InputError where a person
    comes twice or a number is not finite, ValueError where the lengths differ.
    """

    name: str
    persons: tuple[str, ...]
    matrix: Doubles
    families: tuple[str, ...]
    images: Ints

    def __post_init__(self) -> None:
        count = len(self.persons)
        if self.matrix.ndim != 2 or {len(self.matrix), len(self.families), len(self.images)} != {count}:
            raise ValueError(f"features {self.name}: {count} persons, matrix {self.matrix.shape}")
        if len(set(self.persons)) < count:
            raise InputError(f"features {self.name}: {count - len(set(self.persons)):,} persons are there twice")
        if not np.isfinite(self.matrix).all():
            rows = int((~np.isfinite(self.matrix)).any(axis=1).sum())
            raise InputError(f"features {self.name}: those of {rows:,} persons are not finite")


@dataclass(frozen=True)
class Chosen:
    """The persons that are tested, in the order of the genotype file.

    `rows` of the genotype file, `places` in the features; `left_out` says why others are not tested, {reason: persons}.
    """

    persons: tuple[str, ...]
    rows: Ints
    places: Ints
    left_out: Mapping[str, int]


def choose_persons(
    features: Features, genotyped: Sequence[str], covariates: Covariates | None, settings: GwasSection, related: bool
) -> Chosen:
    """Return who is tested: genotyped, with all covariates, and one per family (most images, then by id) unless `related`.

    Raises InputError where features and genotypes share no person, or fewer than `settings.least_persons` are left.
    """
    row_of = {person: row for row, person in enumerate(genotyped)}
    both = [place for place, person in enumerate(features.persons) if person in row_of]
    if not both:
        raise InputError(
            f"features {features.name} and genotypes share no person: "
            f"{few(features.persons, 3)} beside {few(genotyped, 3)}",
            hint="ids are compared exactly, as text; [persons] id says which ids of the genotype file are meant",
        )
    complete = both if covariates is None else [p for p in both if features.persons[p] in covariates.row_of]
    if not complete and covariates is not None:
        raise InputError(
            f"no genotyped person has all covariates ({', '.join(covariates.chosen)}): "
            f"{few((features.persons[p] for p in both), 3)} beside {few(covariates.row_of, 3) or 'nobody'}"
        )
    kept = complete if related else _one_per_family(features, complete)
    left_out = {
        "not genotyped": len(features.persons) - len(both),
        "without all covariates": len(both) - len(complete),
        "related to somebody tested": len(complete) - len(kept),
    }
    if len(kept) < settings.least_persons:
        why = ", ".join(f"{count:,} {reason}" for reason, count in left_out.items() if count)
        raise InputError(
            f"{len(kept):,} persons can be tested, fewer than gwas.least_persons ({settings.least_persons:,})",
            hint=f"of {len(features.persons):,} persons with features are {why}" if why else None,
        )
    kept.sort(key=lambda place: row_of[features.persons[place]])
    persons = tuple(features.persons[place] for place in kept)
    return Chosen(persons, np.array([row_of[person] for person in persons]), np.array(kept), left_out)


def _one_per_family(features: Features, places: Sequence[int]) -> list[int]:
    """One place per family: the person with most images, then the one whose id comes first."""
    best: dict[str, tuple[int, str, int]] = {}
    for place in places:
        rank = (-int(features.images[place]), features.persons[place], place)
        family = features.families[place]
        best[family] = min(best.get(family, rank), rank)
    return [place for _, _, place in best.values()]


def matched_to(features: Features, name: str, first: str, persons: Sequence[str]) -> Ints:
    """Return where these persons, on whom `first` is tested, are in the features `name`. InputError where some are not."""
    places = {person: place for place, person in enumerate(features.persons)}
    lacking = sum(person not in places for person in persons)
    if lacking:
        raise InputError(
            f"features {name} lack {lacking:,} of the {len(persons):,} persons that {first} is tested on",
            hint="runs are compared on the same persons: embed the same split with both",
        )
    return np.array([places[person] for person in persons])


# -- covariates --------------------------------------------------------------------------------------------------------


@dataclass(frozen=True)
class Covariates:
    """The covariates as numbers (persons, columns), of the persons who have them all."""

    chosen: tuple[str, ...]
    names: tuple[str, ...]
    values: Doubles
    row_of: Mapping[str, int]

    def of(self, persons: Sequence[str]) -> Doubles:
        """Return the covariates (persons, columns) of these persons."""
        return self.values[[self.row_of[person] for person in persons]]


def covariates_of(table: Table, chosen: Sequence[str]) -> Covariates:
    """Return the chosen columns of a table; a text column becomes a 0/1 column for each of its levels but the first.

    Raises ConfigError for a column that the table lacks, InputError for a text with more than 50 levels.
    """
    names, columns = list[str](), list[Doubles]()
    complete = np.ones(len(table.persons), bool)
    for name in chosen:
        if name not in table.columns:
            raise ConfigError(
                f"gwas.covariates names {name!r}, which {table.path or 'the covariates'} does not have"
                f"{nearest(name, table.names)}"
            )
        column = table.columns[name]
        if isinstance(column, np.ndarray):
            complete &= ~np.isnan(column)
            names.append(name)
            columns.append(column)
            continue
        complete &= np.array([bool(text) for text in column])
        _, *others = sorted({text for text in column if text} or {""})
        if len(others) >= MOST_LEVELS:
            raise InputError(
                f"column {name} has {len(others) + 1:,} different texts: a covariate has at most {MOST_LEVELS}",
                path=table.path,
            )
        names += [f"{name}={level}" for level in others] if len(others) > 1 else [name] * len(others)
        columns += [np.array([float(text == level) for text in column]) for level in others]
    kept = np.flatnonzero(complete)
    values = np.stack(columns, axis=1)[kept] if columns else np.zeros((len(kept), 0))
    row_of = {table.persons[row]: place for place, row in enumerate(kept.tolist())}
    return Covariates(tuple(chosen), tuple(names), values, row_of)
