"""The shell: every command is a few lines over a plain function. Heavy libraries are imported inside commands."""

from __future__ import annotations

import os
import sys
from collections.abc import Callable
from typing import Annotated

import typer

from mfd_cli import __version__
from mfd_cli.base.errors import Ended
from mfd_cli.base.threads import sleep_soon
from mfd_cli.cli.completion import ASKED_BY_BASH, INSTRUCTION, answer_bash
from mfd_cli.cli.contig import COMMANDS as CONTIG_COMMANDS
from mfd_cli.cli.contig import app as contig_app
from mfd_cli.cli.ending import ended
from mfd_cli.cli.enrichment import enrich_command
from mfd_cli.cli.evaluation import evaluate_command, impute_command, report_command
from mfd_cli.cli.explain import explain_command
from mfd_cli.cli.help import Sections, WithExamples
from mfd_cli.cli.inspection import doctor_command, info_command, verify_command
from mfd_cli.cli.predictions import embed_command, predict_command, qc_command
from mfd_cli.cli.projects import (
    check_design_command,
    fetch_inputs_command,
    init_command,
    preprocess_command,
    settings_command,
    simulate_command,
)
from mfd_cli.cli.shared import say_result
from mfd_cli.cli.training import add_tracks_command, train_command
from mfd_cli.cli.variants import IndexAlone, background_command, score_variants_command
from mfd_cli.cli.view import view_command
from mfd_cli.cli.workplace import gather_command

# In the order of a project's life; `mfd --help` shows them in the sections of cli/help.py.
COMMANDS: dict[str, Callable[..., None]] = {
    "doctor": doctor_command,
    "init": init_command,
    "fetch-inputs": fetch_inputs_command,
    "settings": settings_command,
    "check-design": check_design_command,
    "simulate": simulate_command,
    "preprocess": preprocess_command,
    "train": train_command,
    "add-tracks": add_tracks_command,
    "evaluate": evaluate_command,
    "report": report_command,
    "score-variants": score_variants_command,
    "background": background_command,
    "enrich": enrich_command,
    "explain": explain_command,
    "predict": predict_command,
    "impute": impute_command,
    "embed": embed_command,
    "qc": qc_command,
    "view": view_command,
    "info": info_command,
    "verify": verify_command,
    "gather": gather_command,
}
EVERY_COMMAND = COMMANDS | {f"contig {name}": command for name, command in CONTIG_COMMANDS.items()}
"""Those of `mfd contig` too, by both words."""

app = typer.Typer(
    name="mfd",
    cls=Sections,
    no_args_is_help=True,
    pretty_exceptions_enable=False,
    rich_markup_mode=None,
    context_settings={
        "help_option_names": ["-h", "--help"],
        "max_content_width": 120,  # of a wider terminal; the default is 80
        "color": False if os.environ.get("NO_COLOR") else None,  # None: typer's own choice
    },
    help="Predict epigenomic tracks from DNA while telling biology from technique.",
    epilog="mfd COMMAND --help lists a command's options, and ends with examples.",
)
for name, command in COMMANDS.items():
    app.command(name, cls=IndexAlone if command is score_variants_command else WithExamples)(command)
app.add_typer(contig_app, name="contig")


@app.callback(invoke_without_command=True)
def main_options(
    version: Annotated[bool, typer.Option("--version", help="Print the version.")] = False,
    debug: Annotated[bool, typer.Option("--debug", help="Show the traceback of an error.")] = False,
) -> None:
    """Predict epigenomic tracks from DNA while telling biology from technique."""
    global _debug
    _debug = debug
    if version:
        print(f"mfd {__version__}")
        raise typer.Exit


_debug = False


def main() -> None:
    """Run the command line; see cli/ending.py for how it ends."""
    sleep_soon()
    as_json = "--json" in sys.argv
    if os.environ.get(INSTRUCTION) == ASKED_BY_BASH:
        answer_bash(lambda: _run(as_json))
    else:
        ended(lambda: _run(as_json), lambda: _debug, as_json)


def _run(as_json: bool) -> None:
    """Run the command line under its own name, also where `python -m mfd_cli` was typed: completion goes by it.

    With --json a command line that cannot be understood is an error as any other; otherwise typer shows it, with the usage.
    """
    try:
        exit_code = app(prog_name="mfd", standalone_mode=not as_json)
    except Ended as end:
        say_result(end.summary, as_json)
        return
    if exit_code:
        sys.exit(exit_code)
