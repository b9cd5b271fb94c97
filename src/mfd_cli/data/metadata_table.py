"""A strict reader of tab-separated tables with a header, as ENCODE's portal gives them."""

from __future__ import annotations

import codecs
from dataclasses import dataclass
from pathlib import Path

from mfd_cli.errors import MetadataError
from mfd_cli.files import check_input


@dataclass(frozen=True)
class Table:
    """Rows as dictionaries, with the line of the file that each came from (1-based)."""

    path: Path
    columns: tuple[str, ...]
    rows: tuple[dict[str, str], ...]
    lines: tuple[int, ...]


def read_table(path: Path, header_line: int = 1) -> Table:
    """Read a tab-separated UTF-8 table (a BOM and CRLF are fine, blank lines are skipped).

    Raises MetadataError with the line where a header name is empty or twice there, a row has another number of cells,
    or the bytes are not text.
    """
    raw = check_input(path, MetadataError).read_bytes()
    if raw[:2] in (codecs.BOM_UTF16_LE, codecs.BOM_UTF16_BE):
        raise MetadataError("is UTF-16 text", path=path, hint="save it as UTF-8")
    if b"\0" in raw:
        raise MetadataError("has a NUL byte", path=path, line=raw[: raw.index(b"\0")].count(b"\n") + 1)
    try:
        text = raw.decode("utf-8-sig")
    except UnicodeDecodeError as error:
        line = raw[: error.start].count(b"\n") + 1
        raise MetadataError("is not UTF-8 text", path=path, line=line) from error
    lines = text.replace("\r\n", "\n").split("\n")
    if len(lines) < header_line or not lines[header_line - 1].strip():
        raise MetadataError("has no header", path=path, line=header_line)
    columns = tuple(name.strip() for name in lines[header_line - 1].split("\t"))
    _check_header(columns, path, header_line)
    rows, numbers = [], []
    for number, text in enumerate(lines[header_line:], start=header_line + 1):
        if not text.strip():
            continue
        cells = text.split("\t")
        if len(cells) != len(columns):
            raise MetadataError(f"has {len(cells)} cells where the header has {len(columns)}", path=path, line=number)
        rows.append({name: cell.strip() for name, cell in zip(columns, cells)})
        numbers.append(number)
    if not rows:
        raise MetadataError("has a header but no rows", path=path)
    return Table(path, columns, tuple(rows), tuple(numbers))


def _check_header(columns: tuple[str, ...], path: Path, line: int) -> None:
    if len(columns) < 2:
        raise MetadataError(
            f"has one column only ({columns[0][:40]!r})", path=path, line=line, hint="columns are separated by tabs"
        )
    seen: set[str] = set()
    for place, name in enumerate(columns, start=1):
        if not name:
            raise MetadataError(f"column {place} has no name", path=path, line=line)
        if name in seen:
            raise MetadataError(f"has the column {name[:40]!r} twice", path=path, line=line)
        seen.add(name)
