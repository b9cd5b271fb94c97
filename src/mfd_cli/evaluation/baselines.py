"""What a model has to beat: predictions made of those for other tracks, and a k-mer model.

Every baseline is (bins, tracks), in the order of the model's outputs, and is measured by the same code as the model. For
a track that takes part in training, the track itself is left out of its own baseline.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import numpy as np
from numpy.typing import NDArray

from mfd_cli.base.arrays import Bools, Floats, Ints
from mfd_cli.core.metadata import MetadataEncoder
from mfd_cli.dataset.bins import Bins, unpack_bits
from mfd_cli.dataset.folder import Dataset
from mfd_cli.genome.grid import BIN

K = 5
"""Bases of a k-mer."""
KMER_WINDOW = 512
"""Bases around the middle of a bin in which k-mers are counted."""
KMER_RIDGE = 300.0
MOST_FITTED_BINS = 100_000


def from_other_tracks(
    logits: Floats,
    metadata: MetadataEncoder,
    rows: Sequence[Mapping[str, str]],
    trained: Bools,
    kinds: Sequence[str],
    same: Mapping[int, int] | None = None,
) -> dict[str, Floats]:
    """Return means of the predicted logits (bins, tracks) over training tracks of the same kind (peaks, signal), by baseline.

    average: over all of them (one shared prediction); same F: over those that share a level of factor F; nearest: over those
    that share the most factors. NaN for a track to which no other one is similar in this way. `same` names pairs of columns
    that are one experiment, which must not be in each other's baseline.
    """
    same_level = {name: share_a_level(metadata.membership(name, rows)) for name in metadata.encoders}
    kind = np.array(kinds)
    allowed = (kind[:, None] == kind[None]) & trained[None] & ~np.eye(len(rows), dtype=bool)
    for one, other in (same or {}).items():
        allowed[one, other] = allowed[other, one] = False
    count = np.where(allowed, sum(similar.astype(int) for similar in same_level.values()), -1)
    best = allowed & (count == count.max(1, keepdims=True))
    chosen = {"average": allowed, "nearest": best} | {f"same {name}": allowed & s for name, s in same_level.items()}
    return {name: mean_over(logits, similar) for name, similar in chosen.items()}


def share_a_level(membership: Bools) -> Bools:
    """Return (tracks, tracks) whether two tracks have a level in common, from (tracks, levels)."""
    member = membership.astype(np.float32)
    return member @ member.T > 0


def mean_over(logits: Floats, similar: Bools) -> Floats:
    """Return (bins, tracks) the mean of the columns that are similar to each track, by `similar` (tracks, tracks).

    NaN where none is.
    """
    size = similar.sum(1)
    weights = similar / np.where(size > 0, size, np.nan)[:, None]
    means: Floats = np.full((len(logits), len(similar)), np.nan, np.float32)
    if (size > 0).any():
        means[:, size > 0] = logits @ weights[size > 0].T.astype(np.float32)
    return means


def kmer_ridge(dataset: Dataset, bins: Bins, ridge: float = KMER_RIDGE, most: int = MOST_FITTED_BINS) -> Floats:
    """Return (bins, peak tracks) a ridge regression of labels on log counts of canonical 5-mers in 512 bp around the bin.

    It is fitted on at most `most` training bins, evenly spaced.
    """
    train = dataset.split("train")
    fitted = train.thinned(most)
    labels = unpack_bits(fitted.peaks, len(dataset.peak_tracks)).astype(np.float32)
    x = kmer_counts(dataset, fitted.contig, fitted.start)
    mean, centre = x.mean(0), labels.mean(0)
    x -= mean
    gram = x.T @ x
    gram[np.diag_indices_from(gram)] += ridge
    slopes = np.linalg.solve(gram.astype(np.float64), (x.T @ (labels - centre)).astype(np.float64))
    guess: Floats = ((kmer_counts(dataset, bins.contig, bins.start) - mean) @ slopes + centre).astype(np.float32)
    return guess


def kmer_counts(dataset: Dataset, contig: NDArray[np.int32], start: Ints, k: int = K) -> Floats:
    """Return (bins, k-mers) log(1 + count) of every canonical k-mer in the KMER_WINDOW bp around each bin."""
    digits = (np.arange(4**k)[:, None] // 4 ** np.arange(k)[::-1]) % 4
    reverse = ((3 - digits)[:, ::-1] * 4 ** np.arange(k)[::-1]).sum(1)
    canonical, column = np.unique(np.minimum(np.arange(4**k), reverse), return_inverse=True)
    counts = np.zeros((len(start), len(canonical)), np.float32)
    for row, (number, begin) in enumerate(zip(contig.tolist(), start.tolist())):
        left = begin - (KMER_WINDOW - BIN) // 2
        codes = dataset.genome.codes(dataset.contigs[number], left, left + KMER_WINDOW).astype(np.int64)
        words = sum(codes[i : len(codes) - k + 1 + i] * 4 ** (k - 1 - i) for i in range(k))
        known = np.convolve(codes > 3, np.ones(k), "valid") == 0
        counts[row] = np.bincount(column[words[known]], minlength=len(canonical))
    return np.log1p(counts, out=counts)
