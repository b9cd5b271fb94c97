"""One step of training an encoder: a changed batch, the loss of every modality, the running average of the weights."""

from __future__ import annotations

import math

import numpy as np
import torch

from mfd_cli.base.errors import RunError
from mfd_cli.contig.batches import CHANGE, Batch, kept_inputs
from mfd_cli.contig.core.augment import Change, changed
from mfd_cli.contig.core.contrast import contrast
from mfd_cli.contig.trainer import Trainer
from mfd_cli.core.finite import Later, any_not_finite
from mfd_cli.core.schedule import follow, rate

CALMER = "lower train.lr; the best weights so far are kept"


def learn(trainer: Trainer, batch: Batch) -> None:
    """Take one step. RunError where the loss or the gradient of the step before is not finite; the model has not moved then."""
    check_gradients(trainer)
    config, model, device = trainer.config, trainer.model, trainer.device
    for group in trainer.optimiser.param_groups:
        group["lr"] = config.train.lr * rate(trainer.step, trainer.total_steps)
    model.train()
    augment = config.train.augment
    change = Change(augment.rotate, augment.shift, augment.scale, augment.brightness, augment.contrast, augment.colour)
    rng = np.random.default_rng([config.train.seed, trainer.step, CHANGE])
    pictures = changed(model.standardised(batch.pictures.to(device)), change, rng)
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
    total, chance = total / max(weights, 1e-12), chance / max(weights, 1e-12)
    parts = {"loss": total.detach(), "chance": chance, "steps": torch.ones(())}
    if trainer.technical is not None:
        when = (trainer.step, trainer.total_steps)
        beside = trainer.technical.loss(model, feature, batch.images.to(device), chance, when)
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
        trainer.technical.teach(model, feature)
    follow(trainer.average, model, trainer.step)
    for name, value in parts.items():
        trainer.sums[name] = trainer.sums.get(name, 0.0) + float(value)
    trainer.step += 1


def check_gradients(trainer: Trainer) -> None:
    """Raise RunError where the gradient of the step before was not finite."""
    if trainer.doubt is not None and trainer.doubt.value():
        raise RunError(f"the gradient is not finite at step {trainer.step - 1}", hint=CALMER)
