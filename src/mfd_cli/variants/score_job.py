"""The scores of variants as work in pieces: what a worker opens, and what it makes of a piece."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import asdict, dataclass
from functools import partial
from typing import Any

from mfd_cli.engine.parts import Columns
from mfd_cli.genome.alleles import Variant
from mfd_cli.genome.sequence import Genome
from mfd_cli.runs.sources import Sources
from mfd_cli.variants.effects import ScoreSettings
from mfd_cli.variants.scorer import Scorer

MakePiece = Callable[[Scorer, Genome, bool, Any], Columns]
"""Makes a piece's part: scorer, genome, whether each track's change is wanted, and what the piece is."""


def scored_variants(scorer: Scorer, genome: Genome, per_track: bool, variants: Sequence[Variant]) -> Columns:
    """Return the scores of variants, one value per variant in each column."""
    return scorer.columns(variants, genome, per_track)


@dataclass(frozen=True)
class ScoreJob:
    """Scoring with the models and the genome of `sources`. `make` is what becomes of a piece; its name is part of the plan."""

    sources: Sources
    settings: ScoreSettings
    device: str
    batch_size: int
    per_track: bool
    make: MakePiece = scored_variants

    @property
    def plan(self) -> Mapping[str, Any]:
        """Return what scores depend on besides the variants.

        Threads, kind of device and batch size are among it: sums of floats depend on their order, and the same bytes are made
        wherever pieces are scored.
        """
        settings = {**asdict(self.settings), "fixes": list(self.settings.fixes)}
        more = {"batch size": self.batch_size, "changes of every track": self.per_track, "pieces": self.make.__name__}
        return self.sources.plan(self.device, **settings, **more)

    def start(self, device: str) -> Callable[[Any], Columns]:
        """Open models and genome and return what makes a piece's scores."""
        runs, genome = self.sources.open()
        return partial(self.make, Scorer(runs, device, self.batch_size, self.settings), genome, self.per_track)


def score_job(scorer: Scorer, genome: Genome, per_track: bool, make: MakePiece = scored_variants) -> ScoreJob:
    """Return the job of scoring as a scorer does that is at work in this process."""
    sources = Sources.of(scorer.runs, genome)
    return ScoreJob(sources, scorer.settings, str(scorer.device), scorer.batch_size, per_track, make)
