"""What a training is about to do, before its first step: on what, how much of it, how long it takes and how much memory."""

from __future__ import annotations

import copy
import resource
import time
from dataclasses import dataclass
from itertools import islice
from statistics import median

import numpy as np
import torch

from mfd_cli.base.errors import DatasetError
from mfd_cli.base.progress import lasting
from mfd_cli.core.losses import SignalScale
from mfd_cli.dataset.folder import Bins, Dataset, open_dataset
from mfd_cli.engine.processes import ALONE, Processes
from mfd_cli.experiments.held_out import held_out_tracks
from mfd_cli.experiments.strands import strand_partners, swapped_signs
from mfd_cli.runs.batches import GenomeOnDevice, LabelledBins, Partners, home_of
from mfd_cli.settings.project import Project
from mfd_cli.training.setup import Trainer, build, fit_scale, outputs_of
from mfd_cli.training.step import draws, learn

TRIED, ENOUGH = 5, 10.0
"""Steps that are tried, the first of them not counted; seconds after which no further one is."""
WITHOUT_GRADIENT = 1 / 3
"""The cost of a window in validation, in training windows."""


@dataclass(frozen=True)
class Ready:
    """A training before its first step. The labels are placed on the device when they are asked for."""

    project: Project
    dataset: Dataset
    trainer: Trainer
    bins: Bins
    scale: SignalScale
    pairs: Partners
    genome: GenomeOnDevice

    @property
    def home(self) -> torch.device:
        """Where genome and labels are kept."""
        return self.genome.device

    def training_bins(self) -> LabelledBins:
        return LabelledBins(self.genome, self.bins, self.dataset, self.scale, self.trainer.device, self.pairs)

    def validation_bins(self) -> LabelledBins:
        """At most `train.validation_bins` bins of the validation split."""
        held = self.dataset.split("validation").thinned(self.project.config.train.validation_bins)
        return LabelledBins(self.genome, held, self.dataset, self.scale, self.trainer.device)


def prepare(project: Project, device: torch.device, processes: Processes = ALONE) -> Ready:
    """The dataset, the model and its optimisers at step 0. DatasetError where there is nothing to train on."""
    config, dataset = project.config, open_dataset(project.dataset)
    held_out = held_out_tracks(config, {track.id: track.metadata for track in dataset.tracks})
    trained = np.array([track.id not in held_out for track in outputs_of(dataset)])
    bins = dataset.split("train")
    if len(bins) < 2:
        raise DatasetError("has no training bins", path=project.dataset, hint="look at [split] and [bins]")
    partners = strand_partners(outputs_of(dataset), config)
    pairs = Partners(partners, swapped_signs(outputs_of(dataset), partners))
    scale = fit_scale(dataset, bins, config, pairs)
    trainer = build(config, dataset, bins, trained, device, processes)
    home = home_of(dataset, bins, device, config.train.memory)
    genome = GenomeOnDevice(dataset, trainer.model.window, trainer.model.left, home, config.train.shift)
    return Ready(project, dataset, trainer, bins, scale, pairs, genome)


@dataclass(frozen=True)
class Plan:
    """A training in numbers. `seconds` and `memory` (bytes) are those of a few steps on this machine, or None."""

    tracks: int
    bins: int
    weights: int
    windows: int
    where: str
    seconds: float | None
    memory: int | None

    def line(self) -> str:
        told = f"; about {lasting(self.seconds)} at most" if self.seconds is not None else ""
        told += f", {self.memory / 1e9:.1f} GB of memory" if self.memory is not None else ""
        return (
            f"{self.tracks} tracks, {self.bins:,} training bins, {self.weights:,} weights; up to {self.windows:,} windows in "
            f"{self.where}{told}"
        )


def plan_of(trainer: Trainer, training: LabelledBins, validation: LabelledBins) -> Plan:
    """The plan of what is left to do. Time and memory are measured on a copy, where one process does all the work."""
    settings, device = trainer.config.train, trainer.device
    size = min(settings.batch_size, len(training))
    steps = trainer.total_steps - trainer.step
    where = f"{torch.get_num_threads()} CPU threads" if device.type == "cpu" else str(device)
    seconds, memory = None, None
    if trainer.processes.world == 1 and steps:
        step, memory = measured(trainer, training)
        every = max(1, (settings.windows_per_validation or len(training)) // size)
        seconds = step * (steps + WITHOUT_GRADIENT * len(validation) / size * -(-steps // every))
        if settings.max_minutes is not None:
            seconds = min(seconds, max(60 * settings.max_minutes - trainer.seconds, 0.0))
    return Plan(
        int(trainer.used.sum()),
        len(training),
        sum(parameter.numel() for parameter in trainer.model.parameters()),
        steps * size,
        f"{'bf16' if trainer.autocast else 'float32'} on {where}",
        seconds,
        memory,
    )


def measured(trainer: Trainer, training: LabelledBins) -> tuple[float, int]:
    """Seconds of a step and bytes of memory: a few steps of a copy, of which the trainer and its random numbers see nothing."""
    trial, device, times = copy.deepcopy(trainer), trainer.device, list[float]()
    cuda = device.type == "cuda"
    with torch.random.fork_rng([device] if cuda else []):
        for draw in islice(draws(trial, len(training)), TRIED):
            started = time.perf_counter()
            learn(trial, training.batch(*draw), training.counts)
            if cuda:
                torch.cuda.synchronize(device)
            times.append(time.perf_counter() - started)
            if sum(times) > ENOUGH:
                break
    memory = (
        torch.cuda.max_memory_allocated(device) if cuda else resource.getrusage(resource.RUSAGE_SELF).ru_maxrss << 10
    )
    return median(times[1:] or times), memory
