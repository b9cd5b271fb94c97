"""TF-MoDISco on hypothetical contributions, through modisco-lite: the extra `motifs`, imported only here."""

from __future__ import annotations

import numpy as np

from mfd_cli.base.arrays import Bytes, Floats, Reals
from mfd_cli.base.errors import ConfigError
from mfd_cli.core.seqlets import FoundMotif


def modisco_motifs(codes: Bytes, hypothetical: Floats) -> list[FoundMotif]:
    """Return the patterns of base codes (regions, window) with hypothetical contributions (regions, 4, window).

    Those that raise the score come first, the most frequent first. Unknown bases count as no base.

    Empty where there are too few seqlets for a cluster (modisco-lite wants a hundred). ConfigError where the extra is missing.
    """
    try:
        from modiscolite.tfmodisco import TFMoDISco
    except ImportError:
        raise ConfigError("modisco-lite is not installed", hint="pip install 'mfd-cli[motifs]'") from None
    onehot = (codes[:, :, None] == np.arange(4)).astype(np.float32)
    try:
        raising, lowering = TFMoDISco(onehot, np.ascontiguousarray(hypothetical.transpose(0, 2, 1)))
    except ValueError as problem:  # fewer windows above the threshold than its statistics need
        if "seqlet" in str(problem).lower() or "sample" in str(problem).lower():
            return []
        raise
    patterns = [*(raising or []), *(lowering or [])]
    total = sum(len(pattern.seqlets) for pattern in patterns)
    return [
        FoundMotif(
            np.asarray(pattern.contrib_scores, np.float32).T,
            np.asarray(pattern.sequence, np.float32).T,
            _consensus(np.asarray(pattern.sequence)),
            len(pattern.seqlets),
            total,
            float("nan"),
            "modisco",
        )
        for pattern in patterns
    ]


def _consensus(frequency: Reals) -> str:
    """Return the likeliest base where one is in more than half of the seqlets, n elsewhere; ends of n are left out."""
    likely = frequency.max(1) > 0.5 * np.maximum(frequency.sum(1), 1e-9)
    text = "".join("ACGT"[base] if sure else "n" for base, sure in zip(frequency.argmax(1), likely))
    return text.strip("n") or "n"
