"""What every objective can do."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Protocol

import numpy as np

from mfd_cli.base.arrays import Doubles, Ints
from mfd_cli.base.errors import ConfigError
from mfd_cli.contig.batches import Batch
from mfd_cli.contig.step import Aim
from mfd_cli.contig.trainer import Trainer


class Objective(Protocol):
    """What an encoder is trained for, and how well it does that on persons that it was not trained on."""

    def check(self, trainer: Trainer) -> None:
        """Raise ConfigError, before the first step, where a cohort has not what is needed."""

    def loss(self, trainer: Trainer, batch: Batch) -> Aim:
        """Return the loss of a training batch and what guessing would cost, in nats."""

    def skills(self, trainer: Trainer) -> tuple[Doubles, Ints]:
        """Return what the averaged model is better than guessing by, in nats, on each validation person that can be asked
        (persons,), and their families (persons,)."""


def joined(skills: Sequence[Doubles], families: Sequence[Ints]) -> tuple[Doubles, Ints]:
    """Return the skills of batches as one (persons,), with the families (persons,). ConfigError where nobody could be asked."""
    if not sum(map(len, skills)):
        raise ConfigError(
            "none of the validation persons that are looked at can be asked what this objective asks",
            hint="train.validation_persons says how many persons are looked at",
        )
    return np.concatenate(list(skills)), np.concatenate(list(families))
