"""The Parquet table of scores: its columns, and what it says of itself."""

from __future__ import annotations

import json

import pyarrow as pa

from mfd_cli import __version__
from mfd_cli.genome.sequence import Genome
from mfd_cli.variants.background import Background
from mfd_cli.variants.options import ScoreOptions
from mfd_cli.variants.scorer import Scorer


def score_schema(scorer: Scorer, genome: Genome, options: ScoreOptions, background: Background | None) -> pa.Schema:
    """Return the schema of the table of a file, one row per scored allele: where it is, annotations, scores."""
    text, number = pa.string(), pa.float32()
    columns: list[tuple[str, pa.DataType]] = [("line", pa.int64()), ("contig", text), ("position", pa.int64())]
    columns += [(name, text) for name in ("id", "ref", "alt", "key", "MFD_TRACK", "MFD_FLAGS")]
    if options.genes is not None:
        columns += [("gene", text), ("tss_distance", pa.int64()), ("within_gene", text)]
    columns += [(f"in.{elements.name}", text) for elements in options.elements]
    if options.phased:
        columns += [("phased_with", text), ("haplotype", pa.int64())]
    columns += [(name, number) for name in scorer.info_fields]
    columns += [(name, number) for name in (background.column_names if background else ())]
    columns += [(name, number) for name in scorer.column_names if name not in scorer.info_fields]
    columns += [(f"track.{name}", number) for name in scorer.panel.ids if options.per_track]
    return pa.schema(columns, metadata=table_metadata(scorer, genome, background))


def table_metadata(scorer: Scorer, genome: Genome, background: Background | None = None) -> dict[str, str]:
    """Return what the Parquet file says of itself: model, genome that was scored on, settings, tracks behind each level,
    support."""
    counts, settings = {}, scorer.settings
    if scorer.decomposition is not None:
        for name in scorer.level_names:
            factor, _, level = name.removeprefix("level.").partition("=")
            counts[name] = int(scorer.decomposition.tracks_of(factor, level).sum())
    return {
        "mfd_version": __version__,
        "mfd_model": ",".join(run.digest for run in scorer.runs),
        "mfd_genome": genome.digest(),
        "mfd_tracks_per_level": json.dumps(counts),
        "mfd_settings": json.dumps(
            {
                "placement": settings.placement,
                "precision": settings.precision,
                "tracks": settings.tracks,
                "fix": list(settings.fixes),
            }
        ),
        "mfd_support": json.dumps(dict(zip(scorer.panel.ids.tolist(), scorer.panel.support))),
        "mfd_background": json.dumps(
            {"digest": background.digest, "variants": background.count, "smallest_p": background.smallest_p}
            if background
            else None
        ),
    }
