"""What lies near a variant: the nearest start of a gene, the genes and the elements of BED files that it falls in.

Variants are given by `start` (0-based) and `end` (excluded). An insertion between two bases (start == end) counts as the
two bases it stands between, for overlaps and for distances, as in bedtools: one at the very edge of an element is within.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from functools import cached_property
from typing import Any, NamedTuple

import numpy as np

from mfd_cli.base.arrays import Bools, Ints

_SPAN = 1 << 40
"""Position p of contig i is the number i * _SPAN + p, so that one sorted array holds all contigs."""
_TOGETHER = 1 << 16
"""Variants that are annotated together; what they overlap is held in memory at once."""
_FAR = 1 << 60
"""Further than any gene: the distance to the side on which there is none."""


@dataclass(frozen=True)
class Elements:
    """Named intervals, which may overlap: `contig` (n,) index into `contigs`, `label` (n,) into `names`, which is sorted.

    `start` and `end` are (n,) int64; `name` is what the set of elements is called.
    """

    name: str
    contigs: tuple[str, ...]
    names: tuple[str, ...]
    contig: Ints
    start: Ints
    end: Ints
    label: Ints

    def __len__(self) -> int:
        return len(self.start)

    def annotate(self, contigs: Sequence[str], starts: Ints, ends: Ints) -> list[str]:
        """Return for each variant the names of the elements it overlaps, in alphabetical order with commas; empty for none."""
        low, high = _keys(self.contigs, contigs, starts, ends)
        parts = [
            self._texts(low[at : at + _TOGETHER], high[at : at + _TOGETHER]) for at in range(0, len(low), _TOGETHER)
        ]
        return [text for part in parts for text in part]

    def _texts(self, low: Ints, high: Ints) -> list[str]:
        """Return the names per query [low, high) in keys."""
        row, label = self._hits(low, high)
        texts = np.full(len(low), "", object)
        pairs = np.unique(row * len(self.names) + label)  # by query, then by name; each name once
        row, label = pairs // max(len(self.names), 1), pairs % max(len(self.names), 1)
        first = np.flatnonzero(np.diff(row, prepend=-1))
        texts[row[first]] = np.array(self.names, object)[label[first]]
        bounds = np.append(first, len(row))
        for group in np.flatnonzero(np.diff(bounds) > 1).tolist():
            chosen = label[bounds[group] : bounds[group + 1]].tolist()
            texts[row[bounds[group]]] = ",".join(self.names[i] for i in chosen)
        return list(texts)

    def _hits(self, low: Ints, high: Ints) -> tuple[Ints, Ints]:
        """Return all pairs of a query [low, high) and the label of an interval it overlaps: rows and labels, (pairs,)."""
        rows, labels = [np.zeros(0, np.int64)], [np.zeros(0, np.int64)]
        for longest, start, end, label in self._classes:
            row, index = _flat(np.searchsorted(start, low - longest, "right"), np.searchsorted(start, high, "left"))
            over = end[index] > low[row]
            rows.append(row[over])
            labels.append(label[index[over]])
        return np.concatenate(rows), np.concatenate(labels)

    @cached_property
    def _classes(self) -> list[tuple[int, Ints, Ints, Ints]]:
        """The intervals in classes of similar length: the longest length, then start, end (keys) and label by start.

        In a class all that overlaps a query starts within `longest` bp before it, and little else does. One sorted list for
        all would need the longest interval of the genome for this, and a search through all that it reaches over.
        """
        length = self.end - self.start
        kind = np.frexp(length.astype(np.float64))[1] // 2  # a factor of four each
        classes = []
        for one in np.unique(kind):
            members = np.flatnonzero(kind == one)
            members = members[np.lexsort((self.start[members], self.contig[members]))]
            base = self.contig[members] * _SPAN
            classes.append(
                (int(length[members].max()), base + self.start[members], base + self.end[members], self.label[members])
            )
        return classes


class _Sites(NamedTuple):
    """Distinct start sites by position: key, rank of the gene's name, and 1 or -1 for the strand."""

    key: Ints
    rank: Ints
    sign: Ints


@dataclass(frozen=True)
class Genes:
    """Genes and their transcription start sites (TSS), on the contigs of a genome.

    Per gene (n,): `names`, `contig` (index into `contigs`), `strand` (+ - . ?), `start` and `end`. Per transcript (m,): `tss`
    (0-based position of its first base) and `tss_gene` (index of its gene). A gene without a strand is taken as on +.
    """

    contigs: tuple[str, ...]
    names: tuple[str, ...]
    strand: tuple[str, ...]
    contig: Ints
    start: Ints
    end: Ints
    tss: Ints
    tss_gene: Ints

    def __len__(self) -> int:
        return len(self.names)

    def nearest(self, contig: str, start: int, end: int) -> tuple[str, int] | None:
        """Return name and signed distance of the gene with the nearest TSS, see `annotate`; None on a contig without genes."""
        columns = self.annotate([contig], np.array([start]), np.array([end]))
        name, distance = columns["gene"][0], columns["tss_distance"][0]
        return None if name is None else (name, distance)

    def annotate(self, contigs: Sequence[str], starts: Ints, ends: Ints) -> dict[str, list[Any]]:
        """Return the columns `gene`, `tss_distance` and `within_gene` of variants.

        gene: the one with the nearest TSS; of several equally near the alphabetically first one. tss_distance: bp from that TSS
        to the nearest base of the variant, negative upstream of the TSS as the gene is read, 0 where the TSS base is in the
        variant. Both are None on contigs without genes. within_gene: names of the genes whose body overlaps the variant,
        in alphabetical order with commas.
        """
        gene, distance = self._nearest(*_keys(self.contigs, contigs, starts, ends))
        known = self._sorted_names
        return {
            "gene": [known[i] if i >= 0 else None for i in gene.tolist()],
            "tss_distance": [d if i >= 0 else None for i, d in zip(gene.tolist(), distance.tolist())],
            "within_gene": self.bodies.annotate(contigs, starts, ends),
        }

    @cached_property
    def bodies(self) -> Elements:
        """The genes as intervals from their first to their last base."""
        names = self._sorted_names
        return Elements("within_gene", self.contigs, names, self.contig, self.start, self.end, self._ranks)

    @cached_property
    def _sorted_names(self) -> tuple[str, ...]:
        return tuple(sorted(set(self.names)))

    @cached_property
    def _ranks(self) -> Ints:
        """Rank of each gene's name in alphabetical order, (n,)."""
        rank = {name: i for i, name in enumerate(self._sorted_names)}
        return np.array([rank[name] for name in self.names], np.int64)

    @cached_property
    def _sites(self) -> _Sites:
        gene = self.tss_gene
        key, rank = self.contig[gene] * _SPAN + self.tss, self._ranks[gene]
        sign = np.where(np.array(self.strand, object)[gene] == "-", -1, 1)
        order = np.lexsort((rank, key))
        # Of genes that start at one base the first by name.
        first = order[np.flatnonzero(np.diff(key[order], prepend=-1))]
        return _Sites(key[first], rank[first], sign[first])

    def _nearest(self, low: Ints, high: Ints) -> tuple[Ints, Ints]:
        """Return the rank of the nearest site's gene and its signed distance per query [low, high); rank -1 for none."""
        sites = self._sites
        if not len(sites.key):
            return np.full(len(low), -1), np.zeros(len(low), np.int64)
        after_left, right = np.searchsorted(sites.key, low, "left"), np.searchsorted(sites.key, high, "left")
        left, last = np.maximum(after_left - 1, 0), np.minimum(right, len(sites.key) - 1)
        has_left = (after_left > 0) & _same_contig(sites.key[left], high)
        has_right = (right < len(sites.key)) & _same_contig(sites.key[last], high)
        to_left = np.where(has_left, low - sites.key[left], _FAR)
        to_right = np.where(has_right, sites.key[last] - high + 1, _FAR)
        go_left = (to_left < to_right) | ((to_left == to_right) & (sites.rank[left] <= sites.rank[last]))
        chosen = np.where(go_left, left, last)
        distance = np.where(go_left, to_left, -to_right) * sites.sign[chosen]
        rank = np.where(has_left | has_right, sites.rank[chosen], -1)
        inside = np.flatnonzero(right > after_left)
        rank[inside] = _lowest(sites.rank, after_left[inside], right[inside])
        distance[inside] = 0
        return rank, distance


def _same_contig(site: Ints, high: Ints) -> Bools:
    """Return whether sites lie on the contig of queries that end at `high`: a start may be before a contig's first base."""
    same: Bools = site // _SPAN == (high - 1) // _SPAN
    return same


def _keys(known: Sequence[str], contigs: Sequence[str], starts: Ints, ends: Ints) -> tuple[Ints, Ints]:
    """Return start and end of variants as keys, (n,) each, below zero for contigs that are not known.

    An insertion between two bases gets both.
    """
    index_of = {name: i for i, name in enumerate(known)}
    base = np.array([index_of.get(name, -1) for name in contigs], np.int64) * _SPAN
    starts, ends = np.asarray(starts, np.int64), np.asarray(ends, np.int64)
    insertion = (starts == ends).astype(np.int64)
    return base + starts - insertion, base + ends + insertion


def _flat(low: Ints, high: Ints) -> tuple[Ints, Ints]:
    """Return all i in [low, high) of every row, one after the other: their rows, and the i."""
    count = high - low
    row = np.repeat(np.arange(len(count)), count)
    return row, np.arange(len(row)) + np.repeat(low - (np.cumsum(count) - count), count)


def _lowest(values: Ints, low: Ints, high: Ints) -> Ints:
    """Return the smallest of values[low:high] per row; no range is empty."""
    result = values[low]
    for at in range(0, len(low), _TOGETHER):
        one = slice(at, at + _TOGETHER)
        _, index = _flat(low[one], high[one])
        count = (high - low)[one]
        result[one] = np.minimum.reduceat(values[index], np.cumsum(count) - count)
    return result
