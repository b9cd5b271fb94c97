"""Who is asked: the persons, or images, of a split that a table of labels has."""

from __future__ import annotations

import math
from dataclasses import dataclass

import numpy as np

from mfd_cli.base.arrays import Bools, Doubles, Floats, Ints
from mfd_cli.contig.data.cohort import Share
from mfd_cli.contig.data.labels import check_shared, rows_of_images
from mfd_cli.contig.data.persons import People
from mfd_cli.contig.data.tables import PERSON, Table


@dataclass(frozen=True)
class Units:
    """Persons, or images, in the order of the split.

    `rows` (units,) of the table, `person` (units,) of the split, `family` (units,); `images` (images,) are the rows of the
    split's images that are looked at, `unit` (images,) which unit each is of.
    """

    share: Share
    names: tuple[str, ...]
    rows: Ints
    person: Ints
    family: Ints
    images: Ints
    unit: Ints

    def __len__(self) -> int:
        return len(self.rows)

    def means(self, of_images: Floats) -> Doubles:
        """Return the mean of values (images, size) of this selection over the images of each unit (units, size)."""
        sums = np.zeros((len(self), of_images.shape[1]))
        np.add.at(sums, self.unit, of_images)
        return sums / np.bincount(self.unit, minlength=len(self))[:, None]

    def features(self, of_split: Floats) -> Doubles:
        """Return the mean features (units, features) of those of all images of the split (images, features)."""
        return self.means(of_split[self.images])

    def only(self, kept: Bools) -> Units:
        """Return some of the units."""
        place = np.cumsum(kept) - 1
        looked = kept[self.unit]
        return Units(
            self.share,
            tuple(name for name, keep in zip(self.names, kept.tolist()) if keep),
            self.rows[kept],
            self.person[kept],
            self.family[kept],
            self.images[looked],
            place[self.unit[looked]],
        )


def units_of(table: Table, share: Share, people: People, split: str) -> Units:
    """Return the persons of a split that a table has, each with all images, or the images where it is a table of those.

    TableError where there are none.
    """
    of_image = rows_of_images(table, share, people)
    check_shared(table, of_image, share, people, split)
    images = np.flatnonzero(of_image >= 0)
    owner = share.images.owner[images]
    unit = np.arange(len(images))
    person = owner
    names = tuple(share.images.name[row] for row in images.tolist())
    if table.key == PERSON:
        person, unit = np.unique(owner, return_inverse=True)
        names = tuple(people.persons[place] for place in share.persons[person].tolist())
    rows = np.empty(len(person), np.int64)
    rows[unit] = of_image[images]
    return Units(share, names, rows, person, share.family[person], images, unit)


def subset(units: Units, fraction: float, seed: int, draw: int) -> Bools:
    """Return which units (units,) belong to a share of the persons, drawn at random: a smaller share of the same draw is a part
    of a larger one. Two persons are the least."""
    persons = np.unique(units.person)
    order = np.random.default_rng([seed, draw, 31]).permutation(len(persons))
    chosen = persons[order[: max(math.ceil(fraction * len(persons) - 1e-9), 2)]]
    return np.isin(units.person, chosen)
