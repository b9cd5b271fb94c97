"""One step of training: which batches come, the loss with its penalties, the adversary, the running average of the weights."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from itertools import islice

import numpy as np
import torch
from torch import Tensor

from mfd_cli.core.apart import risen_weight, teach_adversaries
from mfd_cli.core.backbones import one_row_a_bin
from mfd_cli.core.finite import Later, any_not_finite
from mfd_cli.core.losses import curvature, prediction_loss
from mfd_cli.core.mixed_head import MixedHead
from mfd_cli.core.schedule import average_share, follow, rate
from mfd_cli.core.trunks import TrunkBackbone
from mfd_cli.runs.batches import Batch
from mfd_cli.runs.draws import Draw, Tiling
from mfd_cli.training.not_finite import check_gradients, stop_not_finite
from mfd_cli.training.setup import Trainer

DROPOUT = 1
"""What tells the random numbers of dropout from others of the same seed and step."""


def draws(trainer: Trainer, tiling: Tiling, step: int | None = None) -> Iterator[Draw]:
    """Yield the batches from `step` (default: the current one) to the end of training."""
    settings, pace = trainer.config.train, trainer.pace
    step = trainer.step if step is None else step
    while step < trainer.total_steps:
        epoch, done = divmod(step, pace.steps_per_epoch)
        plan = tiling.epoch(pace.stretches, settings.seed, epoch, settings.shift, settings.reverse_complement)
        yield from islice(plan, done, done + trainer.total_steps - step)
        step += pace.steps_per_epoch - done


def learn(trainer: Trainer, batch: Batch, counts: Tensor) -> None:
    """Take one step of the model, then of the adversary on the same, detached latents.

    `counts` (signal tracks,) marks those with a Poisson loss. NotFinite where the loss, or the gradient of the step before,
    is not finite; the model has not moved then.
    """
    check_gradients(trainer)
    for group in trainer.optimiser.param_groups:
        group["lr"] = trainer.config.train.lr * rate(trainer.step, trainer.total_steps)
    trainer.model.train()
    # Of what is held running averages must not move either; weights without a gradient, the optimiser leaves alone.
    learns = trainer.model.hold() if trainer.frozen else True
    if isinstance(trainer.model.backbone, TrunkBackbone):  # its package's dropout asks torch
        torch.manual_seed(seed_of_dropout(trainer))
    own = trainer.processes.share(len(batch.codes))
    kept = kept_filters(trainer, len(batch.codes), len(batch.peaks))
    with (
        torch.autocast(trainer.device.type, torch.bfloat16, enabled=trainer.autocast),
        torch.set_grad_enabled(learns),
    ):
        columns = trainer.model.columns(batch.codes[own])
        features = one_row_a_bin(trainer.backbone(columns, None if kept is None else kept[own]))
    # From here on every process computes the same, from the features of all.
    latent = trainer.model.norm(trainer.processes.gather(features).float())
    head = trainer.model.head
    logits = torch.addmm(head.bias, latent, head.matrix().T)
    used = batch.measured * trainer.used
    weight = trainer.config.objective.signal_weight
    loss, per_track = prediction_loss(logits, batch.peaks, batch.signal, used, weight, counts, batch.weight)
    chosen = seen_by_penalties(trainer, len(latent))
    seen = latent if chosen is None else latent[chosen]
    penalised = trainer.model.settings.groups
    latents = {group: seen[:, place] for group, place in trainer.model.slices.items() if group in penalised}
    parts, total = {"loss": loss.detach()}, loss
    if isinstance(head, MixedHead):
        information = trainer.cells_of * curvature(logits.detach(), batch.peaks.shape[1], weight, counts)
        head.follow_data(information, latent.detach(), average_share(trainer.step))
        prior = head.prior() / trainer.cells
        parts["prior"], total = prior.detach(), total + prior
    # The adversary's parameters are frozen here, so that the model's backward pass leaves no gradient in them.
    trainer.penalties.requires_grad_(False)
    for name, penalty in trainer.penalties.items():
        value = penalty(latents)
        parts[name] = value.detach()
        total = total + penalty_weight(trainer, name) * value
    finite = Later(torch.isfinite(total.detach()))
    trainer.optimiser.zero_grad(set_to_none=True)
    total.backward()
    spoilt = any_not_finite(trainer.model)
    if not finite.value():
        stop_not_finite(trainer, per_track)
    # The fused optimiser leaves everything as it is where this is 1; whether it was is asked a step later, without waiting.
    trainer.optimiser.found_inf = spoilt  # type: ignore[attr-defined]
    trainer.optimiser.step()
    trainer.doubt = Later(spoilt > 0)
    teach_adversary(trainer, latents)
    follow(trainer.average, trainer.model, trainer.step)
    for name, value in parts.items():  # left on the device: reading a number here would make the GPU wait
        trainer.sums[name] = trainer.sums.get(name, 0.0) + value.double()
    trainer.sums["steps"] = trainer.sums.get("steps", 0.0) + 1
    trainer.step += 1


def seed_of_dropout(trainer: Trainer) -> int:
    """Return where torch's random numbers begin in this step and process, so that a resumed training draws the same."""
    rng = np.random.default_rng([trainer.config.train.seed, trainer.step, DROPOUT, trainer.processes.rank])
    return int(rng.integers(1 << 63))


def kept_filters(trainer: Trainer, stretches: int, bins: int) -> Tensor | None:
    """Return what each motif filter counts for in the `bins` of a batch, (stretches, filters, bins of each): 0 or, so that the
    mean is 1, a little more than 1. None where all are kept, as while the backbone is frozen.

    A function of seed and step, drawn on the host for the whole batch, so that neither a resumed training nor one of several
    processes is another.
    """
    share, filters = trainer.config.train.dropout, trainer.model.settings.filters
    if not share or not filters or trainer.frozen:
        return None
    rng = np.random.default_rng([trainer.config.train.seed, trainer.step, DROPOUT])
    kept = rng.random((stretches, filters, bins // stretches), np.float32) >= share
    return torch.from_numpy(kept / np.float32(1 - share)).to(trainer.device, non_blocking=True)


def seen_by_penalties(trainer: Trainer, bins: int) -> Tensor | None:
    """Return which of a batch's bins the penalties see, as an index on the device; None where they see all.

    A function of seed and step, drawn on the host. Neighbouring bins are alike, and some penalties cost the square of the bins.
    """
    most = trainer.config.objective.bins
    if bins <= most or not trainer.penalties:
        return None
    rng = np.random.default_rng([trainer.config.train.seed, trainer.step])
    return torch.from_numpy(rng.permutation(bins)[:most]).to(trainer.device)


def penalty_weight(trainer: Trainer, name: str) -> float:
    """Return the weight of a penalty now: 0 until its start, then rising linearly to its full size over the warm-up.

    The published forms are weighed as they were published, all others in units of the prior loss.
    """
    settings = trainer.config.objective.penalties[name]  # type: ignore[index]
    return risen_weight(settings, trainer.step, trainer.total_steps, trainer.prior_loss)


def teach_adversary(trainer: Trainer, latents: Mapping[str, Tensor]) -> None:
    """Take the adversary's own steps, where there is one."""
    if trainer.adversary_optimiser is not None:
        steps = trainer.config.objective.adversary_steps
        teach_adversaries(trainer.penalties, trainer.adversary_optimiser, latents, steps)


def learn_variances(trainer: Trainer) -> None:
    """Let a mixed head learn its variances anew, from the averaged weights; nothing for other heads.

    Every process does it, on the same weights. The model itself gets what its average learnt.
    """
    average, head = trainer.average.head, trainer.model.head
    if isinstance(average, MixedHead) and isinstance(head, MixedHead):
        average.learn_variances()
        head.take_variances(average)
