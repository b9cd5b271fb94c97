"""`mfd train`: from a dataset folder to a run folder.

One code path for CPU and CUDA. The curve of the loss is a function of the configuration, the dataset, the thread count
and the seed; an interrupted training that is resumed gives the same numbers as one that was not.
"""

from __future__ import annotations

import json
import math
import shutil
import signal
import threading
import time
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn

from mfd_cli import __version__
from mfd_cli.config import Config, Project
from mfd_cli.core.losses import SignalScale, prediction_loss
from mfd_cli.core.metadata import fit_metadata
from mfd_cli.core.metrics import auroc_auprc, correlation
from mfd_cli.core.model import MfdModel
from mfd_cli.core.penalties import PENALTIES
from mfd_cli.core.predict import device_of, fill_held_out
from mfd_cli.data.batches import Draw, GenomeOnDevice, LabelledBins, Partners, draw_epoch
from mfd_cli.data.dataset import Bins, Dataset, Track, open_dataset
from mfd_cli.design import worst_confounds
from mfd_cli.errors import ConfigError, DatasetError, MfdError, OutputError, RunError
from mfd_cli.holdout import held_out_tracks
from mfd_cli.roles import count_tracks, strand_partners, swapped_signs
from mfd_cli.run_folder import DESCRIPTION, LAST, METRICS, WEIGHTS, Run, load_last, load_run, save_last, save_run

Progress = Callable[[str, int, int], None]
EMA_DECAY = 0.999
FEWEST_POSITIVES = 5
"""A track needs this many positive and negative bins before its AUROC counts in an average."""


class Interrupted(MfdError):
    """Training was told to stop and has saved what is needed to go on."""

    def __init__(self, number: int, folder: Path) -> None:
        super().__init__("interrupted; the state is saved", path=folder, hint="mfd train --resume goes on from here")
        self.exit_code = 128 + number


@dataclass
class Best:
    """The best validation so far."""

    skill: float = -math.inf
    step: int = 0
    without_improvement: int = 0


@dataclass
class Trainer:
    """Everything that moves while a model is trained."""

    config: Config
    model: MfdModel
    average: MfdModel
    penalties: nn.ModuleDict
    optimiser: torch.optim.Optimizer
    adversary_optimiser: torch.optim.Optimizer | None
    device: torch.device
    used: Tensor
    total_steps: int
    autocast: bool
    step: int = 0
    best: Best = field(default_factory=Best)
    sums: dict[str, float] = field(default_factory=dict)
    seconds: float = 0.0


def train(
    project: Project, *, gpus: int | None = None, resume: bool = False, force: bool = False,
    progress: Progress | None = None, warn: Callable[[str], None] | None = None,
    note: Callable[[str], None] | None = None,
) -> Run:  # fmt: skip
    """Train a model on the project's dataset and return the best one, saved in the project's run folder.

    `gpus` None takes a CUDA device if there is one. Raises OutputError where a run is in the way (neither `resume` nor
    `force`), ConfigError or MetadataError where the settings do not fit the dataset, Interrupted on SIGINT and SIGTERM.
    """
    config, folder = project.config, project.run
    device = device_of(int(torch.cuda.is_available()) if gpus is None else gpus)
    stored = load_last(folder) if resume else None
    if stored is None:
        clear_run(folder, force)
    dataset = open_dataset(project.dataset)
    held_out = held_out_tracks(config, {track.id: track.metadata for track in dataset.tracks})
    trained = np.array([track.id not in held_out for track in outputs_of(dataset)])
    bins = dataset.split("train")
    if len(bins) < 2:
        raise DatasetError("has no training bins", path=project.dataset, hint="look at [split] and [bins]")
    partners = strand_partners(outputs_of(dataset), config)
    pairs = Partners(partners, swapped_signs(outputs_of(dataset), partners))
    scale = fit_scale(dataset, bins, config, pairs)
    trainer = build(config, dataset, bins, trained, device)
    if stored is not None:
        restore(trainer, *stored)
        if warn and stored[1]["threads"] != torch.get_num_threads():
            warn(f"this run was started with {stored[1]['threads']} threads: other numbers of them round differently")
    if warn:
        kept = [track.metadata for track, used in zip(outputs_of(dataset), trained) if used]
        for sentence in worst_confounds(kept, config.factors):
            warn(f"{sentence}: their separate contributions are not to be trusted (mfd check-design)")
    if note:
        note(plan_of(trainer, len(bins)))
    genome = GenomeOnDevice(dataset, trainer.model.window, trainer.model.left, device, config.train.shift)
    training = LabelledBins(genome, bins, dataset, scale, device, pairs)
    held = some_bins(dataset.split("validation"), config.train.validation_bins)
    validation = LabelledBins(genome, held, dataset, scale, device)
    if not len(held) and warn:
        warn("there are no validation bins: the last weights are kept, and training does not stop early")
    about = about_run(dataset, bins)
    with stop_signals() as stopped:
        for draw in draws(trainer, len(training)):
            started = time.monotonic()
            learn(trainer, training, draw)
            trainer.seconds += time.monotonic() - started
            if progress:
                progress("training", trainer.step, trainer.total_steps)
            done = out_of_time(trainer)
            if due(trainer, len(training)) or done:
                done |= validate(trainer, validation, dataset, folder, scale, about)
                save_state(trainer, folder)
            if stopped():
                save_state(trainer, folder)
                raise Interrupted(stopped(), folder)
            if done:
                break
    return load_run(folder)


# -- before the first step ---------------------------------------------------------------------------------------------


def outputs_of(dataset: Dataset) -> tuple[Track, ...]:
    """Tracks in the order of the model's outputs: peak tracks, then signal tracks."""
    return dataset.peak_tracks + dataset.signal_tracks


def clear_run(folder: Path, force: bool) -> None:
    """Make room for a new run: OutputError where there is one already and `force` is not set."""
    ours = [folder / name for name in (WEIGHTS, DESCRIPTION, METRICS, LAST)]
    if not force and any(path.exists() for path in ours):
        raise OutputError("holds a run already", path=folder, hint="--resume goes on with it, --force replaces it")
    for path in ours:
        if path.is_dir():
            shutil.rmtree(path)
        else:
            path.unlink(missing_ok=True)


def build(config: Config, dataset: Dataset, bins: Bins, trained: NDArray[np.bool_], device: torch.device) -> Trainer:
    """The model, its running average, the penalties and the optimisers, at step 0."""
    settings, tracks = config.resolved_model(), outputs_of(dataset)
    rows = [track.metadata for track in tracks]
    if not config.factors and settings.head == "conditioned":
        raise ConfigError("the conditioned head needs at least one factor", hint="mfd init proposes [factors]")
    metadata = fit_metadata(rows, config.factors, trained.tolist())
    bias = start_bias(dataset, len(bins))
    torch.manual_seed(config.train.seed)
    model = MfdModel(settings, metadata, config.factors, rows, trained, bias).to(device)
    fill_held_out(model, [track.kind for track in tracks])
    average = MfdModel(settings, metadata, config.factors, rows, trained, bias).to(device).eval()
    average.load_state_dict(model.state_dict())
    average.requires_grad_(False)
    active = {name: p for name, p in config.objective.penalties.items() if p.weight > 0 and len(model.groups) > 1}
    penalties = nn.ModuleDict(
        {
            name: PENALTIES[name](settings.groups, config.objective.adversary_hidden, active[name].published)
            for name in active
        }
    ).to(device)
    adversary = list(penalties.parameters())
    fused = device.type in ("cuda", "cpu")
    objective = config.objective
    return Trainer(
        config, model, average, penalties,
        torch.optim.AdamW(parameter_groups(model, config), lr=config.train.lr, fused=fused),
        torch.optim.AdamW(adversary, lr=objective.adversary_lr, fused=fused) if adversary else None,
        device, torch.from_numpy(trained.astype(np.float32)).to(device), planned_steps(config, len(bins)),
        autocast=config.train.precision == "bf16" or (config.train.precision == "auto" and device.type == "cuda"),
    )  # fmt: skip


def start_bias(dataset: Dataset, bins: int) -> NDArray[np.float32]:
    """Where the biases start: the log odds of each peak track among the training bins; 0, the mean, for signals."""
    share = np.array([(track.positives + 0.5) / (bins + 1) for track in dataset.peak_tracks])
    share = np.clip(share, 1e-6, 1 - 1e-6)
    return np.concatenate([np.log(share / (1 - share)), np.zeros(len(dataset.signal_tracks))]).astype(np.float32)


def parameter_groups(model: MfdModel, config: Config) -> list[dict[str, Any]]:
    """Weight matrices decay; biases, scales and batch norms do not."""
    matrices = [p for p in model.parameters() if p.ndim > 1]
    others = [p for p in model.parameters() if p.ndim <= 1]
    return [{"params": matrices, "weight_decay": config.train.weight_decay}, {"params": others, "weight_decay": 0.0}]


def fit_scale(dataset: Dataset, bins: Bins, config: Config, pairs: Partners) -> SignalScale:
    """The scales of the signal tracks from the training bins; both tracks of a stranded pair see both strands."""
    signal, peaks = bins.signal, len(dataset.peak_tracks)
    other = pairs.place[peaks:] - peaks
    if (other != np.arange(signal.shape[1])).any():
        signal = np.concatenate([signal, signal[:, other] * pairs.sign[peaks:]])
    return SignalScale.fit(signal, count_tracks(dataset.signal_tracks, config))


def planned_steps(config: Config, bins: int) -> int:
    """Training steps in all: epochs x batches, or as many as `max_windows` allows."""
    size = min(config.train.batch_size, bins)
    steps = config.train.epochs * (bins // size)
    return max(1, min(steps, (config.train.max_windows or math.inf) // size))  # type: ignore[return-value]


def some_bins(bins: Bins, most: int) -> Bins:
    """At most this many bins, evenly spaced over the split."""
    if len(bins) <= most:
        return bins
    index = np.linspace(0, len(bins) - 1, most).round().astype(np.int64)
    measured = None if bins.measured is None else bins.measured[index]
    return Bins(bins.contig[index], bins.start[index], bins.peaks[index], bins.signal[index], measured)


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


def draws(trainer: Trainer, bins: int) -> Iterator[Draw]:
    """The batches that are still to come."""
    settings = trainer.config.train
    per_epoch = bins // min(settings.batch_size, bins)
    while trainer.step < trainer.total_steps:
        epoch, done = divmod(trainer.step, per_epoch)
        plan = draw_epoch(bins, settings.batch_size, settings.seed, epoch, settings.shift, settings.reverse_complement)
        yield from plan[done : done + trainer.total_steps - trainer.step]


def rate(step: int, total: int) -> float:
    """The learning rate's share of its peak: a linear rise over the first steps, then half a cosine down to 1 %."""
    warm = max(1, min(total // 20, 500))
    if step < warm:
        return (step + 1) / warm
    return 0.01 + 0.99 * 0.5 * (1 + math.cos(math.pi * (step - warm) / max(total - warm, 1)))


def learn(trainer: Trainer, data: LabelledBins, draw: Draw) -> None:
    """One step of the model, then of the adversary on the same, detached latents."""
    for group in trainer.optimiser.param_groups:
        group["lr"] = trainer.config.train.lr * rate(trainer.step, trainer.total_steps)
    trainer.model.train()
    batch = data.batch(draw.bins, draw.shift, draw.reverse)
    with torch.autocast(trainer.device.type, torch.bfloat16, enabled=trainer.autocast):
        latent = trainer.model.latent(batch.codes)
    weights = trainer.model.head.weights()
    logits = torch.addmm(weights.bias, latent, weights.matrix().T)
    used = batch.measured * trainer.used
    weight = trainer.config.objective.signal_weight
    loss, per_track = prediction_loss(logits, batch.peaks, batch.signal, used, weight, data.counts)
    latents = {group: latent[:, place] for group, place in trainer.model.slices.items()}
    parts, total = {"loss": loss.detach()}, loss
    # The adversary's parameters are frozen here, so that the model's backward pass leaves no gradient in them.
    trainer.penalties.requires_grad_(False)
    for name, penalty in trainer.penalties.items():
        value = penalty(latents)
        parts[name] = value.detach()
        total = total + penalty_weight(trainer, name) * value
    stop_if_not_finite(trainer, total, per_track)
    trainer.optimiser.zero_grad(set_to_none=True)
    total.backward()
    trainer.optimiser.step()
    teach_adversary(trainer, latents)
    follow(trainer.average, trainer.model, trainer.step)
    for name, value in parts.items():
        trainer.sums[name] = trainer.sums.get(name, 0.0) + float(value)
    trainer.sums["steps"] = trainer.sums.get("steps", 0.0) + 1
    trainer.step += 1


def penalty_weight(trainer: Trainer, name: str) -> float:
    """The weight of a penalty now: 0 until its start, then rising linearly to its full size over the warm-up."""
    settings = trainer.config.objective.penalties[name]  # type: ignore[index]
    done, warm = trainer.step - settings.start * trainer.total_steps, settings.warmup * trainer.total_steps
    if done < 0:
        return 0.0
    return settings.weight * (min(1.0, done / warm) if warm > 0 else 1.0)


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


def stop_if_not_finite(trainer: Trainer, total: Tensor, per_track: Tensor) -> None:
    """Stop before the optimiser is harmed, naming the step and the tracks."""
    if torch.isfinite(total):
        return
    bad = torch.nonzero(~torch.isfinite(per_track)).flatten().tolist()
    names = f", first in track number {bad[0] + 1}" if bad else " in a penalty"
    raise RunError(
        f"the loss is not finite at step {trainer.step}{names}",
        hint="lower train.lr, or train with --set train.precision=float32; the best weights so far are kept",
    )


# -- validation --------------------------------------------------------------------------------------------------------


def due(trainer: Trainer, bins: int) -> bool:
    """Whether it is time to validate: once an epoch, or every so many windows, and at the end."""
    size = min(trainer.config.train.batch_size, bins)
    every = max(1, (trainer.config.train.windows_per_validation or bins) // size)
    return trainer.step % every == 0 or trainer.step == trainer.total_steps


def out_of_time(trainer: Trainer) -> bool:
    limit = trainer.config.train.max_minutes
    return limit is not None and trainer.seconds > 60 * limit


def validate(
    trainer: Trainer, data: LabelledBins, dataset: Dataset, folder: Path, scale: SignalScale, about: dict[str, Any]
) -> bool:
    """Measure the averaged model, keep it if it is the best, add to metrics.jsonl; True if training should end."""
    started = time.monotonic()
    fill_held_out(trainer.average, [track.kind for track in outputs_of(dataset)])
    measured = measure(trainer.average, data, trainer.config.objective.signal_weight, trainer.used)
    steps = max(trainer.sums.pop("steps", 0.0), 1.0)
    averages = {f"train_{name}": value / steps for name, value in trainer.sums.items()}
    trainer.sums.clear()
    better = measured["skill"] > trainer.best.skill or not len(data)
    if better:
        trainer.best = Best(measured["skill"], trainer.step)
    else:
        trainer.best.without_improvement += 1
    trainer.seconds += time.monotonic() - started
    line = {
        "step": trainer.step, "windows": trainer.step * trainer.config.train.batch_size,
        "seconds": round(trainer.seconds, 1), "lr": trainer.optimiser.param_groups[0]["lr"], **averages, **measured,
        "best": better,
    }  # fmt: skip
    append_metrics(folder / METRICS, line)
    if better:
        summary = {**about, "step": trainer.step, "windows": line["windows"], "validation": measured}
        save_run(Run(folder, trainer.config, trainer.average, outputs_of(dataset), scale, summary))
    return trainer.best.without_improvement >= trainer.config.train.patience


@torch.inference_mode()
def measure(model: MfdModel, data: LabelledBins, signal_weight: float, used: Tensor) -> dict[str, float]:
    """Prediction loss, AUROC, AUPRC and correlation of signals on these bins, averaged over the training tracks.

    `skill`, by which the best weights are chosen, is the mean over tracks of the AUROC, or for signals of (1 + r) / 2.
    """
    if not len(data):
        return {"skill": 0.0}
    model.eval()
    logits, peaks, signals, known, losses = [], [], [], [], 0.0
    for batch in data.in_order(512):
        out = model(batch.codes).logits
        cells = (batch.measured * used).expand(len(out), -1)
        loss, _ = prediction_loss(out, batch.peaks, batch.signal, cells, signal_weight, data.counts)
        losses += float(loss) * len(out)
        logits.append(torch.cat([out[:, : data.peak_tracks], data.scale.expected(out[:, data.peak_tracks :])], 1))
        peaks.append(batch.peaks.masked_fill(cells[:, : batch.peaks.shape[1]] == 0, torch.nan))
        signals.append(batch.signal.masked_fill(cells[:, batch.peaks.shape[1] :] == 0, torch.nan))
        known.append(cells)
    scores, labels, signal = torch.cat(logits), torch.cat(peaks), torch.cat(signals)
    auroc, auprc = auroc_auprc(scores[:, : labels.shape[1]], labels)
    positives, negatives = (labels == 1).sum(0).cpu(), (labels == 0).sum(0).cpu()
    rated = (positives >= FEWEST_POSITIVES) & (negatives >= FEWEST_POSITIVES)
    r = correlation(scores[:, labels.shape[1] :], signal).cpu()
    skills = torch.cat([auroc[rated], (1 + r[~r.isnan()]) / 2])
    result = {"loss": losses / len(scores), "skill": float(skills.mean()) if len(skills) else 0.0}
    if rated.any():
        result |= {
            "auroc_mean": float(auroc[rated].mean()), "auroc_median": float(auroc[rated].median()),
            "auprc_mean": float(auprc[rated].mean()), "rated_tracks": float(rated.sum()),
        }  # fmt: skip
    if (~r.isnan()).any():
        result["pearson_mean"] = float(r[~r.isnan()].mean())
    return result


def append_metrics(path: Path, line: Mapping[str, Any]) -> None:
    """Add a line to metrics.jsonl, dropping lines of a future that a resumed run has not reached yet."""
    path.parent.mkdir(parents=True, exist_ok=True)
    kept = []
    if path.is_file():
        kept = [text for text in path.read_text("utf-8").splitlines() if json.loads(text)["step"] < line["step"]]
    path.write_text("\n".join([*kept, json.dumps(line)]) + "\n", "utf-8")


# -- stop and go on ----------------------------------------------------------------------------------------------------


@contextmanager
def stop_signals() -> Iterator[Callable[[], int]]:
    """Inside the block SIGINT and SIGTERM are remembered, not acted on; yields what tells which one came (0: none)."""
    caught = [0]
    if threading.current_thread() is not threading.main_thread():
        yield lambda: caught[0]
        return

    def remember(number: int, _: object) -> None:
        caught[0] = number

    before = {number: signal.signal(number, remember) for number in (signal.SIGINT, signal.SIGTERM)}
    try:
        yield lambda: caught[0]
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)


def save_state(trainer: Trainer, folder: Path) -> None:
    """Everything needed to go on exactly: weights, their average, adversary, both optimisers, counters."""
    tensors = {
        **_prefixed("model", trainer.model.state_dict()), **_prefixed("average", trainer.average.state_dict()),
        **_prefixed("penalties", trainer.penalties.state_dict()), **_prefixed("optimiser", _moments(trainer.optimiser)),
    }  # fmt: skip
    if trainer.adversary_optimiser is not None:
        tensors |= _prefixed("adversary", _moments(trainer.adversary_optimiser))
    state = {
        "step": trainer.step, "total_steps": trainer.total_steps, "sums": trainer.sums, "seconds": trainer.seconds,
        "best": [trainer.best.skill if math.isfinite(trainer.best.skill) else None, trainer.best.step,
                 trainer.best.without_improvement],
        "threads": torch.get_num_threads(), "plan": _plan(trainer.config),
    }  # fmt: skip
    save_last(folder, tensors, state)


def restore(trainer: Trainer, tensors: Mapping[str, Tensor], state: Mapping[str, Any]) -> None:
    """Put a trainer at step 0 back to where `save_state` left off; ConfigError where the plan has changed."""
    if state["plan"] != _plan(trainer.config):
        raise ConfigError(
            "the configuration has changed since this run was started", hint="--force starts it anew, from step 0"
        )
    trainer.model.load_state_dict(_only("model", tensors))
    trainer.average.load_state_dict(_only("average", tensors))
    trainer.penalties.load_state_dict(_only("penalties", tensors))
    _set_moments(trainer.optimiser, _only("optimiser", tensors))
    if trainer.adversary_optimiser is not None:
        _set_moments(trainer.adversary_optimiser, _only("adversary", tensors))
    skill, step, waited = state["best"]
    trainer.best = Best(-math.inf if skill is None else skill, step, waited)
    trainer.step, trainer.sums, trainer.seconds = state["step"], dict(state["sums"]), state["seconds"]


def _plan(config: Config) -> dict[str, Any]:
    """What must not change between start and resume: everything but paths and the clock."""
    plan = config.model_dump(mode="json", include={"factors", "model", "objective", "train"})
    plan["train"].pop("max_minutes")
    return plan


def _prefixed(prefix: str, tensors: Mapping[str, Tensor]) -> dict[str, Tensor]:
    return {f"{prefix}/{name}": value for name, value in tensors.items()}


def _only(prefix: str, tensors: Mapping[str, Tensor]) -> dict[str, Tensor]:
    start = f"{prefix}/"
    return {name.removeprefix(start): value for name, value in tensors.items() if name.startswith(start)}


def _moments(optimiser: torch.optim.Optimizer) -> dict[str, Tensor]:
    """An optimiser's state as flat tensors: PARAMETER.NAME."""
    state = optimiser.state_dict()["state"]
    return {f"{index}.{name}": torch.as_tensor(v) for index, values in state.items() for name, v in values.items()}


def _set_moments(optimiser: torch.optim.Optimizer, tensors: Mapping[str, Tensor]) -> None:
    state: dict[int, dict[str, Tensor]] = {}
    for name, value in tensors.items():
        index, _, key = name.partition(".")
        state.setdefault(int(index), {})[key] = value
    optimiser.load_state_dict({"state": state, "param_groups": optimiser.state_dict()["param_groups"]})
