"""metrics.jsonl of a run folder: one line of numbers per validation, which are the curve of its training."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from mfd_cli.base.errors import RunError
from mfd_cli.base.files import check_input, whole_file

EVERY_LINE = ("step", "windows")
"""What each line of a training of tracks counts: steps and windows since it began."""


def read_curve(path: Path, counts: Sequence[str] = EVERY_LINE) -> list[dict[str, Any]]:
    """Return the lines of a metrics.jsonl, in the order of training; RunError, with the line, where one is not of numbers.

    `counts` are what every line must have, as whole numbers.
    """
    hint = "it is not as mfd train wrote it; without this file the run works, and has no curve"
    try:
        texts = check_input(path, RunError).read_text("utf-8").splitlines()
    except UnicodeDecodeError as error:
        raise RunError("is not text", path=path, hint=hint) from error
    lines = []
    for number, text in enumerate(texts, start=1):
        try:
            line = json.loads(text)
        except (ValueError, RecursionError) as error:
            raise RunError("is not JSON text", path=path, line=number, hint=hint) from error
        if not isinstance(line, dict):
            raise RunError("is not a JSON object", path=path, line=number, hint=hint)
        wrong = [name for name in counts if type(line.get(name)) is not int]
        wrong += [name for name, value in line.items() if not isinstance(value, int | float)]
        if wrong:
            raise RunError(f"{wrong[0][:60]} is not a number", path=path, line=number, hint=hint)
        lines.append(line)
    return lines


def add_to_curve(path: Path, line: Mapping[str, Any], counts: Sequence[str] = EVERY_LINE) -> list[dict[str, Any]]:
    """Add a line, dropping those of a future that a resumed run has not reached yet, and return all lines."""
    earlier = [each for each in read_curve(path, counts) if each["step"] < line["step"]] if path.is_file() else []
    lines = [*earlier, dict(line)]
    with whole_file(path) as temporary:
        temporary.write_text("".join(f"{json.dumps(each)}\n" for each in lines), "utf-8")
    return lines
