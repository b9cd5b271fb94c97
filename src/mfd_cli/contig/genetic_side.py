"""What needs a run's genetic side, and is not to be had of a rival that was trained on pictures alone."""

from __future__ import annotations

from collections.abc import Mapping

from mfd_cli.base.errors import ConfigError
from mfd_cli.contig.run import ContigRun


def check_genetic(run: ContigRun, what: str) -> None:
    """Raise ConfigError where a run has no genetic side, and so nothing of `what`."""
    kind = run.config.objective.kind
    if not run.config.objective.genetic:
        raise ConfigError(
            f"was trained with objective.kind = {kind!r}, which knows no genetic data: there is nothing to {what}",
            path=run.path,
            hint="mfd contig gwas and mfd contig finetune show what such a network sees",
        )


def with_genetic_side(runs: Mapping[str, ContigRun]) -> tuple[dict[str, ContigRun], list[str]]:
    """Return those of some runs that have a genetic side, and the names of the others."""
    others = [name for name, run in runs.items() if not run.config.objective.genetic]
    return {name: run for name, run in runs.items() if name not in others}, others
