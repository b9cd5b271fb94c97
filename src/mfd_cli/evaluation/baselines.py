"""What a model has to beat: predictions made of those for other tracks, and a k-mer model.

Every baseline is a `Prediction`, with a column per track in the order of the model's outputs, and is measured by the same code
as the model. For a track that takes part in training, the track itself is left out of its own baseline.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from mfd_cli.base.arrays import Bools, Floats, Ints
from mfd_cli.base.long_array import long_array
from mfd_cli.core.metadata import MetadataEncoder
from mfd_cli.dataset.bins import Bins
from mfd_cli.dataset.folder import Dataset
from mfd_cli.evaluation.linear import Prediction
from mfd_cli.genome.grid import BIN

K = 5
"""Bases of a k-mer."""
KMER_WINDOW = 512
"""Bases around the middle of a bin in which k-mers are counted."""
KMER_RIDGE = 300.0
MOST_FITTED_BINS = 100_000
FITTED_TRACKS, COUNTED_BINS = 64, 16_384
"""Tracks whose labels, and bins whose k-mers, are in memory together."""


def from_other_tracks(
    own: Prediction,
    metadata: MetadataEncoder,
    rows: Sequence[Mapping[str, str]],
    trained: Bools,
    kinds: Sequence[str],
    same: Mapping[int, int] | None = None,
) -> Iterator[tuple[str, Prediction]]:
    """Yield the name and the prediction of each baseline: means of a model's logits over training tracks of the same kind.

    average: over all of them (one shared prediction); same F: over those that share a level of factor F; nearest: over those
    that share the most factors. It says nothing of a track to which no other one is similar in this way. `same` names pairs of
    columns that are one experiment, which must not be in each other's baseline.
    """
    same_level = {name: share_a_level(metadata.membership(name, rows)) for name in metadata.encoders}
    kind = np.array(kinds)
    allowed = (kind[:, None] == kind[None]) & trained[None] & ~np.eye(len(rows), dtype=bool)
    for one, other in (same or {}).items():
        allowed[one, other] = allowed[other, one] = False
    count = np.where(allowed, sum(similar.astype(int) for similar in same_level.values()), -1)
    best = allowed & (count == count.max(1, keepdims=True))
    yield "average", mean_over(own, allowed)
    yield "nearest", mean_over(own, best)
    for name, similar in same_level.items():
        yield f"same {name}", mean_over(own, allowed & similar)


def share_a_level(membership: Bools) -> Bools:
    """Return (tracks, tracks) whether two tracks have a level in common, from (tracks, levels)."""
    member = membership.astype(np.float32)
    return member @ member.T > 0


def mean_over(own: Prediction, similar: Bools) -> Prediction:
    """Return, for each column, the mean of the logits of the columns that are similar to it, by `similar` (columns, columns).

    The mean of linear predictions is that of their weights. It says nothing of a column to which none is similar.
    """
    size = similar.sum(1)
    shares = (similar / np.maximum(size, 1)[:, None]).astype(np.float32)
    bias = np.where(size > 0, shares @ own.bias, np.float32(np.nan))
    return Prediction(own.inputs, shares @ own.weights, bias)


@contextmanager
def kmer_ridge(
    dataset: Dataset, bins: Bins, folder: Path, ridge: float = KMER_RIDGE, most: int = MOST_FITTED_BINS
) -> Iterator[Prediction]:
    """Yield the prediction of peak tracks by a ridge regression of labels on log counts of canonical 5-mers around the bin.

    They are counted in 512 bp. It is fitted on at most `most` training bins, evenly spaced. The counts of `bins` are kept on
    the disk of `folder`, for as long as the context lasts, where they are large.
    """
    fitted = dataset.split("train").thinned(most)
    x = kmer_counts(dataset, fitted.contig, fitted.start)
    mean = x.mean(0)
    x -= mean
    gram = (x.T @ x).astype(np.float64)
    gram[np.diag_indices_from(gram)] += ridge
    centre, products = [], []
    for low in range(0, len(dataset.peak_tracks), FITTED_TRACKS):
        tracks = np.arange(low, min(low + FITTED_TRACKS, len(dataset.peak_tracks)))
        labels = fitted.labels(tracks).astype(np.float32)
        centre.append(labels.mean(0))
        products.append((x.T @ (labels - centre[-1])).astype(np.float64))
    slopes = np.linalg.solve(gram, np.concatenate(products, 1))
    bias = np.concatenate(centre) - mean @ slopes
    counted = (
        kmer_counts(dataset, bins.contig[low : low + COUNTED_BINS], bins.start[low : low + COUNTED_BINS])
        for low in range(0, len(bins), COUNTED_BINS)
    )
    with long_array((len(bins), len(mean)), counted, folder) as counts:
        yield Prediction(counts, slopes.T.astype(np.float32), bias.astype(np.float32))


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
