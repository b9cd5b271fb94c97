"""Which composition of the sequence a level prefers: its fingerprint, in short words of DNA.

For every level the score of its direction is correlated over bins with the frequency of each 4-mer (both strands as one), with
G+C and with CpG. A technical level with a clear fingerprint has learnt a preference of the technique (an enzyme's cutting
sites, G+C bias, mappability), not of the biology.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from itertools import product
from typing import Any

import numpy as np

from mfd_cli.base.arrays import Ints, Reals
from mfd_cli.genome.grid import BIN
from mfd_cli.genome.sequence import UNKNOWN, Genome, gc_share

WORD_LENGTH = 4
"""Bases of a word."""
COMPOSITION = ("G+C", "CpG")
FEWEST_CORRELATED = 3
"""Over two bins any two profiles that vary correlate perfectly."""


def words() -> tuple[list[str], Ints]:
    """Return the 136 different 4-mers (a word and its reverse complement are one) and, for each of the 256, which it is."""
    number_of: dict[str, int] = {}
    which = np.zeros(4**WORD_LENGTH, np.int64)
    for index, letters in enumerate(product("ACGT", repeat=WORD_LENGTH)):
        word = "".join(letters)
        other_strand = word[::-1].translate(str.maketrans("ACGT", "TGCA"))
        which[index] = number_of.setdefault(min(word, other_strand), len(number_of))
    return list(number_of), which


def composition(genome: Genome, bins: Sequence[tuple[str, int]]) -> tuple[list[str], Reals]:
    """Return names and values (bins, features) of bins, (contig, start) each: G+C, CpG, and every 4-mer's frequency."""
    names, which = words()
    values = np.zeros((len(bins), len(COMPOSITION) + len(names)), np.float32)
    powers = 4 ** np.arange(WORD_LENGTH - 1, -1, -1)
    for row, (contig, start) in enumerate(bins):
        codes = genome.codes(contig, start, start + BIN)
        known = codes < UNKNOWN
        pairs = known[:-1] & known[1:]
        values[row, 0] = np.nan_to_num(gc_share(codes))
        values[row, 1] = ((codes[:-1] == 1) & (codes[1:] == 2)).sum() / max(pairs.sum(), 1)
        windows = np.lib.stride_tricks.sliding_window_view(codes, WORD_LENGTH)
        whole = windows[(windows < UNKNOWN).all(1)] @ powers
        counts = np.bincount(which[whole], minlength=len(names))
        values[row, len(COMPOSITION) :] = counts / max(len(whole), 1)
    return [*COMPOSITION, *names], values


def fingerprint(
    scores: Mapping[str, Reals],
    names: Sequence[str],
    values: Reals,
    profiles: Mapping[str, Reals] | None = None,
    top: int = 12,
) -> list[dict[str, Any]]:
    """Return rows of fingerprint.tsv: per level the correlations of its score (bins,) with G+C, CpG, any profiles (bins,), and
    the `top` 4-mers by size, strongest first.

    `names` and `values` (bins, features) are those of `composition`; a profile counts over the bins where it is known. NaN
    where there is no correlation (see `correlation_over_bins`).
    """
    centred = values - values.mean(0)
    size = np.sqrt((centred**2).sum(0))
    rows, first = [], len(COMPOSITION)
    for level, score in scores.items():
        own = score - score.mean()
        length = float(np.sqrt((own**2).sum()))
        with np.errstate(divide="ignore", invalid="ignore"):
            r = np.where(
                (size > 0) & (length > 0) & (len(score) >= FEWEST_CORRELATED), own @ centred / (size * length), np.nan
            )
        strongest = np.argsort(-np.abs(np.nan_to_num(r[first:])))[:top] + first
        correlations = {name: float(value) for name, value in zip(COMPOSITION, r)}
        correlations |= {name: correlation_over_bins(score, profile) for name, profile in (profiles or {}).items()}
        correlations |= {names[index]: float(r[index]) for index in strongest.tolist()}
        rows += [
            {"level": level, "feature": name, "correlation": value, "strength": float(score.std())}
            for name, value in correlations.items()
        ]
    return rows


def correlation_over_bins(score: Reals, profile: Reals) -> float:
    """Return Pearson's r of a score with a profile, (bins,) each, over the bins where the profile is known.

    NaN where there is none: with fewer than three such bins, or where one of the two is the same in all.
    """
    known = np.isfinite(profile)
    if known.sum() < FEWEST_CORRELATED or not score[known].std() or not profile[known].std():
        return np.nan
    return float(np.corrcoef(score[known], profile[known])[0, 1])
