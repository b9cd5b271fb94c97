"""mfd info, verify and doctor."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from mfd_cli.base.errors import ConfigError
from mfd_cli.cli.completion import datasets_and_runs
from mfd_cli.cli.shared import (
    ConfigFile,
    Json,
    RunFolder,
    Sets,
    folders,
    load,
    named_folder,
    say_all,
    say_json,
    say_result,
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
    run: RunFolder = None,
    card: Annotated[bool, typer.Option("--card", help="Print a model card of the run, as Markdown.")] = False,
    as_json: Json = False,
) -> None:
    """Say what is in a dataset or a run. With --json: an object for a PATH that is one folder, otherwise a list of them."""
    from mfd_cli.contig import info as contig
    from mfd_cli.runs.info import describe, lines_of

    if card and as_json:
        raise ConfigError("--card prints Markdown: it goes without --json")
    path = named_folder(path, run)
    if card:
        _print_card(path, config, sets)
        return
    inspected = _inspected(path, config, sets)
    ours = {folder: contig.is_contig(folder) for folder in inspected}
    descriptions = {folder: contig.describe(folder) if ours[folder] else describe(folder) for folder in inspected}
    if as_json:
        every = list(descriptions.values())
        say_json(every[0] if inspected == [path] else every)
        return
    for folder, description in descriptions.items():
        say_all(contig.lines_of(description) if ours[folder] else lines_of(description))


def _print_card(path: Path | None, config: Path | None, sets: list[str] | None) -> None:
    """Print the model card of a run: of the path, or the project's; of several seeds the first."""
    from mfd_cli.cli.console import note
    from mfd_cli.runs.card import model_card
    from mfd_cli.runs.folder import run_folders

    folder = path if path is not None else load(config, sets).run
    seeds = run_folders(folder)
    if len(seeds) > 1:
        note(f"{folder} holds {len(seeds)} runs: the card is of the first, {seeds[0].name}")
    say_all(model_card(seeds[0]).splitlines())


def verify_command(
    path: DatasetOrRun = None,
    config: ConfigFile = None,
    sets: Sets = None,
    run: RunFolder = None,
    as_json: Json = False,
) -> None:
    """Compare every file of a dataset or run with its checksum. With --json: an object for a PATH that is one folder, otherwise
    a list of them."""
    from mfd_cli.contig import info as contig
    from mfd_cli.runs.info import verify

    path = named_folder(path, run)
    inspected, verified = _inspected(path, config, sets), list[dict[str, str]]()
    for folder in inspected:
        sentence = contig.verify(folder) if contig.is_contig(folder) else verify(folder)
        verified.append({"folder": str(folder), "verified": sentence})
        say_all([] if as_json else [sentence])
    if as_json:
        say_json(verified[0] if inspected == [path] else verified)


def doctor_command(as_json: Json = False) -> None:
    """Say what this machine offers, and whether all that mfd needs is there; exit code 1 where it is not."""
    from mfd_cli.engine.doctor import examine

    health = examine()
    say_result(health, as_json)
    if health.faults:
        raise typer.Exit(1)


def _inspected(path: Path | None, config: Path | None, sets: list[str] | None) -> list[Path]:
    """Return the dataset and run folders that are meant: that of the path, or the project's. Runs of several seeds count one
    by one. Raises ConfigError where the project has neither a dataset nor a run."""
    from mfd_cli.runs.folder import run_folders

    named = [path] if path is not None else folders(load(config, sets))
    return [each for folder in named for each in run_folders(folder)]
