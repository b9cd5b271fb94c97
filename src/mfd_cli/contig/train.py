"""`mfd contig train`: an image encoder that learns to tell whose genetic data belong to a picture.

One AdamW for everything, a rate that rises and falls over the steps, a running average of the weights that is validated and
saved. The control `shuffled` is the same training on permuted pairs; `random` is the network before it; `simclr` and
`simclr-eyes` are trainings of the same network on pictures alone.
"""

from __future__ import annotations

import math
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any, NoReturn

import torch

from mfd_cli.base.errors import ConfigError
from mfd_cli.base.progress import Progress
from mfd_cli.contig.batches import (
    Batch,
    size_of,
    training_batches,
)
from mfd_cli.contig.config import ContigProject
from mfd_cli.contig.data.cohort import open_cohort
from mfd_cli.contig.learn import learn
from mfd_cli.contig.objectives.objectives import OBJECTIVES
from mfd_cli.contig.resume import START_ANEW, go_on, save_state
from mfd_cli.contig.run import (
    GO_ON,
    ContigRun,
    State,
    inputs_of,
    load_run,
    named_inputs,
    read_description,
    salted,
    save_run,
)
from mfd_cli.contig.skill import skill_of
from mfd_cli.contig.step import check_gradients
from mfd_cli.contig.trainer import Best, Trainer, set_up
from mfd_cli.contig.training_labels import training_labels
from mfd_cli.core.device import device_of
from mfd_cli.engine.checkpoint import (
    DESCRIPTION,
    METRICS,
    WEIGHTS,
    check_run,
    hold_run,
    load_last,
    remove,
)
from mfd_cli.engine.curve import add_to_curve
from mfd_cli.engine.loop import Interrupted, run_steps
from mfd_cli.engine.processes import ALONE, Processes

Say = Callable[[str], None]
SETTLING = 20
"""Training batches from which an untrained network gets the statistics of its norms."""
COUNTED = ("step", "persons")
"""What every line of metrics.jsonl counts."""


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
    project, folder = as_control(project, control), folder_of(project, control)
    device = device_of(int(torch.cuda.is_available()) if gpus is None else gpus)
    hold_run(folder, read_description)
    state = load_last(folder, State, START_ANEW) if resume else None
    if state is None:
        check_run(folder, force, resume)
    cohort = open_cohort(project.cohort)
    trainer = set_up(project.config, cohort, device, control, training_labels(project, cohort, control))
    OBJECTIVES[project.config.objective.kind].check(trainer)
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
    there is none. Its name is held: what a killed training left beside it is removed."""
    folder = folder_of(project, control)
    if not (folder / DESCRIPTION).exists():
        return None
    hold_run(folder, read_description)
    run = load_run(folder)
    longer = project.config.train.epochs != run.config.train.epochs
    return None if run.about.get("unfinished") or longer else run


def as_control(project: ContigProject, control: str) -> ContigProject:
    """Return a project with the objective that a control has. ConfigError where a control says nothing beside the project's."""
    kind = project.config.objective.kind
    if control == kind:
        raise ConfigError(f"the control {control} is what objective.kind says already", hint="name other controls")
    if control == "shuffled" and kind in ("simclr", "simclr-eyes"):
        raise ConfigError(
            f"objective.kind is {kind}, which has no pairs of pictures and something else that could be permuted",
            hint="--controls random",
        )
    if control not in OBJECTIVES:
        return project
    objective = project.config.objective.model_copy(update={"kind": control})
    return project.model_copy(update={"config": project.config.model_copy(update={"objective": objective})})


def check_controls(project: ContigProject, controls: Sequence[str]) -> None:
    """Raise, before any training, what the trainings of these controls would raise: ConfigError and its like."""
    for control in controls:
        own = as_control(project, control)
        if own is not project:
            trainer = set_up(own.config, open_cohort(own.cohort, verify=False), torch.device("cpu"), control)
            OBJECTIVES[own.config.objective.kind].check(trainer)


def folder_of(project: ContigProject, control: str) -> Path:
    """Return where a run is kept, or a control beside it."""
    return project.run / f"control-{control}" if control else project.run


def not_learned(run: ContigRun) -> str:
    """Say that a model found nothing that holds for new persons."""
    skill, error = run.about["skill"]
    return (
        f"learnt nothing that holds for new persons: the skill on validation persons is {skill:.3f} +- {error:.3f} nats"
    )


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
            for name in trainer.average.log_temperature
        }
        line = {
            "step": trainer.step,
            "persons": trainer.step * size_of(trainer.config, len(trainer.training)),
            "seconds": round(trainer.seconds, 2),
            "training loss": trainer.sums.get("loss", 0.0) / steps,
            "training skill": (trainer.sums.get("chance", 0.0) - trainer.sums.get("loss", 0.0)) / steps,
            "validation skill": skill,
            **({"technical loss": trainer.sums.get("technical", 0.0) / steps} if trainer.technical else {}),
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
        inputs_of(trainer.config, trainer.cohort),
        named_inputs(trainer.cohort) if trainer.config.objective.genetic else {},
        frozenset(salted(salt, person) for person in trained) if trainer.control != "random" else frozenset(),
        salt,
        about,
        trainer.factors,
        trainer.labels.columns if trainer.labels else (),
    )


def untrained(trainer: Trainer, folder: Path) -> ContigRun:
    """Save the network before any training as the control `random`: only its norms have seen training pictures."""
    trainer.model.train()
    batches = training_batches(trainer.config, trainer.training, 0, max(trainer.total_steps, SETTLING))
    with torch.no_grad():
        for _, batch in zip(range(SETTLING), batches):
            trainer.model.feature(trainer.model.standardised(batch.pictures.to(trainer.device)))
            for name in trainer.model.encoders:
                if len(batch.inputs[name]) < 2:
                    continue  # a norm needs two persons
                trainer.model.person_projection(name, batch.inputs[name].to(trainer.device))
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


def check_finished(run: ContigRun, warn: Say | None) -> None:
    """Warn where a run's training goes on, and where it learnt nothing."""
    if warn and run.about.get("unfinished"):
        warn(f"the training of {run.path} has not finished; {GO_ON}")
    if warn and not run.control and not run.learned:
        warn(f"{run.path} {not_learned(run)}")
