"""`mfd score-variants`: what each alternate allele changes, told apart by group, for every record of a VCF.

Records are read, scored and written at the same time, in chunks, so that memory does not depend on the length of the file:

    checked.py   the chunks of the input, counted; whether it belongs to the genome
    score_job.py the scores of a chunk, here or by a worker elsewhere, with scorer.py and effects.py
    columns.py   a chunk's columns of the table around its scores, with phasing.py and background.py
    outputs.py   the VCF (vcf_fields.py says what it tells), the table (table.py), the AnnData file (h5ad_scores.py) and the
                 list of skipped alleles
"""

from __future__ import annotations

import time
from collections.abc import Iterable, Mapping, Sequence
from functools import partial
from pathlib import Path
from typing import Any

import torch

from mfd_cli.base.progress import Progress
from mfd_cli.base.threads import in_background
from mfd_cli.engine.jobs import HERE, Workplace, at_work
from mfd_cli.genome.sequence import Genome, first_renamed
from mfd_cli.runs.folder import Run
from mfd_cli.runs.near_chance import near_chance
from mfd_cli.variants.background import Background, find_background
from mfd_cli.variants.checked import CheckedRecords, checked_header
from mfd_cli.variants.columns import Chunk, ChunkTable
from mfd_cli.variants.effects import ScoreSettings
from mfd_cli.variants.options import ScoreOptions
from mfd_cli.variants.outputs import ScoreOutputs, free_places, score_outputs
from mfd_cli.variants.records import naming, peeked
from mfd_cli.variants.score_job import score_job, scored_variants
from mfd_cli.variants.scorer import Scorer
from mfd_cli.variants.summary import ScoreSummary
from mfd_cli.variants.table import score_schema
from mfd_cli.variants.vcf_fields import header_of, own_names


def score_variants(
    runs: Run | Sequence[Run],
    genome: Genome,
    source: str | Path,
    options: ScoreOptions | None = None,
    *,
    settings: ScoreSettings | None = None,
    device: torch.device | str = "cpu",
    batch_size: int = 256,
    workplace: Workplace = HERE,
    progress: Progress | None = None,
) -> ScoreSummary:
    """Score every record of a VCF or BCF and write it back, annotated, with a Parquet table and the skipped alleles.

    Several runs of the same tracks are averaged. `workplace` says where chunks are scored. Raises VariantError for a broken
    record or when more than 5 % of the reference alleles disagree with the genome (unless `check_ref` is `warn`); then nothing
    is written.
    """
    scorer = Scorer(runs, device, batch_size, settings)
    return write_scores(scorer, genome, source, options or ScoreOptions(), workplace, progress)


def write_scores(
    scorer: Scorer,
    genome: Genome,
    source: str | Path,
    options: ScoreOptions,
    workplace: Workplace = HERE,
    progress: Progress | None = None,
) -> ScoreSummary:
    """Do what `score_variants` does, with models that are at work already."""
    started, summary = time.monotonic(), ScoreSummary()
    files = free_places(source, options, workplace)
    summary.warnings += dict.fromkeys(filter(None, map(near_chance, scorer.runs)))
    background = _background_of(scorer, genome, summary)
    job = score_job(scorer, genome, options.every_track)
    with (
        checked_header(source, genome, options, summary) as (variants, sample),
        at_work(job, partial(scored_variants, scorer, genome, options.every_track), files.vcf, workplace) as work,
    ):
        sample_name = variants.header[-1].split(b"\t")[sample].decode("utf-8", "replace") if sample else None
        schema, own = score_schema(scorer, genome, options, background), own_names(scorer, variants.header)
        first, variants = peeked(variants)
        for theirs, ours in first_renamed([first.contig] if first else [], genome.sequences).items():
            summary.renamed = f"contigs are named otherwise than in the genome: {theirs} was taken for {ours}"
        table = ChunkTable(scorer, genome, options, background, sample, summary)
        records = CheckedRecords(variants, genome, options, summary, progress)
        chunks = (table.chunk(*chunk) for chunk in records)
        if workplace.shard is not None:
            assert files.vcf is not None, "shares have a file"
            work.make_shard(files.vcf, (chunk.piece() for chunk in chunks), summary.warnings)
        with score_outputs(files, scorer, genome, schema, own, options.index, summary) as outputs:
            contig_name = naming(first.contig if first else "", genome)
            outputs.vcf.write_header(
                header_of(variants, scorer, genome, options.genome_note, background, sample_name, contig_name)
            )
            _write_chunks(table, work.parts_of((chunk, chunk.piece()) for chunk in chunks), outputs)
    summary.resumed = 0 if workplace.gather else work.reused_rows
    summary.seconds = time.monotonic() - started
    return summary


def _background_of(scorer: Scorer, genome: Genome, summary: ScoreSummary) -> Background | None:
    """Return the background that was scored with the same settings, if there is one, and say so in the summary."""
    folder = scorer.run.path if len(scorer.runs) == 1 else scorer.run.path.parent
    background, remark = find_background(folder, scorer, genome.digest())
    if background is not None:
        summary.background = (
            f"quantiles against {background.count:,} background variants ({background.source}); "
            f"smallest p {background.smallest_p:.2g}"
        )
    elif remark:
        summary.warnings.append(remark)
    else:
        summary.background = "no background, so no quantiles (mfd background makes one)"
    return background


def _write_chunks(table: ChunkTable, scored: Iterable[tuple[Chunk, Mapping[str, Any]]], outputs: ScoreOutputs) -> None:
    """Write chunk after chunk, while the next one is scored. Raises as CheckedRecords does."""
    summary, first = table.summary, True
    with in_background() as later:
        for chunk, scores in scored:
            columns = table.columns(chunk, scores)
            if first and chunk.scored:
                summary.warnings += table.agreement(chunk.scored, columns)
                first = False
            later(outputs.write, chunk.alleles, chunk.records, columns)
            summary.count_flags(list(columns["MFD_FLAGS"]))
    if summary.close and not table.options.phased:
        summary.warnings.append(
            f"{summary.close:,} alleles have another of their haplotype within a window; each was scored on the reference "
            "(--phased scores close neighbours together)"
        )
