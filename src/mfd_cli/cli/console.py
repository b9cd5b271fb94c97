"""The terminal: progress, notes, tables and how an error is shown. Only the room `cli` knows that there is one.

Results go to stdout, everything else to stderr. Values that come from files are printed inertly: no markup, no escapes.
"""

from __future__ import annotations

import json
import re
import sys
import time
from collections.abc import Iterable, Sequence
from types import TracebackType
from typing import TYPE_CHECKING, Self

from mfd_cli.base.errors import InputErrors, MfdError

if TYPE_CHECKING:
    from rich.progress import Progress, TaskID

_CONTROL = re.compile(r"[\x00-\x08\x0b-\x1f\x7f-\x9f]")
_EVERY = 10.0
"""Seconds between progress lines where there is no terminal."""


def inert(text: object) -> str:
    """Return a value as it may be shown: control characters (escape codes, carriage returns) become a question mark."""
    return _CONTROL.sub("?", str(text))


def say(text: str) -> None:
    """Print a line of a result, on stdout."""
    print(inert(text))


def note(text: str) -> None:
    """Print a remark, on stderr."""
    print(inert(text), file=sys.stderr)


def warn(text: str) -> None:
    """Print a warning, on stderr."""
    note(f"mfd: warning: {text}")


def show_error(error: MfdError, exit_code: int, as_json: bool) -> None:
    """Print one plain line per fault, and a hint where there is one; or all of them as a line of JSON. On stderr."""
    errors = error.errors if isinstance(error, InputErrors) else [error]
    if as_json:
        fields = [
            {
                "message": each.message,
                "path": None if each.path is None else str(each.path),
                "line": each.line,
                "hint": each.hint,
            }
            for each in errors
        ]
        print(json.dumps({"exit_code": exit_code, "errors": fields}), file=sys.stderr)
        return
    for each in errors:
        note(f"mfd: error: {' '.join(str(each).split())}")
        if each.hint:
            note(f"hint: {each.hint}")


def table(columns: Sequence[str], rows: Iterable[Sequence[object]]) -> None:
    """Print a plain aligned table on stdout: numbers to the right, text to the left."""
    cells = [list(columns), *([_cell(value) for value in row] for row in rows)]
    widths = [max(len(row[i]) for row in cells) for i in range(len(columns))]
    right = [all(_NUMBER.fullmatch(row[i]) for row in cells[1:]) for i in range(len(columns))]
    for row in cells:
        say("  ".join(c.rjust(w) if r else c.ljust(w) for c, w, r in zip(row, widths, right)).rstrip())


_NUMBER = re.compile(r"[-+]?[\d,.]+(e[-+]?\d+)?%?|")


def _cell(value: object) -> str:
    if value is None or value != value:  # NaN is not itself
        return ""
    return f"{value:.3f}" if isinstance(value, float) else inert(value)


class Display:
    """Progress as a callback `(what, done, total)`: bars on a terminal, a line now and then elsewhere, or nothing."""

    def __init__(self, quiet: bool = False) -> None:
        self.quiet, self.bars, self.last = quiet, sys.stderr.isatty() and not quiet, ("", 0.0)
        self.progress: Progress | None = None
        self.tasks: dict[str, TaskID] = {}
        self.started: dict[str, tuple[float, int]] = {}

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        if self.progress is not None:
            self.progress.stop()

    def __call__(self, what: str, done: int, total: int) -> None:
        if self.bars:
            self._bar(what, done, total)
        elif not self.quiet:
            self._line(what, done, total)

    def _bar(self, what: str, done: int, total: int) -> None:
        if self.progress is None:
            from rich.console import Console
            from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeRemainingColumn

            self.progress = Progress(
                TextColumn("{task.description}", markup=False),
                BarColumn(),
                MofNCompleteColumn(),
                TextColumn("{task.fields[rate]}", markup=False),
                TimeRemainingColumn(),
                console=Console(stderr=True),
            )
            self.progress.start()
        if what not in self.tasks:
            self.tasks[what] = self.progress.add_task(inert(what), total=total, rate="")
        self.progress.update(self.tasks[what], completed=done, total=total, rate=self._rate(what, done)[0])

    def _line(self, what: str, done: int, total: int) -> None:
        now = time.monotonic()
        rate, per_second = self._rate(what, done)
        before, when = self.last
        if what == before and done < total and now - when < _EVERY:
            return
        self.last = (what, now)
        left = f", {(total - done) / per_second:.0f} s left" if per_second and done < total else ""
        note(f"{what}: {done:,} of {total:,}{f' ({rate}{left})' if rate else ''}")

    def _rate(self, what: str, done: int) -> tuple[str, float]:
        start, first = self.started.setdefault(what, (time.monotonic(), done))
        seconds = time.monotonic() - start
        per_second = (done - first) / seconds if seconds > 0.5 else 0.0
        return (f"{per_second:,.1f}/s" if per_second else ""), per_second
