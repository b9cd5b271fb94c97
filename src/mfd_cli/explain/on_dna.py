"""Which DNA letters drive a direction in the latent: regions, contributions, motifs, and the files that hold them.

A direction is that of a factor's level, one latent, or the weights of a track or of a part of it. What is written for each:

        regions.tsv                 the regions shown, and whether contributions add up (integrated gradients)
        attributions.arrow          region x direction: hypothetical contributions (4, window), channel-major
        NAME.bw, modisco/NAME.*     actual contributions as bigWig; a pair that modisco-lite reads
        motifs.tsv, motifs.meme     the motifs of each direction, and the known ones that they match
        fingerprint.tsv             which 4-mers, G+C, CpG (and given profiles) each direction's score goes with
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch

from mfd_cli.base.arrays import Doubles, Floats
from mfd_cli.base.errors import DatasetError
from mfd_cli.base.files import names_of_files
from mfd_cli.base.progress import Progress
from mfd_cli.core.attribute import UNKNOWN, actual, attribute, convergence_error, scores_of
from mfd_cli.core.motif_match import Match, match_motifs
from mfd_cli.core.seqlets import FoundMotif, aggregate_motif
from mfd_cli.dataset.folder import Bins, Dataset
from mfd_cli.explain.fingerprint import composition, fingerprint
from mfd_cli.explain.modisco import modisco_motifs
from mfd_cli.explain.regions import Tiles, own_positions, strongest_regions, tiled_regions, tiles_of
from mfd_cli.explain.results import Direction, Look, OnDna
from mfd_cli.explain.surroundings import surroundings_of
from mfd_cli.formats.bigwig_writer import write_bigwig
from mfd_cli.formats.bin_means import bin_means
from mfd_cli.formats.gene_files import read_gtf
from mfd_cli.formats.motif_files import read_motifs, write_meme
from mfd_cli.formats.tables import write_attributions, write_tsv
from mfd_cli.genome.genes import Genes
from mfd_cli.genome.grid import BIN, BinGrid, evenly
from mfd_cli.genome.motifs import Motif
from mfd_cli.genome.sequence import gc_share
from mfd_cli.runs.folder import Run

MOST_BINS = 20_000
MOST_PRINTED = 5_000
MOST_DIRECTIONS = 12
"""Directions that are shown on DNA."""
NOTHING = 1e-6
"""Logits: a score whose spread over bins is below this is the same in every bin; float32 is no more exact."""
REGION_COLUMNS = ("level", "contig", "start", "end", "score", "sum_of_contributions", "convergence_error")
MOTIF_COLUMNS = (
    "level", "motif", "found_by", "sequence", "stretches", "of", "enrichment", "known_motif", "known_strand", "known_start",
    "bits", "e_value",
)  # fmt: skip


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


def bins_to_look_at(dataset: Dataset) -> tuple[str, Bins]:
    """The test bins (validation, or training ones, where there are none), at most MOST_BINS evenly spaced."""
    for split in ("test", "validation", "train"):
        bins = dataset.split(split)
        if len(bins):
            return split, bins.thinned(MOST_BINS)
    raise DatasetError("has no bins", path=dataset.path)


def look_at(
    run: Run,
    dataset: Dataset,
    directions: Sequence[Direction],
    split: str,
    bins: Bins,
    latents: Floats,
    look: Look,
    files: LookFiles,
    device: torch.device | str,
    progress: Progress | None,
) -> list[OnDna]:
    """Attributions, motifs and surroundings of each direction on its regions."""
    known = {name: motif.probabilities for name, motif in files.motifs.items()}
    labelled = dataset.split(split)
    if files.tiles is None:
        regions_of = [strongest_regions(run, dataset, bins, one.scores(latents), look.top) for one in directions]
    else:
        regions_of = tiled_regions(run, dataset, files.tiles, directions, device)
    results = []
    for number, (one, regions) in enumerate(zip(directions, regions_of)):
        codes = np.stack([region.codes for region in regions])
        hypothetical = attribute(run.model, codes, one.weights, one.place, method=look.method, device=device)
        contributions = actual(hypothetical, codes)
        own = own_positions(regions, run.model.left)
        motifs = [motif for motif in [aggregate_motif(np.where(own, contributions, 0), codes)] if motif is not None]
        if look.modisco:
            motifs += modisco_motifs(np.where(own, codes, UNKNOWN), np.where(own[:, None], hypothetical, 0))
        matches = [match_motifs(motif.frequency, known)[0] if known else None for motif in motifs]
        error = np.full(len(regions), np.nan, np.float32)
        if look.method == "integrated-gradients":
            error = convergence_error(contributions, *scores_of(run.model, codes, one.weights, one.place, device))
        strongest = max(regions, key=lambda region: region.score)
        around = surroundings_of(run, dataset, labelled, one.tracks, strongest.contig, strongest.start, files.genes)
        results.append(OnDna(one.name, regions, hypothetical, contributions, motifs, matches, error, around))
        if progress:
            progress("explaining on DNA", number + 1, len(directions))
    return results


def gc_content(dataset: Dataset, bins: Bins) -> Doubles:
    """Share of G and C in every bin."""
    pairs = zip(bins.contig.tolist(), bins.start.tolist())
    return np.array([gc_share(dataset.genome.codes(dataset.contigs[c], s, s + BIN)) for c, s in pairs])


def fingerprints(
    dataset: Dataset, bins: Bins, latents: Floats, directions: Sequence[Direction], profiles: Mapping[str, Floats]
) -> list[dict[str, Any]]:
    """Which composition, and which profile, each direction's score goes with, over at most MOST_PRINTED bins."""
    chosen = evenly(len(bins), MOST_PRINTED)
    contigs, starts = bins.contig[chosen], bins.start[chosen]
    names, values = composition(
        dataset.genome, [(dataset.contigs[c], int(s)) for c, s in zip(contigs.tolist(), starts.tolist())]
    )
    first = np.array(list(BinGrid(dataset.genome.lengths).offsets.values()))
    place = first[contigs] + starts // BIN
    measured = {name: means[np.minimum(place, len(means) - 1)] for name, means in profiles.items()}
    return fingerprint({one.name: one.scores(latents[chosen]) for one in directions}, names, values, measured)


def write_on_dna(folder: Path, shown: Sequence[OnDna], subject: str, run: Run, dataset: Dataset) -> None:
    """Every file of this module but the fingerprint."""
    write_attributions(folder / "attributions.arrow", shown, subject)
    (folder / "modisco").mkdir()
    names = dict(zip((one.name for one in shown), names_of_files([one.name for one in shown])))
    for one in shown:
        codes = np.stack([region.codes for region in one.regions])
        onehot = (codes[:, None] == np.arange(4)[None, :, None]).astype(np.int8)
        np.savez(folder / "modisco" / f"{names[one.name]}.sequences.npz", onehot)
        np.savez(folder / "modisco" / f"{names[one.name]}.attributions.npz", one.hypothetical)
        left = run.model.left
        pieces = [(r.contig, r.start, one.contributions[i, left : left + BIN]) for i, r in enumerate(one.regions)]
        pieces += [
            (r.contig, r.start - left, one.contributions[i]) for i, r in enumerate(one.regions)
        ]  # see own_positions
        write_bigwig(folder / f"{names[one.name]}.bw", dataset.genome.lengths, pieces)
    regions = [
        {
            "level": one.name,
            "contig": region.contig,
            "start": region.start,
            "end": region.end,
            "score": region.score,
            "sum_of_contributions": float(one.contributions[i].sum()),
            "convergence_error": float(one.error[i]),
        }
        for one in shown
        for i, region in enumerate(one.regions)
    ]
    write_tsv(folder / "regions.tsv", regions, REGION_COLUMNS)
    rows, matrices = [], {}
    for one in shown:
        for number, (motif, match) in enumerate(zip(one.motifs, one.matches)):
            name = names[one.name] if number == 0 else f"{names[one.name]}.{number}"
            matrices[name] = motif.frequency
            rows.append({"level": one.name, "motif": name, **motif_row(motif, match)})
    write_tsv(folder / "motifs.tsv", rows, MOTIF_COLUMNS)
    write_meme(folder / "motifs.meme", matrices)


def motif_row(motif: FoundMotif, match: Match | None) -> dict[str, Any]:
    """The columns of motifs.tsv but the names."""
    return {
        "found_by": motif.found_by,
        "sequence": motif.sequence,
        "stretches": motif.count,
        "of": motif.total,
        "enrichment": float(motif.enrichment),
        "known_motif": match and match.name,
        "known_strand": match and ("forward" if match.strand == "+" else "reverse"),
        "known_start": match and match.start,
        "bits": match and match.bits,
        "e_value": match and match.e_value,
    }


def gc_words(r: float) -> str:
    """Return the correlation of a score with G+C in words, after a comma; NaN where there is none."""
    return ", no G+C correlation (too few bins, or all alike)" if np.isnan(r) else f", G+C correlation {r:+.2f}"


def motif_words(one: OnDna) -> str:
    """The first motif of a direction in words, after a comma; empty where there is none."""
    motif, match = one.motif, one.match
    if motif is None:
        return ""
    told = f", strongest sequence {motif.sequence} (in {motif.count} of {motif.total} stretches)"
    return told + (f", which is {match.name} (E {match.e_value:.1g})" if match is not None else "")


def motif_rows(shown: Sequence[OnDna]) -> list[dict[str, Any]]:
    """Return the motifs of every direction, with the known ones that they match, as rows of a table."""
    return [
        {"level": one.name, **motif_row(motif, match)} for one in shown for motif, match in zip(one.motifs, one.matches)
    ]
