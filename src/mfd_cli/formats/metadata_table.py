"""A strict reader of tab-separated tables with a header, as ENCODE's portal gives them.

Why not csv or pandas: they fill up rows with too few cells, and a quote that is not closed swallows the lines behind it.
"""

from __future__ import annotations

import re
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

from mfd_cli.base.errors import MetadataError
from mfd_cli.base.files import check_input
from mfd_cli.formats.text import read_lines


@dataclass(frozen=True)
class Table:
    """Rows as dictionaries, with the line of the file that each came from (1-based)."""

    path: Path
    columns: tuple[str, ...]
    rows: tuple[dict[str, str], ...]
    lines: tuple[int, ...]


def read_table(path: Path, header_line: int = 1) -> Table:
    """Read a tab-separated UTF-8 table, plain or gzip (a BOM and CRLF are fine, blank lines are skipped).

    The quotes that R and spreadsheets put around cells are taken off. Raises MetadataError with the line where a header
    name is empty or twice there, a row has another number of cells, or the bytes are not text.
    """
    lines = _text_lines(check_input(path, MetadataError))
    header = next((text for number, text in lines if number == header_line), "")
    if not header.strip():
        raise MetadataError("has no header", path=path, line=header_line)
    columns = _cells(header)
    _check_header(columns, path, header_line)
    rows, numbers = [], []
    for number, text in lines:
        if not text.strip():
            continue
        cells = _cells(text)
        if len(cells) != len(columns):
            raise MetadataError(f"has {len(cells)} cells where the header has {len(columns)}", path=path, line=number)
        rows.append(dict(zip(columns, cells)))
        numbers.append(number)
    if not rows:
        raise MetadataError("has a header but no rows", path=path)
    return Table(path, columns, tuple(rows), tuple(numbers))


def _text_lines(path: Path) -> Iterator[tuple[int, str]]:
    for number, line in read_lines(path, MetadataError):
        try:
            yield number, line.decode("utf-8")
        except UnicodeDecodeError as error:
            raise MetadataError("is not UTF-8 text", path=path, line=number) from error


def _cells(line: str) -> tuple[str, ...]:
    cells = tuple(cell.strip() for cell in line.split("\t"))
    return tuple(_unquoted(cell) for cell in cells) if '"' in line else cells


def _unquoted(cell: str) -> str:
    """Return what a spreadsheet means by `"a ""b"" c"`; any other quotes are a part of the value."""
    quoted = re.fullmatch('"((?:[^"]|"")*)"', cell)
    return quoted[1].replace('""', '"').strip() if quoted else cell


def _check_header(columns: tuple[str, ...], path: Path, line: int) -> None:
    if len(columns) < 2:
        raise MetadataError(
            f"has one column only ({columns[0][:40]!r})", path=path, line=line, hint="columns are separated by tabs"
        )
    seen: set[str] = set()
    for number, name in enumerate(columns, start=1):
        if not name:
            raise MetadataError(f"column {number} has no name", path=path, line=line)
        if name in seen:
            raise MetadataError(f"has the column {name[:40]!r} twice", path=path, line=line)
        seen.add(name)
