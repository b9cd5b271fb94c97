"""The image manifest: which picture is of whom, and of which eye."""

from __future__ import annotations

from collections.abc import Collection, Mapping
from dataclasses import dataclass, field
from pathlib import Path

from mfd_cli.base.errors import ImageError, few
from mfd_cli.base.urls import is_url
from mfd_cli.contig.config import FactorSection
from mfd_cli.contig.data.image_factors import check_columns, factors_of
from mfd_cli.formats.metadata_table import read_table

EYES = {"left": "left", "l": "left", "os": "left", "right": "right", "r": "right", "od": "right", "": ""}
"""What a cell of the column eye may say, in small letters, and what it means; nothing where images have no sides."""


@dataclass(frozen=True)
class ImageRow:
    """A line of the manifest. `image` is unique, `eye` is left, right or nothing, `split` empty where no column says it;
    `factors` says what it has of each technical factor."""

    person: str
    image: str
    path: Path
    eye: str
    split: str
    line: int
    factors: Mapping[str, str] = field(default_factory=dict)


def read_manifest(
    path: Path,
    split: str | None = None,
    factors: Mapping[str, FactorSection] | None = None,
    missing: Collection[str] = (),
) -> list[ImageRow]:
    """Read the manifest: a table with the columns person and path, and where they are known image and eye.

    Paths are relative to the manifest and stay within its folder. `split` names a column that says train, validation or test,
    `factors` those of technical factors, `missing` the cells that say nothing of one. Raises ImageError, with the line, where a
    column is missing, a value is none, or a picture is named twice.
    """
    table = read_table(path)
    for column in ("person", "path", *([split] if split else [])):
        if column not in table.columns:
            raise ImageError(
                f"has no column {column!r}; it has {few(table.columns, 20)}",
                path=path,
                line=1,
                hint="the manifest of images needs the columns person and path",
            )
    check_columns(table.columns, factors or {}, path)
    rows, names, paths = [], dict[str, int](), dict[str, int]()
    for cells, line in zip(table.rows, table.lines):
        row = _row(path, cells, line, split, factors_of(cells, factors or {}, missing, path, line))
        for what, value, seen in (("image", row.image, names), ("path", str(row.path), paths)):
            if value in seen:
                raise ImageError(f"{what} {value} stands on line {seen[value]} already", path=path, line=line)
            seen[value] = line
        rows.append(row)
    return rows


def _row(path: Path, cells: dict[str, str], line: int, split: str | None, factors: Mapping[str, str]) -> ImageRow:
    """A checked line of the manifest."""
    for column in ("person", "path"):
        if not cells[column]:
            raise ImageError(f"{column} is empty", path=path, line=line)
    place = cells["path"]
    if is_url(place):
        raise ImageError(f"path is a URL ({place[:60]})", path=path, line=line, hint="fetch the pictures first")
    if Path(place).is_absolute() or ".." in Path(place).parts:
        raise ImageError(
            f"path leads out of the manifest's folder ({place[:80]})",
            path=path,
            line=line,
            hint="paths are relative to the manifest",
        )
    eye = cells.get("eye", "").lower()
    if eye not in EYES:
        raise ImageError(f"eye is {cells['eye'][:40]!r}", path=path, line=line, hint="left, right, L, R, OS or OD")
    said = cells[split] if split else ""
    if split and said not in ("train", "validation", "test"):
        raise ImageError(f"{split} is {said[:40]!r}, not train, validation or test", path=path, line=line)
    return ImageRow(cells["person"], cells.get("image") or place, path.parent / place, EYES[eye], said, line, factors)
