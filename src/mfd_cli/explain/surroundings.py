"""What the data say around a region: which tracks have peaks there, and which genes lie there."""

from __future__ import annotations

import numpy as np

from mfd_cli.base.arrays import Bools, Doubles
from mfd_cli.explain.ground import Ground
from mfd_cli.explain.results import Gene, Region, Surroundings
from mfd_cli.genome.genes import Genes
from mfd_cli.genome.grid import BIN
from mfd_cli.runs.at_work import labels_of

LEAST_SHOWN = 2_000
"""Bases that are shown around a region, at least."""


def surroundings_of(ground: Ground, own: Bools, region: Region, genes: Genes | None) -> Surroundings:
    """Return what the data say around a region: the tracks `own` (tracks,) against all others, in every labelled bin.

    Of peak tracks where `own` has some, or is empty; else of signals.
    """
    run, bins = ground.run, ground.labelled
    half, middle = max(run.model.window, LEAST_SHOWN) // 2, region.start + BIN // 2
    low, high = max(middle - half, 0), min(middle + half, region.contig_length)
    on_contig = bins.contig == list(ground.dataset.contigs).index(region.contig)
    shown = bins.taken(np.flatnonzero(on_contig & (bins.start + BIN > low) & (bins.start < high)))
    of_peaks = bool(own[: run.peak_tracks].any() or not own.any())
    if of_peaks:
        values = labels_of(run, shown).numpy().astype(float)
        with_level = own[: run.peak_tracks]
    else:
        values, with_level = np.asarray(shown.signal, np.float64), own[run.peak_tracks :]
    what = "share of tracks with a peak" if of_peaks else "mean signal"
    near = genes_in(genes, region.contig, low, high) if genes is not None else []
    means = _mean(values[:, with_level]), _mean(values[:, ~with_level])
    return Surroundings(region.contig, low, high, shown.start, *means, what, near)


def _mean(values: Doubles) -> Doubles:
    """Return the mean of each row over what is known, NaN where nothing is."""
    known = ~np.isnan(values)
    total = np.where(known, values, 0).sum(1)
    result: Doubles = np.where(known.any(1), total / np.maximum(known.sum(1), 1), np.nan)
    return result


def genes_in(genes: Genes, contig: str, low: int, high: int) -> list[Gene]:
    """Return the genes that overlap [low, high) of a contig, by start."""
    if contig not in genes.contigs:
        return []
    number = genes.contigs.index(contig)
    chosen = np.flatnonzero((genes.contig == number) & (genes.start < high) & (genes.end > low))
    near = [Gene(int(genes.start[i]), int(genes.end[i]), genes.strand[i], genes.names[i]) for i in chosen]
    return sorted(near, key=lambda gene: (gene.start, gene.end, gene.name))
