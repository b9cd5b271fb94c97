"""Genotype calls of persons in two bits each, four in a byte."""

from __future__ import annotations

import numpy as np

from mfd_cli.base.arrays import Bytes

MISSING = 3
"""The packed code of a call that is not there; 0, 1 and 2 are copies of the effect allele."""


def packed_width(variants: int) -> int:
    """Return how many bytes the packed dosages of a person have."""
    return -(-variants // 4)


def packed(copies: Bytes) -> Bytes:
    """Return dosages (persons, variants), 0 to 3, as (persons, bytes): four in each, the first in its lowest bits."""
    filled = np.zeros((len(copies), 4 * packed_width(copies.shape[1])), np.uint8)
    filled[:, : copies.shape[1]] = copies
    four = filled.reshape(len(copies), packed_width(copies.shape[1]), 4)
    return (four << np.array([0, 2, 4, 6], np.uint8)).sum(2, dtype=np.uint8)


_FOUR = ((np.arange(256)[:, None] >> np.array([0, 2, 4, 6])) & 3).astype(np.uint8)
"""(256, 4) The dosages in each byte."""


def unpacked(codes: Bytes, variants: int) -> Bytes:
    """Return the dosages (persons, variants) of packed ones."""
    return _FOUR[codes].reshape(len(codes), 4 * codes.shape[1])[:, :variants]
