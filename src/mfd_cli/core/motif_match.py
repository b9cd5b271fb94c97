"""Which known motif a motif is: the best place and strand of every known one, against chance.

The score of a known motif at a place is the expected log odds (bits against equal bases) of its matrix under the base
frequencies that were found there; bases beside what was found are equally likely. Chance is the best score of the same matrix
with its columns in another order: it has the same bases and the same information, and only the order differs.

TOMTOM (memelite.tomtom, which needs numba) was tried against this on the 178 motifs of JASPAR 2024 for fungi: of 24 that were
planted (15 sites each, 0 to 5 random columns on either side, half reverse complemented) it names 23 first, this 16 (and 20
within the first two); E-values of the planted ones are 1e-2 to 1e-12 there, 1e-3 to 10 here, and it took 0.02 s against 7 s. On
random matrices neither finds a match below an E-value of 0.04. So TOMTOM is the better judge; this stays because it runs
without numba.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np

from mfd_cli.base.arrays import Doubles, Reals

SHUFFLES = 200
"""Orders of a known motif's columns that its score is compared with."""
EULER = 0.5772156649
"""The mean of the standard Gumbel distribution."""


@dataclass(frozen=True)
class Match:
    """A known motif in a found one. `bits` is the expected log odds, `strand` + or - of the known motif as it is written,
    `start` where it begins in the found one (0-based; negative: before it), `e_value` how many of all known motifs would
    match as well by chance."""

    name: str
    bits: float
    strand: str
    start: int
    e_value: float


def match_motifs(frequencies: Reals, known: Mapping[str, Doubles], seed: int = 0) -> list[Match]:
    """Return how well every known motif matches base frequencies (4, width), the likeliest first.

    They need not sum to one; a column of zeros counts as four equal bases. `known` are probabilities (length, 4). The
    p-value of a motif comes from an extreme-value distribution (Gumbel, by moments) of SHUFFLES orders of its columns; the
    E-value is p times the number of known motifs.
    """
    columns = frequencies.T.astype(np.float64)
    total = columns.sum(1, keepdims=True)
    columns = np.where(total > 0, columns / np.where(total > 0, total, 1), 0.25)
    rng = np.random.default_rng(seed)
    matches = []
    for name, probabilities in known.items():
        odds = np.log2(np.maximum(probabilities, 1e-3) / 0.25)
        orders = np.stack([odds, *(odds[rng.permutation(len(odds))] for _ in range(SHUFFLES))])
        scores, beside = expected_odds(columns, orders)  # (orders, strands, places)
        strand, place = np.unravel_index(int(scores[0].argmax()), scores.shape[1:])
        bits = float(scores[0].max())
        p = gumbel_tail(bits, scores[1:].max((1, 2)))
        matches.append(Match(name, bits, "+-"[strand], int(place) - beside, p * len(known)))
    return sorted(matches, key=lambda match: (match.e_value, -match.bits, match.name))


def expected_odds(frequency: Doubles, odds: Doubles) -> tuple[Doubles, int]:
    """Return the expected log odds of matrices (matrices, length, 4) in frequencies (width, 4): (matrices, 2 strands, places).

    Also returns how far the first place lies before the frequencies: at least half of a matrix lies on them.
    """
    length = odds.shape[1]
    beside = length - max(min(length, len(frequency)) // 2, 1)
    padded = np.concatenate([np.full((beside, 4), 0.25), frequency, np.full((beside, 4), 0.25)])
    windows = np.lib.stride_tricks.sliding_window_view(padded, length, 0).transpose(0, 2, 1)  # (places, length, 4)
    both = np.stack([odds, odds[:, ::-1, ::-1]], 1).reshape(2 * len(odds), -1)
    scores: Doubles = both @ windows.reshape(len(windows), -1).T
    return scores.reshape(len(odds), 2, -1), beside


def gumbel_tail(value: float, chance: Doubles | Sequence[float]) -> float:
    """Return how likely the largest of many is at least `value`, after a Gumbel distribution with the moments of `chance`."""
    scale = float(np.std(chance)) * np.sqrt(6) / np.pi
    if scale < 1e-9:
        return 1.0  # every order of the columns is the same: the order says nothing
    standard = (value - (float(np.mean(chance)) - EULER * scale)) / scale
    return float(-np.expm1(-np.exp(-standard)))
