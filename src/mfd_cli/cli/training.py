"""mfd train, one run, several seeds, or a sweep."""

from __future__ import annotations

import os
import sys
from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from mfd_cli.base.errors import ConfigError, OutputError
from mfd_cli.cli.completion import runs, words
from mfd_cli.cli.shared import (
    ConfigFile,
    DatasetFolder,
    DryRun,
    Force,
    Gpus,
    Json,
    Quiet,
    RunFolder,
    Seed,
    Sets,
    Threads,
    fields_of,
    load,
    opened,
    process_number,
    say_all,
    say_json,
    say_result,
    set_threads,
)

if TYPE_CHECKING:
    from mfd_cli.settings.project import Project


def train_command(
    config: ConfigFile = None,
    sets: Sets = None,
    gpus: Gpus = None,
    dataset: DatasetFolder = None,
    run: RunFolder = None,
    start_from: Annotated[
        Path | None,
        typer.Option("--from", metavar="RUN", help="Start from another run's backbone.", autocompletion=runs),
    ] = None,
    epochs: Annotated[int | None, typer.Option("--epochs", min=1)] = None,
    seed: Seed = None,
    head: Annotated[
        str | None,
        typer.Option(
            "--head",
            help="conditioned, mixed, or free for the twin.",
            autocompletion=words("conditioned", "mixed", "free"),
        ),
    ] = None,
    deterministic: Annotated[
        bool, typer.Option("--deterministic", help="Only operations that give the same bits each time (GPU: slower).")
    ] = False,
    resume: Annotated[bool, typer.Option("--resume", help="Go on where an interrupted training stopped.")] = False,
    sweep: Annotated[
        str | None, typer.Option("--sweep", metavar="A.B=V1,V2", help="Train per value and seed; recommend one.")
    ] = None,
    seeds: Annotated[
        str | None, typer.Option("--seeds", help="Train one run per seed, such as 1,2,3, in RUN/seed-N.")
    ] = None,
    tolerance: Annotated[
        float, typer.Option("--tolerance", min=0, help="AUROC that the recommended value may lose.")
    ] = 0.003,
    threads: Threads = None,
    force: Force = False,
    dry_run: DryRun = False,
    quiet: Quiet = False,
    as_json: Json = False,
) -> None:
    """Train a model on the dataset; the best weights are in the run folder at any time.

    With --json: an object for the run, with --seeds a list of them."""
    from mfd_cli.cli.console import Display, note, warn
    from mfd_cli.engine.checkpoint import METRICS
    from mfd_cli.training.length import gain_line
    from mfd_cli.training.train import plan_training, train
    from mfd_cli.training.validate import SELECTION

    flags = {
        "data.dataset": dataset,
        "data.run": run,
        "data.start_from": start_from,
        "train.epochs": epochs,
        "train.seed": seed,
        "model.head": head,
        "train.deterministic": deterministic or None,
    }
    project = load(config, sets, flags)
    several = int(os.environ.get("WORLD_SIZE", "1")) > 1
    if sweep is not None and (several or (gpus or 0) > 1):
        raise ConfigError("the trainings of a sweep use one GPU each", hint="--gpus 1")
    if dry_run and sweep is not None:
        raise ConfigError("--dry-run is for one training", hint="without --sweep; times the number of its trainings")
    if dry_run and (gpus or 0) > 1:
        raise ConfigError(
            "--dry-run measures on one GPU", hint="--gpus 1; with more the time is divided by little less"
        )
    if (gpus or 0) > 1 and not several:
        from mfd_cli.core.device import device_of
        from mfd_cli.engine.processes import launch

        device_of(gpus or 0)  # says so where there are not as many
        raise typer.Exit(launch(gpus or 0, sys.argv[1:]))
    set_threads(threads)
    if sweep is not None:
        _sweep(project, sweep, seeds, tolerance, gpus, resume, force, quiet, as_json, _overrides(sets, flags))
        return
    results: list[dict[str, Any]] = []
    for one in _seeded(project, seeds, several, _overrides(sets, flags)):
        if dry_run:
            plan = plan_training(one, gpus=gpus, resume=resume, force=force, warn=warn, note=None if quiet else note)
            results.append({"folder": one.run, **fields_of(plan)})
            say_all([] if as_json else [f"{one.run}: {plan.line()}"])
            continue
        with Display(quiet) as display:
            trained = train(
                one, gpus=gpus, resume=resume, force=force, progress=display, warn=warn, note=None if quiet else note
            )
        if process_number():  # of several processes, the first one speaks
            continue
        best, gain = trained.about["validation"], gain_line(trained.path / METRICS)
        results.append(
            {
                "folder": trained.path,
                "windows": trained.about["windows"],
                "validation": best,
                "weights_sha256": trained.digest,
                "gain": gain,
            }
        )
        if as_json:
            continue
        figures = ", ".join(
            f"{name} {best[name]:.4f}"
            for name in ("auroc_median", "auroc_occupied_mean", "auprc_mean", "loss")
            if name in best
        )
        best_line = f"best validation, after {trained.about['windows']:,} windows: {figures}"
        rated = (
            "auroc_mean" in best or "pearson_mean" in best
        )  # otherwise the loss chose, or there is nothing to choose by
        chosen = [f"chosen by its skill, {best['skill']:.4f}: {SELECTION}"] if rated else []
        say_all([f"run: {trained.path}", best_line, *chosen, *([gain] if gain else [])])
    if as_json and not process_number():
        say_json(results[0] if seeds is None else results)


def add_tracks_command(
    output: Annotated[Path, typer.Argument(metavar="NEW_RUN", help="Run folder to write.")],
    config: ConfigFile = None,
    sets: Sets = None,
    gpus: Gpus = None,
    dataset: DatasetFolder = None,
    run: RunFolder = None,
    ridge: Annotated[
        float | None,
        typer.Option("--ridge", min=0, help="Penalty of a free head's rows [default: the best on validation bins]."),
    ] = None,
    bins: Annotated[int, typer.Option("--bins", min=1, help="Most training bins that rows are fitted on.")] = 500_000,
    threads: Threads = None,
    force: Force = False,
    quiet: Quiet = False,
    as_json: Json = False,
) -> None:
    """Add the dataset's new tracks to a run in minutes; its own stay as they are, to the last bit.

    Writes NEW_RUN, a run with both. Only the new tracks' output weights are fitted, on the run's backbone as it is."""
    from mfd_cli.cli.console import Display
    from mfd_cli.training.add_tracks import add_tracks

    ready = opened(config, sets, dataset, run, threads, gpus)
    with Display(quiet) as display:
        result = add_tracks(
            ready.project,
            ready.run,
            output,
            device=ready.device,
            ridge=ridge,
            most_bins=bins,
            force=force,
            progress=display,
        )
    say_result(result, as_json)


def _seeded(project: Project, seeds: str | None, several: bool, overrides: list[str]) -> list[Project]:
    """The project, or one per seed with its run in RUN/seed-N."""
    from mfd_cli.engine.checkpoint import DESCRIPTION
    from mfd_cli.settings.project import load_project

    if seeds is None:
        return [project]
    if several:
        raise ConfigError("--seeds trains one after the other with one process", hint="--gpus 1, or --seed N for each")
    numbers = _seed_numbers(seeds)
    if (project.run / DESCRIPTION).exists():
        raise OutputError(
            "holds a run already, which would hide those of several seeds beside it",
            path=project.run,
            hint="--run FOLDER trains the seeds into another folder",
        )
    result = []
    for seed in numbers:
        flags = {"data.dataset": project.dataset, "data.run": project.run / f"seed-{seed}", "train.seed": seed}
        result.append(load_project(project.file, overrides, flags))
    return result


def _seed_numbers(seeds: str) -> list[int]:
    """`1,2,3` as numbers."""
    parts = [part.strip() for part in seeds.split(",")]
    if not all(part.isdigit() for part in parts) or len(set(parts)) < len(parts):
        raise ConfigError(f"--seeds {seeds}: expected different whole numbers with commas, such as 1,2,3")
    return [int(part) for part in parts]


def _sweep(
    project: Project,
    text: str,
    seeds: str | None,
    tolerance: float,
    gpus: int | None,
    resume: bool,
    force: bool,
    quiet: bool,
    as_json: bool,
    overrides: list[str],
) -> None:
    """`mfd train --sweep`: every value and seed, the table, the recommendation."""
    from mfd_cli.cli.console import Display, note, table, warn
    from mfd_cli.training.sweep import sweep

    with Display(quiet) as display:
        result = sweep(
            project,
            text,
            seeds=_seed_numbers(seeds) if seeds else [],
            tolerance=tolerance,
            gpus=gpus,
            resume=resume,
            force=force,
            overrides=overrides,
            progress=display,
            warn=warn,
            say=None if quiet else note,
        )
    if as_json:
        say_json(fields_of(result))
        return
    table(list(result.means[0]), [list(row.values()) for row in result.means])
    say_all(result.lines(project.run))


def _overrides(sets: list[str] | None, flags: Mapping[str, object]) -> list[str]:
    """--set options and flags as --set options."""
    values = {key: str(value.absolute()) if isinstance(value, Path) else value for key, value in flags.items()}
    return [*(sets or []), *(f"{key}={value}" for key, value in values.items() if value is not None)]
