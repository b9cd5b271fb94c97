"""Words that some tracks' peaks are rich in, and motif filters that start as them.

A filter that starts at random has to come upon a motif, and chance decides in a short training which motifs are come upon. But
the labels point at them before any training: a word of eight bases that stands in bins where the tracks of one target have
peaks, more often than where others have them, is part of what that target binds. Words are counted with a gap between their
halves too, as van Helden, Rios & Collado-Vides (Nucleic Acids Research 2000) look for dyads.

A word's surplus in a set of tracks, such as those of a target or a single one, is z = (O - E) / sqrt(E + 1): O counts pairs of
a bin with the word and a peak of these tracks in it, and E is what O would be if they had the same share in the peaks of all
bins. So words of peaks in general do not crowd out those that tell tracks apart; the peaks of all tracks together are asked
for the former. Nothing but training bins and training tracks is looked at.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence

import numpy as np
import torch
from scipy.sparse import csr_array

from mfd_cli.base.arrays import Bools, Bytes, Doubles, Floats
from mfd_cli.core.backbones import DilatedBackbone
from mfd_cli.core.metadata import MetadataEncoder
from mfd_cli.core.model import MfdModel
from mfd_cli.core.motif_filters import KERNEL
from mfd_cli.core.stretches import STRETCH
from mfd_cli.dataset.bins import Bins
from mfd_cli.dataset.folder import Dataset
from mfd_cli.genome.grid import BIN, evenly
from mfd_cli.genome.sequence import UNKNOWN
from mfd_cli.runs.draws import thinned_in_stretches

HALF, MOST_GAP = 4, 11
"""Bases of a half of a word, and of the largest gap: so that a word with its gap is as long as a filter."""
MOST_BINS = 60_000
"""Training bins that are looked at, in evenly spaced stretches."""
MOST_COUNTS, COLUMNS = 5_000_000, 256
"""Bins times sets of tracks with a peak there, or fewer bins are looked at; and sets that are looked at at once."""
SURPLUS = 5.0
"""Standard deviations by which a word is more frequent than by chance."""
CANDIDATES = 20_000
"""Words, those with the largest surplus, among which different ones are chosen."""
SAME_BASES, OTHER_BASES = 6, 1
"""Two words are one motif where, somehow aligned, so many known bases of theirs meet, and at most one pair of them differs."""
SIZE = 0.2
"""Of a base of a word in a filter. Random weights start with a standard deviation of 0.07."""
BASES = "ACGT"
GAP = "N"


def start_as_words(model: MfdModel, words: Sequence[str]) -> None:
    """Let the first motif filters of a model begin as these words, one each, on half of what they began as at random.

    Of a model that reads k-mers the first base of each counts.
    """
    assert isinstance(model.backbone, DilatedBackbone)
    weight = model.backbone.motifs.weight
    first = torch.arange(weight.shape[1]) // (weight.shape[1] // len(BASES))
    with torch.no_grad():
        for row, word in zip(weight, words):
            row.mul_(0.5)
            start = (KERNEL - len(word)) // 2
            for place, base in enumerate(word):
                if base != GAP:
                    own = (first == BASES.index(base)).to(row)
                    row[:, start + place] += SIZE * (own - (1 - own) / 3)


def enriched_words(dataset: Dataset, bins: Bins, sets: Bools, most: int) -> list[str]:
    """Return at most so many words of different motifs, the one with the largest surplus first; `N` stands in a gap.

    `bins` are those of the training split, `sets` (peak tracks, sets) sets of training tracks whose peaks are looked at
    together, beside all of them together.
    """
    some = thinned_in_stretches(bins, MOST_BINS, STRETCH)
    peaks = csr_array(some.labels(np.arange(len(sets)))).astype(np.float32)
    counts = peaks @ csr_array(sets.astype(np.float32))
    if counts.nnz > MOST_COUNTS:
        few = evenly(len(some), int(len(some) * MOST_COUNTS / counts.nnz))
        some, peaks, counts = some.taken(few), peaks[few], counts[few]
    every = peaks @ sets.any(1).astype(np.float32)
    codes = codes_of(dataset, some)
    found, surplus = list[str](), list[float]()
    for gap in range(MOST_GAP + 1):
        largest = largest_surplus(occurrences(codes, gap), counts, every)
        chosen = np.flatnonzero(largest > SURPLUS)
        found += [word_of(number, gap) for number in chosen.tolist()]
        surplus += largest[chosen].tolist()
    order = np.argsort(-np.array(surplus), kind="stable")[:CANDIDATES]
    return different([found[number] for number in order.tolist()], most)


def sets_of_tracks(dataset: Dataset, metadata: MetadataEncoder, trained: Bools) -> Bools:
    """Return the sets of training tracks whose peaks are looked at, (peak tracks, sets): each track, and the tracks of each
    level of each factor where they are several."""
    tracks = dataset.peak_tracks
    used = trained[: len(tracks), None]
    rows = [track.metadata for track in tracks]
    levels = [metadata.membership(name, rows) & used for name in metadata.encoders] if tracks else []
    several = [members[:, members.sum(0) > 1] for members in levels]
    return np.concatenate([np.diag(used[:, 0]), *several], 1)


def codes_of(dataset: Dataset, bins: Bins) -> Bytes:
    """Return the base codes (bins, 128) of bins."""
    result = np.empty((len(bins), BIN), np.uint8)
    for row, (contig, start) in enumerate(zip(bins.contig.tolist(), bins.start.tolist())):
        result[row] = dataset.genome.codes(dataset.contigs[contig], start, start + BIN)
    return result


def largest_surplus(there: csr_array, counts: csr_array, every: Floats) -> Doubles:
    """Return the largest surplus of each word (words,) in any set of tracks, or in all of them together.

    `there` (bins, words) has a 1 where a word is in a bin, `counts` (bins, sets) how many peaks each set of tracks has there,
    `every` (bins,) how many all tracks have.
    """
    of_words = there.T.tocsr()
    together = of_words @ every.astype(float)
    result = np.full(len(together), -np.inf)
    enough = np.flatnonzero(together > SURPLUS)  # of fewer peaks there is no such surplus
    of_words, together = of_words[enough], together[enough]
    # A bin with peaks of many tracks is one event, so what all together have is measured by how it varies over bins.
    bins = of_words.sum(1)
    largest: Doubles = (together - bins * every.mean()) / np.sqrt(bins * every.var(dtype=float) + 1)
    shares = counts.sum(0) / max(float(every.sum()), 1.0)
    for low in range(0, counts.shape[1], COLUMNS):
        part = slice(low, low + COLUMNS)
        found = (of_words @ counts[:, part]).toarray()
        expected = together[:, None] * shares[part]
        largest = np.maximum(largest, ((found - expected) / np.sqrt(expected + 1)).max(1))
    result[enough] = largest
    return result


def occurrences(codes: Bytes, gap: int) -> csr_array:
    """Return which words with a gap are in which bins, on either strand, of base codes (bins, bases): (bins, 4^8), 1 in the
    column of the lesser of a word and its reverse complement. Words with an unknown base are none."""
    places = [*range(HALF), *range(HALF + gap, 2 * HALF + gap)]
    count = codes.shape[1] - places[-1]
    shape = len(codes), count
    forward, backward, unknown = np.zeros(shape, np.int32), np.zeros(shape, np.int32), np.zeros(shape, bool)
    for power, place in enumerate(places):
        base = codes[:, place : place + count].astype(np.int32)
        unknown |= base >= UNKNOWN
        forward = 4 * forward + base
        backward += (3 - base) * 4**power
    seen = np.sort(np.where(unknown, -1, np.minimum(forward, backward)), axis=1)
    new = seen >= 0
    new[:, 1:] &= seen[:, 1:] != seen[:, :-1]
    edges = np.append(0, new.sum(1).cumsum())
    ones = np.ones(edges[-1], np.float32)
    return csr_array((ones, seen[new], edges), shape=(len(codes), 4 ** (2 * HALF)))


def word_of(number: int, gap: int) -> str:
    """Return the word of a number, with its gap.

    >>> word_of(27, 2)
    'AAAANNACGT'
    """
    bases = "".join(BASES[number >> 2 * power & 3] for power in reversed(range(2 * HALF)))
    return bases[:HALF] + GAP * gap + bases[HALF:]


def different(words: Sequence[str], most: int) -> list[str]:
    """Return the first words of which none is the same motif as one before it, on either strand and at any place."""
    coded = np.stack([bases_of(word) for word in words]) if words else np.zeros((0, KERNEL, 4), np.float32)
    left, chosen = np.ones(len(words), bool), list[str]()
    for number in range(len(words)):
        if left[number]:
            chosen.append(words[number])
            if len(chosen) == most:
                break
            left &= ~like(coded, coded[number])
    return chosen


def bases_of(word: str) -> Floats:
    """Return a word as (KERNEL, 4), one-hot, 0 in its gap and behind its end."""
    result = np.zeros((KERNEL, 4), np.float32)
    for place, base in enumerate(word):
        if base != GAP:
            result[place, BASES.index(base)] = 1
    return result


def like(coded: Floats, one: Floats) -> Bools:
    """Return which words (n, KERNEL, 4) are the same motif as one (KERNEL, 4)."""
    others = np.stack([shifted for strand in (one, one[::-1, ::-1]) for shifted in shifts(strand)])
    same = coded.reshape(len(coded), -1) @ others.reshape(len(others), -1).T
    known = coded.sum(2) @ others.sum(2).T
    return ((known >= SAME_BASES) & (known - same <= OTHER_BASES)).any(1)


def shifts(coded: Floats) -> Iterator[Floats]:
    """Yield a word (KERNEL, 4) moved by every number of places; what leaves the filter is gone."""
    padded = np.pad(coded, ((KERNEL - 1, KERNEL - 1), (0, 0)))
    for start in range(2 * KERNEL - 1):
        yield padded[start : start + KERNEL]
