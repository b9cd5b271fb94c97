"""The windows that are explained: around the strongest bins of a direction, or around the bins of a BED file."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from mfd_cli.base.arrays import Bools, Bytes
from mfd_cli.base.errors import RegionError, few
from mfd_cli.core.predictor import Predictor
from mfd_cli.explain.ground import Ground
from mfd_cli.explain.results import Direction, Region
from mfd_cli.formats.bed import read_intervals
from mfd_cli.genome.grid import BIN, covering_bins
from mfd_cli.genome.sequence import first_renamed

MOST_TILES = 5_000
"""Bins of a BED file that are explained together: what their windows contribute to every direction is held in memory."""


@dataclass(frozen=True)
class Tiles:
    """The bins that cover the regions of a BED file, each once: (contig, start); and how many lines were left out, and why."""

    file: Path
    regions: int
    bins: Sequence[tuple[str, int]]
    unknown_contigs: Mapping[str, int]
    """Lines on each contig that the genome lacks."""
    first_unknown: int
    """The first of these lines."""
    renamed: Mapping[str, str]
    """The first contig that the genome has under another name, with that name."""
    empty: int
    """Lines without bases: start equal to end."""

    def sentence(self) -> str:
        """Say what is explained of the file, and what is not."""
        reasons = []
        if self.unknown_contigs:
            lines = sum(self.unknown_contigs.values())
            reasons.append(
                f"{lines:,} on contigs that the genome lacks ({few(self.unknown_contigs)}; the first is line "
                f"{self.first_unknown:,})"
            )
        if self.empty:
            reasons.append(f"{self.empty:,} without bases (start equal to end)")
        used = f"Regions of {self.file.name}: {self.regions:,}, explained in {len(self.bins):,} bins of {BIN} bp."
        used += "".join(f" Its contig {theirs} was taken for {ours}." for theirs, ours in self.renamed.items())
        return used + (f" Lines left out: {', '.join(reasons)}." if reasons else "")


def tiles_of(path: Path, lengths: Mapping[str, int]) -> Tiles:
    """Return the bins that cover the regions of a BED file, moved inwards where they would reach beyond their contig.

    Raises RegionError for a file without regions, with one that ends beyond its contig, and for more than MOST_TILES bins;
    GenomeError where the genome has none of the contigs.
    """
    intervals = read_intervals(path)
    if not len(intervals):
        raise RegionError("holds no interval", path=path)
    on_genome = intervals.on(lengths)
    needed = sum(int((-(-(ends - starts) // BIN)).sum()) for starts, ends in on_genome.values())
    if needed > MOST_TILES:
        raise RegionError(
            f"covers {needed:,} bins of {BIN} bp: {MOST_TILES:,} at most can be explained together",
            path=path,
            hint="give fewer or narrower regions",
        )
    bins = [
        (contig, min(max(at, 0), max(lengths[contig] - BIN, 0)))
        for contig, (starts, ends) in on_genome.items()
        for start, end in zip(starts.tolist(), ends.tolist())
        for at in covering_bins(start, end)
    ]
    regions = sum(len(starts) for starts, _ in on_genome.values())
    return Tiles(
        path,
        regions,
        list(dict.fromkeys(bins)),
        intervals.elsewhere(lengths),
        intervals.first_elsewhere(lengths),
        first_renamed(intervals.names, lengths),
        intervals.empty,
    )


def tiled_regions(ground: Ground, tiles: Tiles, directions: Sequence[Direction]) -> list[list[Region]]:
    """Return, for each direction, the windows around the tiles with the direction's score, in the order of the tiles."""
    windows = [window_at(ground, contig, start) for contig, start in tiles.bins]
    latents = Predictor(ground.run.model, ground.device).latents(np.stack(windows))
    lengths = ground.dataset.genome.lengths
    return [
        [
            Region(contig, start, lengths[contig], score, codes)
            for (contig, start), score, codes in zip(tiles.bins, direction.scores(latents).tolist(), windows)
        ]
        for direction in directions
    ]


def strongest_regions(ground: Ground, direction: Direction, top: int) -> list[Region]:
    """Return the windows around the bins where a direction's score is largest, at least a window apart on one contig."""
    bins, scores = ground.bins, direction.scores(ground.latents)
    contigs, lengths = ground.dataset.contigs, ground.dataset.genome.lengths
    regions: list[Region] = []
    for index in np.argsort(-scores, kind="stable"):
        contig, start = contigs[bins.contig[index]], int(bins.start[index])
        if all(r.contig != contig or abs(r.start - start) >= ground.run.model.window for r in regions):
            codes = window_at(ground, contig, start)
            regions.append(Region(contig, start, lengths[contig], float(scores[index]), codes))
        if len(regions) == top:
            break
    return regions


def window_at(ground: Ground, contig: str, start: int) -> Bytes:
    """Return the base codes (window,) around the bin that starts at `start`."""
    model = ground.run.model
    begin = start - model.left
    return ground.dataset.genome.codes(contig, begin, begin + model.window)


def own_positions(regions: Sequence[Region], left: int) -> Bools:
    """Return which positions of its window belong to a region, (regions, window): no base of the genome belongs to two.

    The windows of neighbouring bins overlap. A base belongs to the bin in which it lies, and else to the first window that
    holds it, so that a motif that several windows see counts once. `left` is how many bases of a window are before its bin.
    """
    own = np.zeros((len(regions), len(regions[0].codes)), bool)
    in_bin = np.zeros_like(own)
    in_bin[:, left : left + BIN] = True
    for contig in dict.fromkeys(region.contig for region in regions):
        rows = np.array([number for number, region in enumerate(regions) if region.contig == contig])
        starts = np.array([regions[row].start - left for row in rows])
        places = (starts[:, None] + np.arange(own.shape[1])).ravel()
        # Stable: bases in their own bin come first, all others in the order of the windows; `unique` takes the first.
        order = np.argsort(~in_bin[rows].ravel(), kind="stable")
        _, first = np.unique(places[order], return_index=True)
        of_contig = np.zeros(places.shape, bool)
        of_contig[order[first]] = True
        own[rows] = of_contig.reshape(len(rows), -1)
    return own
