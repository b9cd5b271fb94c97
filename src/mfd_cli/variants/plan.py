"""What scoring a file would do: every record read and checked, a few alleles scored for the speed, nothing written."""

from __future__ import annotations

import time
from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path

import torch

from mfd_cli.base.progress import Progress, lasting
from mfd_cli.formats.vcf_reader import open_variants
from mfd_cli.genome.alleles import Variant
from mfd_cli.genome.sequence import Genome
from mfd_cli.runs.folder import Run
from mfd_cli.variants.checked import CheckedRecords
from mfd_cli.variants.effects import Scorer, ScoreSettings
from mfd_cli.variants.options import ScoreOptions
from mfd_cli.variants.outputs import free_places
from mfd_cli.variants.phasing import sample_column
from mfd_cli.variants.records import check_lengths
from mfd_cli.variants.summary import ScoreSummary

TIMED, WARMED_UP = 256, 8
"""Alleles whose scoring is timed, and how many of them are scored before: the first pass through a model is slow."""


@dataclass
class ScorePlan:
    """What would be scored and written; `seconds` without the start."""

    counts: ScoreSummary
    seconds: float = 0.0
    outputs: list[Path] = field(default_factory=list)

    @property
    def warnings(self) -> list[str]:
        """Return what the user should know before the start."""
        return self.counts.warnings

    def lines(self) -> list[str]:
        """Return the plan as lines for the terminal."""
        counts = self.counts
        rate = f" ({counts.scored / self.seconds:,.0f}/s)" if self.seconds else ""
        return [
            f"{counts.records:,} records, {counts.alleles:,} alternate alleles: {counts.scored:,} to score, about "
            f"{lasting(self.seconds)}{rate}; {counts.words_for_skipped()}",
            *(f"would write {path}" for path in self.outputs),
        ]


def plan_scores(
    runs: Run | Sequence[Run],
    genome: Genome,
    source: str | Path,
    options: ScoreOptions | None = None,
    *,
    settings: ScoreSettings | None = None,
    device: torch.device | str = "cpu",
    batch_size: int = 256,
    progress: Progress | None = None,
) -> ScorePlan:
    """Return the plan of `score_variants` with the same arguments; raises the same."""
    options = options or ScoreOptions()
    files, scorer, counts = free_places(source, options), Scorer(runs, device, batch_size, settings), ScoreSummary()
    timed: list[Variant] = []
    with open_variants(source) as variants:
        counts.warnings += check_lengths(variants, genome, options.check_ref)
        if options.phased:
            sample_column(variants.header[-1], options.sample, variants.name)  # raises where no sample is chosen
        for _, alleles in CheckedRecords(variants, genome, options, counts, progress, "reading records"):
            missing = TIMED - len(timed)
            timed += [allele.variant for allele in alleles if allele.variant is not None][:missing]
    seconds = 0.0
    if timed:
        scorer.columns(timed[:WARMED_UP], genome, options.per_track)
        started = time.perf_counter()
        scorer.columns(timed, genome, options.per_track)
        seconds = (time.perf_counter() - started) / len(timed) * counts.scored
    return ScorePlan(counts, seconds, [path for path in (files.vcf, files.table, files.skipped) if path is not None])
