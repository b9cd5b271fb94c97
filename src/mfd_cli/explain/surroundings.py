"""What the data say around a region: which tracks have peaks there, and which genes lie there."""

from __future__ import annotations

import numpy as np

from mfd_cli.base.arrays import Bools, Doubles
from mfd_cli.dataset.folder import Bins, Dataset, unpack_bits
from mfd_cli.explain.results import Gene, Surroundings
from mfd_cli.genome.genes import Genes
from mfd_cli.genome.grid import BIN
from mfd_cli.runs.folder import Run

LEAST_SHOWN = 2_000


def surroundings_of(
    run: Run, dataset: Dataset, bins: Bins, own: Bools, contig: str, start: int, genes: Genes | None
) -> Surroundings:
    """What the data say around a bin: `own` (tracks,) against all others."""
    half = max(run.model.window, LEAST_SHOWN) // 2
    low = max(start + BIN // 2 - half, 0)
    high = min(start + BIN // 2 + half, dataset.genome.lengths[contig])
    here = bins.contig == list(dataset.contigs).index(contig)
    chosen = np.flatnonzero(here & (bins.start + BIN > low) & (bins.start < high))
    of_peaks = bool(own[: run.peak_tracks].any() or not own.any())
    measured = np.ones((len(chosen), len(run.tracks)), bool)
    if bins.measured is not None:
        measured = unpack_bits(bins.measured[chosen], len(run.tracks))
    if of_peaks:
        values = unpack_bits(bins.peaks[chosen], run.peak_tracks).astype(float)
        values[~measured[:, : run.peak_tracks]] = np.nan
        mine = own[: run.peak_tracks]
    else:
        values, mine = np.asarray(bins.signal[chosen], np.float64), own[run.peak_tracks :]
    what = "share of tracks with a peak" if of_peaks else "mean signal"
    near = genes_in(genes, contig, low, high) if genes is not None else []
    return Surroundings(
        contig, low, high, bins.start[chosen], _mean(values[:, mine]), _mean(values[:, ~mine]), what, near
    )


def _mean(values: Doubles) -> Doubles:
    """Mean of each row over what is known, NaN where nothing is."""
    known = ~np.isnan(values)
    total = np.where(known, values, 0).sum(1)
    result: Doubles = np.where(known.any(1), total / np.maximum(known.sum(1), 1), np.nan)
    return result


def genes_in(genes: Genes, contig: str, low: int, high: int) -> list[Gene]:
    """The genes that overlap [low, high), by start."""
    if contig not in genes.contigs:
        return []
    number = genes.contigs.index(contig)
    chosen = np.flatnonzero((genes.contig == number) & (genes.start < high) & (genes.end > low))
    found = [Gene(int(genes.start[i]), int(genes.end[i]), genes.strand[i], genes.names[i]) for i in chosen]
    return sorted(found, key=lambda gene: (gene.start, gene.end, gene.name))
