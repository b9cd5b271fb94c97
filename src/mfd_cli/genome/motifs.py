"""Position weight matrices, and where they hit: a scan of both strands. formats/motif_files reads and writes them."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from mfd_cli.base.arrays import Bytes, Doubles
from mfd_cli.genome.sequence import UNKNOWN


@dataclass(frozen=True)
class Motif:
    """A motif: `counts` (length, 4) in the order A, C, G, T."""

    name: str
    counts: Doubles

    @property
    def probabilities(self) -> Doubles:
        """Base frequencies, (length, 4), with half a count of each base added, so that nothing is impossible."""
        padded = self.counts + 0.5
        result: Doubles = padded / padded.sum(1, keepdims=True)
        return result

    @property
    def log_odds(self) -> Doubles:
        """Logarithm of `probabilities` over equal ones, (length, 4), in bits."""
        result: Doubles = np.log2(self.probabilities / 0.25)
        return result

    @property
    def information(self) -> float:
        """Bits in all positions together."""
        return float((self.probabilities * self.log_odds).sum())

    @property
    def consensus(self) -> str:
        """The most frequent base at each position."""
        return "".join("ACGT"[base] for base in self.counts.argmax(1))

    def scan(self, codes: Bytes) -> tuple[Doubles, Doubles]:
        """Return the log odds at every start on the forward and on the reverse strand, (len(codes) - length + 1,) each.

        An unknown base scores as the worst one.
        """
        forward, reverse = self.log_odds, self.log_odds[::-1, ::-1]
        return _scan(codes, forward), _scan(codes, reverse)


def _scan(codes: Bytes, weights: Doubles) -> Doubles:
    """Return the sum of weights (length, 4) over the bases from every start on, (len(codes) - length + 1,)."""
    padded = np.concatenate([weights, weights.min(1, keepdims=True)], 1)  # column 4: an unknown base
    count = max(len(codes) - len(weights) + 1, 0)
    total = np.zeros(count, np.float32)
    for offset, row in enumerate(padded.astype(np.float32)):
        total += row[np.minimum(codes[offset : offset + count], UNKNOWN)]
    return total.astype(np.float64)
