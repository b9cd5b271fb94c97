"""`mfd train`: from a dataset folder to a run folder.

One code path for CPU and CUDA. The curve of the loss is a function of the configuration, the dataset, the thread count
and the seed; an interrupted training that is resumed gives the same numbers as one that was not.
"""

from __future__ import annotations

import os
import time
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager, nullcontext
from dataclasses import dataclass, replace
from itertools import islice
from pathlib import Path
from typing import Any, NoReturn

import numpy as np
import torch

from mfd_cli import __version__
from mfd_cli.base.errors import ConfigError, RunError
from mfd_cli.base.progress import Progress
from mfd_cli.core.device import device_of
from mfd_cli.core.metadata import sole_level_words
from mfd_cli.core.mixed_head import MixedHead
from mfd_cli.core.unseen import fill_held_out
from mfd_cli.dataset.bins import Bins
from mfd_cli.dataset.folder import Dataset
from mfd_cli.engine.checkpoint import DESCRIPTION, LAST, METRICS, STATE, WEIGHTS, check_run, hold_run, remove
from mfd_cli.engine.curve import read_curve
from mfd_cli.engine.loop import Interrupted, run_steps
from mfd_cli.engine.processes import Processes, join_processes
from mfd_cli.experiments.confounds import worst_confounds
from mfd_cli.runs.at_work import latents_of_axes
from mfd_cli.runs.batches import Batch, LabelledBins
from mfd_cli.runs.description import seen_sentence
from mfd_cli.runs.folder import Run, load_last, load_run, read_description, save_run
from mfd_cli.settings.config import Config
from mfd_cli.settings.project import Project
from mfd_cli.training.not_finite import batches_named, check_gradients
from mfd_cli.training.plan import TIMED_STEPS, FirstSteps, TrainingPlan, plan_left
from mfd_cli.training.prepare import Ready, prepare
from mfd_cli.training.record import BOARD, CURVES, Record, recording
from mfd_cli.training.resume import LastState, restore, save_state
from mfd_cli.training.setup import Trainer, outputs_of
from mfd_cli.training.start import HELD, Start, started
from mfd_cli.training.start_trunk import StartFromTrunk
from mfd_cli.training.step import draws, learn, learn_variances
from mfd_cli.training.validate import due, out_of_time, validate

Say = Callable[[str], None]
"""What takes a sentence for the person who waits."""


def train(
    project: Project,
    *,
    gpus: int | None = None,
    resume: bool = False,
    force: bool = False,
    progress: Progress | None = None,
    warn: Say | None = None,
    note: Say | None = None,
) -> Run:
    """Train a model on the project's dataset and return the best one, saved in the project's run folder.

    `gpus` None takes a CUDA device if there is one. A run that `force` replaces stays as it is until the new one has its
    first state. `note` is told what was taken of another run (`data.start_from`), where a run goes on that is resumed, and
    after the first steps the plan, with time and memory.

    Raises OutputError where a run is in the way (neither `resume` nor `force`), ConfigError or MetadataError where the
    settings do not fit the dataset, DatasetError, and Interrupted on SIGINT and SIGTERM.
    """
    with same_bits(project.config.train.deterministic):
        folder, processes = project.run, join_processes()
        device = device_of(int(torch.cuda.is_available()) if gpus is None else gpus, processes.local)
        if processes.first:
            hold_run(folder, read_description)
        else:
            progress = warn = note = None
        state = load_last(folder) if resume else None
        if processes.first and state is None:
            check_run(folder, force, resume)
        project, start = started(project, None if state is None else state[1])
        if note and state is not None:
            note(f"going on from step {state[1]['step']:,}: the dataset {project.dataset} is read and checked first")
        ready = prepare(project, device, processes, start)
        if state is not None:
            go_on(ready.trainer, folder, state, warn)
            if note:
                note(passed_over(ready.trainer))
        course = Course(ready, ready.training_bins(), ready.validation_bins(), folder, progress, note, warn)
        if note:
            say_what_is_taken(ready, note)
        if warn:
            warn_of_all(ready, start, len(course.validation), warn)
        if processes.first and ready.trainer.step == 0:
            begin_run(ready.trainer, folder, begun=state is not None)
        course.run()
        if processes.first:
            finish_run(folder, ready.dataset, device, progress)
        processes.agree(0)  # nobody leaves before the first has written
        processes.leave()
        return load_run(folder)


def plan_training(
    project: Project,
    *,
    gpus: int | None = None,
    resume: bool = False,
    force: bool = False,
    warn: Say | None = None,
    note: Say | None = None,
) -> TrainingPlan:
    """Return what `train` would do if it were called like this, and how long it would take; raises what it would raise, and
    tells `note` and `warn` what they would hear before the first step.

    Nothing is written. The first steps are taken to see how long they last; the model is then thrown away.
    """
    device = device_of(int(torch.cuda.is_available()) if gpus is None else gpus)
    state = load_last(project.run) if resume else None
    if state is None:
        check_run(project.run, force, resume)
    with same_bits(project.config.train.deterministic):
        project, start = started(project, None if state is None else state[1])
        ready = prepare(project, device, start=start)
        trainer = ready.trainer
        if state is not None:
            restore(trainer, project.run, *state)
        training, validation, first = ready.training_bins(), ready.validation_bins(), FirstSteps(device)
        if note:
            say_what_is_taken(ready, note)
        if warn:
            warn_of_all(ready, start, len(validation), warn)
        plan = plan_left(trainer, training, validation)
        with batches_named(ready.draw_of, ready.bins, ready.dataset.contigs):
            for draw in islice(draws(trainer, training.tiling), TIMED_STEPS):
                first.begin_step()
                learn(trainer, training.batch(*draw), training.counts)
                first.end_step()
                if first.enough:
                    break
        return plan.measured(first)


@dataclass
class Course:
    """A training from the trainer's present step to its end. `progress`, `note` and `warn` belong to the first process."""

    ready: Ready
    training: LabelledBins
    validation: LabelledBins
    folder: Path
    progress: Progress | None
    note: Say | None
    warn: Say | None

    def __post_init__(self) -> None:
        self.trainer = self.ready.trainer
        self.about = about_run(self.ready.dataset, self.ready.bins, self.trainer.source)
        self.first_steps, self.started = FirstSteps(self.trainer.device), 0.0
        self.record: Record | None = None
        self.plan = plan_left(self.trainer, self.training, self.validation)

    def run(self) -> None:
        """Take steps, validate where it is due, save what is needed to go on. Interrupted on a signal, at a step's end."""
        trainer, processes = self.trainer, self.trainer.processes
        # Genome and labels in the host's memory: a thread gathers the bytes of the next batches while this one is learnt.
        prefetch = trainer.config.train.memory == "host" or self.ready.home != trainer.device
        batches = self.training.stream(draws(trainer, self.training.tiling), prefetch)
        named = batches_named(self.ready.draw_of, self.ready.bins, self.ready.dataset.contigs)
        kept = recording(self.folder, trainer.config, trainer.step, self.warn) if processes.first else nullcontext()
        with kept as self.record, named:
            run_steps(self, batches)
        self._tell_plan()

    @property
    def processes(self) -> Processes:
        """Which of how many processes this is."""
        return self.trainer.processes

    def begin_step(self) -> None:
        """Set the clocks: of the training, and of its first steps."""
        self.first_steps.begin_step()
        self.started = time.monotonic()

    def learn(self, batch: Batch) -> None:
        """Take one step."""
        learn(self.trainer, batch, self.training.counts)
        self.trainer.seconds += time.monotonic() - self.started
        self._end_step()

    def _end_step(self) -> None:
        if self.note:
            self.first_steps.end_step()
            if self.first_steps.enough:
                self._tell_plan()
        if self.progress:
            self.progress("training", self.trainer.step, self.trainer.total_steps)

    def _tell_plan(self) -> None:
        """Tell the plan once: when enough steps have been timed, or at the end of a training of fewer."""
        if self.note:
            self.note(self.plan.measured(self.first_steps).line())
            self.note = None

    def validate_if_due(self) -> bool:
        """Return whether training should end, after a validation if one is due."""
        record = self.record
        trainer, done = self.trainer, out_of_time(self.trainer)
        if due(trainer) or done:
            check_gradients(trainer)
            learn_variances(trainer)
            if record is not None:
                dataset, scale = self.ready.dataset, self.ready.scale
                done |= validate(trainer, self.validation, dataset, record, scale, self.about)
            trainer.sums.clear()  # before the state is saved: the curve of a resumed training begins anew here too
            if record is not None:
                save_state(trainer, self.folder)
        return done

    def interrupt(self, number: int) -> NoReturn:
        """Save the state and raise Interrupted, after signal `number`."""
        check_gradients(self.trainer)
        if self.trainer.processes.first:
            save_state(self.trainer, self.folder)
        raise Interrupted(number, self.folder)


@contextmanager
def same_bits(wanted: bool) -> Iterator[None]:
    """Allow, inside the block, only operations that give the same bits each time; RunError where one has no such form."""
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
        message = str(error).split(".")[0]
        raise RunError(f"--deterministic: {message}", hint="train without it, or on the CPU") from error
    finally:
        torch.use_deterministic_algorithms(before)


# -- before the first step ---------------------------------------------------------------------------------------------


def begin_run(trainer: Trainer, folder: Path, begun: bool) -> None:
    """Save the state at step 0, unless the run was `begun` with it, and remove the model of a run that it replaces.

    From the moment that last/state.json is the new one's there is something to resume from. What else lies in the folder is
    the older run's: killed before that moment, a training leaves the older run whole; killed after it, a new one, whose
    resumption comes here again.
    """
    if not begun:
        # Whatever else has these two names cannot be a state to go on from, and would be in the new one's way.
        for path, is_right in ((folder / LAST, Path.is_dir), (folder / LAST / STATE, Path.is_file)):
            if not is_right(path):
                remove(path)
        save_state(trainer, folder)
    for name in (
        DESCRIPTION,
        WEIGHTS,
        METRICS,
        CURVES,
        BOARD,
    ):  # without the first there is no model
        remove(folder / name)


def passed_over(trainer: Trainer) -> str:
    """Say where a training goes on, and how many batches of its epoch are passed over because they are learnt."""
    epoch, done = divmod(trainer.step, trainer.pace.steps_per_epoch)
    return (
        f"the state is restored: step {trainer.step:,} of {trainer.total_steps:,}, epoch {epoch + 1}; the {done:,} batches of "
        "this epoch that are learnt already are passed over"
    )


def go_on(trainer: Trainer, folder: Path, state: LastState, warn: Say | None) -> None:
    """Put the trainer where the stored state left off. ConfigError or RunError where it is not this training's."""
    restore(trainer, folder, *state)
    if (folder / METRICS).exists():
        read_curve(
            folder / METRICS
        )  # a curve that nothing can be added to is told of now, not after the first validation
    then, now = state[1]["threads"], torch.get_num_threads()
    if trainer.config.train.deterministic and then != now:
        raise ConfigError(
            f"this run was started with {then} threads, now there are {now}",
            hint=f"--threads {then}, or train without --deterministic",
        )
    if warn and then != now:
        warn(f"this run was started with {then} threads: other numbers of them round differently")


def say_what_is_taken(ready: Ready, note: Say) -> None:
    """Say what is taken of another run, and which factors have one level."""
    for line in [] if ready.trainer.taken is None else ready.trainer.taken.lines():
        note(line)
    for factor, level in ready.trainer.model.metadata.sole_levels().items():
        note(sole_level_words(factor, level))


def warn_of_all(ready: Ready, start: Start | StartFromTrunk | None, validation: int, warn: Say) -> None:
    """Say all that is doubtful of a training on so many `validation` bins before it begins."""
    warn_of_seen(ready, start, warn)
    warn_of_confounds(ready, warn)
    warn_of_groups(ready.project.config, warn)
    warn_of_penalties(ready.project.config, warn)
    if not validation:
        warn("there are no validation bins: the last weights are kept, and training does not stop early")


def warn_of_seen(ready: Ready, start: Start | StartFromTrunk | None, warn: Say) -> None:
    """Say on which of the held-out bins the run was trained that the training starts from, and how to keep its split."""
    about = {"source": ready.trainer.source}
    words = start.split_words if isinstance(start, Start) else ""
    keep = f"; {words}, as that run has it, and mfd preprocess again keep them apart" if words else ""
    for sentence in filter(None, (seen_sentence(about, split) for split in HELD)):
        warn(f"{sentence}{keep}")


def warn_of_confounds(ready: Ready, warn: Say) -> None:
    """Say the worst of what the training tracks cannot tell apart, in one line; `mfd check-design` says all of it."""
    trained = ready.trainer.used.tolist()
    rows = [track.metadata for track, used in zip(outputs_of(ready.dataset), trained) if used]
    if not (confounds := worst_confounds(rows, ready.trainer.config.factors)):
        return
    others = f"; and {len(confounds) - 1} more" if len(confounds) > 1 else ""
    warn(
        f"factors go together, so their separate contributions are not to be trusted: {confounds[0]}{others} "
        "(mfd check-design says all)"
    )


def warn_of_groups(config: Config, warn: Say) -> None:
    """Say which groups are named like technique and count as biology."""
    for group in config.technical_by_name:
        warn(
            f"the group {group!r} is not set aside as technical (MFD_DEBIASED, --fix technical=average): "
            f'model.technical = ["{group}"] in mfd.toml sets it aside'
        )


def finish_run(folder: Path, dataset: Dataset, device: torch.device, progress: Progress | None = None) -> None:
    """Say in the run that its training has finished. Of a mixed head the axes are learnt along which the kept model's
    parts lie."""
    run = load_run(folder)
    run = replace(run, about={name: value for name, value in run.about.items() if name != "unfinished"})
    if isinstance(run.model.head, MixedHead):
        latents = latents_of_axes(run, dataset, device, progress)
        run.model.head.learn_axes(torch.from_numpy(latents), progress)
        fill_held_out(run.model, [track.kind for track in run.tracks])
    save_run(run)


def warn_of_penalties(config: Config, warn: Say) -> None:
    """Say where penalties are asked for that have no subspaces to keep apart; of a twin nobody expects it."""
    asked = "penalties" in config.objective.model_fields_set and config.objective.penalties
    if asked and config.model.head == "mixed" and len(config.groups) > 1 and not config.has_subspaces:
        warn(
            "objective.penalties do nothing: the groups have no latents of their own (--head conditioned gives them some)"
        )


def about_run(dataset: Dataset, bins: Bins, source: Mapping[str, Any] | None) -> dict[str, Any]:
    """Return what a model must remember of the data it was made from, and of the run that it started from, if it did."""
    started_from = {} if source is None else {"source": source}
    return started_from | {
        "mfd_version": __version__,
        "genome_digest": dataset.manifest["genome_digest"],
        "dataset_digest": dataset.digest,
        "contigs": dataset.genome.lengths,
        "trained_on": [dataset.contigs[index] for index in np.unique(bins.contig)],
        "training_bins": len(bins),
    }
