"""mfd info and mfd verify."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from mfd_cli.cli.shared import (
    ConfigFile,
    Json,
    Sets,
    folders,
    load,
    say_all,
    say_json,
)


def info_command(
    path: Annotated[Path | None, typer.Argument(help="Dataset or run folder [default: the project's].")] = None,
    config: ConfigFile = None,
    sets: Sets = None,
    as_json: Json = False,
) -> None:
    """Say what is in a dataset or a run."""
    from mfd_cli.runs.info import describe, lines_of

    for folder in [path] if path else folders(load(config, sets)):
        description = describe(folder)
        say_json(description) if as_json else say_all(lines_of(description))


def verify_command(
    path: Annotated[Path | None, typer.Argument(help="Dataset or run folder [default: the project's].")] = None,
    config: ConfigFile = None,
    sets: Sets = None,
) -> None:
    """Compare every file of a dataset or run with its checksum."""
    from mfd_cli.runs.info import verify

    for folder in [path] if path else folders(load(config, sets)):
        say_all([verify(folder)])
