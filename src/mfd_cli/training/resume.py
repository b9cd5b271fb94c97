"""Stopping and going on: signals that wait for the end of a step, and the state that makes a resumed training exact."""

from __future__ import annotations

import math
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from mfd_cli.base.errors import ConfigError, RunError
from mfd_cli.engine.checkpoint import LAST, STATE, save_last
from mfd_cli.engine.optimiser_state import first_moments, moments, only, prefixed, set_moments
from mfd_cli.engine.same_plan import check_plan
from mfd_cli.engine.store import check_tensors
from mfd_cli.runs.folder import START_ANEW
from mfd_cli.settings.config import Config
from mfd_cli.training.setup import Best, Trainer
from mfd_cli.training.validate import SELECTION

LastState = tuple[dict[str, Tensor], dict[str, Any]]
"""What `runs.folder.load_last` reads: the tensors, and last/state.json."""


def save_state(trainer: Trainer, folder: Path) -> None:
    """Save everything needed to go on exactly: weights, their average, adversary, both optimisers, counters."""
    tensors = {
        **prefixed("model", trainer.model.state_dict()),
        **prefixed("average", trainer.average.state_dict()),
        **prefixed("penalties", trainer.penalties.state_dict()),
        **prefixed("optimiser", moments(trainer.optimiser)),
    }
    if trainer.adversary_optimiser is not None:
        tensors |= prefixed("adversary", moments(trainer.adversary_optimiser))
    state = {
        "step": trainer.step,
        "total_steps": trainer.total_steps,
        "seconds": trainer.seconds,
        "sums": {name: float(value) for name, value in trainer.sums.items()},
        "best": [
            trainer.best.skill if math.isfinite(trainer.best.skill) else None,
            trainer.best.step,
            trainer.best.without_improvement,
        ],
        "threads": torch.get_num_threads(),
        "plan": plan_of(trainer.config),
        "dataset": trainer.dataset,
        "source": trainer.source,
    }
    save_last(folder, tensors, state)


def restore(trainer: Trainer, folder: Path, tensors: Mapping[str, Tensor], state: Mapping[str, Any]) -> None:
    """Put a trainer at step 0 back to where `save_state` left off; it may have more epochs or windows to go than it had.

    ConfigError where the plan has changed, RunError where the state is not this trainer's: nothing is restored then.
    """
    file = folder / LAST / STATE
    plan = plan_of(trainer.config)
    check_plan(state["plan"], plan, file, (*LENGTH, CHOSEN_BY), _AS_IT_WAS)
    if state["plan"].get(CHOSEN_BY) != SELECTION:
        message = f"is of a training that chose its best weights by another measure; now it is {SELECTION}"
        raise RunError(message, path=file, hint=START_ANEW)
    if state["dataset"] != trainer.dataset:
        raise RunError(
            "was made on another dataset than the project has now", path=file, hint="mfd train --force starts anew"
        )
    if state["plan"] == plan and state["total_steps"] != trainer.total_steps:
        message = (
            f"is at step {state['step']:,} of {state['total_steps']:,}, and this training has {trainer.total_steps:,}"
        )
        raise RunError(message, path=file, hint="the dataset has changed; mfd train --force starts anew")
    if state["step"] > trainer.total_steps:
        raise ConfigError(
            f"is at step {state['step']:,}, beyond the {trainer.total_steps:,} steps of a training with these settings",
            path=file,
            hint="a larger train.epochs or train.max_windows goes on with it",
        )
    _check_state(trainer, tensors, folder / LAST / state["file"])
    trainer.model.load_state_dict(only("model", tensors))
    trainer.average.load_state_dict(only("average", tensors))
    trainer.penalties.load_state_dict(only("penalties", tensors))
    set_moments(trainer.optimiser, only("optimiser", tensors))
    if trainer.adversary_optimiser is not None:
        set_moments(trainer.adversary_optimiser, only("adversary", tensors))
    skill, step, waited = state["best"]
    trainer.best = Best(-math.inf if skill is None else skill, step, waited)
    trainer.step, trainer.sums, trainer.seconds = state["step"], dict(state["sums"]), state["seconds"]
    trainer.source = state.get("source")


def _check_state(trainer: Trainer, tensors: Mapping[str, Tensor], file: Path) -> None:
    """RunError where a file has not exactly the tensors that this trainer saves."""
    modules: dict[str, torch.nn.Module] = {
        "model": trainer.model,
        "average": trainer.average,
        "penalties": trainer.penalties,
    }
    expected = {name: value for key, m in modules.items() for name, value in prefixed(key, m.state_dict()).items()}
    for prefix, optimiser in (("optimiser", trainer.optimiser), ("adversary", trainer.adversary_optimiser)):
        if optimiser is not None:
            expected |= {n: v for n, v in prefixed(prefix, first_moments(optimiser)).items() if n in tensors}
    check_tensors(tensors, expected, file, START_ANEW)


LENGTH = ("train.epochs", "train.max_windows")
"""Settings that say how long a training lasts: they may change when it goes on, as may the clock's."""
_AS_IT_WAS = (
    "set them as they were, or train a run of its own with --run FOLDER; "
    f"{', '.join(LENGTH)} and train.max_minutes may change"
)
CHOSEN_BY = "selection"
"""Where a plan says what the best weights are chosen by: no setting, but the best so far is a number on that scale."""


def plan_of(config: Config) -> dict[str, Any]:
    """Return what makes a training what it is: everything but paths, the clock, where data are kept, and TensorBoard."""
    plan = config.model_dump(mode="json", include={"factors", "model", "objective", "train"})
    plan[CHOSEN_BY] = SELECTION
    for name in ("max_minutes", "memory", "tensorboard"):
        plan["train"].pop(name)
    return plan
