"""What a training is about to do, in numbers: on what, how much of it, how long it takes and how much memory."""

from __future__ import annotations

import resource
import time
from dataclasses import dataclass, replace
from statistics import median

import torch

from mfd_cli.base.progress import lasting
from mfd_cli.runs.batches import LabelledBins
from mfd_cli.training.length import epochs_of
from mfd_cli.training.setup import Trainer
from mfd_cli.training.validate import steps_between

TIMED_STEPS = 5
"""Steps that are timed, the first of them not counted: it also pays for memory, kernels and caches."""
TIMED_SECONDS = 10.0
"""After so long no further step is needed to know how long one takes."""
WITHOUT_GRADIENT = 1 / 3
"""The cost of a window in validation, in training windows."""
KIBIBYTE = 1 << 10
"""The unit of ru_maxrss on Linux, in bytes."""


class FirstSteps:
    """The time that the first steps of a training take, and its memory, measured as they are taken.

    Nothing is tried on a copy: a copy of model and optimisers may not fit beside them on a GPU. Looking on draws no random
    numbers and changes none, so that the curve has the same bits with and without it.
    """

    def __init__(self, device: torch.device) -> None:
        self.device, self.seconds_of = device, list[float]()
        self.began = time.perf_counter()

    @property
    def enough(self) -> bool:
        """Whether it is known well enough how long a step takes."""
        return len(self.seconds_of) >= TIMED_STEPS or sum(self.seconds_of) > TIMED_SECONDS

    def begin_step(self) -> None:
        """Start the clock of a step, its batch included."""
        self.began = time.perf_counter()

    def end_step(self) -> None:
        """Stop it when the device has done what was asked of it; no waiting once enough is known."""
        if self.enough:
            return
        if self.device.type == "cuda":
            torch.cuda.synchronize(self.device)
        self.seconds_of.append(time.perf_counter() - self.began)

    @property
    def seconds(self) -> float | None:
        """The median time of a step; None before the first one."""
        return median(self.seconds_of[1:] or self.seconds_of) if self.seconds_of else None

    @property
    def memory(self) -> int:
        """Bytes: the most that was in use so far, on the GPU or in this process."""
        if self.device.type == "cuda":
            return torch.cuda.max_memory_allocated(self.device)
        return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * KIBIBYTE


@dataclass(frozen=True)
class TrainingPlan:
    """What is left to do of a training. `seconds` and `memory` (bytes) are those of this machine, or None: not measured."""

    tracks: int
    bins: int
    weights: int
    windows: int
    where: str
    cost: float
    """What is left, validations included, in training steps."""
    most_seconds: float | None
    """What `train.max_minutes` leaves."""
    proposed_epochs: int | None
    """The length of the whole training, where no setting says it."""
    seconds: float | None = None
    memory: int | None = None

    def measured(self, first: FirstSteps) -> TrainingPlan:
        """Return the plan with the time and the memory that the first steps tell; as it is where none was taken."""
        if first.seconds is None:
            return self
        seconds = first.seconds * self.cost
        return replace(
            self, seconds=seconds if self.most_seconds is None else min(seconds, self.most_seconds), memory=first.memory
        )

    def line(self) -> str:
        """Return the plan as a sentence for a person."""
        measured = f"; about {lasting(self.seconds)} at most" if self.seconds is not None else ""
        measured += f", {self.memory / 1e9:.1f} GB of memory" if self.memory is not None else ""
        epochs = self.proposed_epochs
        length = "" if epochs is None else f" ({epochs} epoch{'s' * (epochs > 1)}, as train.epochs is not set)"
        return (
            f"{self.tracks} tracks, {self.bins:,} training bins, {self.weights:,} weights; up to {self.windows:,} windows"
            f"{length} in {self.where}{measured}"
        )


def plan_left(trainer: Trainer, training: LabelledBins, validation: LabelledBins) -> TrainingPlan:
    """Return what is left to do for a trainer at its present step; nothing is measured yet."""
    settings, device = trainer.config.train, trainer.device
    size, steps = trainer.pace.bins, trainer.total_steps - trainer.step
    threads = torch.get_num_threads()
    where = f"{threads} CPU thread{'s' if threads > 1 else ''}" if device.type == "cpu" else str(device)
    validations = -(-steps // steps_between(trainer))
    most = None if settings.max_minutes is None else max(60 * settings.max_minutes - trainer.seconds, 0.0)
    set_by_user = settings.epochs is not None or settings.max_windows is not None
    return TrainingPlan(
        tracks=int(trainer.used.sum()),
        bins=len(training),
        weights=sum(parameter.numel() for parameter in trainer.model.parameters()),
        windows=steps * size,
        where=f"{'bf16' if trainer.autocast else 'float32'} on {where}",
        cost=steps + WITHOUT_GRADIENT * len(validation) / size * validations,
        most_seconds=most,
        proposed_epochs=None if set_by_user else epochs_of(trainer.config, trainer.pace.steps_per_epoch * size),
    )
