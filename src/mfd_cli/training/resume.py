"""Stopping and going on: signals that wait for the end of a step, and the state that makes a resumed training exact."""

from __future__ import annotations

import json
import math
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from mfd_cli.base.errors import ConfigError, MfdError, RunError
from mfd_cli.engine.store import check_tensors
from mfd_cli.runs.folder import LAST, START_ANEW, STATE, save_last
from mfd_cli.settings.config import Config
from mfd_cli.training.setup import Best, Trainer
from mfd_cli.training.validate import SELECTION

LastState = tuple[dict[str, Tensor], dict[str, Any]]
"""What `runs.folder.load_last` reads: the tensors, and last/state.json."""


class Interrupted(MfdError):
    """Training was told to stop and has saved what is needed to go on."""

    def __init__(self, number: int, folder: Path) -> None:
        super().__init__("interrupted; the state is saved", path=folder, hint="mfd train --resume goes on from here")
        self.exit_code = 128 + number


def save_state(trainer: Trainer, folder: Path) -> None:
    """Save everything needed to go on exactly: weights, their average, adversary, both optimisers, counters."""
    tensors = {
        **_prefixed("model", trainer.model.state_dict()),
        **_prefixed("average", trainer.average.state_dict()),
        **_prefixed("penalties", trainer.penalties.state_dict()),
        **_prefixed("optimiser", _moments(trainer.optimiser)),
    }
    if trainer.adversary_optimiser is not None:
        tensors |= _prefixed("adversary", _moments(trainer.adversary_optimiser))
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
    check_plan(state["plan"], plan, file)
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
    trainer.model.load_state_dict(_only("model", tensors))
    trainer.average.load_state_dict(_only("average", tensors))
    trainer.penalties.load_state_dict(_only("penalties", tensors))
    _set_moments(trainer.optimiser, _only("optimiser", tensors))
    if trainer.adversary_optimiser is not None:
        _set_moments(trainer.adversary_optimiser, _only("adversary", tensors))
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
    expected = {name: value for key, m in modules.items() for name, value in _prefixed(key, m.state_dict()).items()}
    for prefix, optimiser in (("optimiser", trainer.optimiser), ("adversary", trainer.adversary_optimiser)):
        if optimiser is not None:
            expected |= {n: v for n, v in _prefixed(prefix, _first_moments(optimiser)).items() if n in tensors}
    check_tensors(tensors, expected, file, START_ANEW)


def _first_moments(optimiser: torch.optim.Optimizer) -> dict[str, Tensor]:
    """What `_moments` gives after a step, with other numbers. A parameter without a gradient has none."""
    parameters = [parameter for group in optimiser.param_groups for parameter in group["params"]]
    moments = {
        f"{index}.{name}": parameter for index, parameter in enumerate(parameters) for name in ("exp_avg", "exp_avg_sq")
    }
    return moments | {f"{index}.step": torch.zeros(()) for index in range(len(parameters))}


LENGTH = ("train.epochs", "train.max_windows")
"""Settings that say how long a training lasts: they may change when it goes on, as may the clock's."""
CHOSEN_BY = "selection"
"""Where a plan says what the best weights are chosen by: no setting, but the best so far is a number on that scale."""
SHOWN = 4


def plan_of(config: Config) -> dict[str, Any]:
    """Return what makes a training what it is: everything but paths, the clock, where data are kept, and TensorBoard."""
    plan = config.model_dump(mode="json", include={"factors", "model", "objective", "train"})
    plan[CHOSEN_BY] = SELECTION
    for name in ("max_minutes", "memory", "tensorboard"):
        plan["train"].pop(name)
    return plan


def check_plan(then: Mapping[str, Any], now: Mapping[str, Any], file: Path) -> None:
    """Raise ConfigError, which names the settings with both values, where a plan is not that which `file` holds.

    How long the training lasts may be another one.
    """
    before, present = dict(dotted(then)), dict(dotted(now))
    changed = [
        key for key in {**before, **present} if before.get(key) != present.get(key) and key not in (*LENGTH, CHOSEN_BY)
    ]
    if not changed:
        return
    sentences = [f"{key} was {shown(before, key)} and is {shown(present, key)} now" for key in changed[:SHOWN]]
    more = [f"{len(changed) - SHOWN} more"] if len(changed) > SHOWN else []
    raise ConfigError(
        f"the run was started with other settings: {'; '.join(sentences + more)}",
        path=file,
        hint="set them as they were, or train a run of its own with --run FOLDER; "
        f"{', '.join(LENGTH)} and train.max_minutes may change",
    )


def dotted(tree: Mapping[str, Any], prefix: str = "") -> Iterator[tuple[str, Any]]:
    """Yield every value of a tree of settings with its dotted name.

    >>> dict(dotted({"train": {"lr": 0.1, "seed": 1}}))
    {'train.lr': 0.1, 'train.seed': 1}
    """
    for key, value in tree.items():
        if isinstance(value, Mapping) and value:
            yield from dotted(value, f"{prefix}{key}.")
        else:
            yield f"{prefix}{key}", value


def shown(settings: Mapping[str, Any], key: str) -> str:
    """Return the value of a setting as mfd.toml would have it, or that it is not set."""
    value = settings.get(key)
    return "not set" if value is None else json.dumps(value)[:80]


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
