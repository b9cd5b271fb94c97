"""What scoring a file would do: every record read and checked, a few alleles scored for the speed, nothing written."""

from __future__ import annotations

import time
from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path

from mfd_cli.base.progress import Progress, lasting
from mfd_cli.genome.alleles import Variant
from mfd_cli.genome.sequence import Genome
from mfd_cli.variants.checked import CheckedRecords, checked_header
from mfd_cli.variants.options import ScoreOptions
from mfd_cli.variants.outputs import free_places
from mfd_cli.variants.scorer import Scorer
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
    scorer: Scorer, genome: Genome, source: str | Path, options: ScoreOptions, progress: Progress | None = None
) -> ScorePlan:
    """Return the plan of `write_scores` with the same arguments; raises the same."""
    files, counts, timed = free_places(source, options), ScoreSummary(), list[Variant]()
    with checked_header(source, genome, options, counts) as (variants, _):
        for _, alleles in CheckedRecords(variants, genome, options, counts, progress, "reading records"):
            missing = TIMED - len(timed)
            timed += [allele.variant for allele in alleles if allele.variant is not None][:missing]
    seconds = seconds_of_scoring(scorer, timed, genome, options.every_track) * counts.scored
    named = (files.vcf, files.table, files.h5ad, files.skipped)
    return ScorePlan(counts, seconds, [path for path in named if path is not None])


def seconds_of_scoring(scorer: Scorer, variants: Sequence[Variant], genome: Genome, per_track: bool) -> float:
    """Return how long the scoring of one of these variants takes, in seconds; 0 where there is none."""
    if not variants:
        return 0.0
    scorer.columns(variants[:WARMED_UP], genome, per_track)
    started = time.perf_counter()
    scorer.columns(variants, genome, per_track)
    return (time.perf_counter() - started) / len(variants)
