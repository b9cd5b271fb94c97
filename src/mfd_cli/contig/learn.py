"""One step of training an encoder, of whatever objective."""

from __future__ import annotations

from mfd_cli.contig.batches import Batch
from mfd_cli.contig.objectives.objectives import OBJECTIVES
from mfd_cli.contig.step import check_gradients, move, set_rate
from mfd_cli.contig.trainer import Trainer


def learn(trainer: Trainer, batch: Batch) -> None:
    """Take one step. RunError where the loss or the gradient of the step before is not finite; the model has not moved then."""
    check_gradients(trainer)
    set_rate(trainer)
    trainer.model.train()
    move(trainer, OBJECTIVES[trainer.config.objective.kind].loss(trainer, batch))
