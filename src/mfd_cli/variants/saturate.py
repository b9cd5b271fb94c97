"""`mfd score-variants --saturate`: every substitution of a region or of the whole genome, as a table.

Bins of the genome's grid share their reference passes (placement `grid`). A piece of the work is a run of bins.
"""

from __future__ import annotations

import time
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field, replace
from functools import partial
from itertools import chain, pairwise
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import torch

from mfd_cli.base.errors import ConfigError
from mfd_cli.base.files import names_of_files, whole_files
from mfd_cli.base.notebook import Told
from mfd_cli.base.progress import Progress
from mfd_cli.base.threads import ahead, in_background
from mfd_cli.engine.jobs import HERE, Piece, Workplace, at_work
from mfd_cli.engine.parts import Columns
from mfd_cli.formats.tables import ParquetRows, parquet_name
from mfd_cli.genome.alleles import Variant
from mfd_cli.genome.grid import BIN
from mfd_cli.genome.intervals import parse_region
from mfd_cli.genome.sequence import Genome
from mfd_cli.runs.folder import Run
from mfd_cli.variants.effects import ScoreSettings
from mfd_cli.variants.options import TYPE_OF_SUFFIX
from mfd_cli.variants.score_job import score_job
from mfd_cli.variants.scorer import Scorer
from mfd_cli.variants.table import table_metadata

SATURATED_AT_ONCE = 16
"""Bins whose substitutions (384 each) are scored together."""
PIECE = 256
"""Bins of a piece of the work: some hundred thousand files are the whole human genome."""
WHOLE_GENOME = "all"


@dataclass(frozen=True)
class Stretch:
    """Positions [start, end) of a contig, 0-based, within one bin of the grid."""

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
    output: Path | None = None,
    *,
    settings: ScoreSettings | None = None,
    per_track: bool = False,
    device: torch.device | str = "cpu",
    batch_size: int = 256,
    workplace: Workplace = HERE,
    force: bool = False,
    progress: Progress | None = None,
) -> SaturationSummary:
    """Score all substitutions of a region (`chr1:1001-2000`, 1-based, both ends included; `chr1`; `all`) into a Parquet file.

    `workplace` says where pieces are scored. Raises GenomeError where the region is not on the genome.
    """
    started = time.monotonic()
    stretches = stretches_of(region, genome)
    path = workplace.check_result(table_path(output, region), force)
    settings = replace(settings or ScoreSettings(), placement="grid")
    scorer, summary = Scorer(runs, device, batch_size, settings), SaturationSummary(path)
    pieces = pieces_of(stretches, SATURATED_AT_ONCE if per_track else PIECE)
    job = score_job(scorer, genome, per_track, saturated)
    with at_work(job, partial(saturated, scorer, genome, per_track), path, workplace) as work:
        if workplace.shard is not None:
            work.make_shard(path, pieces)
        with (
            whole_files(path) as (temporary,),
            ParquetRows(temporary, schema_of(scorer, genome, per_track), 4) as table,
            in_background() as later,
        ):
            done = 0
            for piece, columns in work.parts_of((piece, piece) for piece in pieces):
                later(table.write, columns)
                summary.scored += len(columns["position"])
                done += len(piece.what)
                if progress:
                    progress("scoring bins", done, len(stretches))
    summary.positions = summary.scored // 3
    summary.unknown = sum(stretch.end - stretch.start for stretch in stretches) - summary.positions
    summary.seconds = time.monotonic() - started
    return summary


def pieces_of(stretches: Sequence[Stretch], size: int) -> list[Piece]:
    """Return runs of `size` bins as pieces of work."""
    pieces = []
    for low in range(0, len(stretches), size):
        own = tuple(stretches[low : low + size])
        first, last = own[0], own[-1]
        end = f"{last.end:,}" if first.contig == last.contig else f"{last.contig}:{last.end:,}"
        key = "\n".join(f"{stretch.contig}:{stretch.start}-{stretch.end}" for stretch in own)
        pieces.append(Piece(own, key, f"{first.contig}:{first.start + 1:,}-{end}"))
    return pieces


def saturated(scorer: Scorer, genome: Genome, per_track: bool, stretches: Sequence[Stretch]) -> Columns:
    """Return the table's columns of all substitutions of some bins, one value per substitution."""
    runs = [stretches[low : low + SATURATED_AT_ONCE] for low in range(0, len(stretches), SATURATED_AT_ONCE)]
    made = [
        substitution_columns(variants, scorer, genome, per_track)
        for variants in ahead(substitutions(run, genome) for run in runs)
    ]
    return {name: np.concatenate([columns[name] for columns in made]) for name in made[0]}


def table_path(output: Path | None, region: str) -> Path:
    """Return the table's file: `output`, or a name made of the region. ConfigError for a name of a VCF, and for standard
    output, where a Parquet file cannot go; OutputError for another name that is none of a Parquet file."""
    if output is None:
        return Path(f"saturate.{names_of_files([region])[0]}.parquet")
    if str(output) == "-" or output.name.lower().endswith(tuple(chain(*TYPE_OF_SUFFIX))):
        raise ConfigError(
            f"--saturate writes a Parquet table, not {str(output)!r}", hint="-o FILE.parquet; a VCF comes from a VCF"
        )
    return parquet_name(output)


def stretches_of(region: str, genome: Genome) -> list[Stretch]:
    """Return a region cut along the grid. GenomeError where it is not on the genome."""
    if region == WHOLE_GENOME:
        return [stretch for name, length in genome.lengths.items() for stretch in cut(name, 0, length)]
    whole = parse_region(region, genome)
    return cut(whole.contig, whole.start, whole.end)


def cut(contig: str, start: int, end: int) -> list[Stretch]:
    """Return [start, end) in pieces that end where bins end."""
    edges = [start, *range((start // BIN + 1) * BIN, end, BIN), end]
    return [Stretch(contig, low, high) for low, high in pairwise(edges)]


def substitutions(stretches: Sequence[Stretch], genome: Genome) -> list[Variant]:
    """Return the three substitutions of every known base."""
    return list(_substitutions(stretches, genome))


def _substitutions(stretches: Sequence[Stretch], genome: Genome) -> Iterator[Variant]:
    for contig, start, end in ((stretch.contig, stretch.start, stretch.end) for stretch in stretches):
        for position, ref in enumerate(genome.bases(contig, start, end), start=start + 1):
            if ref in "ACGT":
                yield from (Variant(contig, position, ref, alt) for alt in "ACGT" if alt != ref)


def substitution_columns(
    variants: Sequence[Variant], scorer: Scorer, genome: Genome, per_track: bool
) -> dict[str, Any]:
    """Return the table's columns, one value per substitution."""
    return {
        "contig": [variant.contig for variant in variants],
        "position": [variant.position for variant in variants],
        "ref": [variant.ref for variant in variants],
        "alt": [variant.alt for variant in variants],
        **scorer.columns(variants, genome, per_track),
    }


def schema_of(scorer: Scorer, genome: Genome, per_track: bool) -> pa.Schema:
    """Return the schema of the table, one row per substitution."""
    columns: list[tuple[str, pa.DataType]] = [("contig", pa.string()), ("position", pa.int64())]
    columns += [(name, pa.string()) for name in ("ref", "alt", "MFD_TRACK", "MFD_FLAGS")]
    columns += [(name, pa.float32()) for name in scorer.column_names]
    columns += [(f"track.{name}", pa.float32()) for name in scorer.panel.ids if per_track]
    return pa.schema(columns, metadata=table_metadata(scorer, genome))
