"""ContIG: a picture and the genetic data of the same person."""

from __future__ import annotations

from mfd_cli.base.arrays import Doubles, Ints
from mfd_cli.contig.batches import Batch
from mfd_cli.contig.step import Aim, alignment_loss
from mfd_cli.contig.trainer import Trainer
from mfd_cli.contig.validate import alignment_skills


class Alignment:
    """Own and other persons' genetic data told apart by a picture, and the other way round."""

    def check(self, trainer: Trainer) -> None:
        """Do nothing: a cohort has pictures and genetic data."""

    def loss(self, trainer: Trainer, batch: Batch) -> Aim:
        """Return the loss of all modalities."""
        return alignment_loss(trainer, batch)

    def skills(self, trainer: Trainer) -> tuple[Doubles, Ints]:
        """Return the skill on each validation person, of pictures as they are."""
        return alignment_skills(trainer)
