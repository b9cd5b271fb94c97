"""`mfd train`: from a dataset folder to a run folder.

One code path for CPU and CUDA. The curve of the loss is a function of the configuration, the dataset, the thread count
and the seed; an interrupted training that is resumed gives the same numbers as one that was not.
"""

from __future__ import annotations

import os
import shutil
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import numpy as np
import torch

from mfd_cli import __version__
from mfd_cli.base.errors import ConfigError, OutputError, RunError
from mfd_cli.base.locks import claim, tidy_inside
from mfd_cli.base.os_signals import stop_signals
from mfd_cli.base.progress import Progress
from mfd_cli.core.device import device_of
from mfd_cli.dataset.folder import Bins, Dataset
from mfd_cli.engine.processes import join
from mfd_cli.experiments.confounds import worst_confounds
from mfd_cli.runs.batches import Draw
from mfd_cli.runs.folder import DESCRIPTION, LAST, METRICS, WEIGHTS, Run, finish_publishing, load_last, load_run
from mfd_cli.settings.project import Project
from mfd_cli.training.not_finite import batches_named, check_gradients
from mfd_cli.training.plan import Plan, plan_of, prepare
from mfd_cli.training.resume import Interrupted, restore, save_state
from mfd_cli.training.setup import outputs_of
from mfd_cli.training.step import draws, learn
from mfd_cli.training.validate import due, out_of_time, validate


def train(
    project: Project,
    *,
    gpus: int | None = None,
    resume: bool = False,
    force: bool = False,
    progress: Progress | None = None,
    warn: Callable[[str], None] | None = None,
    note: Callable[[str], None] | None = None,
) -> Run:
    """Train a model on the project's dataset and return the best one, saved in the project's run folder.

    `gpus` None takes a CUDA device if there is one. Raises OutputError where a run is in the way (neither `resume` nor
    `force`), ConfigError or MetadataError where the settings do not fit the dataset, Interrupted on SIGINT and SIGTERM.
    """
    with same_bits(project.config.train.deterministic):
        return _train(project, gpus, resume, force, progress, warn, note)


def plan(project: Project, *, gpus: int | None = None, resume: bool = False, force: bool = False) -> Plan:
    """What `train` would do if it were called like this, and how long it would take. Nothing is written; raises the same."""
    device = device_of(int(torch.cuda.is_available()) if gpus is None else gpus)
    stored = load_last(project.run) if resume else None
    if stored is None:
        check_run(project.run, force, resume)
    ready = prepare(project, device)
    if stored is not None:
        restore(ready.trainer, project.run, *stored)
    with same_bits(project.config.train.deterministic):
        return plan_of(ready.trainer, ready.training_bins(), ready.validation_bins())


def _train(
    project: Project,
    gpus: int | None,
    resume: bool,
    force: bool,
    progress: Progress | None,
    warn: Callable[[str], None] | None,
    note: Callable[[str], None] | None,
) -> Run:
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
    ready = prepare(project, device, processes)
    trainer, dataset, bins = ready.trainer, ready.dataset, ready.bins
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
        kept = [track.metadata for track, used in zip(outputs_of(dataset), trainer.used.tolist()) if used]
        for sentence in worst_confounds(kept, config.factors):
            warn(f"{sentence}: their separate contributions are not to be trusted (mfd check-design)")
    training, validation = ready.training_bins(), ready.validation_bins()
    if not len(validation) and warn:
        warn("there are no validation bins: the last weights are kept, and training does not stop early")
    about = about_run(dataset, bins)

    def draw_of(step: int) -> Draw:
        return next(draws(trainer, len(bins), step))

    if note:
        with batches_named(draw_of, bins, dataset.contigs):  # a few steps of a copy are taken
            note(plan_of(trainer, training, validation).line())
    with stop_signals() as stopped, batches_named(draw_of, bins, dataset.contigs):
        prefetch, started = config.train.memory == "host" or ready.home != device, time.monotonic()
        for batch in training.stream(draws(trainer, len(training)), prefetch):
            learn(trainer, batch, training.counts)
            trainer.seconds += time.monotonic() - started
            if progress:
                progress("training", trainer.step, trainer.total_steps)
            done = out_of_time(trainer)
            if due(trainer, len(training)) or done:
                check_gradients(trainer)
                if processes.first:
                    done |= validate(trainer, validation, dataset, folder, ready.scale, about)
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


def check_run(folder: Path, force: bool, resume: bool = False) -> None:
    """OutputError where there is a run already and `force` is not set. What a training left that was killed before its first
    state was whole is no run: `resume` begins again."""
    model = (folder / DESCRIPTION).exists() or (folder / WEIGHTS).exists()
    if not force and any((folder / name).exists() for name in _OURS) and (model or not resume):
        if resume:
            told = "holds a run already, and no state (last/state.json) to resume it from"
            raise OutputError(told, path=folder, hint="--force starts anew")
        raise OutputError("holds a run already", path=folder, hint="--resume goes on with it, --force replaces it")


def clear_run(folder: Path, force: bool, resume: bool = False) -> None:
    """Make room for a new run; OutputError as `check_run` has it."""
    check_run(folder, force, resume)
    for path in (folder / name for name in _OURS):
        if path.is_dir():
            shutil.rmtree(path)
        else:
            path.unlink(missing_ok=True)


_OURS = (DESCRIPTION, LAST, METRICS, WEIGHTS)
"""The description first: without it there is no model in the folder, whatever else a kill may leave."""


def about_run(dataset: Dataset, bins: Bins) -> dict[str, Any]:
    """What a model must remember of the data it was made from."""
    return {
        "mfd_version": __version__,
        "genome_digest": dataset.manifest["genome_digest"],
        "dataset_digest": dataset.digest,
        "contigs": dataset.genome.lengths,
        "trained_on": [dataset.contigs[index] for index in np.unique(bins.contig)],
        "training_bins": len(bins),
    }
