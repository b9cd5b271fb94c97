"""What a training is stopped by: the skill on validation persons, of whatever objective."""

from __future__ import annotations

from mfd_cli.contig.objectives.objectives import OBJECTIVES
from mfd_cli.contig.trainer import Trainer
from mfd_cli.contig.validate import mean_over_families


def skill_of(trainer: Trainer) -> tuple[float, float]:
    """Return the skill (nats) of the averaged model on validation persons and its standard error over families."""
    trainer.average.eval()
    return mean_over_families(*OBJECTIVES[trainer.config.objective.kind].skills(trainer))
