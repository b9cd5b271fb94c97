"""What the Tab key offers: names that the project in the present folder knows.

A shell asks again at every key: files are read with the standard library alone, and nothing is checked. Where there is no
project, or one that cannot be read, nothing is offered and nothing is said.
"""

from __future__ import annotations

import contextlib
import io
import json
import os
import re
import tomllib
from collections.abc import Callable, Iterable
from pathlib import Path
from typing import Any

import typer

Offer = Callable[[typer.Context, str], list[str]]
INSTRUCTION = "_MFD_COMPLETE"
"""The variable by which a shell's script asks for completions instead of running a command."""
ASKED_BY_BASH = "complete_bash"


def silent(offer: Offer) -> Offer:
    """Return the function that offers what another one does, and nothing where that one fails: a message in the middle of a
    command line would be in the way of whoever types it."""

    def quietly(ctx: typer.Context, incomplete: str) -> list[str]:
        try:
            return offer(ctx, incomplete)
        except Exception:
            return []

    return quietly


# -- what a project knows ----------------------------------------------------------------------------------------------


def settings_file(ctx: typer.Context) -> tuple[dict[str, Any], Path]:
    """Return the project's settings as they are written, and their folder: those of -c, or of the present folder."""
    file = Path(ctx.params.get("config") or "mfd.toml")
    return tomllib.loads(file.read_text("utf-8")), file.parent


def description_of_run(ctx: typer.Context) -> dict[str, Any]:
    """Return what model.json says of the run that is meant: that of --run, or the project's; the first of several seeds."""
    run = ctx.params.get("run")
    if run is None:
        settings, folder = settings_file(ctx)
        run = folder / settings.get("data", {}).get("run", "run")
    named = Path(run) / "model.json"
    file = named if named.is_file() else min(Path(run).glob("seed-*/model.json"))
    description: dict[str, Any] = json.loads(file.read_text("utf-8"))
    return description


def levels_by_factor(ctx: typer.Context) -> dict[str, list[str]]:
    """Return the levels of each factor of the run; none of a number."""
    factors = description_of_run(ctx)["metadata"]
    return {name: factor.get("vocabulary", []) for name, factor in factors.items()}


# -- offers ------------------------------------------------------------------------------------------------------------


def words(*known: str) -> Offer:
    """Return the function that offers words which are always the same."""
    return lambda ctx, incomplete: list(known)


@silent
def factor_names(ctx: typer.Context, incomplete: str) -> list[str]:
    """Offer the factors of the project's settings; they are there before anything is trained."""
    return list(settings_file(ctx)[0]["factors"])


@silent
def factors_or_all(ctx: typer.Context, incomplete: str) -> list[str]:
    """Offer the factors, and `all` for what each of them contributes."""
    return [*settings_file(ctx)[0]["factors"], "all"]


@silent
def level_names(ctx: typer.Context, incomplete: str) -> list[str]:
    """Offer the levels of the factors that are named already, or of every factor."""
    known = levels_by_factor(ctx)
    return [level for name in ctx.params.get("factors") or known for level in known[name]]


@silent
def levels_of_factors(ctx: typer.Context, incomplete: str) -> list[str]:
    """Offer FACTOR=LEVEL."""
    return assignments(levels_by_factor(ctx), incomplete)


@silent
def fixes(ctx: typer.Context, incomplete: str) -> list[str]:
    """Offer FACTOR=LEVEL, FACTOR=average and GROUP=average."""
    groups = description_of_run(ctx)["model"]["groups"]
    known = {name: [*each, "average"] for name, each in levels_by_factor(ctx).items()}
    return assignments({**known, **{group: ["average"] for group in groups}}, incomplete)


@silent
def track_ids(ctx: typer.Context, incomplete: str) -> list[str]:
    """Offer the ids of the run's tracks."""
    return [track["id"] for track in description_of_run(ctx)["tracks"]]


@silent
def part_names(ctx: typer.Context, incomplete: str) -> list[str]:
    """Offer the parts of a prediction: those of every model, the run's groups, and a mixed head's residual."""
    model = description_of_run(ctx)["model"]
    return ["total", "shared", "debiased", *model["groups"], *(["residual"] if model["head"] == "mixed" else [])]


@silent
def setting_names(ctx: typer.Context, incomplete: str) -> list[str]:
    """Offer the names of all settings, and of the tables that hold them."""
    from mfd_cli.settings.reference import settings

    names = [setting.name for setting in settings()]
    return [*dict.fromkeys(name.rpartition(".")[0] for name in names), *names]


@silent
def overrides(ctx: typer.Context, incomplete: str) -> list[str]:
    """Offer A.B=C for every setting, with the value of its example."""
    from mfd_cli.settings.reference import settings

    plain = [setting for setting in settings() if "NAME" not in setting.name]
    return assignments({setting.name: [setting.example.strip('"')] for setting in plain}, incomplete)


@silent
def runs(ctx: typer.Context, incomplete: str) -> list[str]:
    """Offer the run folders below the present one, and folders that hold the runs of several seeds."""
    single = folders_with("*/model.json")
    seeds = folders_with("*/seed-*/model.json")
    return [*single, *sorted({str(Path(each).parent) for each in seeds}), *seeds]


@silent
def datasets(ctx: typer.Context, incomplete: str) -> list[str]:
    """Offer the dataset folders below the present one."""
    return folders_with("*/manifest.json")


@silent
def datasets_and_runs(ctx: typer.Context, incomplete: str) -> list[str]:
    """Offer both."""
    return [*datasets(ctx, incomplete), *runs(ctx, incomplete)]


def folders_with(pattern: str) -> list[str]:
    """Return the folders below the present one that hold a file, sorted."""
    return sorted(str(file.parent) for file in Path().glob(pattern))


def assignments(values: dict[str, list[str]], incomplete: str) -> list[str]:
    """Return what NAME=VALUE may go on with: names while several begin with what is typed, otherwise the one's values.

    A shell writes a space behind the only thing that is offered: a name alone would be cut off from its value.

    >>> assignments({"assay": ["ATAC", "DNase"], "age": ["1"]}, "a")
    ['assay=', 'age=']
    >>> assignments({"assay": ["ATAC", "DNase"], "age": ["1"]}, "as")
    ['assay=ATAC', 'assay=DNase']
    """
    name, equals, _ = incomplete.partition("=")
    fitting = [each for each in values if (each == name if equals else each.startswith(name))]
    if len(fitting) == 1:
        return [f"{fitting[0]}={value}" for value in values[fitting[0]]]
    return [f"{each}=" for each in fitting]


# -- bash --------------------------------------------------------------------------------------------------------------


def answer_bash(command: Callable[[], object]) -> None:
    """Run a command that answers bash, with the words of the line as they were typed, and its answer as bash needs it.

    bash cuts words at `=` and replaces what stands behind the last one: it must get the rest of `lab=A` alone. And it writes
    what it gets as it is, so that a space or an & in a level has to be escaped here.
    """
    typed = joined_at_equals(os.environ.get("COMP_WORDS", "").split("\n"), int(os.environ.get("COMP_CWORD", "0")))
    os.environ["COMP_WORDS"], os.environ["COMP_CWORD"] = "\n".join(typed), str(len(typed) - 1)
    value = typed[-1].partition("=")[2] if typed[-1].startswith("--") else typed[-1]
    before = value[: value.rfind("=") + 1]
    answer = io.StringIO()
    with contextlib.redirect_stdout(answer), contextlib.suppress(SystemExit):
        command()
    for line in filter(None, answer.getvalue().splitlines()):
        print(re.sub(r"[^\w@%+=:,./-]", r"\\\g<0>", line.removeprefix(before)))


def joined_at_equals(cut: Iterable[str], current: int) -> list[str]:
    """Return the words up to the current one, joined again where bash has cut them at `=`.

    >>> joined_at_equals(["mfd", "predict", "--fix", "lab", "=", "A"], 5)
    ['mfd', 'predict', '--fix', 'lab=A']
    """
    joined: list[str] = []
    for word in list(cut)[: current + 1]:
        if joined and (word.startswith("=") or joined[-1].endswith("=")):
            joined[-1] += word
        else:
            joined.append(word)
    return joined
