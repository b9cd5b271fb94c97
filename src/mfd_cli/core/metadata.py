"""How metadata becomes numbers: fitted once on the training tracks, stored with the model, used for any new row.

A factor's encoder turns a column of strings into a matrix (rows, size) and says which levels a row has. To add a type:
write the class, list it in ENCODERS.
"""

from __future__ import annotations

import math
import re
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, ClassVar, Literal, Protocol, Self

import numpy as np

from mfd_cli.base.arrays import Bools, Doubles, Floats
from mfd_cli.base.errors import MetadataError, nearest
from mfd_cli.settings.config import FactorConfig

Matrix = Floats
Unseen = Literal["error", "mean"]
MISSING = "(missing)"
ALIKE = 1e-12
"""Numbers that lie closer together than this, relative to the largest, are one number written in several ways."""
"""The name of the level of a cell without a value."""
NO_VALUE = ("", "na", "n/a", "nan", MISSING)
"""What a cell without a value holds, in lower case: for every type of factor, in tables, settings and on the command line."""


def is_missing(cell: str) -> bool:
    """Return whether a cell says that there is no value.

    >>> [is_missing(cell) for cell in ("", "NA", "(missing)", "None", "0")]
    [True, True, True, False, False]
    """
    return cell.strip().lower() in NO_VALUE


def all_alike(numbers: Doubles) -> bool:
    """Return whether numbers (n,), of which there is at least one, are one number, up to how it was written or computed."""
    return bool(np.ptp(numbers) <= ALIKE * np.abs(numbers).max())


class Encoder(Protocol):
    """What every type of factor offers. `mean` is the average training row: the code of an unseen level."""

    name: str
    mean: Matrix

    @property
    def size(self) -> int:
        """Columns of a code."""

    @property
    def levels(self) -> list[str]:
        """Names of the levels, for tables and directions."""

    @property
    def sole_level(self) -> str:
        """What all training rows have; empty where they differ."""

    def encode(self, values: Sequence[str], unseen: Unseen) -> Matrix:
        """Return the codes (values, size) of cells; an unseen level is an error, or has the mean code."""

    def membership(self, values: Sequence[str]) -> Bools:
        """Return (values, levels): which levels each cell has; an unseen level is none of them."""

    def to_json(self) -> dict[str, Any]:
        """Return what `from_json` needs to make this encoder again."""


@dataclass
class LevelEncoder:
    """A row of zeros and ones over a sorted vocabulary; subclasses say how a cell is split into levels."""

    name: str
    vocabulary: list[str]
    mean: Matrix
    type: ClassVar[str] = "category"

    @staticmethod
    def split(value: str) -> list[str]:
        """Return the levels in one cell; a cell without a value has the level MISSING."""
        return [MISSING if is_missing(value) else value.strip()]

    @classmethod
    def fit(cls, name: str, values: Sequence[str]) -> Self:
        """Return the encoder whose vocabulary is what the training rows hold, sorted: the same in any row order."""
        levels = sorted({level for value in values for level in cls.split(value)})
        encoder = cls(name, levels, np.zeros(len(levels), np.float32))
        encoder.mean = encoder.encode(values, "error").mean(0)
        return encoder

    @property
    def size(self) -> int:
        """Columns of a code: one per level."""
        return len(self.vocabulary)

    @property
    def levels(self) -> list[str]:
        """The vocabulary."""
        return list(self.vocabulary)

    @property
    def sole_level(self) -> str:
        """The level, or the levels with commas, that all training rows have; empty where they differ."""
        there = self.mean > 0  # a level that came with an added track is in no training row
        levels = [level for level, known in zip(self.vocabulary, there.tolist()) if known]
        return ",".join(levels) if (self.mean[there] == 1).all() else ""

    def extended(self, values: Sequence[str]) -> Self:
        """Return the encoder with the levels of more cells behind its own; the mean training row has none of them."""
        new = sorted({level for value in values for level in self.split(value)} - set(self.vocabulary))
        mean = np.concatenate([self.mean, np.zeros(len(new), np.float32)])
        return type(self)(self.name, [*self.vocabulary, *new], mean)

    def encode(self, values: Sequence[str], unseen: Unseen) -> Matrix:
        """Return 1 where a cell has a level, else 0: (values, size). A cell with an unseen level has the mean training row,
        or is a MetadataError."""
        column_of = self._columns()
        matrix = np.zeros((len(values), self.size), np.float32)
        for row, value in enumerate(values):
            levels = self.split(value)
            unknown = [level for level in levels if level not in column_of]
            if unknown and unseen == "error":
                raise MetadataError(
                    f"factor {self.name} has no level {unknown[0][:80]!r}{nearest(unknown[0], self.vocabulary)}",
                    hint="the model knows only the levels of its training tracks",
                )
            if unknown:
                matrix[row] = self.mean
            else:
                matrix[row, [column_of[level] for level in levels]] = 1
        return matrix

    def membership(self, values: Sequence[str]) -> Bools:
        """Return (values, levels): which levels each cell has; an unseen level is none of them."""
        column_of = self._columns()
        result = np.zeros((len(values), self.size), bool)
        for row, value in enumerate(values):
            result[row, [column_of[level] for level in self.split(value) if level in column_of]] = True
        return result

    def _columns(self) -> dict[str, int]:
        """Level to its column."""
        return {level: index for index, level in enumerate(self.vocabulary)}

    def to_json(self) -> dict[str, Any]:
        """Return what `from_json` needs to make this encoder again."""
        return {"type": self.type, "vocabulary": self.vocabulary, "mean": self.mean.tolist()}

    @classmethod
    def from_json(cls, name: str, stored: Mapping[str, Any]) -> Self:
        """Return the encoder that `to_json` described."""
        return cls(name, list(stored["vocabulary"]), np.array(stored["mean"], np.float32))


class CategoryEncoder(LevelEncoder):
    """The whole cell is one level."""


class MultiLabelEncoder(LevelEncoder):
    """A cell holds levels separated by commas (ENCODE's slims)."""

    type = "multilabel"

    @staticmethod
    def split(value: str) -> list[str]:
        """Return the levels between commas, each once."""
        return list(dict.fromkeys(part.strip() for part in value.split(",") if not is_missing(part))) or [MISSING]


class YearEncoder(LevelEncoder):
    """The year of a date, as a level: the first four digits in a row that look like a year."""

    type = "year"

    @staticmethod
    def split(value: str) -> list[str]:
        """Return the year of a date; MetadataError where a cell holds something, but no year."""
        if is_missing(value):
            return [MISSING]
        year = re.search(r"(?<!\d)(1[89]\d\d|20\d\d)(?!\d)", value)
        if not year:
            raise MetadataError(f"no year in {value[:40]!r}")
        return [year[1]]


@dataclass
class NumberEncoder:
    """A standardised number and an indicator of a missing one (which counts as the mean).

    Its levels, for tables and directions, are thirds of the training values: low, middle, high, and missing. `scale` is 0 where
    all training rows have the same number: nothing is known of another one, and every number counts as that.
    """

    name: str
    centre: float
    scale: float
    cuts: tuple[float, float]
    mean: Matrix
    type: ClassVar[str] = "number"

    @staticmethod
    def split(value: str) -> list[str]:
        """Return the number in one cell as its level, MISSING where there is none; MetadataError where it is something else."""
        return [MISSING if math.isnan(number_of(value)) else value.strip()]

    @classmethod
    def fit(cls, name: str, values: Sequence[str]) -> Self:
        """Return the encoder with the mean, spread and thirds of the training rows' numbers; MetadataError without any."""
        numbers = _numbers(name, values)
        known = numbers[~np.isnan(numbers)]
        if not len(known):
            raise MetadataError(f"factor {name} has no number in any training row")
        # The mean of a constant is off by its last digit, and a spread of such noise would blow other numbers up.
        constant = all_alike(known)
        centre, scale = (float(known[0]), 0.0) if constant else (float(known.mean()), float(known.std()))
        low, high = np.quantile(known, [1 / 3, 2 / 3])
        encoder = cls(name, centre, scale, (float(low), float(high)), np.zeros(2, np.float32))
        encoder.mean = encoder.encode(values, "error").mean(0)
        return encoder

    @property
    def size(self) -> int:
        """Columns of a code: the number, and whether it is missing."""
        return 2

    @property
    def levels(self) -> list[str]:
        """Names of the thirds of the training values, and of the missing one."""
        low, high = self.cuts
        return [f"low (<= {low:g})", f"middle (<= {high:g})", f"high (> {high:g})", MISSING]

    @property
    def sole_level(self) -> str:
        """The number that all training rows have; empty where they differ, or some have none."""
        return f"{self.centre:g}" if self.scale == 0 and self.mean[1] == 0 else ""

    def encode(self, values: Sequence[str], unseen: Unseen) -> Matrix:
        """Return (values, 2): (number - mean) / spread, and 1 where it is missing. No number is unseen."""
        numbers = _numbers(self.name, values)
        missing = np.isnan(numbers)
        standard = np.where(missing | (self.scale == 0), 0.0, (numbers - self.centre) / (self.scale or 1.0))
        return np.stack([standard, missing], 1).astype(np.float32)

    def membership(self, values: Sequence[str]) -> Bools:
        """Return (values, levels): in which third each number lies, or whether it is missing."""
        numbers = _numbers(self.name, values)
        low, high = self.cuts
        with np.errstate(invalid="ignore"):
            return np.stack([numbers <= low, (numbers > low) & (numbers <= high), numbers > high, np.isnan(numbers)], 1)

    def to_json(self) -> dict[str, Any]:
        """Return what `from_json` needs to make this encoder again."""
        return {
            "type": self.type,
            "centre": self.centre,
            "scale": self.scale,
            "cuts": list(self.cuts),
            "mean": self.mean.tolist(),
        }

    @classmethod
    def from_json(cls, name: str, stored: Mapping[str, Any]) -> Self:
        """Return the encoder that `to_json` described."""
        low, high = stored["cuts"]
        return cls(name, stored["centre"], stored["scale"], (low, high), np.array(stored["mean"], np.float32))


def number_of(cell: str) -> float:
    """Return a cell as a number, NaN where it has no value; MetadataError where it is something else, or infinite."""
    if is_missing(cell):
        return math.nan
    try:
        number = float(cell)
    except ValueError:
        raise MetadataError(f"no number in {cell[:40]!r}") from None
    if not math.isfinite(number):
        raise MetadataError(f"no finite number in {cell[:40]!r}")
    return number


def _numbers(name: str, values: Sequence[str]) -> Doubles:
    """Cells as numbers, NaN where there is no value; MetadataError, which names the factor, where one is something else."""
    try:
        return np.array([number_of(value) for value in values], float)
    except MetadataError as error:
        raise MetadataError(f"factor {name} is a number, but a row has {error.message}") from error


@dataclass(frozen=True)
class MetadataEncoder:
    """The encoders of all factors, with the columns they read."""

    encoders: Mapping[str, LevelEncoder | NumberEncoder]
    columns: Mapping[str, str]

    def encode(self, rows: Sequence[Mapping[str, str]], unseen: Unseen = "error") -> dict[str, Matrix]:
        """Return metadata rows as one matrix (rows, size) per factor; an unseen level is an error or the mean level."""
        return {name: encoder.encode(self._column(name, rows), unseen) for name, encoder in self.encoders.items()}

    def levels(self, factor: str) -> list[str]:
        """Return the names of a factor's levels, sorted."""
        return self.encoders[factor].levels

    def extended(self, rows: Sequence[Mapping[str, str]]) -> MetadataEncoder:
        """Return the encoders with the levels of more rows behind those of the training rows, whose codes stay the same.

        MetadataError where a row has not the column of a factor, or what is no value of its type.
        """
        encoders = {}
        for name, encoder in self.encoders.items():
            cells = self._column(name, rows)
            encoder.membership(cells)
            encoders[name] = encoder.extended(cells) if isinstance(encoder, LevelEncoder) else encoder
        return MetadataEncoder(encoders, self.columns)

    def sole_levels(self) -> dict[str, str]:
        """Return the factors in which all training rows are alike, with what they have: such a factor contributes nothing."""
        return {name: encoder.sole_level for name, encoder in self.encoders.items() if encoder.sole_level}

    def membership(self, factor: str, rows: Sequence[Mapping[str, str]]) -> Bools:
        """Return (rows, levels): which levels of a factor each row has."""
        return self.encoders[factor].membership(self._column(factor, rows))

    def level_cells(self, row: Mapping[str, str]) -> dict[str, str]:
        """Return the cells of a metadata row by factor, as tables show them: by their levels, see `level_cell`."""
        return {name: level_cell(encoder, row.get(self.columns[name], "")) for name, encoder in self.encoders.items()}

    def _column(self, factor: str, rows: Sequence[Mapping[str, str]]) -> list[str]:
        """The cells of a factor's column; MetadataError where a row has none."""
        column = self.columns[factor]
        absent = next((index for index, row in enumerate(rows) if column not in row), None)
        if absent is not None:
            raise MetadataError(f"factor {factor} needs the column {column!r}{nearest(column, list(rows[absent]))}")
        return [row[column] for row in rows]

    def to_json(self) -> dict[str, Any]:
        """Return factor -> its column and what its encoder knows, for model.json."""
        return {name: {"column": self.columns[name], **e.to_json()} for name, e in self.encoders.items()}

    @classmethod
    def from_json(cls, stored: Mapping[str, Mapping[str, Any]]) -> MetadataEncoder:
        """Return the encoders that `to_json` described."""
        encoders = {name: ENCODERS[value["type"]].from_json(name, value) for name, value in stored.items()}
        return cls(encoders, {name: value["column"] for name, value in stored.items()})


def fit_metadata(
    rows: Sequence[Mapping[str, str]], factors: Mapping[str, FactorConfig], trained: Sequence[bool] | None = None
) -> MetadataEncoder:
    """Fit every factor's encoder on the training rows and return them.

    `trained` says which of the rows those are; by default all. MetadataError where a column is absent or a value is wrong.
    """
    training_rows = [row for row, used in zip(rows, trained or [True] * len(rows)) if used]
    encoders = {}
    for name, factor in factors.items():
        if not training_rows or factor.column not in training_rows[0]:
            near = nearest(factor.column, list(training_rows[0]) if training_rows else [])
            raise MetadataError(f"factors.{name}: the metadata table has no column {factor.column!r}{near}")
        values = [row[factor.column] for row in training_rows]
        if factor.missing == "error" and any(map(is_missing, values)):
            raise MetadataError(f"factors.{name}: {sum(map(is_missing, values))} tracks have no value")
        try:
            encoders[name] = ENCODERS[factor.type].fit(name, values)
        except MetadataError as error:
            raise MetadataError(f"factors.{name}: {error.message}", hint=error.hint) from error
    return MetadataEncoder(encoders, {name: factor.column for name, factor in factors.items()})


def sole_level_words(factor: str, level: str) -> str:
    """Say that all training tracks have one `level` of a factor, and what follows from that."""
    return f"{factor} has one level ({level}) in all training tracks: it contributes nothing"


def level_balanced_weights(memberships: Iterable[Bools], trained: Bools) -> Doubles:
    """Return weights (tracks,) that sum to one and let each level of a factor weigh the same, averaged over factors.

    `memberships` has (tracks, levels) for each factor. A track's weight is the mean over factors and levels of 1 / (number of
    training tracks with the level) for the levels that it has.

    Held-out tracks weigh nothing. Without any factor every training track weighs the same.
    """
    columns = []
    for membership in memberships:
        member = membership & trained[:, None]
        counts = member.sum(0)
        share = member[:, counts > 0] / counts[counts > 0]
        columns.append(share.mean(1))
    weights = np.mean(columns, 0) if columns else trained.astype(float)
    return weights / weights.sum()


def level_cell(encoder: LevelEncoder | NumberEncoder | type[LevelEncoder] | type[NumberEncoder], cell: str) -> str:
    """Return a cell of the table by its level (or levels, with commas): `2021` for 2021-09-14; a number as it is.

    `encoder` is that of the factor, or the class of it.
    """
    return ",".join(encoder.split(cell))


ENCODERS: dict[str, type[LevelEncoder] | type[NumberEncoder]] = {
    "category": CategoryEncoder,
    "multilabel": MultiLabelEncoder,
    "year": YearEncoder,
    "number": NumberEncoder,
}
