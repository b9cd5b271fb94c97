"""Which DNA letters drive a direction in the latent: regions, contributions, motifs, surroundings, fingerprints.

A direction is that of a factor's level, one latent, or the weights of a track or of a part of it. Its files are written
by write_on_dna.py.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np

from mfd_cli.base.arrays import Floats
from mfd_cli.base.progress import Progress
from mfd_cli.core.attribute import actual, convergence_error, scores_of
from mfd_cli.core.motif_match import match_motifs
from mfd_cli.core.seqlets import aggregate_motif
from mfd_cli.dataset.folder import Dataset
from mfd_cli.engine.jobs import Workplace, at_work
from mfd_cli.explain.attributions import AttributionJob, attributed, contributions_of, window_pieces
from mfd_cli.explain.fingerprint import composition, fingerprint
from mfd_cli.explain.ground import Ground
from mfd_cli.explain.modisco import modisco_motifs
from mfd_cli.explain.regions import Tiles, own_positions, strongest_regions, tiled_regions, tiles_of
from mfd_cli.explain.results import Direction, Look, OnDna, Region
from mfd_cli.explain.surroundings import surroundings_of
from mfd_cli.formats.bin_means import bin_means
from mfd_cli.formats.gene_files import read_gtf
from mfd_cli.formats.motif_files import read_motifs
from mfd_cli.genome.genes import Genes
from mfd_cli.genome.grid import BIN, BinGrid, evenly
from mfd_cli.genome.motifs import Motif
from mfd_cli.genome.sequence import UNKNOWN
from mfd_cli.runs.sources import Sources

MOST_BINS_PRINTED = 5_000
"""Bins over which fingerprints are correlations."""
MOST_DIRECTIONS = 12
"""Directions that are shown on DNA."""


@dataclass(frozen=True)
class LookFiles:
    """The files that a Look names, read before the long work begins; `tiles` are the bins of its BED file of regions."""

    tiles: Tiles | None
    motifs: Mapping[str, Motif]
    genes: Genes | None
    profiles: Mapping[str, Floats]

    def sentences(self) -> list[str]:
        """Say what is used of the files, where that may not be all."""
        return [] if self.tiles is None else [self.tiles.sentence()]


def read_files(look: Look, dataset: Dataset) -> LookFiles:
    """Read the files that a Look names. The errors of their readers."""
    return LookFiles(
        None if look.regions is None else tiles_of(look.regions, dataset.genome.lengths),
        {} if look.motifs is None else read_motifs(look.motifs),
        None if look.gtf is None else read_gtf(look.gtf, dataset.genome),
        {name: bin_means(path, dataset.genome.lengths) for name, path in look.profiles.items()},
    )


def look_at(
    ground: Ground,
    directions: Sequence[Direction],
    look: Look,
    files: LookFiles,
    output: Path,
    workplace: Workplace,
    progress: Progress | None,
) -> list[OnDna]:
    """Return contributions, motifs and surroundings of each direction on its regions. `workplace` says where contributions are
    made; their parts lie beside `output`."""
    if files.tiles is None:
        regions = [strongest_regions(ground, direction, look.top) for direction in directions]
    else:
        regions = tiled_regions(ground, files.tiles, directions)
    model, shown = ground.run.model, list[OnDna]()
    job = AttributionJob(Sources.of_dataset(ground.run, ground.dataset), str(ground.device), look.method)
    with at_work(job, partial(attributed, model, ground.device, look.method), output, workplace) as work:
        if workplace.shard is not None:
            pieces = (piece for one, own in zip(directions, regions) for piece in window_pieces(one, own))
            work.make_shard(output, pieces)
        made = contributions_of(work, directions, regions)
        for direction, own_regions, hypothetical in zip(directions, regions, made):
            shown.append(look_at_one(ground, direction, own_regions, hypothetical, look, files))
            if progress:
                progress("explaining on DNA", len(shown), len(directions))
    return shown


def look_at_one(
    ground: Ground,
    direction: Direction,
    regions: Sequence[Region],
    hypothetical: Floats,
    look: Look,
    files: LookFiles,
) -> OnDna:
    """Return contributions, motifs and surroundings of one direction on regions, of its hypothetical contributions there."""
    model, codes = ground.run.model, np.stack([region.codes for region in regions])
    weights, subspace, device = direction.weights, direction.subspace, ground.device
    contributions = actual(hypothetical, codes)
    error = np.full(len(regions), np.nan, np.float32)
    if look.method == "integrated-gradients":
        error = convergence_error(contributions, *scores_of(model, codes, weights, subspace, device))
    own = own_positions(regions, model.left)
    aggregated = aggregate_motif(np.where(own, contributions, 0), codes)
    motifs = [] if aggregated is None else [aggregated]
    if look.modisco:
        motifs += modisco_motifs(np.where(own, codes, UNKNOWN), np.where(own[:, None], hypothetical, 0))
    known = {name: motif.probabilities for name, motif in files.motifs.items()}
    matches = [match_motifs(motif.frequency, known)[0] if known else None for motif in motifs]
    strongest = max(regions, key=lambda region: region.score)
    around = surroundings_of(ground, direction.tracks, strongest, files.genes)
    return OnDna(direction.name, regions, hypothetical, contributions, motifs, matches, error, around)


def fingerprints(
    ground: Ground, directions: Sequence[Direction], profiles: Mapping[str, Floats]
) -> list[dict[str, Any]]:
    """Return which composition, and which profile, each direction's score goes with, over at most MOST_BINS_PRINTED bins."""
    chosen, genome = evenly(len(ground.bins), MOST_BINS_PRINTED), ground.dataset.genome
    contigs, starts = ground.bins.contig[chosen], ground.bins.start[chosen]
    names, values = composition(
        genome, [(ground.dataset.contigs[contig], start) for contig, start in zip(contigs.tolist(), starts.tolist())]
    )
    first_bin = np.array(list(BinGrid(genome.lengths).offsets.values()))
    bin_index = first_bin[contigs] + starts // BIN
    profiles_there = {name: means[np.minimum(bin_index, len(means) - 1)] for name, means in profiles.items()}
    scores = {direction.name: direction.scores(ground.latents[chosen]) for direction in directions}
    return fingerprint(scores, names, values, profiles_there)


def gc_words(r: float) -> str:
    """Return the correlation of a score with G+C in words, after a comma; NaN where there is none."""
    return ", no G+C correlation (too few bins, or all alike)" if np.isnan(r) else f", G+C correlation {r:+.2f}"


def motif_words(one: OnDna) -> str:
    """Return the first motif of a direction in words, after a comma; empty where there is none."""
    motif, match = one.motif, one.match
    if motif is None:
        return ""
    words = f", strongest sequence {motif.sequence} (in {motif.count} of {motif.total} stretches)"
    return words + (f", which is {match.name} (E {match.e_value:.1g})" if match is not None else "")
