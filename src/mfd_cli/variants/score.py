"""`mfd score-variants`: what each alternate allele changes, told apart by group, for every record of a VCF.

Records are read, scored and written at the same time, in chunks, so that memory does not depend on the length of the file:

    checked.py   the chunks of the input, counted; whether it belongs to the genome
    columns.py   a chunk's columns of the table, with scorer.py, effects.py, phasing.py and background.py
    outputs.py   the VCF (vcf_fields.py says what it tells), the table (table.py), the AnnData file (h5ad_scores.py) and the
                 list of skipped alleles
"""

from __future__ import annotations

import time
from collections.abc import Sequence
from pathlib import Path

import torch

from mfd_cli.base.errors import MfdError
from mfd_cli.base.progress import Progress
from mfd_cli.base.threads import in_background
from mfd_cli.genome.sequence import Genome
from mfd_cli.runs.folder import Run
from mfd_cli.variants.background import Background, find_background
from mfd_cli.variants.checked import CheckedRecords, checked_header
from mfd_cli.variants.columns import ChunkScorer
from mfd_cli.variants.effects import ScoreSettings
from mfd_cli.variants.options import ScoreOptions
from mfd_cli.variants.outputs import ScoreOutputs, free_places, score_outputs
from mfd_cli.variants.parts import ScoreParts, parts_key
from mfd_cli.variants.records import naming, peeked
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
    progress: Progress | None = None,
) -> ScoreSummary:
    """Score every record of a VCF or BCF and write it back, annotated, with a Parquet table and the skipped alleles.

    Several runs of the same tracks are averaged. Raises VariantError for a broken record or when more than 5 % of the
    reference alleles disagree with the genome (unless `check_ref` is `warn`); then nothing is written.
    """
    scorer = Scorer(runs, device, batch_size, settings)
    return write_scores(scorer, genome, source, options or ScoreOptions(), progress)


def write_scores(
    scorer: Scorer, genome: Genome, source: str | Path, options: ScoreOptions, progress: Progress | None = None
) -> ScoreSummary:
    """Do what `score_variants` does, with models that are at work already."""
    started, summary = time.monotonic(), ScoreSummary()
    files, background = free_places(source, options), _background_of(scorer, genome, summary)
    with checked_header(source, genome, options, summary) as (variants, sample):
        sample_name = variants.header[-1].split(b"\t")[sample].decode("utf-8", "replace") if sample else None
        parts = ScoreParts(files.vcf, parts_key(scorer, genome.digest(), options.every_track))
        schema = score_schema(scorer, genome, options, background)
        try:
            own = own_names(scorer, variants.header)
            with score_outputs(files, scorer, genome, schema, own, options.index, summary) as outputs:
                first, variants = peeked(variants)
                contig_name = naming(first.contig if first else "", genome)
                outputs.vcf.write_header(
                    header_of(variants, scorer, genome, options.genome_note, background, sample_name, contig_name)
                )
                records = CheckedRecords(variants, genome, options, summary, progress)
                chunk_scorer = ChunkScorer(scorer, genome, options, background, sample, parts, summary)
                _score_chunks(records, chunk_scorer, outputs)
        except MfdError:
            parts.remove()  # the same run would end in the same way
            raise
        parts.remove()
        summary.resumed = parts.taken
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


def _score_chunks(records: CheckedRecords, chunk_scorer: ChunkScorer, outputs: ScoreOutputs) -> None:
    """Score chunk after chunk, while the next one is read and the last one is written. Raises as CheckedRecords does."""
    summary = records.summary
    with in_background() as later:
        for chunk, alleles in records:
            scored = [allele for allele in alleles if allele.reason is None]
            columns = chunk_scorer.columns(scored)
            if scored and not summary.scored:
                summary.warnings += chunk_scorer.agreement(scored, columns)
            later(outputs.write, alleles, chunk, columns)
            summary.count_flags(list(columns["MFD_FLAGS"]))
    if summary.close and not records.options.phased:
        summary.warnings.append(
            f"{summary.close:,} alleles have another of their haplotype within a window; each was scored on the reference "
            "(--phased scores close neighbours together)"
        )
