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
    for _, batch in fixed_batches(config, trainer.validation, config.train.validation_persons):
        feature = model.feature(model.standardised(batch.pictures.to(trainer.device)))
        of_each = np.full((len(batch.family), len(config.modalities)), np.nan)
        for number, name in enumerate(config.modalities):
            family = batch.of(name, batch.family).numpy()
            if not len(family):
                continue
            z = model.image_projection(name, batch.of(name, feature))
            u = model.person_projection(name, batch.inputs[name].to(trainer.device))
            table = z @ u.T / model.temperature(name, config.objective.least_temperature)
            both = [measures(ranks(each, family))["skill"] for each in (table, table.T)]
            rows = batch.rows[name]
            of_each[slice(None) if rows is None else rows.numpy(), number] = (
                config.objective.alpha * both[0] + (1 - config.objective.alpha) * both[1]
            )
        skills.append(of_each)
        families.append(batch.family.numpy())
    weights = np.array([modality.weight for modality in config.modalities.values()])
    return weighed(np.concatenate(skills), weights), np.concatenate(families)


def weighed(skills: Doubles, weights: Doubles) -> Doubles:
    """Return numbers (persons,) whose mean is the weighted mean over modalities of their mean skills, as the loss is weighed.

    `skills` (persons, modalities) are NaN where a person lacks one. What a person adds is how far each skill is from the mean
    of those who have the modality, so that the error of the mean of these numbers is that of the weighted mean.
    """
    share = weights / (weights.sum() or 1.0)
    missing = np.isnan(skills)
    total = np.zeros(len(skills))
    if not missing.any():
        for one, part in zip(skills.T, share):
            total += part * one
        return total
    for one, gone, part in zip(skills.T, missing.T, share):
        count = int((~gone).sum())
        if count:
            mean = one[~gone].mean()
            total += part * (mean + np.where(gone, 0, (np.where(gone, 0, one) - mean) * len(one) / count))
    return total


def mean_over_families(values: Doubles, family: Any) -> tuple[float, float]:
    """Return the mean of values (persons,) and its standard error, with persons of a family as one unit."""
    _, which = np.unique(family, return_inverse=True)
    sums, counts = np.bincount(which, values), np.bincount(which)
    mean = values.mean()
    units = len(sums)
    residual = sums - mean * counts
    return float(mean), float(np.sqrt((residual**2).sum() * units / max(units - 1, 1)) / counts.sum())
