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
from mfd_cli.variants.effects import Scorer, ScoreSettings
from mfd_cli.variants.options import ScoreOptions
from mfd_cli.variants.parts import ScoreParts
from mfd_cli.variants.phasing import sample_column
from mfd_cli.variants.records import check_lengths
from mfd_cli.variants.score import ScoreSummary, Work, free_places

TRIED = 256
"""Alleles that are scored."""


@dataclass
class ScorePlan:
    """What would be scored and written; `seconds` without the start."""

    counts: ScoreSummary
    seconds: float = 0.0
    outputs: list[Path] = field(default_factory=list)

    @property
    def warnings(self) -> list[str]:
        return self.counts.warnings

    def lines(self) -> list[str]:
        found = self.counts
        rate = f" ({found.scored / self.seconds:,.0f}/s)" if self.seconds else ""
        return [
            f"{found.records:,} records, {found.alleles:,} alternate alleles: {found.scored:,} to score, about "
            f"{lasting(self.seconds)}{rate}; {found.told_skipped()}",
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
    """The plan of `score_variants` with the same arguments; raises the same."""
    options = options or ScoreOptions()
    places, scorer, counts = free_places(source, options), Scorer(runs, device, batch_size, settings), ScoreSummary()
    some: list[Variant] = []
    with open_variants(source) as variants:
        counts.warnings += check_lengths(variants, genome, options.check_ref)
        column = sample_column(variants.header[-1], options.sample, variants.name) if options.phased else None
        work = Work(scorer, genome, options, None, column, counts, ScoreParts(None, ""), progress, "reading records")
        for _, alleles in work.checked_chunks(variants):
            if len(some) < TRIED:
                some += [allele.variant for allele in alleles if allele.variant is not None][: TRIED - len(some)]
    seconds = 0.0
    if some:
        work.scores(some[:8])
        started = time.perf_counter()
        work.scores(some)
        seconds = (time.perf_counter() - started) / len(some) * counts.scored
    return ScorePlan(counts, seconds, [path for path in (places.vcf, places.table, places.skipped) if path is not None])
