"""`mfd train`: from a dataset folder to a run folder.

One code path for CPU and CUDA. The curve of the loss is a function of the configuration, the dataset, the thread count
and the seed; an interrupted training that is resumed gives the same numbers as one that was not.
"""

from __future__ import annotations

import math
import os
import shutil
import time
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor

from mfd_cli import __version__
from mfd_cli.claims import claim, tidy_inside
from mfd_cli.core.losses import prediction_loss
from mfd_cli.core.model import MfdModel
from mfd_cli.core.predict import device_of
from mfd_cli.data.batches import Batch, Draw, GenomeOnDevice, LabelledBins, Partners, draw_epoch, home_of
from mfd_cli.data.dataset import Bins, Dataset, open_dataset
from mfd_cli.design import worst_confounds
from mfd_cli.errors import ConfigError, DatasetError, OutputError, RunError
from mfd_cli.holdout import held_out_tracks
from mfd_cli.not_finite import any_not_finite, batches_named, check_gradients, stop_not_finite
from mfd_cli.processes import join
from mfd_cli.progress import Progress
from mfd_cli.project import Project
from mfd_cli.resume import Interrupted, restore, save_state
from mfd_cli.roles import strand_partners, swapped_signs
from mfd_cli.run_folder import DESCRIPTION, LAST, METRICS, WEIGHTS, Run, finish_publishing, load_last, load_run
from mfd_cli.signals import stop_signals
from mfd_cli.trainer import Later, Trainer, build, fit_scale, outputs_of
from mfd_cli.validate import due, out_of_time, validate

EMA_DECAY = 0.999


def train(
    project: Project, *, gpus: int | None = None, resume: bool = False, force: bool = False,
    progress: Progress | None = None, warn: Callable[[str], None] | None = None,
    note: Callable[[str], None] | None = None,
) -> Run:  # fmt: skip
    """Train a model on the project's dataset and return the best one, saved in the project's run folder.

    `gpus` None takes a CUDA device if there is one. Raises OutputError where a run is in the way (neither `resume` nor
    `force`), ConfigError or MetadataError where the settings do not fit the dataset, Interrupted on SIGINT and SIGTERM.
    """
    with same_bits(project.config.train.deterministic):
        return _train(project, gpus, resume, force, progress, warn, note)


def _train(
    project: Project, gpus: int | None, resume: bool, force: bool, progress: Progress | None,
    warn: Callable[[str], None] | None, note: Callable[[str], None] | None,
) -> Run:  # fmt: skip
    config, folder, processes = project.config, project.run, join()
    device = device_of(int(torch.cuda.is_available()) if gpus is None else gpus, processes.local)
    if processes.first:
        claim(folder)
        finish_publishing(folder)
        tidy_inside(folder)
        tidy_inside(folder / LAST)
    else:
        progress = warn = note = None
    stored = load_last(folder) if resume else None
    if processes.first and stored is None:
        clear_run(folder, force, resume)
    dataset = open_dataset(project.dataset)
    held_out = held_out_tracks(config, {track.id: track.metadata for track in dataset.tracks})
    trained = np.array([track.id not in held_out for track in outputs_of(dataset)])
    bins = dataset.split("train")
    if len(bins) < 2:
        raise DatasetError("has no training bins", path=project.dataset, hint="look at [split] and [bins]")
    partners = strand_partners(outputs_of(dataset), config)
    pairs = Partners(partners, swapped_signs(outputs_of(dataset), partners))
    scale = fit_scale(dataset, bins, config, pairs)
    trainer = build(config, dataset, bins, trained, device, processes)
    if stored is not None:
        restore(trainer, folder, *stored)
        if config.train.deterministic and stored[1]["threads"] != torch.get_num_threads():
            raise ConfigError(
                f"this run was started with {stored[1]['threads']} threads, now there are {torch.get_num_threads()}",
                hint=f"--threads {stored[1]['threads']}, or train without --deterministic",
            )
        if warn and stored[1]["threads"] != torch.get_num_threads():
            warn(f"this run was started with {stored[1]['threads']} threads: other numbers of them round differently")
    elif processes.first:
        save_state(trainer, folder)  # from the first moment on there is something to resume from
    if warn:
        kept = [track.metadata for track, used in zip(outputs_of(dataset), trained) if used]
        for sentence in worst_confounds(kept, config.factors):
            warn(f"{sentence}: their separate contributions are not to be trusted (mfd check-design)")
    if note:
        note(plan_of(trainer, len(bins)))
    home = home_of(dataset, bins, device, config.train.memory)
    genome = GenomeOnDevice(dataset, trainer.model.window, trainer.model.left, home, config.train.shift)
    training = LabelledBins(genome, bins, dataset, scale, device, pairs)
    held = dataset.split("validation").thinned(config.train.validation_bins)
    validation = LabelledBins(genome, held, dataset, scale, device)
    if not len(held) and warn:
        warn("there are no validation bins: the last weights are kept, and training does not stop early")
    about = about_run(dataset, bins)

    def draw_of(step: int) -> Draw:
        return next(draws(trainer, len(bins), step))

    with stop_signals() as stopped, batches_named(draw_of, bins, dataset.contigs):
        prefetch, started = config.train.memory == "host" or home != device, time.monotonic()
        for batch in training.stream(draws(trainer, len(training)), prefetch):
            learn(trainer, batch, training.counts)
            trainer.seconds += time.monotonic() - started
            if progress:
                progress("training", trainer.step, trainer.total_steps)
            done = out_of_time(trainer)
            if due(trainer, len(training)) or done:
                check_gradients(trainer)
                if processes.first:
                    done |= validate(trainer, validation, dataset, folder, scale, about)
                trainer.sums.clear()  # before the state is saved: the curve of a resumed training begins anew here too
                if processes.first:
                    save_state(trainer, folder)
            told = processes.agree(stopped())
            if told:
                check_gradients(trainer)
                if processes.first:
                    save_state(trainer, folder)
                raise Interrupted(told, folder)
            if processes.agree(done):
                break
            started = time.monotonic()
    processes.agree(0)  # nobody leaves before the first has written
    processes.leave()
    return load_run(folder)


@contextmanager
def same_bits(wanted: bool) -> Iterator[None]:
    """Inside the block only operations that give the same bits each time; RunError where one has no such form."""
    if not wanted:
        yield
        return
    os.environ.setdefault("CUBLAS_WORKSPACE_CONFIG", ":4096:8")  # read when CUDA is first used
    before = torch.are_deterministic_algorithms_enabled()
    torch.use_deterministic_algorithms(True)
    try:
        yield
    except RuntimeError as error:
        if "deterministic" not in str(error):
            raise
        told = str(error).split(".")[0]
        raise RunError(f"--deterministic: {told}", hint="train without it, or on the CPU") from error
    finally:
        torch.use_deterministic_algorithms(before)


# -- before the first step ---------------------------------------------------------------------------------------------


def clear_run(folder: Path, force: bool, resume: bool = False) -> None:
    """Make room for a new run: OutputError where there is one already and `force` is not set. What a training left that was
    killed before its first state was whole is no run: `resume` begins again."""
    # The description first: without it there is no model here, whatever else a kill may leave.
    ours = [folder / name for name in (DESCRIPTION, LAST, METRICS, WEIGHTS)]
    model = (folder / DESCRIPTION).exists() or (folder / WEIGHTS).exists()
    if not force and any(path.exists() for path in ours) and (model or not resume):
        if resume:
            told = "holds a run already, and no state (last/state.json) to resume it from"
            raise OutputError(told, path=folder, hint="--force starts anew")
        raise OutputError("holds a run already", path=folder, hint="--resume goes on with it, --force replaces it")
    for path in ours:
        if path.is_dir():
            shutil.rmtree(path)
        else:
            path.unlink(missing_ok=True)


def about_run(dataset: Dataset, bins: Bins) -> dict[str, Any]:
    """What a model must remember of the data it was made from."""
    return {
        "mfd_version": __version__, "genome_digest": dataset.manifest["genome_digest"],
        "dataset_digest": dataset.digest, "contigs": dataset.genome.lengths,
        "trained_on": [dataset.contigs[index] for index in np.unique(bins.contig)], "training_bins": len(bins),
    }  # fmt: skip


def plan_of(trainer: Trainer, bins: int) -> str:
    """What is about to be done, in a sentence."""
    weights = sum(parameter.numel() for parameter in trainer.model.parameters())
    windows = (trainer.total_steps - trainer.step) * min(trainer.config.train.batch_size, bins)
    where = f"{torch.get_num_threads()} CPU threads" if trainer.device.type == "cpu" else str(trainer.device)
    kind = "bf16" if trainer.autocast else "float32"
    tracks = int(trainer.used.sum())
    return (
        f"{tracks} tracks, {bins:,} training bins, {weights:,} weights; up to {windows:,} windows in {kind} on {where}"
    )


# -- steps -------------------------------------------------------------------------------------------------------------


def draws(trainer: Trainer, bins: int, step: int | None = None) -> Iterator[Draw]:
    """The batches that are still to come, or all from a step on."""
    settings, total = trainer.config.train, trainer.total_steps
    step = trainer.step if step is None else step
    per_epoch = bins // min(settings.batch_size, bins)
    while step < total:
        epoch, done = divmod(step, per_epoch)
        plan = draw_epoch(bins, settings.batch_size, settings.seed, epoch, settings.shift, settings.reverse_complement)
        yield from plan[done : done + total - step]
        step += per_epoch - done


def rate(step: int, total: int) -> float:
    """The learning rate's share of its peak: a linear rise over the first steps, then half a cosine down to 1 %."""
    warm = max(1, min(total // 20, 500))
    if step < warm:
        return (step + 1) / warm
    return 0.01 + 0.99 * 0.5 * (1 + math.cos(math.pi * (step - warm) / max(total - warm, 1)))


def learn(trainer: Trainer, batch: Batch, counts: Tensor) -> None:
    """One step of the model, then of the adversary on the same, detached latents. `counts` marks Poisson tracks."""
    check_gradients(trainer)
    for group in trainer.optimiser.param_groups:
        group["lr"] = trainer.config.train.lr * rate(trainer.step, trainer.total_steps)
    trainer.model.train()
    own = trainer.processes.share(len(batch.codes))
    with torch.autocast(trainer.device.type, torch.bfloat16, enabled=trainer.autocast):
        features = trainer.backbone(trainer.model.columns(batch.codes[own]))
    # From here on every process computes the same, from the features of all.
    latent = trainer.model.norm(trainer.processes.gather(features).float())
    weights = trainer.model.head.weights()
    logits = torch.addmm(weights.bias, latent, weights.matrix().T)
    used = batch.measured * trainer.used
    weight = trainer.config.objective.signal_weight
    loss, per_track = prediction_loss(logits, batch.peaks, batch.signal, used, weight, counts)
    latents = {group: latent[:, place] for group, place in trainer.model.slices.items()}
    parts, total = {"loss": loss.detach()}, loss
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


def penalty_weight(trainer: Trainer, name: str) -> float:
    """The weight of a penalty now: 0 until its start, then rising linearly to its full size over the warm-up.

    The published forms are weighed as they were published, all others in units of the prior loss.
    """
    settings = trainer.config.objective.penalties[name]  # type: ignore[index]
    done, warm = trainer.step - settings.start * trainer.total_steps, settings.warmup * trainer.total_steps
    if done < 0:
        return 0.0
    unit = 1.0 if settings.published else trainer.prior_loss
    return settings.weight * unit * (min(1.0, done / warm) if warm > 0 else 1.0)


def teach_adversary(trainer: Trainer, latents: Mapping[str, Tensor]) -> None:
    """The adversary's own steps; its gradients never reach the model, whose latents are detached."""
    if trainer.adversary_optimiser is None:
        return
    trainer.penalties.requires_grad_(True)
    detached = {name: values.detach() for name, values in latents.items()}
    losses = [p.adversary_loss for p in trainer.penalties.values() if hasattr(p, "adversary_loss")]
    for _ in range(trainer.config.objective.adversary_steps):
        trainer.adversary_optimiser.zero_grad(set_to_none=True)
        total = torch.stack([loss(detached) for loss in losses]).sum()  # type: ignore[operator]
        total.backward()
        trainer.adversary_optimiser.step()


@torch.no_grad()
def follow(average: MfdModel, model: MfdModel, step: int) -> None:
    """Move the running average of the weights towards the model; it is what is validated and saved."""
    keep = min(EMA_DECAY, (1 + step) / (10 + step))
    ours: list[Tensor] = list(average.parameters())
    theirs: list[Tensor] = list(model.parameters())
    torch._foreach_lerp_(ours, theirs, 1 - keep)
    for own, new in zip(average.buffers(), model.buffers()):
        if own.is_floating_point():
            own.lerp_(new, 1 - keep)
        else:
            own.copy_(new)
