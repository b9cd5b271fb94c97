"""`mfd score-variants --saturate`: every substitution of a region or of the whole genome, as a table.

Bins of the genome's grid share their reference passes (placement `grid`). Shards are runs of bins: those of all shards, one
after the other, are the whole.
"""

from __future__ import annotations

import re
import time
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field, replace
from itertools import chain, pairwise
from pathlib import Path
from typing import Any

import pyarrow as pa
import torch

from mfd_cli.base.errors import ConfigError
from mfd_cli.base.files import check_output, names_of_files, whole_files
from mfd_cli.base.notebook import Told
from mfd_cli.base.progress import Progress
from mfd_cli.base.threads import ahead, in_background
from mfd_cli.formats.tables import ParquetRows, parquet_name
from mfd_cli.genome.alleles import Variant
from mfd_cli.genome.grid import BIN
from mfd_cli.genome.intervals import parse_region
from mfd_cli.genome.sequence import Genome
from mfd_cli.runs.folder import Run
from mfd_cli.variants.effects import ScoreSettings
from mfd_cli.variants.options import TYPE_OF_SUFFIX
from mfd_cli.variants.scorer import Scorer
from mfd_cli.variants.table import table_metadata

SATURATED_AT_ONCE = 16
"""Bins whose substitutions (384 each) are scored together."""
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
    shard: tuple[int, int] = (1, 1),
    per_track: bool = False,
    device: torch.device | str = "cpu",
    batch_size: int = 256,
    force: bool = False,
    progress: Progress | None = None,
) -> SaturationSummary:
    """Score all substitutions of a region (`chr1:1001-2000`, 1-based, both ends included; `chr1`; `all`) into a Parquet file.

    `shard` (i, n) takes the i-th of n parts. Raises GenomeError where the region is not on the genome.
    """
    started = time.monotonic()
    stretches = part_of(stretches_of(region, genome), *shard)
    path = check_output(table_path(output, region, shard), force)
    settings = replace(settings or ScoreSettings(), placement="grid")
    scorer, summary = Scorer(runs, device, batch_size, settings), SaturationSummary(path)
    with whole_files(path) as (temporary,), ParquetRows(temporary, schema_of(scorer, genome, per_track), 4) as table:
        pieces = [stretches[low : low + SATURATED_AT_ONCE] for low in range(0, len(stretches), SATURATED_AT_ONCE)]
        with in_background() as later:
            for done, variants in enumerate(ahead(substitutions(piece, genome) for piece in pieces), start=1):
                later(table.write, substitution_columns(variants, scorer, genome, per_track))
                summary.scored += len(variants)
                if progress:
                    progress("scoring bins", min(done * SATURATED_AT_ONCE, len(stretches)), len(stretches))
    summary.positions = summary.scored // 3
    summary.unknown = sum(stretch.end - stretch.start for stretch in stretches) - summary.positions
    summary.seconds = time.monotonic() - started
    return summary


def table_path(output: Path | None, region: str, shard: tuple[int, int]) -> Path:
    """Return the table's file: `output`, or a name made of the region and the shard. ConfigError for a name of a VCF, and
    for standard output, where a Parquet file cannot go; OutputError for another name that is none of a Parquet file."""
    if output is None:
        suffix = "" if shard == (1, 1) else f".{shard[0]}-of-{shard[1]}"
        return Path(f"saturate.{names_of_files([region])[0]}{suffix}.parquet")
    if str(output) == "-" or output.name.lower().endswith(tuple(chain(*TYPE_OF_SUFFIX))):
        raise ConfigError(
            f"--saturate writes a Parquet table, not {str(output)!r}", hint="-o FILE.parquet; a VCF comes from a VCF"
        )
    return parquet_name(output)


def parse_shard(text: str) -> tuple[int, int]:
    """Return `3/10` as (3, 10); ConfigError where it is no part of a whole."""
    match = re.fullmatch("([0-9]{1,9})/([0-9]{1,9})", text)
    if not match or not 1 <= int(match[1]) <= int(match[2]):
        raise ConfigError(f"--shard {text!r} is not i/n with i from 1 to n")
    return int(match[1]), int(match[2])


def part_of(stretches: Sequence[Stretch], part: int, parts: int) -> Sequence[Stretch]:
    """Return one of several parts of about the same size; all parts, one after the other, are the whole."""
    return stretches[len(stretches) * (part - 1) // parts : len(stretches) * part // parts]


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
