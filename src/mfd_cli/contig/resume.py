"""The state that makes a resumed training exact."""

from __future__ import annotations

import math
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from mfd_cli.base.errors import ConfigError, RunError
from mfd_cli.contig.config import ContigConfig
from mfd_cli.contig.run import AGAIN
from mfd_cli.contig.trainer import Best, Trainer
from mfd_cli.engine.checkpoint import save_last
from mfd_cli.engine.optimiser_state import moments, only, prefixed, set_moments
from mfd_cli.engine.same_plan import check_plan

START_ANEW = "mfd contig train --force starts anew"
LENGTH = ("train.epochs",)
"""Settings that may change when a training goes on."""


def plan_of(config: ContigConfig) -> dict[str, Any]:
    """Return what makes a training what it is: everything but paths, the clock, and what other commands do."""
    plan = config.model_dump(mode="json", include={"factors", "modalities", "model", "objective", "train"})
    plan["train"].pop("max_minutes")
    return plan


def told_labels(trainer: Trainer) -> dict[str, Any]:
    """Return the sha256 of the labels that a training is told, if any."""
    return {"labels": {"sha256": trainer.labels.digest}} if trainer.labels else {}


def save_state(trainer: Trainer, folder: Path) -> None:
    """Save everything needed to go on exactly: weights, their average, the optimiser's state, counters."""
    tensors = {
        **prefixed("model", trainer.model.state_dict()),
        **prefixed("average", trainer.average.state_dict()),
        **prefixed("optimiser", moments(trainer.optimiser)),
    }
    if trainer.technical is not None:
        tensors |= trainer.technical.state()
    best = trainer.best
    known = math.isfinite(best.skill)
    state = {
        "step": trainer.step,
        "total_steps": trainer.total_steps,
        "seconds": trainer.seconds,
        "sums": dict(trainer.sums),
        "best": [best.skill if known else None, best.error, float(best.step), float(best.without_improvement)],
        "threads": torch.get_num_threads(),
        "plan": plan_of(trainer.config) | told_labels(trainer),
        "cohort": trainer.cohort.digest,
    }
    folder.mkdir(parents=True, exist_ok=True)
    folder.chmod(0o700)
    save_last(folder, tensors, state)


def go_on(trainer: Trainer, folder: Path, tensors: Mapping[str, Tensor], state: Mapping[str, Any]) -> None:
    """Put a trainer back to where `save_state` left off. ConfigError where the plan has changed, RunError where the cohort
    has."""
    may_change = f"set them as they were, or --force starts anew; {', '.join(LENGTH)} may change"
    check_plan(state["plan"], plan_of(trainer.config) | told_labels(trainer), folder, LENGTH, may_change)
    if state["cohort"] != trainer.cohort.digest:
        raise RunError("was trained on another cohort than the project has now", path=folder, hint=START_ANEW)
    if state["step"] > trainer.total_steps:
        message = f"is at step {state['step']:,}, beyond the {trainer.total_steps:,} steps of this training"
        raise ConfigError(message, path=folder, hint="a larger train.epochs goes on with it")
    try:
        trainer.model.load_state_dict(only("model", tensors))
        trainer.average.load_state_dict(only("average", tensors))
        set_moments(trainer.optimiser, only("optimiser", tensors))
        if trainer.technical is not None:
            trainer.technical.set_state(tensors)
    except (RuntimeError, ValueError, KeyError) as error:
        raise RunError("has a state that is not this network's", path=folder, hint=AGAIN) from error
    skill, error_of, step, waited = state["best"]
    trainer.best = Best(-math.inf if skill is None else skill, error_of or 0.0, int(step or 0), int(waited or 0))
    trainer.step, trainer.seconds, trainer.sums = state["step"], state["seconds"], dict(state["sums"])
