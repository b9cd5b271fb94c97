"""Motifs out of attributions without further tools: the stretches that carry most, aligned on their best k-mer."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator
from dataclasses import dataclass

import numpy as np

from mfd_cli.base.arrays import Bytes, Floats
from mfd_cli.genome.sequence import UNKNOWN

STRETCH = 21
"""Bases of a stretch, and of a motif."""
K = 6
"""Bases of the word that stretches are aligned on."""
FEWEST_STRETCHES = 3
"""Stretches that hold the word of a motif, at least: what is there once or twice does not recur."""


@dataclass(frozen=True)
class FoundMotif:
    """What strong stretches of some windows have in common.

    `contribution` (4, width) mean contribution per base, `frequency` (4, width) base frequencies, `sequence` the k-mer they
    were aligned on (or the consensus), `count` how many stretches hold it of `total`, `enrichment` its frequency in the
    stretches over that in the rest of the windows (NaN where it is not known), `found_by` aggregate or modisco.
    """

    contribution: Floats
    frequency: Floats
    sequence: str
    count: int
    total: int
    enrichment: float
    found_by: str = "aggregate"


def aggregate_motif(contributions: Floats, codes: Bytes, per_window: int = 3) -> FoundMotif | None:
    """Return what the strongest stretches of windows have in common; None where no k-mer is in FEWEST_STRETCHES of them.

    `contributions` (windows, window) are those of the bases that are there, `codes` (windows, window) the bases.
    """
    stretches = _strongest(contributions, per_window)
    texts = [_letters(codes[window, start : start + STRETCH]) for window, start in stretches]
    counts: Counter[str] = Counter()
    for text in texts:
        counts.update({kmer for kmer in _canonical_kmers(text) if "N" not in kmer})  # once a stretch
    if not counts:
        return None
    background = _expected_shares(codes)

    def surplus(kmer: str) -> tuple[float, str]:
        """How much more often a k-mer is there than by chance, times how often; its letters decide between equals."""
        return counts[kmer] * np.log((counts[kmer] + 1) / (len(texts) * background.get(kmer, 0) + 1)), kmer

    kmer = max(counts, key=surplus)
    if counts[kmer] < FEWEST_STRETCHES:
        return None
    contribution, frequency = _aligned(kmer, stretches, contributions, codes)
    expected = background.get(kmer, 0.0) * len(texts)
    enrichment = (counts[kmer] + 0.5) / (expected + 0.5)
    return FoundMotif(contribution, frequency, kmer, counts[kmer], len(texts), enrichment)


def _strongest(contributions: Floats, per_window: int) -> list[tuple[int, int]]:
    """Return (window, start) of the stretches with the largest positive sums of contributions, at most `per_window` each.

    Those of one window do not overlap.
    """
    sums = np.apply_along_axis(lambda row: np.convolve(row, np.ones(STRETCH), "valid"), 1, contributions)
    stretches = []
    for window, left in enumerate(sums):
        for _ in range(per_window):
            start = int(left.argmax())
            if left[start] <= 0:
                break
            stretches.append((window, start))
            left[max(start - STRETCH, 0) : start + STRETCH] = -np.inf
    return stretches


def _expected_shares(codes: Bytes) -> dict[str, float]:
    """Return the expected share of stretches of STRETCH that hold each canonical k-mer, from all windows."""
    counts: Counter[str] = Counter()
    for window in codes:
        counts.update(_canonical_kmers(_letters(window)))
    total = sum(counts.values())
    return {kmer: min(1.0, count / total * (STRETCH - K + 1)) for kmer, count in counts.items()}


def _aligned(kmer: str, stretches: list[tuple[int, int]], contributions: Floats, codes: Bytes) -> tuple[Floats, Floats]:
    """Return mean contribution and base frequency (4, STRETCH) around a k-mer, on the strand on which it reads as written.

    Over the stretches that hold the k-mer, but for those where that lies too near the end of the window.
    """
    contribution, frequency = np.zeros((2, 4, STRETCH), np.float32)
    aligned = 0
    for window, start in stretches:
        cut = _around(kmer, _letters(codes[window, start : start + STRETCH]), start)
        if cut is None or cut[0] < 0 or cut[0] + STRETCH > codes.shape[1]:
            continue
        low, flipped = cut
        bases, values = codes[window, low : low + STRETCH], contributions[window, low : low + STRETCH]
        if flipped:
            bases, values = np.where(bases < UNKNOWN, 3 - bases, bases)[::-1], values[::-1]
        known = bases < UNKNOWN
        contribution[bases[known], np.flatnonzero(known)] += values[known]
        frequency[bases[known], np.flatnonzero(known)] += 1
        aligned += 1
    count = np.float32(max(aligned, 1))
    return contribution / count, frequency / count


def _around(kmer: str, text: str, start: int) -> tuple[int, bool] | None:
    """Return where in its window STRETCH bases begin that have a k-mer in the middle, and whether it reads on the other strand.

    `text` is the stretch from `start` on; None where it does not hold the k-mer.
    """
    before = (STRETCH - K) // 2
    at = text.find(kmer)
    if at >= 0:
        return start + at - before, False
    at = text.find(_reverse_complement(kmer))
    # Read on the other strand, the bases before the k-mer are those behind it here.
    return None if at < 0 else (start + at + K + before - STRETCH, True)


def _letters(codes: Bytes) -> str:
    return "".join("ACGTN"[code] for code in codes)


def _canonical_kmers(text: str) -> Iterator[str]:
    """Yield the k-mers of a text, each as the first in the alphabet of itself and its reverse complement."""
    for start in range(len(text) - K + 1):
        kmer = text[start : start + K]
        yield min(kmer, _reverse_complement(kmer))


def _reverse_complement(text: str) -> str:
    """Return the reverse complement."""
    return text.translate(str.maketrans("ACGT", "TGCA"))[::-1]
