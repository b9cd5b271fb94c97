"""The page kit: one HTML file that needs no network, made from a template and the building blocks in kit.html.j2.

A template extends page.html.j2 and lies in the room whose result it shows. Every value is escaped as it is put in (jinja2 with
autoescape), so a metadata table cannot bring its own HTML; a name that a template misspells is an error.
"""

from __future__ import annotations

import base64
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from importlib import resources
from pathlib import Path
from typing import Any

from jinja2 import ChoiceLoader, Environment, PackageLoader, StrictUndefined
from markupsafe import Markup

from mfd_cli import __version__
from mfd_cli.base.files import whole_file

KIT = "mfd_cli.report"
MOST_ROWS = 500
"""Rows of a long table that a page shows."""
SMALL = 0.0005
"""A number nearer to 0 than this would read 0.000: it is written as 2e-05."""


@dataclass(frozen=True)
class Picture:
    """A picture as a page holds it: the stem of its files (empty where it has none), its caption, and its PNG in base64."""

    stem: str
    caption: str
    png: str


def pictures_in(folder: Path, drawn: Sequence[tuple[str, str]]) -> list[Picture]:
    """Read the pictures that were drawn into a folder, given as (file stem, caption)."""
    return [
        Picture(stem, caption, base64.b64encode((folder / f"{stem}.png").read_bytes()).decode("ascii"))
        for stem, caption in drawn
    ]


def publish(path: Path, room: str, template: str, *, title: str, footer: str, **values: Any) -> None:
    """Write one HTML file with everything in it, from a template of a room (`mfd_cli.explain`) and its values.

    `footer` says what made it.
    """
    kit = resources.files(KIT)
    page = environment(room).get_template(template)
    html = page.render(
        title=title,
        footer=footer,
        version=__version__,
        # Our own files, not values: they are put in as they are.
        css=Markup(kit.joinpath("report.css").read_text("utf-8")),
        script=Markup(report_script()),
        **values,
    )
    with whole_file(path) as temporary:
        temporary.write_text(html, "utf-8")


def report_script() -> str:
    """Return the script of every page: tables that sort and search, pictures that grow."""
    return resources.files(KIT).joinpath("report.js").read_text("utf-8")


def environment(room: str) -> Environment:
    """Return the jinja2 environment that finds the templates of a room and of the kit, and escapes all values."""
    made = Environment(
        loader=ChoiceLoader([PackageLoader(room, ""), PackageLoader(KIT, "")]),
        autoescape=True,
        undefined=StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
        keep_trailing_newline=True,
    )
    made.filters["cell"] = cell
    made.filters["filled_columns"] = filled_columns
    made.filters["holds_numbers"] = holds_numbers
    made.globals["MOST_ROWS"] = MOST_ROWS
    return made


def filled_columns(rows: Sequence[Mapping[str, Any]]) -> list[str]:
    """Return the columns of a table in which some row has a value; the first one, which names the rows, in any case."""
    first, *others = rows[0]
    return [first, *(name for name in others if any(cell(row[name]) for row in rows))]


def holds_numbers(rows: Sequence[Mapping[str, Any]], column: str) -> bool:
    """Return whether all that stands in a column are numbers, which stand to the right, as its heading then does."""
    values = [row[column] for row in rows if cell(row[column])]
    return bool(values) and all(isinstance(value, int | float) and not isinstance(value, bool) for value in values)


def cell(value: Any) -> str:
    """Return what stands in a cell: numbers with three decimals, nothing for None and NaN."""
    if value is None or value != value:  # NaN is not itself
        return ""
    if isinstance(value, float):
        return f"{value:.1g}" if 0 < abs(value) < SMALL else f"{value:.3f}"
    return str(value)
