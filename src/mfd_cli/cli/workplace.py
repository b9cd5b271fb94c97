"""The options that say where long work is done: `--workers`, `--engine`, `--address`, `--shard`, and what `mfd gather` does."""

from __future__ import annotations

import os
import re
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from contextvars import ContextVar
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from mfd_cli.base.errors import ConfigError, OutputError
from mfd_cli.cli.completion import words
from mfd_cli.cli.help import WORDS
from mfd_cli.cli.shared import Force, Json, Quiet, one_of

if TYPE_CHECKING:
    from mfd_cli.engine.jobs import Workplace

Workers = Annotated[
    int | None,
    typer.Option(
        "--workers",
        min=1,
        help="CPU processes that share the work; with --gpus N there is one for each GPU [default: 1].",
    ),
]
EngineName = Annotated[
    str,
    typer.Option("--engine", help="local, or ray for a cluster's workers.", autocompletion=words("local", "ray")),
]
Address = Annotated[str, typer.Option("--address", help="With --engine ray: the cluster.")]
Shard = Annotated[
    str | None,
    typer.Option("--shard", metavar="I/N", help="Make the I-th of N shares of the work; mfd gather makes the result."),
]
AllGpus = Annotated[
    int | None,
    typer.Option("--gpus", min=0, help="How many GPUs, a worker for each; 0: the CPU [default: 1 if there is one]."),
]
ENGINES = ("local", "ray")
_gathering: ContextVar[bool] = ContextVar("gathering", default=False)
"""Whether `mfd gather` runs the command: parts are taken, not made."""


def workplace_of(
    context: typer.Context,
    workers: int | None = None,
    engine: str = "local",
    address: str = "auto",
    shard: str | None = None,
    gpus: int | None = None,
) -> tuple[Workplace, int | None]:
    """Return where a command's work is done, and how many GPUs the command itself uses (None: one if there is one).

    ConfigError for options that do not go together.
    """
    from mfd_cli.engine.jobs import HERE
    from mfd_cli.engine.local import local_processes
    from mfd_cli.engine.on_ray import ray_actors

    part = parse_shard(shard) if shard is not None else None
    if one_of("--engine", engine, ENGINES) == "ray":
        workplace = replace(HERE, start=ray_actors(address, workers, bool(gpus)))
        gpus = min(gpus or 0, 1)
    elif workers is not None and gpus and workers != gpus:
        raise ConfigError(
            f"--workers {workers} on --gpus {gpus}: each GPU has a worker of its own", hint="--gpus alone"
        )
    elif gpus is not None and gpus > 1:
        workplace, gpus = replace(HERE, start=local_processes([f"cuda:{number}" for number in range(gpus)])), 1
    elif workers is not None and workers > 1:
        workplace, gpus = replace(HERE, start=local_processes(["cpu"] * workers)), 0
    else:
        workplace = HERE
    if _gathering.get():
        return replace(HERE, gather=True), gpus
    if part is None:
        return workplace, gpus
    return replace(workplace, shard=part, command={"words": context.meta[WORDS], "folder": os.getcwd()}), gpus


def threads_of(workplace: Workplace, threads: int | None) -> int | None:
    """Return how many threads torch uses in each worker: as told, otherwise one where there are, or may be, several workers.

    Sums of floats depend on how threads share them, so parts that machines of different sizes make are alike.
    """
    several = workplace.start is not None or workplace.shard is not None or workplace.gather
    return threads or (1 if several else None)


def parse_shard(text: str) -> tuple[int, int]:
    """Return `3/10` as (3, 10); ConfigError where it is no part of a whole.

    >>> parse_shard("3/10")
    (3, 10)
    """
    match = re.fullmatch("([0-9]{1,9})/([0-9]{1,9})", text)
    if not match or not 1 <= int(match[1]) <= int(match[2]):
        raise ConfigError(f"--shard {text!r} is not I/N with I from 1 to N")
    return int(match[1]), int(match[2])


@contextmanager
def gathering(command: Mapping[str, Any]) -> Iterator[list[str]]:
    """Yield the words of the command whose parts are gathered, in the folder that it was run in; ConfigError without that."""
    before, words = os.getcwd(), [str(word) for word in command["words"]]
    try:
        os.chdir(command["folder"])
    except OSError as problem:
        raise ConfigError(
            f"the parts were made in {command['folder']}, which cannot be entered here ({problem.strerror})",
            hint="gather where the same folders are seen under the same names",
        ) from problem
    token = _gathering.set(True)
    try:
        yield words
    finally:
        _gathering.reset(token)
        os.chdir(before)


def gather_command(
    context: typer.Context,
    result: Annotated[Path, typer.Argument(metavar="RESULT", help="What the --shard commands are making.")],
    force: Force = False,
    quiet: Quiet = False,
    as_json: Json = False,
) -> None:
    """Put together what --shard commands have made: the same bytes as of one command that does all."""
    from mfd_cli.engine.parts import parts_folder, read_plan

    folder = parts_folder(result)
    stored = read_plan(folder)
    if stored is None:
        raise OutputError(
            "there are no parts to gather", path=folder, hint="mfd COMMAND --shard 1/8 makes some of them"
        )
    flags = {"--force": force, "--quiet": quiet, "--json": as_json}
    with gathering(stored["command"]) as line:
        context.find_root().command.main([*line, *(flag for flag, given in flags.items() if given)], "mfd", None, False)
