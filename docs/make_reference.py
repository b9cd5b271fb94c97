"""The pages of the documentation that the program writes itself.

mkdocs.yml names this file as a hook, so that `make docs` has these pages without a copy that could grow stale:

    command_reference()    every command with all of its arguments and options, from the command line's own definitions
    settings_reference()   every setting of mfd.toml with its type, default and meaning, from the configuration tree
    python_reference()     every public name and the function behind every command, from signatures and docstrings
"""

from __future__ import annotations

import dataclasses
import html
import inspect
import re
from collections.abc import Iterator, Sequence
from importlib import import_module
from pathlib import Path
from typing import Any, get_type_hints

import typer.main
from pydantic import BaseModel

import mfd_cli
from mfd_cli.cli.app import EVERY_COMMAND, app
from mfd_cli.cli.help import EXAMPLES
from mfd_cli.contig.config import ContigConfig
from mfd_cli.core.metadata import ENCODERS
from mfd_cli.core.penalties import PENALTIES
from mfd_cli.settings.network import PRESETS
from mfd_cli.settings.reference import sections, settings_of

VERBS = {
    "doctor": "engine.doctor.examine",
    "init": "experiments.init.init_project",
    "fetch-inputs": "dataset.remote_inputs.fetch_inputs",
    "settings": "settings.reference.settings",
    "check-design": "experiments.check_design.check_design",
    "simulate": "simulate.simulate.simulate",
    "preprocess": "dataset.preprocess.preprocess",
    "train": "training.train.train",
    "add-tracks": "training.add_tracks.add_tracks",
    "evaluate": "evaluation.evaluate.evaluate",
    "report": "evaluation.run_report.report",
    "score-variants": "variants.score.score_variants",
    "background": "variants.background.background",
    "enrich": "enrichment.enrich.enrich",
    "explain": "explain.factor.explain",
    "predict": "predictions.predict.predict",
    "impute": "evaluation.impute.impute",
    "embed": "predictions.embed.embed",
    "qc": "evaluation.qc.qc",
    "view": "view.view.view",
    "info": "runs.info.describe",
    "verify": "runs.info.verify",
    "gather": "engine.jobs.at_work",
    "contig simulate": "contig.simulate.simulate.simulate",
    "contig check": "contig.prepare.check",
    "contig prepare": "contig.prepare.prepare",
    "contig train": "contig.train.train",
    "contig embed": "contig.embed.embed",
    "contig retrieve": "contig.retrieve.retrieve",
    "contig explain": "contig.explain.explain",
    "contig gwas": "contig.run_gwas.run_gwas",
    "contig finetune": "contig.finetune.finetune.finetune",
}
"""The plain function behind each command."""
MORE_VERBS = {
    "doctor": "engine.doctor.examine",
    "fetch-inputs URL": "base.fetch.fetch",
    "train --sweep": "training.sweep.sweep",
    "score-variants --saturate": "variants.saturate.saturate",
    "explain --factor all": "explain.overview.explain_all",
    "explain --latent": "explain.direction.explain_latents",
    "explain --track": "explain.direction.explain_track",
}
"""Functions that an option of a command leads to."""
PAGES = {
    "command-reference.md": "command_reference",
    "settings.md": "settings_reference",
    "python-reference.md": "python_reference",
}
VALUES = {"int": "N", "float": "X", "Path": "PATH"}
"""What stands for the value of an option, by its type."""
LONGEST = 90
"""Letters of a signature in one line."""


def on_files(files: Any, config: Any) -> Any:
    """Add the generated pages to those that mkdocs found in the folder (called by mkdocs)."""
    from mkdocs.structure.files import File

    for page, function in PAGES.items():
        files.append(File.generated(config, page, content=globals()[function]()))
    return files


# -- commands --------------------------------------------------------------------------------------------------------


def command_reference() -> str:
    """Return the page that lists every command with every argument and option, as Markdown."""
    lines = [
        "# Command reference",
        "",
        "This page is written by the program itself. It lists every command of `mfd` with all arguments and options, which",
        "`mfd COMMAND --help` shows too. Options of `mfd` itself are `--version`, which prints the version, `--debug`, which",
        "shows the traceback of an error, and `--install-completion` and `--show-completion` for completion by the shell.",
    ]
    for name in EVERY_COMMAND:
        command = command_named(name)
        arguments = [parameter for parameter in command.params if not parameter.opts[0].startswith("-")]
        options = [parameter for parameter in command.params if parameter.opts[0].startswith("-")]
        kinds = get_type_hints(EVERY_COMMAND[name])
        usage = " ".join(["mfd", name, *map(_argument, arguments), "[OPTIONS]"])
        lines += ["", f"## mfd {name}", "", markdown(inspect.cleandoc(command.help or "")), "", f"    {usage}"]
        if arguments:
            lines += ["", "| argument | meaning |", "|---|---|"]
            lines += [f"| `{_argument(parameter)}` | {_meaning(parameter)} |" for parameter in arguments]
        lines += ["", "| option | meaning |", "|---|---|"]
        lines += [f"| {_option(parameter, kinds[parameter.name])} | {_meaning(parameter)} |" for parameter in options]
        if name in EXAMPLES:
            lines += ["", "Examples, inside a project:", "", *(f"    {line}" for line in EXAMPLES[name])]
    return "\n".join(lines) + "\n"


def command_named(name: str) -> Any:
    """Return a command as it is parsed, of a group too (`contig train`)."""
    command: Any = typer.main.get_command(app)
    for word in name.split():
        command = vars(command)["commands"][word]
    return command


def _argument(parameter: Any) -> str:
    name = (parameter.metavar or parameter.name.upper()).strip("[]{}")
    return name if parameter.required else f"[{name}]"


def _option(parameter: Any, kind: Any) -> str:
    """`-o, --output PATH` in code, with the value that the option takes."""
    names = ", ".join([*parameter.opts, *parameter.secondary_opts])
    if parameter.is_flag:
        return f"`{names}`"
    plain = next((value for name, value in VALUES.items() if re.search(rf"\b{name}\b", str(kind))), "TEXT")
    value = parameter.metavar or plain
    return f"`{names} {value}`".replace("|", "\\|")


def _meaning(parameter: Any) -> str:
    """The help text, then whether the value is required or what it is by default."""
    text = re.sub(r"[. ]*\[default: ([^\]]*)\]\.?", r". Default: \1.", parameter.help or "").removeprefix(". ")
    default = parameter.default
    if parameter.required:
        text = f"{text} Required."
    elif isinstance(default, str | int | float | Path) and not isinstance(default, bool) and "Default: " not in text:
        text = f"{text} Default: `{default}`."
    return _safe(text.strip()).replace("|", "\\|")


# -- settings --------------------------------------------------------------------------------------------------------


def settings_reference() -> str:
    """Return the page that lists every setting of mfd.toml with its type, default and meaning, as Markdown."""
    lines = [
        "# Settings",
        "",
        "This page is written by the program itself. It lists every setting that `mfd.toml` may hold. Each heading is a",
        "table of that file. Every setting can also be given on the command line, as in `mfd train --set train.epochs=5`.",
        "A misspelt setting is answered with the nearest right one. `mfd settings` prints the same in a terminal.",
    ]
    for name, node in sections():
        lines += _section(name, node)
    lines += _presets()
    lines += ["", "# Settings of contig.toml", "", "What `contig.toml` may hold, for [images and genetics](contig.md)."]
    for name, node in sections(ContigConfig):
        lines += _section(name, node)
    return "\n".join(lines) + "\n"


def _presets() -> list[str]:
    """The table of presets."""
    lines = ["", "## Presets of the model", "", "What `model.preset` fixes where the setting itself is not given:", ""]
    columns = list(PRESETS["default"])
    lines += [f"| preset | {' | '.join(columns)} |", "|---" * (len(columns) + 1) + "|"]
    lines += [
        f"| `{name}` | " + " | ".join(str(preset[key]) for key in columns) + " |" for name, preset in PRESETS.items()
    ]
    return lines


def _section(name: str, node: type[BaseModel]) -> list[str]:
    """One table of mfd.toml."""
    lines = ["", f"## [{name}]", "", markdown((node.__doc__ or "").strip()), ""]
    known = {"factors.NAME": ("types", ENCODERS), "objective.penalties.NAME": ("names", PENALTIES)}
    if name in known:
        what, listed = known[name]
        lines += [f"The {what} that are known: {', '.join(f'`{each}`' for each in listed)}.", ""]
    lines += ["| setting | values | default | meaning | example |", "|---|---|---|---|---|"]
    for setting in settings_of(name, node):
        cells = (f"`{setting.key}`", _safe(setting.values), _code(setting.default), _safe(setting.meaning))
        lines.append(f"| {' | '.join(cell.replace('|', chr(92) + '|') for cell in cells)} | {_code(setting.example)} |")
    return lines


def _code(value: str) -> str:
    return value if value in ("", "required") else f"`{value}`"


# -- Python ----------------------------------------------------------------------------------------------------------


def python_reference() -> str:
    """Return the page that shows every public name and every verb with its signature and docstring, as Markdown."""
    lines = [
        "# Python reference",
        "",
        "This page is made from the signatures and docstrings of the program. The first part lists the names that",
        "`from mfd_cli import ...` offers to a notebook. The second part lists the plain function behind every command: it",
        "takes values, returns values and writes to no terminal.",
        "",
        "## Names of mfd_cli",
    ]
    for name in sorted(mfd_cli.__all__, key=str.lower):
        lines += ["", *described(getattr(mfd_cli, name), name, "###")]
    lines += ["", "## The functions behind the commands"]
    for command, place in {**VERBS, **MORE_VERBS}.items():
        module, _, name = place.rpartition(".")
        verb = getattr(import_module(f"mfd_cli.{module}"), name)
        lines += [
            "",
            f"### mfd {command}",
            "",
            *described(verb, f"{name}", "", f"from mfd_cli.{module} import {name}\n\n"),
        ]
    return "\n".join(lines) + "\n"


def described(thing: Any, name: str, heading: str, before: str = "") -> list[str]:
    """Heading, signature and docstring of a function or a class; of a class also its public methods."""
    lines = [f"{heading} {name}", ""] if heading else []
    lines += ["```python", f"{before}{signature(thing, name)}", "```", "", documentation(thing)]
    if inspect.isclass(thing):
        for method, member in members(thing):
            what = f"`{method}`" if isinstance(member, property) else f"`{signature(member, method)}`"
            lines += ["", f"**{what}**", "", documentation(member)]
    return lines


def members(kind: type) -> Iterator[tuple[str, Any]]:
    """Yield the public methods and properties that a class itself defines and documents."""
    for name, member in vars(kind).items():
        plain = member.__func__ if isinstance(member, classmethod | staticmethod) else member
        shown = isinstance(member, property) or inspect.isfunction(plain)
        if shown and inspect.getdoc(plain) and not name.startswith("_"):
            yield name, plain


def signature(thing: Any, name: str) -> str:
    """The signature as it stands in the source; in several lines where it is long. A class without fields is its name."""
    is_class = inspect.isclass(thing)
    if is_class and not (dataclasses.is_dataclass(thing) or "__init__" in vars(thing)):
        return f"class {name}"
    plain = inspect.signature(thing)
    parts: list[str] = []
    for value in plain.parameters.values():
        if value.name in ("self", "cls"):
            continue
        if value.kind is value.KEYWORD_ONLY and "*" not in parts:
            parts.append("*")
        text = value.name if value.annotation is value.empty else f"{value.name}: {_type(value.annotation)}"
        parts.append(text if value.default is value.empty else f"{text} = {value.default!r}")
    returned = "" if is_class or plain.return_annotation is plain.empty else f" -> {_type(plain.return_annotation)}"
    short = f"{name}({', '.join(parts)}){returned}"
    if len(short) <= LONGEST:
        return short
    return f"{name}(\n" + "".join(f"    {part},\n" for part in parts) + f"){returned}"


def _type(annotation: Any) -> str:
    """An annotation as it stands in the source."""
    if isinstance(annotation, str):
        return annotation
    return annotation.__name__ if inspect.isclass(annotation) else str(annotation)


def documentation(thing: Any) -> str:
    """The docstring as Markdown."""
    return markdown(inspect.getdoc(thing) or "")


def markdown(text: str) -> str:
    """A docstring as Markdown: examples in fences, indented lines as code, everything else safe from being read as HTML."""
    lines: list[str] = []
    example = False
    for line in text.split("\n"):
        if line.startswith(">>> ") and not example:
            example = True
            lines += [""] * bool(lines and lines[-1]) + ["```pycon"]
        if example and not line.strip():
            example = False
            lines.append("```")
        lines.append(line if example or line.startswith("    ") else _safe(line))
    return "\n".join([*lines, "```"] if example else lines)


def _safe(line: str) -> str:
    """Escape what Markdown or HTML would read as markup, but not between backticks."""
    parts: Sequence[str] = re.split(r"(`[^`]*`)", line)
    return "".join(
        part if part.startswith("`") else re.sub(r"([*_\[\]])", r"\\\1", html.escape(part, quote=False))
        for part in parts
    )
