"""mfd info, verify and doctor."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from mfd_cli.cli.completion import datasets_and_runs
from mfd_cli.cli.shared import (
    ConfigFile,
    Json,
    Sets,
    folders,
    load,
    say_all,
    say_json,
)

DatasetOrRun = Annotated[
    Path | None,
    typer.Argument(
        help="Dataset or run folder, or a folder of several seeds' runs [default: the project's].",
        autocompletion=datasets_and_runs,
    ),
]


def info_command(
    path: DatasetOrRun = None,
    config: ConfigFile = None,
    sets: Sets = None,
    as_json: Json = False,
) -> None:
    """Say what is in a dataset or a run. With --json: an object for a PATH that is one folder, otherwise a list of them."""
    from mfd_cli.runs.info import describe, lines_of

    inspected = _inspected(path, config, sets)
    descriptions = [describe(folder) for folder in inspected]
    if as_json:
        say_json(descriptions[0] if inspected == [path] else descriptions)
        return
    for description in descriptions:
        say_all(lines_of(description))


def verify_command(
    path: DatasetOrRun = None,
    config: ConfigFile = None,
    sets: Sets = None,
) -> None:
    """Compare every file of a dataset or run with its checksum."""
    from mfd_cli.runs.info import verify

    for folder in _inspected(path, config, sets):
        say_all([verify(folder)])


def doctor_command(as_json: Json = False) -> None:
    """Say what this machine offers, and whether all that mfd needs is there; exit code 1 where it is not."""
    from mfd_cli.engine.doctor import examine

    health = examine()
    say_json(health.to_json()) if as_json else say_all(health.lines())
    if health.faults:
        raise typer.Exit(1)


def _inspected(path: Path | None, config: Path | None, sets: list[str] | None) -> list[Path]:
    """Return the dataset and run folders that are meant: that of the path, or the project's. Runs of several seeds count one
    by one. Raises ConfigError where the project has neither a dataset nor a run."""
    from mfd_cli.runs.folder import run_folders

    named = [path] if path is not None else folders(load(config, sets))
    return [each for folder in named for each in run_folders(folder)]
