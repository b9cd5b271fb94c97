"""How well an encoder knows persons that it was not trained on: the skill, and how sure it is."""

from __future__ import annotations

from typing import Any

import numpy as np
import torch

from mfd_cli.base.arrays import Doubles, Ints
from mfd_cli.contig.batches import fixed_batches
from mfd_cli.contig.core.ranks import measures, ranks
from mfd_cli.contig.trainer import Trainer


@torch.no_grad()
def alignment_skills(trainer: Trainer) -> tuple[Doubles, Ints]:
    """Return the skill (nats) of the averaged model on each validation person (persons,), and their families (persons,).

    Of each modality the mean of both directions, as the loss weighs them; in batches as large as in training.
    """
    config, model = trainer.config, trainer.average
    model.eval()
    skills: list[Doubles] = []
    families: list[Any] = []
    weights = sum(modality.weight for modality in config.modalities.values()) or 1.0
    for _, batch in fixed_batches(config, trainer.validation, config.train.validation_persons):
        feature = model.feature(model.standardised(batch.pictures.to(trainer.device)))
        family = batch.family.numpy()
        total = np.zeros(len(family))
        for name, modality in config.modalities.items():
            z = model.image_projection(name, feature)
            u = model.person_projection(name, batch.inputs[name].to(trainer.device))
            table = z @ u.T / model.temperature(name, config.objective.least_temperature)
            both = [measures(ranks(each, family))["skill"] for each in (table, table.T)]
            total += (
                modality.weight / weights * (config.objective.alpha * both[0] + (1 - config.objective.alpha) * both[1])
            )
        skills.append(total)
        families.append(family)
    return np.concatenate(skills), np.concatenate(families)


def mean_over_families(values: Doubles, family: Any) -> tuple[float, float]:
    """Return the mean of values (persons,) and its standard error, with persons of a family as one unit."""
    _, which = np.unique(family, return_inverse=True)
    sums, counts = np.bincount(which, values), np.bincount(which)
    mean = values.mean()
    units = len(sums)
    residual = sums - mean * counts
    return float(mean), float(np.sqrt((residual**2).sum() * units / max(units - 1, 1)) / counts.sum())
