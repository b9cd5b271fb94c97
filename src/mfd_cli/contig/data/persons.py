"""Who is in a cohort: persons with pictures and genetic data, their families, and the split that divides no family."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from mfd_cli.base.arrays import Ints
from mfd_cli.base.errors import ConfigError, ImageError, InputError, TableError, few
from mfd_cli.contig.config import SplitSection
from mfd_cli.contig.data.manifest import ImageRow
from mfd_cli.formats.metadata_table import read_table

SPLITS = ("train", "validation", "test")


@dataclass(frozen=True)
class People:
    """Persons in the order of their ids: `family` (persons,) numbers that relatives share, `split` (persons,) of SPLITS."""

    persons: tuple[str, ...]
    family: Ints
    split: Ints

    def of(self, split: str) -> Ints:
        """Return the places of the persons of a split."""
        return np.flatnonzero(self.split == SPLITS.index(split))


def read_families(path: Path) -> dict[str, str]:
    """Read a table with the columns person and family. TableError, with both lines, where a person has two."""
    table = read_table(path)
    for column in ("person", "family"):
        if column not in table.columns:
            raise TableError(f"has no column {column!r}; it has {few(table.columns, 20)}", path=path, line=1)
    families, lines = dict[str, str](), dict[str, int]()
    for cells, line in zip(table.rows, table.lines):
        person, family = cells["person"], cells["family"]
        if not person or not family:
            raise TableError("person or family is empty", path=path, line=line)
        if families.setdefault(person, family) != family:
            raise TableError(f"a person has another family than on line {lines[person]}", path=path, line=line)
        lines.setdefault(person, line)
    return families


def shared_persons(
    rows: Sequence[ImageRow], genotyped: Sequence[str], manifest: Path, genotypes: Path
) -> tuple[str, ...]:
    """Return who has a picture and genetic data, in the order of their ids. InputError, with ids of both, where nobody has."""
    seen, known = dict.fromkeys(row.person for row in rows), set(genotyped)
    both = sorted(person for person in seen if person in known)
    if not both:
        raise InputError(
            f"no person of {manifest} ({few(seen, 3)}) is in {genotypes} ({few(genotyped, 3)})",
            hint='ids are compared letter by letter; persons.id = "fid_iid" joins the two ids of a genotype file',
        )
    return tuple(both)


def dealt(
    persons: Sequence[str],
    families: Mapping[str, str],
    settings: SplitSection,
    rows: Mapping[str, ImageRow],
    manifest: Path,
) -> People:
    """Deal persons to splits, whole families, by shares of persons, or as a column of the manifest says.

    A person without a family is one. `rows` has a row of the manifest of each. ImageError where it divides a family,
    ConfigError where a split stays without two families, of which nothing could be learnt.
    """
    names = [families.get(person, f"\0{person}") for person in persons]
    known = {name: number for number, name in enumerate(sorted(set(names)))}
    family = np.array([known[name] for name in names], np.int64)
    if settings.column:
        split = np.array([SPLITS.index(rows[person].split) for person in persons], np.int64)
        _check_families([rows[person].line for person in persons], names, split, manifest, settings.column)
    else:
        split = _drawn(family, len(known), settings)
    for number, name in enumerate(SPLITS):
        if len(np.unique(family[split == number])) < 2:
            raise ConfigError(
                f"split: the {name} persons are of fewer than two families",
                hint="split.fractions deals whole families; more persons are needed, or other fractions",
            )
    return People(tuple(persons), family, split)


def _drawn(family: Ints, families: int, settings: SplitSection) -> Ints:
    """The split of each person: families in a drawn order, until each split has its share of persons."""
    order = np.random.default_rng([settings.seed, 1]).permutation(families)
    sizes = np.bincount(family, minlength=families)[order]
    # A family belongs where its middle lies: no split gets more than half a family too many.
    middle = (np.cumsum(sizes) - sizes / 2) / sizes.sum()
    bounds = np.cumsum(settings.fractions)[:-1]
    of_family = np.empty(families, np.int64)
    of_family[order] = np.searchsorted(bounds, middle, side="right")
    return of_family[family]


def _check_families(lines: Sequence[int], names: Sequence[str], split: Ints, manifest: Path, column: str) -> None:
    """ImageError where relatives are in different splits. Nobody is named in the message."""
    first: dict[str, int] = {}
    for place, name in enumerate(names):
        other = first.setdefault(name, place)
        if split[other] != split[place]:
            raise ImageError(
                f"column {column}: the persons of lines {lines[other]} and {lines[place]} are of one family, and in "
                f"{SPLITS[split[other]]} and {SPLITS[split[place]]}",
                path=manifest,
                hint="relatives must be in one split",
            )
