"""Motifs out of attributions without further tools: the stretches that carry most, aligned on their best k-mer."""

from __future__ import annotations

from collections import Counter
from dataclasses import dataclass

import numpy as np

from mfd_cli.base.arrays import Bytes, Floats

WIDTH = 21
K = 6


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
    """Align the strongest stretches of windows with actual contributions (windows, window) and base codes alike.

    None where nothing recurs: no k-mer in at least three stretches.
    """
    stretches = _strongest(contributions, per_window)
    texts = ["".join("ACGTN"[c] for c in codes[w, s : s + WIDTH]) for w, s in stretches]
    counts: Counter[str] = Counter()
    for text in texts:
        counts.update({_canonical(text[i : i + K]) for i in range(WIDTH - K + 1) if "N" not in text[i : i + K]})
    background = _background(codes)
    if not counts:
        return None
    kmer, count = max(
        counts.items(),
        key=lambda pair: (pair[1] * np.log((pair[1] + 1) / (len(texts) * background.get(pair[0], 0) + 1)), pair[0]),
    )
    if count < 3:
        return None
    return _align(kmer, count, stretches, texts, contributions, codes, background)


def _strongest(contributions: Floats, per_window: int) -> list[tuple[int, int]]:
    """(window, start) of the stretches with the largest sums of contributions, at most `per_window` each, apart."""
    sums = np.apply_along_axis(lambda row: np.convolve(row, np.ones(WIDTH), "valid"), 1, contributions)
    found = []
    for window, row in enumerate(sums):
        row = row.copy()
        for _ in range(per_window):
            start = int(row.argmax())
            if row[start] <= 0:
                break
            found.append((window, start))
            row[max(start - WIDTH, 0) : start + WIDTH] = -np.inf
    return found


def _background(codes: Bytes) -> dict[str, float]:
    """Expected share of stretches of WIDTH that hold each canonical k-mer, from all windows."""
    counts: Counter[str] = Counter()
    for row in codes:
        text = "".join("ACGTN"[c] for c in row)
        counts.update(_canonical(text[i : i + K]) for i in range(len(text) - K + 1))
    total = sum(counts.values())
    return {kmer: min(1.0, count / total * (WIDTH - K + 1)) for kmer, count in counts.items()}


def _align(
    kmer: str,
    count: int,
    stretches: list[tuple[int, int]],
    texts: list[str],
    contributions: Floats,
    codes: Bytes,
    background: dict[str, float],
) -> FoundMotif:
    """Mean contribution and base frequency around the k-mer, on the strand on which it reads as given."""
    middle = (WIDTH - K) // 2
    total, frequency, used = np.zeros((4, WIDTH), np.float32), np.zeros((4, WIDTH), np.float32), 0
    for (window, start), text in zip(stretches, texts):
        at = text.find(kmer)
        flipped = at < 0
        if flipped:
            at = text.find(_reverse(kmer))
        if at < 0:
            continue
        low = start + at - middle if not flipped else start + at + K + middle - WIDTH
        if low < 0 or low + WIDTH > codes.shape[1]:
            continue
        bases, values = codes[window, low : low + WIDTH], contributions[window, low : low + WIDTH]
        if flipped:
            bases, values = np.where(bases < 4, 3 - bases, bases)[::-1], values[::-1]
        known = bases < 4
        total[bases[known], np.flatnonzero(known)] += values[known]
        frequency[bases[known], np.flatnonzero(known)] += 1
        used += 1
    expected = background.get(kmer, 0.0) * len(texts)
    count_used = np.float32(max(used, 1))
    return FoundMotif(
        total / count_used, frequency / count_used, kmer, count, len(texts), (count + 0.5) / (expected + 0.5)
    )


def _reverse(text: str) -> str:
    return text.translate(str.maketrans("ACGT", "TGCA"))[::-1]


def _canonical(text: str) -> str:
    return min(text, _reverse(text))
