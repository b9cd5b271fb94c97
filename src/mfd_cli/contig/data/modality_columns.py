"""The inputs of a modality: what each is, and its statistics in training persons."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from mfd_cli.base.arrays import Doubles
from mfd_cli.contig.data.packed_calls import packed_width
from mfd_cli.contig.data.plink import Variants


@dataclass(frozen=True)
class ModalityColumns:
    """The inputs of a modality of this kind, in their order: variants, or columns that have a name alone. Statistics are of
    training persons. Calls are stored `packed`, other numbers standardised."""

    variants: Variants
    mean: Doubles
    sd: Doubles
    missing: Doubles
    kind: str = "snps"
    packed: bool = True

    def __len__(self) -> int:
        return len(self.variants)

    def labels(self) -> list[str]:
        """Return what names each input: NAME:CHROMOSOME:POSITION:EFFECT:OTHER of a variant, or the name of a column."""
        those = self.variants
        if self.kind != "snps":
            return list(those.name)
        columns = (those.name, those.chromosome, those.position.tolist(), those.effect_allele, those.other_allele)
        return [":".join(map(str, row)) for row in zip(*columns)]


def named_columns(names: Sequence[str], chromosome: Sequence[str] = (), position: Sequence[int] = ()) -> Variants:
    """Return columns that are no variants, such as scores; of a gene it is known where it lies."""
    count = len(names)
    empty = ("",) * count
    places = np.array(position or [0] * count, np.int64)
    return Variants(tuple(chromosome) or empty, tuple(names), places, empty, empty)


def width_of(columns: ModalityColumns) -> int:
    """Return how many bytes, or numbers, a person has in the shards."""
    return packed_width(len(columns)) if columns.packed else len(columns)
