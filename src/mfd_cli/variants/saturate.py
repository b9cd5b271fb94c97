"""`mfd score-variants --saturate`: every substitution of a region or of the whole genome, in one file (sites.py).

Bins of the genome's grid share their reference passes (placement `grid`). A piece of the work is a run of bins. Its part has
scores and no places, which the genome says.
"""

from __future__ import annotations

import time
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass, field, replace
from functools import partial
from itertools import chain, islice
from pathlib import Path

import numpy as np
import torch

from mfd_cli.base.notebook import Told
from mfd_cli.base.progress import Progress
from mfd_cli.base.threads import ahead, in_background
from mfd_cli.engine.jobs import HERE, Piece, Workplace, at_work
from mfd_cli.engine.parts import Columns
from mfd_cli.genome.alleles import Variant
from mfd_cli.genome.grid import BIN
from mfd_cli.genome.intervals import parse_region
from mfd_cli.genome.sequence import UNKNOWN, Genome
from mfd_cli.runs.folder import Run
from mfd_cli.variants.effects import ScoreSettings
from mfd_cli.variants.score_job import score_job
from mfd_cli.variants.scorer import Scorer
from mfd_cli.variants.sites import SiteOptions, fields_of_sites, site_file, site_writer

SATURATED_AT_ONCE = 16
"""Bins whose substitutions (384 each) are scored together."""
PIECE = 256
"""Bins of a piece of the work: some hundred thousand files are the whole human genome."""
WHOLE_GENOME = "all"
LETTERS = np.array(list("ACGT"))
"""The bases, by their codes."""
OTHERS = np.array([[1, 2, 3], [0, 2, 3], [0, 1, 3], [0, 1, 2]])
"""The codes of the three other bases, by the code of a base."""


@dataclass(frozen=True)
class Stretch:
    """Positions [start, end) of a contig, 0-based: a whole region, or what of it lies within one bin of the grid."""

    contig: str
    start: int
    end: int


@dataclass(repr=False)
class SaturationSummary(Told):
    """What was scored, and where it lies."""

    path: Path
    positions: int = 0
    scored: int = 0
    unknown: int = 0
    warnings: list[str] = field(default_factory=list)
    seconds: float = 0.0

    def lines(self) -> list[str]:
        """Return the summary as lines for the terminal."""
        rate = self.scored / self.seconds if self.seconds else 0
        skipped = f"; {self.unknown:,} unknown bases of the genome were left out" if self.unknown else ""
        return [
            f"{self.scored:,} substitutions at {self.positions:,} positions scored ({rate:,.0f}/s){skipped}",
            f"wrote {self.path}",
        ]


def saturate(
    runs: Run | Sequence[Run],
    genome: Genome,
    region: str,
    options: SiteOptions | None = None,
    *,
    settings: ScoreSettings | None = None,
    device: torch.device | str = "cpu",
    batch_size: int = 256,
    workplace: Workplace = HERE,
    progress: Progress | None = None,
) -> SaturationSummary:
    """Score all substitutions of a region (`chr1:1001-2000`, 1-based, both ends included; `chr1`; `all`) into one file, whose
    name says its format (see `SiteOptions`).

    `workplace` says where pieces are scored. Raises GenomeError where the region is not on the genome.
    """
    started, options = time.monotonic(), options or SiteOptions()
    wholes = stretches_of(region, genome)
    file = site_file(options, region).claimed(workplace, options.force)
    settings = replace(settings or ScoreSettings(), placement="grid")
    scorer, summary = Scorer(runs, device, batch_size, settings), SaturationSummary(file.path)
    pieces = pieces_of(wholes, SATURATED_AT_ONCE if options.per_track else PIECE)
    make = saturated_fields if file.is_text or options.fields_only else saturated
    job = score_job(scorer, genome, options.per_track, make)
    with at_work(job, partial(make, scorer, genome, options.per_track), file.path, workplace) as work:
        if workplace.shard is not None:
            work.make_shard(file.path, pieces)
        with site_writer(file, scorer, genome, options, summary.warnings) as write, in_background() as later:
            done, bins = 0, sum(map(bins_of, wholes))
            for piece, scores in work.parts_of((piece, piece) for piece in pieces):
                places = places_of(piece.what, genome)
                later(write, places | scores)
                summary.scored += len(places["position"])
                done += len(piece.what)
                if progress:
                    progress("scoring bins", done, bins)
    summary.positions = summary.scored // 3
    summary.unknown = sum(whole.end - whole.start for whole in wholes) - summary.positions
    summary.seconds = time.monotonic() - started
    return summary


def pieces_of(wholes: Iterable[Stretch], size: int) -> Iterator[Piece]:
    """Yield runs of `size` bins as pieces of work. A genome has millions of bins: they are never in a list."""
    stretches = chain.from_iterable(map(cut, wholes))
    while own := tuple(islice(stretches, size)):
        first, last = own[0], own[-1]
        end = f"{last.end:,}" if first.contig == last.contig else f"{last.contig}:{last.end:,}"
        key = "\n".join(f"{stretch.contig}:{stretch.start}-{stretch.end}" for stretch in own)
        yield Piece(own, key, f"{first.contig}:{first.start + 1:,}-{end}")


def saturated(scorer: Scorer, genome: Genome, per_track: bool, stretches: Sequence[Stretch]) -> Columns:
    """Return all columns of scores of all substitutions of some bins, one value per substitution."""
    runs = [stretches[low : low + SATURATED_AT_ONCE] for low in range(0, len(stretches), SATURATED_AT_ONCE)]
    made = [
        scorer.columns(variants, genome, per_track) for variants in ahead(substitutions(run, genome) for run in runs)
    ]
    return {name: np.concatenate([columns[name] for columns in made]) for name in made[0]}


def saturated_fields(scorer: Scorer, genome: Genome, per_track: bool, stretches: Sequence[Stretch]) -> Columns:
    """Return the columns that a VCF has, and each track's change where it is wanted: parts without the others are small."""
    columns = saturated(scorer, genome, per_track, stretches)
    fields = fields_of_sites(scorer)
    return {name: values for name, values in columns.items() if name in fields or name.startswith("track.")}


def stretches_of(region: str, genome: Genome) -> list[Stretch]:
    """Return the contigs, or the part of one, that a region is. GenomeError where it is not on the genome."""
    if region == WHOLE_GENOME:
        return [Stretch(name, 0, length) for name, length in genome.lengths.items() if length]
    whole = parse_region(region, genome)
    return [Stretch(whole.contig, whole.start, whole.end)]


def cut(whole: Stretch) -> Iterator[Stretch]:
    """Yield a stretch in pieces that end where bins end."""
    low = whole.start
    while low < whole.end:
        high = min((low // BIN + 1) * BIN, whole.end)
        yield Stretch(whole.contig, low, high)
        low = high


def bins_of(whole: Stretch) -> int:
    """Return how many pieces `cut` makes of a stretch."""
    return (whole.end - 1) // BIN - whole.start // BIN + 1


def places_of(stretches: Sequence[Stretch], genome: Genome) -> Columns:
    """Return contig, position, reference and alternate base of the three substitutions of every known base."""
    bases = [genome.codes(stretch.contig, stretch.start, stretch.end) for stretch in stretches]
    known = [np.flatnonzero(codes < UNKNOWN) for codes in bases]
    refs = np.concatenate([codes[at] for codes, at in zip(bases, known)])
    starts = np.concatenate([stretch.start + at for stretch, at in zip(stretches, known)])
    names = np.repeat([stretch.contig for stretch in stretches], [len(at) for at in known])
    return {
        "contig": np.repeat(names, 3),
        "position": np.repeat(starts + 1, 3),
        "ref": np.repeat(LETTERS[refs], 3),
        "alt": LETTERS[OTHERS[refs]].ravel(),
    }


def substitutions(stretches: Sequence[Stretch], genome: Genome) -> list[Variant]:
    """Return the three substitutions of every known base."""
    return list(map(Variant, *(values.tolist() for values in places_of(stretches, genome).values())))
