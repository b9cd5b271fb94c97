"""Chromosomes by name: their order, and the number that GWAS-SSF gives them."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from mfd_cli.base.arrays import Ints

AUTOSOMES = 22
_LETTERS = {"X": 23, "Y": 24, "MT": 25, "M": 25, "XY": 23, "PAR1": 23, "PAR2": 23}
_PLINK = {"23": 23, "24": 24, "25": 23, "26": 25}
"""In PLINK's numbers 25 is the part that X and Y share, and 26 the mitochondrion."""
OTHER = 99
"""Of anything else: after all others."""


def plain_name(name: str) -> str:
    """Return the name without `chr`.

    >>> plain_name("chr7"), plain_name("X")
    ('7', 'X')
    """
    return name[3:] if name[:3].lower() == "chr" else name


def number_of(name: str) -> int | None:
    """Return the number of a chromosome in GWAS-SSF, 1 to 25 (X 23, Y 24, MT 25); None for anything else.

    >>> number_of("chr7"), number_of("X"), number_of("26"), number_of("0")
    (7, 23, 25, None)
    """
    plain = plain_name(name).upper()
    if plain.isdecimal() and plain.isascii() and 1 <= int(plain) <= AUTOSOMES:
        return int(plain)
    return _LETTERS.get(plain) or _PLINK.get(plain)


def codes_of(names: Sequence[str]) -> Ints:
    """Return a number for each chromosome name, which ascends in the order in which they are drawn: by number, then by name."""
    different = sorted(set(names), key=lambda name: (number_of(name) or OTHER, name))
    code = {name: index for index, name in enumerate(different)}
    return np.array([code[name] for name in names], np.int64)


def autosomal(names: Sequence[str]) -> Ints:
    """Return the rows whose chromosome is an autosome."""
    numbers = {name: number_of(name) for name in set(names)}
    return np.flatnonzero([(numbers[name] or OTHER) <= AUTOSOMES for name in names])
