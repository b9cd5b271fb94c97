"""What each technical factor has left once the biological ones are known: which questions a metadata table can answer.

A factor is its columns: 0/1 for each level of a category and each label of several, one column for a number or a year, and one
for whether that is missing. What the columns of the biological factors, and a constant, predict of them by least squares says
nothing of technique. The rest is what any estimate of the factor's effect rests on, however it is made.
"""

from __future__ import annotations

from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass

import numpy as np

from mfd_cli.base.arrays import Doubles
from mfd_cli.core.association import FactorValues, is_determined
from mfd_cli.core.metadata import all_alike
from mfd_cli.settings.config import FactorConfig

NOTHING = 1e-9
"""Share of a factor's variance that is the rounding of least squares."""
LITTLE = 0.2
"""What is left of a factor whose estimate needs a warning: its variance is five times that in a crossed design."""
MOVES = 0.5
"""Correlation with a biological factor that is worth a word: a quarter of the variance."""


@dataclass(frozen=True)
class LeftOver:
    """What a technical factor has left once all biological factors are known.

    `left` is the share of the variance of its columns, from 0 (they determine it) to 1 (crossed). `by_chance` is what would be
    left on average of a factor that has nothing to do with them: their columns alone use up some of few tracks. `tracks` of
    `all_tracks` have any of it; `effective` is the number of tracks with equal shares that would carry as much, which is small
    where the estimate rests on few. `closest` is the biological factor that alone leaves least of it, `correlation` the
    multiple correlation with that. `within` are the biological factors whose level says that of this factor.
    """

    factor: str
    number: bool
    left: float
    by_chance: float
    tracks: int
    all_tracks: int
    effective: float
    closest: str
    correlation: float
    within: tuple[str, ...]

    def sentence(self) -> str:
        """Return in words what this table can say of the factor."""
        if self.left <= 0:
            each = f": each level of {' and of '.join(self.within)} has one {self.factor} only" if self.within else ""
            return f"{self.factor}: its effect cannot be told from the biological factors on any track{each}"
        start = f"{self.left:.2f} of it is left once the biological factors are known"
        if not self.number:
            where = f"on {self.tracks} of {self.all_tracks} tracks"
            start = f"its effect can be told from the biological factors {where}; {self.left:.2f} of it is left"
        little = ", which is little" if self.left < LITTLE else ""
        chance = f" (independent of them it would be {self.by_chance:.2f})" if self.by_chance < 1 - LITTLE else ""
        moves = f"; it moves with {self.closest}: R = {self.correlation:.2f}" if self.correlation >= MOVES else ""
        few = (
            f"; the estimate rests on about {self.effective:.0f} tracks" if self.effective < self.all_tracks / 2 else ""
        )
        return f"{self.factor}: {start}{little}{chance}{moves}{few}"


def left_over(
    values: Mapping[str, FactorValues],
    labels: Mapping[str, Sequence[Sequence[str]]],
    factors: Mapping[str, FactorConfig],
    technical: Collection[str],
) -> list[LeftOver]:
    """Return one entry for each factor of the technical groups that varies, what has least left first.

    `labels` are every track's labels of each factor: one of a category, several of a multilabel factor. Empty where all
    factors are technical, or none.
    """
    columns = {name: centred_columns(value, labels[name]) for name, value in values.items()}
    biological = [name for name in values if factors[name].group not in technical]
    if not biological:
        return []
    design = np.concatenate([columns[name] for name in biological], axis=1)
    found = [
        left_of(name, values, columns, design, biological)
        for name in values
        if factors[name].group in technical and columns[name].any()
    ]
    return sorted(found, key=lambda one: one.left)


def left_of(
    name: str,
    values: Mapping[str, FactorValues],
    columns: Mapping[str, Doubles],
    design: Doubles,
    biological: Sequence[str],
) -> LeftOver:
    """Return what is left of one factor; `columns` are centred ones of every factor, `design` those of the biological ones."""
    own = columns[name]
    total, count = float((own**2).sum()), len(own)
    basis = basis_of(design)
    per_track = (unexplained(own, basis) ** 2).sum(1)
    left = float(per_track.sum()) / total
    alone = {other: float((unexplained(own, basis_of(columns[other])) ** 2).sum()) / total for other in biological}
    closest = min(alone, key=lambda other: alone[other])
    nothing = left < NOTHING
    return LeftOver(
        name,
        values[name].numbers is not None,
        0.0 if nothing else left,
        1 - basis.shape[1] / (count - 1),
        0 if nothing else int((per_track > NOTHING * total).sum()),
        count,
        0.0 if nothing else float(per_track.sum() ** 2 / (per_track**2).sum()),
        closest,
        float(np.sqrt(max(0.0, 1 - alone[closest]))),
        tuple(other for other in biological if is_determined(values[name].levels, values[other].levels)),
    )


def centred_columns(value: FactorValues, labels: Sequence[Sequence[str]]) -> Doubles:
    """Return the columns of a factor (tracks, columns), each with mean 0; a number has standard deviation 1.

    A missing number is the mean, and has 1 in a column of its own.
    """
    if value.numbers is None:
        names = sorted({label for cell in labels for label in cell})
        table = np.array([[label in cell for label in names] for cell in labels], float)
    else:
        missing = np.isnan(value.numbers)
        known = value.numbers[~missing]
        number = np.zeros(len(missing))
        if len(known) and not all_alike(known):
            number[~missing] = (known - known.mean()) / known.std()
        table = np.stack([number, missing.astype(float)], axis=1)
    return np.asarray(table - table.mean(0))


def basis_of(columns: Doubles) -> Doubles:
    """Return orthonormal columns (tracks, rank) that span the given ones."""
    u, size, _ = np.linalg.svd(columns, full_matrices=False)
    return np.asarray(u[:, size > 1e-9 * max(1.0, float(size.max(initial=0)))])


def unexplained(columns: Doubles, basis: Doubles) -> Doubles:
    """Return what least squares on an orthonormal basis leaves of some columns, all of them (tracks, ...)."""
    return np.asarray(columns - basis @ (basis.T @ columns))


def sentences(left: Sequence[LeftOver], technical: Collection[str]) -> list[str]:
    """Return what the table can say of technique, in words."""
    if not left:
        return [
            f"no factor of a technical group ({', '.join(technical) or 'there is none'}) stands beside a biological one"
        ]
    return ["what each technical factor has left once the biological ones are known (1: all, 0: nothing):"] + [
        f"  {one.sentence()}" for one in left
    ]
