"""Technical factors of images: cells of the manifest as levels or numbers, as text, missing ones with a level of their own."""

from __future__ import annotations

from collections.abc import Collection, Mapping, Sequence
from pathlib import Path

import numpy as np

from mfd_cli.base.arrays import Doubles
from mfd_cli.base.errors import ImageError, MetadataError, nearest
from mfd_cli.contig.config import FactorSection
from mfd_cli.core.metadata import ENCODERS, MISSING, LevelEncoder, NumberEncoder, number_of

FactorEncoder = LevelEncoder | NumberEncoder


def check_columns(columns: Sequence[str], factors: Mapping[str, FactorSection], path: Path) -> None:
    """Raise ImageError where the manifest lacks the column of a factor."""
    for name, factor in factors.items():
        if factor.column not in columns:
            raise ImageError(
                f"has no column {factor.column!r}, which factors.{name} names{nearest(factor.column, columns)}",
                path=path,
                line=1,
            )


def factors_of(
    cells: Mapping[str, str], factors: Mapping[str, FactorSection], missing: Collection[str], path: Path, line: int
) -> dict[str, str]:
    """Return what a line of the manifest says of every factor: a level, a year, or a number as text; MISSING where nothing.

    `missing` are cells that say nothing. ImageError, with the line, where a year or a number is none.
    """
    found = {}
    for name, factor in factors.items():
        cell = cells[factor.column]
        try:
            found[name] = MISSING if cell in missing else ENCODERS[factor.type].split(cell)[0]
        except MetadataError as error:
            raise ImageError(
                f"factors.{name}: {error.message}",
                path=path,
                line=line,
                hint="persons.missing says which cells mean missing",
            ) from error
    return found


def fitted_encoder(name: str, kind: str, cells: Sequence[str]) -> FactorEncoder:
    """Return how a factor of this type becomes numbers, as the images of training persons have it.

    MetadataError where all of them have the same: nothing can be told apart by it.
    """
    encoder = ENCODERS[kind].fit(name, cells)
    alike = encoder.scale == 0 if isinstance(encoder, NumberEncoder) else len(encoder.vocabulary) < 2
    if alike:
        same = f"{encoder.centre:g}" if isinstance(encoder, NumberEncoder) else encoder.vocabulary[0]
        raise MetadataError(
            f"factors.{name} is {same} in all training images: there is nothing to tell apart", hint="leave it out"
        )
    return encoder


def targets_of(encoder: FactorEncoder, cells: Sequence[str]) -> Doubles:
    """Return (images,) the place of each image's level in the vocabulary, or its number, standardised; NaN where there is none:
    a missing number, or a level that no training image has."""
    if isinstance(encoder, NumberEncoder):
        numbers = np.array([number_of(cell) for cell in cells])
        return (numbers - encoder.centre) / encoder.scale
    place = {level: float(number) for number, level in enumerate(encoder.vocabulary)}
    return np.array([place.get(cell, np.nan) for cell in cells])
