"""What a step of training an encoder is made of: the loss of every modality in a changed batch, and the move of the weights and
of their running average. `learn.py` takes a step, of whatever objective."""

from __future__ import annotations

import math
from typing import NamedTuple

import numpy as np
import torch
from torch import Tensor

from mfd_cli.base.errors import RunError
from mfd_cli.contig.batches import CHANGE, Batch, kept_inputs
from mfd_cli.contig.config import ContigConfig
from mfd_cli.contig.core.augment import Change, changed
from mfd_cli.contig.core.contrast import contrast
from mfd_cli.contig.trainer import Trainer
from mfd_cli.core.finite import Later, any_not_finite
from mfd_cli.core.schedule import follow, rate

CALMER = "lower train.lr; the best weights so far are kept"


class Aim(NamedTuple):
    """What a step goes down, and what guessing would cost, both scalars in nats; and the features (images, features) that it
    saw of the training images `images` (rows)."""

    loss: Tensor
    chance: Tensor
    feature: Tensor
    images: Tensor


def changed_pictures(trainer: Trainer, pictures: torch.Tensor, again: int = 0) -> torch.Tensor:
    """Return standardised pictures (images, 3, side, side) of bytes, changed as this step changes them; with another number in
    `again` in another way."""
    config = trainer.config
    rng = np.random.default_rng([config.train.seed, trainer.step, CHANGE, *([again] if again else [])])
    return changed(trainer.model.standardised(pictures.to(trainer.device)), change_of(config), rng)


def change_of(config: ContigConfig) -> Change:
    """Return how training pictures are changed."""
    augment = config.train.augment
    return Change(augment.rotate, augment.shift, augment.scale, augment.brightness, augment.contrast, augment.colour)


def alignment_loss(trainer: Trainer, batch: Batch) -> Aim:
    """Return the loss of all modalities in a batch, and what guessing would cost."""
    config, model, device = trainer.config, trainer.model, trainer.device
    pictures = changed_pictures(trainer, batch.pictures)
    feature = model.feature(pictures)
    total, chance, weights = feature.new_zeros(()), feature.new_zeros(()).double(), 0.0
    for number, (name, modality) in enumerate(config.modalities.items()):
        family = batch.of(name, batch.family)
        weights += modality.weight
        if len(family.unique()) < 2:
            continue  # nobody to tell a person from: adds 0, and the encoder's norms see nothing
        inputs, family = batch.inputs[name].to(device), family.to(device)
        kept = kept_inputs(config, trainer.step, name, number, tuple(inputs.shape))
        inputs = inputs if kept is None else inputs * kept.to(device)
        z, u = model.image_projection(name, batch.of(name, feature)), model.person_projection(name, inputs)
        temperature = model.temperature(name, config.objective.least_temperature)
        if not config.objective.learn_temperature:
            temperature = temperature.detach()
        owner = torch.arange(len(u), device=device)
        one = contrast(z, u, owner, family, temperature, config.objective.alpha)
        total, chance = total + modality.weight * one.loss, chance + modality.weight * one.chance
    if not total.requires_grad:
        total = feature.sum() * 0.0
    return Aim(total / max(weights, 1e-12), chance / max(weights, 1e-12), feature, batch.images)


def set_rate(trainer: Trainer) -> None:
    """Set the learning rate of this step."""
    for group in trainer.optimiser.param_groups:
        group["lr"] = trainer.config.train.lr * rate(trainer.step, trainer.total_steps)


def move(trainer: Trainer, found: Aim) -> None:
    """Move the weights down the gradient of a loss, and their running average after them; with technical factors, of the loss
    that keeps technique apart too. RunError where the loss is not finite; the model has not moved then."""
    model, total = trainer.model, found.loss
    parts = {"loss": total.detach(), "chance": found.chance, "steps": torch.ones(())}
    if trainer.technical is not None:
        when, images = (trainer.step, trainer.total_steps), found.images.to(trainer.device)
        beside = trainer.technical.loss(model, found.feature, images, found.chance, when)
        total, parts["technical"] = total + beside, beside.detach()
    trainer.optimiser.zero_grad(set_to_none=True)
    total.backward()
    spoilt = any_not_finite(model)
    if not math.isfinite(float(total.detach())):
        raise RunError(
            f"the loss is not finite at step {trainer.step}", hint="lower train.lr; the best weights so far are kept"
        )
    # The fused optimiser leaves everything as it is where this is 1; whether it was is asked a step later, without waiting.
    trainer.optimiser.found_inf = spoilt  # type: ignore[attr-defined]
    trainer.optimiser.step()
    trainer.doubt = Later(spoilt > 0)
    if trainer.technical is not None:
        trainer.technical.teach(model, found.feature)
    follow(trainer.average, model, trainer.step)
    for name, value in parts.items():
        trainer.sums[name] = trainer.sums.get(name, 0.0) + float(value)
    trainer.step += 1


def check_gradients(trainer: Trainer) -> None:
    """Raise RunError where the gradient of the step before was not finite."""
    if trainer.doubt is not None and trainer.doubt.value():
        raise RunError(f"the gradient is not finite at step {trainer.step - 1}", hint=CALMER)
