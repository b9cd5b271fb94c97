"""`mfd contig train`: an image encoder that learns to tell whose genetic data belong to a picture.

One AdamW for everything, a rate that rises and falls over the steps, a running average of the weights that is validated and
saved. The control `shuffled` is the same training on permuted pairs; `random` is the network before it.
"""

from __future__ import annotations

import math
import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any, NoReturn

import numpy as np
import torch
from torch import Tensor

from mfd_cli.base.arrays import Doubles
from mfd_cli.base.errors import ConfigError, RunError
from mfd_cli.base.progress import Progress
from mfd_cli.contig.batches import (
    CHANGE,
    Batch,
    People,
    fixed_batches,
    kept_inputs,
    size_of,
    training_batches,
)
from mfd_cli.contig.config import ContigConfig, ContigProject
from mfd_cli.contig.core.augment import Change, changed
from mfd_cli.contig.core.contrast import contrast
from mfd_cli.contig.core.networks import ContigModel
from mfd_cli.contig.core.ranks import measures, ranks
from mfd_cli.contig.data.cohort import Cohort, open_cohort
from mfd_cli.contig.run import (
    AGAIN,
    GO_ON,
    ContigRun,
    State,
    built,
    load_run,
    named_variants,
    read_description,
    salted,
    save_run,
)
from mfd_cli.core.device import device_of
from mfd_cli.core.finite import Later, any_not_finite
from mfd_cli.core.schedule import follow, rate
from mfd_cli.engine.checkpoint import (
    DESCRIPTION,
    METRICS,
    WEIGHTS,
    check_run,
    hold_run,
    load_last,
    remove,
    save_last,
)
from mfd_cli.engine.curve import add_to_curve
from mfd_cli.engine.loop import Interrupted, run_steps
from mfd_cli.engine.optimiser_state import moments, only, prefixed, set_moments
from mfd_cli.engine.processes import ALONE, Processes
from mfd_cli.engine.same_plan import check_plan

Say = Callable[[str], None]
START_ANEW = "mfd contig train --force starts anew"
LENGTH = ("train.epochs",)
"""Settings that may change when a training goes on."""
CALMER = "lower train.lr; the best weights so far are kept"
SETTLING = 20
"""Training batches from which an untrained network gets the statistics of its norms."""
COUNTED = ("step", "persons")
"""What every line of metrics.jsonl counts."""


@dataclass
class Best:
    """The best validation so far: skill and its standard error (nats), when, and how many were worse since."""

    skill: float = -math.inf
    error: float = 0.0
    step: int = 0
    without_improvement: int = 0


@dataclass
class Trainer:
    """Everything that moves while an encoder is trained."""

    config: ContigConfig
    cohort: Cohort
    training: People
    validation: People
    model: ContigModel
    average: ContigModel
    optimiser: torch.optim.Optimizer
    device: torch.device
    total_steps: int
    control: str = ""
    step: int = 0
    seconds: float = 0.0
    best: Best = field(default_factory=Best)
    sums: dict[str, float] = field(default_factory=dict)
    doubt: Later | None = None


def train(
    project: ContigProject,
    *,
    control: str = "",
    gpus: int | None = None,
    resume: bool = False,
    force: bool = False,
    progress: Progress | None = None,
    warn: Say | None = None,
    note: Say | None = None,
) -> ContigRun:
    """Train an encoder on a project's cohort and return the best one, saved in the run folder; of a control, in
    `control-NAME` inside of it.

    Raises OutputError where a run is in the way, ConfigError where the settings do not fit the cohort, CohortError, and
    Interrupted on SIGINT and SIGTERM.
    """
    folder = folder_of(project, control)
    device = device_of(int(torch.cuda.is_available()) if gpus is None else gpus)
    hold_run(folder, read_description)
    state = load_last(folder, State, START_ANEW) if resume else None
    if state is None:
        check_run(folder, force, resume)
    trainer = set_up(project.config, open_cohort(project.cohort), device, control)
    if control == "random":
        return untrained(trainer, folder)
    if state is not None:
        go_on(trainer, folder, *state)
        if note:
            note(f"going on from step {trainer.step:,} of {trainer.total_steps:,}")
    else:
        begin(trainer, folder)
    course = Course(trainer, folder, progress)
    run_steps(course, training_batches(trainer.config, trainer.training, trainer.step, trainer.total_steps))
    run = load_run(folder)
    save_run(replace(run, about={name: value for name, value in run.about.items() if name != "unfinished"}))
    if warn and not control and not run.learned:
        warn(not_learned(run))
    return load_run(folder)


def trained_to_its_end(project: ContigProject, control: str) -> ContigRun | None:
    """Return a run, or a control beside it, that has been trained to the end that the project's settings ask for; None where
    there is none."""
    folder = folder_of(project, control)
    if not (folder / DESCRIPTION).exists():
        return None
    run = load_run(folder)
    longer = project.config.train.epochs != run.config.train.epochs
    return None if run.about.get("unfinished") or longer else run


def folder_of(project: ContigProject, control: str) -> Path:
    """Return where a run is kept, or a control beside it."""
    return project.run / f"control-{control}" if control else project.run


def not_learned(run: ContigRun) -> str:
    """Say that a model found nothing that holds for new persons."""
    skill, error = run.about["skill"]
    return (
        f"learnt nothing that holds for new persons: the skill on validation persons is {skill:.3f} +- {error:.3f} nats"
    )


def set_up(config: ContigConfig, cohort: Cohort, device: torch.device, control: str = "") -> Trainer:
    """Return a trainer at step 0. ConfigError where the settings do not fit the cohort."""
    if set(config.modalities) != set(cohort.columns):
        raise ConfigError(
            f"the cohort has the modalities {', '.join(cohort.columns)}, not {', '.join(config.modalities)}",
            hint="run mfd contig prepare again",
        )
    seed = config.train.seed
    shuffled = seed if control == "shuffled" else None
    training, validation = (People.of(cohort, split, shuffled) for split in ("train", "validation"))
    inputs = {name: len(columns) for name, columns in cohort.columns.items()}
    torch.manual_seed(seed)
    model = built(config, inputs)
    model.pixel_mean.copy_(torch.tensor(cohort.manifest["pixel_mean"]))
    model.pixel_scale.copy_(torch.tensor(cohort.manifest["pixel_scale"]))
    average = built(config, inputs).to(device).eval()
    average.load_state_dict(model.state_dict())
    average.requires_grad_(False)
    model = model.to(device)
    per_epoch = len(training) // size_of(config, len(training))
    optimiser = torch.optim.AdamW(
        parameter_groups(model, config), lr=config.train.lr, fused=device.type in ("cpu", "cuda")
    )
    total = config.train.epochs * per_epoch
    return Trainer(config, cohort, training, validation, model, average, optimiser, device, total, control)


def parameter_groups(model: ContigModel, config: ContigConfig) -> list[dict[str, Any]]:
    """Return what decays, and how much: matrices of the image side as `train.weight_decay`, those of an encoder as its modality
    says; biases, norms and temperatures do not."""
    decays: dict[float, list[Tensor]] = {0.0: []}
    for name, parameter in model.named_parameters():
        side, *rest = name.split(".")
        decay = 0.0
        if parameter.ndim > 1:
            decay = config.modalities[rest[0]].decay if side == "encoders" else config.train.weight_decay
        decays.setdefault(decay, []).append(parameter)
    return [{"params": parameters, "weight_decay": decay} for decay, parameters in decays.items()]


# -- a step ----------------------------------------------------------------------------------------------------------------


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
    family = batch.family.to(device)
    owner = torch.arange(len(feature), device=device)
    for number, (name, modality) in enumerate(config.modalities.items()):
        inputs = batch.inputs[name].to(device)
        kept = kept_inputs(config, trainer.step, name, number, tuple(inputs.shape))
        inputs = inputs if kept is None else inputs * kept.to(device)
        z, u = model.image_projection(name, feature), model.person_projection(name, inputs)
        temperature = model.temperature(name, config.objective.least_temperature)
        if not config.objective.learn_temperature:
            temperature = temperature.detach()
        one = contrast(z, u, owner, family, temperature, config.objective.alpha)
        total, chance, weights = (
            total + modality.weight * one.loss,
            chance + modality.weight * one.chance,
            weights + modality.weight,
        )
    total, chance = total / max(weights, 1e-12), chance / max(weights, 1e-12)
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
    follow(trainer.average, model, trainer.step)
    for name, value in (("loss", total.detach()), ("chance", chance), ("steps", torch.ones(()))):
        trainer.sums[name] = trainer.sums.get(name, 0.0) + float(value)
    trainer.step += 1


def check_gradients(trainer: Trainer) -> None:
    """Raise RunError where the gradient of the step before was not finite."""
    if trainer.doubt is not None and trainer.doubt.value():
        raise RunError(f"the gradient is not finite at step {trainer.step - 1}", hint=CALMER)


# -- validation --------------------------------------------------------------------------------------------------------------


@torch.no_grad()
def skill_of(trainer: Trainer) -> tuple[float, float]:
    """Return the skill (nats) of the averaged model on validation persons and its standard error over families.

    Of each modality the mean of both directions, as the loss weighs them; in batches as large as in training.
    """
    config, model = trainer.config, trainer.average
    model.eval()
    skills: list[Doubles] = []
    families: list[Any] = []
    weights = sum(modality.weight for modality in config.modalities.values()) or 1.0
    for _, batch in fixed_batches(config, trainer.validation, config.train.validation_persons):
        feature = model.feature(model.standardised(batch.pictures.to(trainer.device)))
        family = batch.family.numpy()
        total = np.zeros(len(family))
        for name, modality in config.modalities.items():
            z = model.image_projection(name, feature)
            u = model.person_projection(name, batch.inputs[name].to(trainer.device))
            table = z @ u.T / model.temperature(name, config.objective.least_temperature)
            both = [measures(ranks(each, family))["skill"] for each in (table, table.T)]
            total += (
                modality.weight / weights * (config.objective.alpha * both[0] + (1 - config.objective.alpha) * both[1])
            )
        skills.append(total)
        families.append(family)
    return mean_over_families(np.concatenate(skills), np.concatenate(families))


def mean_over_families(values: Doubles, family: Any) -> tuple[float, float]:
    """Return the mean of values (persons,) and its standard error, with persons of a family as one unit."""
    _, which = np.unique(family, return_inverse=True)
    sums, counts = np.bincount(which, values), np.bincount(which)
    mean = values.mean()
    units = len(sums)
    residual = sums - mean * counts
    return float(mean), float(np.sqrt((residual**2).sum() * units / max(units - 1, 1)) / counts.sum())


@dataclass
class Course:
    """A training from the trainer's present step to its end."""

    trainer: Trainer
    folder: Path
    progress: Progress | None
    processes: Processes = ALONE
    started: float = 0.0

    def begin_step(self) -> None:
        """Set the clock."""
        self.started = time.monotonic()

    def learn(self, batch: Batch) -> None:
        """Take one step."""
        learn(self.trainer, batch)
        self.trainer.seconds += time.monotonic() - self.started
        if self.progress:
            self.progress("training", self.trainer.step, self.trainer.total_steps)

    def validate_if_due(self) -> bool:
        """Return whether training should end, after a validation at the end of each epoch."""
        trainer = self.trainer
        limit = trainer.config.train.max_minutes
        late = limit is not None and trainer.seconds > 60 * limit
        per_epoch = trainer.total_steps // trainer.config.train.epochs
        if trainer.step % per_epoch and not late:
            return False
        check_gradients(trainer)
        skill, error = skill_of(trainer)
        self._record(skill)
        best = trainer.best
        if skill > best.skill:
            trainer.best = Best(skill, error, trainer.step)
            save_run(described(trainer, self.folder))
        else:
            best.without_improvement += 1
        trainer.sums.clear()
        save_state(trainer, self.folder)
        return late or trainer.best.without_improvement >= trainer.config.train.patience

    def interrupt(self, number: int) -> NoReturn:
        """Save the state and raise Interrupted, after signal `number`."""
        check_gradients(self.trainer)
        save_state(self.trainer, self.folder)
        raise Interrupted(number, self.folder, "mfd contig train")

    def _record(self, skill: float) -> None:
        """Add a line to metrics.jsonl."""
        trainer = self.trainer
        steps = max(trainer.sums.get("steps", 0.0), 1.0)
        temperatures = {
            f"temperature {name}": float(trainer.average.temperature(name, trainer.config.objective.least_temperature))
            for name in trainer.config.modalities
        }
        line = {
            "step": trainer.step,
            "persons": trainer.step * size_of(trainer.config, len(trainer.training)),
            "seconds": round(trainer.seconds, 2),
            "training loss": trainer.sums.get("loss", 0.0) / steps,
            "training skill": (trainer.sums.get("chance", 0.0) - trainer.sums.get("loss", 0.0)) / steps,
            "validation skill": skill,
            **temperatures,
        }
        add_to_curve(self.folder / METRICS, line, COUNTED)


# -- the run folder --------------------------------------------------------------------------------------------------------


def described(trainer: Trainer, folder: Path, unfinished: bool = True) -> ContigRun:
    """Return the averaged model as a run."""
    people = trainer.cohort.people
    salt = trainer.cohort.digest  # the same training gives the same bytes
    trained = [people.persons[place] for place in trainer.training.share.persons.tolist()]
    best = trainer.best
    about: dict[str, Any] = {
        "cohort_digest": trainer.cohort.digest,
        "control": trainer.control,
        "step": trainer.step,
        "skill": [best.skill if math.isfinite(best.skill) else 0.0, best.error],
        "learned": best.skill > 2 * best.error,
    }
    if unfinished:
        about["unfinished"] = True
    return ContigRun(
        folder,
        trainer.config,
        trainer.average,
        {name: len(columns) for name, columns in trainer.cohort.columns.items()},
        named_variants(trainer.cohort),
        frozenset(salted(salt, person) for person in trained) if trainer.control != "random" else frozenset(),
        salt,
        about,
    )


def untrained(trainer: Trainer, folder: Path) -> ContigRun:
    """Save the network before any training as the control `random`: only its norms have seen training pictures."""
    trainer.model.train()
    batches = training_batches(trainer.config, trainer.training, 0, max(trainer.total_steps, SETTLING))
    with torch.no_grad():
        for _, batch in zip(range(SETTLING), batches):
            trainer.model.feature(trainer.model.standardised(batch.pictures.to(trainer.device)))
            for name, inputs in batch.inputs.items():
                trainer.model.person_projection(name, inputs.to(trainer.device))
    trainer.average.load_state_dict(trainer.model.state_dict())
    skill, error = skill_of(trainer)
    trainer.best = Best(skill, error)
    clear(folder)
    save_run(described(trainer, folder, unfinished=False))
    return load_run(folder)


def begin(trainer: Trainer, folder: Path) -> None:
    """Save the state at step 0, and remove the model of a run that is replaced."""
    save_state(trainer, folder)
    clear(folder)


def clear(folder: Path) -> None:
    """Remove the model of a run that is replaced."""
    for name in (DESCRIPTION, WEIGHTS, METRICS):  # without the first there is no model
        remove(folder / name)


def plan_of(config: ContigConfig) -> dict[str, Any]:
    """Return what makes a training what it is: everything but paths, the clock, and what other commands do."""
    plan = config.model_dump(mode="json", include={"modalities", "model", "objective", "train"})
    plan["train"].pop("max_minutes")
    return plan


def save_state(trainer: Trainer, folder: Path) -> None:
    """Save everything needed to go on exactly: weights, their average, the optimiser's state, counters."""
    tensors = {
        **prefixed("model", trainer.model.state_dict()),
        **prefixed("average", trainer.average.state_dict()),
        **prefixed("optimiser", moments(trainer.optimiser)),
    }
    best = trainer.best
    known = math.isfinite(best.skill)
    state = {
        "step": trainer.step,
        "total_steps": trainer.total_steps,
        "seconds": trainer.seconds,
        "sums": dict(trainer.sums),
        "best": [best.skill if known else None, best.error, float(best.step), float(best.without_improvement)],
        "threads": torch.get_num_threads(),
        "plan": plan_of(trainer.config),
        "cohort": trainer.cohort.digest,
    }
    folder.mkdir(parents=True, exist_ok=True)
    folder.chmod(0o700)
    save_last(folder, tensors, state)


def go_on(trainer: Trainer, folder: Path, tensors: Mapping[str, Tensor], state: Mapping[str, Any]) -> None:
    """Put a trainer back to where `save_state` left off. ConfigError where the plan has changed, RunError where the cohort
    has."""
    may_change = f"set them as they were, or --force starts anew; {', '.join(LENGTH)} may change"
    check_plan(state["plan"], plan_of(trainer.config), folder, LENGTH, may_change)
    if state["cohort"] != trainer.cohort.digest:
        raise RunError("was trained on another cohort than the project has now", path=folder, hint=START_ANEW)
    if state["step"] > trainer.total_steps:
        message = f"is at step {state['step']:,}, beyond the {trainer.total_steps:,} steps of this training"
        raise ConfigError(message, path=folder, hint="a larger train.epochs goes on with it")
    try:
        trainer.model.load_state_dict(only("model", tensors))
        trainer.average.load_state_dict(only("average", tensors))
        set_moments(trainer.optimiser, only("optimiser", tensors))
    except (RuntimeError, ValueError, KeyError) as error:
        raise RunError("has a state that is not this network's", path=folder, hint=AGAIN) from error
    skill, error_of, step, waited = state["best"]
    trainer.best = Best(-math.inf if skill is None else skill, error_of or 0.0, int(step or 0), int(waited or 0))
    trainer.step, trainer.seconds, trainer.sums = state["step"], state["seconds"], dict(state["sums"])


def check_finished(run: ContigRun, warn: Say | None) -> None:
    """Warn where a run's training goes on, and where it learnt nothing."""
    if warn and run.about.get("unfinished"):
        warn(f"the training of {run.path} has not finished; {GO_ON}")
    if warn and not run.control and not run.learned:
        warn(f"{run.path} {not_learned(run)}")
