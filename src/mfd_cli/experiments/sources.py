"""The tracks that a project's metadata table names: which files there are, what kind they are, whether they can be read."""

from __future__ import annotations

import os
import unicodedata
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

from mfd_cli.base.errors import ConfigError, InputErrors, MetadataError, MfdError, RegionError, nearest
from mfd_cli.base.files import check_input
from mfd_cli.experiments.track import Kind
from mfd_cli.formats.bigwig_reader import check_bigwig
from mfd_cli.formats.metadata_table import Table, read_table
from mfd_cli.settings.project import Project, located

_LONGEST_NAME = 500


@dataclass(frozen=True)
class Source:
    """One row of the metadata table: a track and its file."""

    id: str
    kind: Kind
    path: Path
    name: str
    assayed: Path | None
    row: Mapping[str, str]
    line: int


def not_given(project: Project, what: str, hint: str) -> ConfigError:
    """The error where neither mfd.toml nor an option names a file."""
    nowhere = "" if project.file else ", and there is no mfd.toml here"
    return ConfigError(f"no {what} is given{nowhere}", path=project.file, hint=hint)


def read_table_of(project: Project) -> Table:
    """The project's metadata table."""
    if project.config.data.metadata is None:
        raise not_given(project, "metadata table", "set data.metadata in mfd.toml, or --metadata FILE")
    return read_table(project.path(project.config.data.metadata))


def read_sources(project: Project) -> list[Source]:
    """The tracks of the project's metadata table, peak tracks first. MetadataError where a row is wrong."""
    columns, table = project.config.tracks, read_table_of(project)
    for what, name in (
        ("id", columns.id),
        ("path", columns.path),
        ("kind", columns.kind),
        ("assayed", columns.assayed),
    ):
        if name is not None and name not in table.columns:
            raise MetadataError(
                f"has no column {name!r}, which tracks.{what} names{nearest(name, table.columns)}",
                path=table.path,
                line=1,
            )
    for factor, settings in project.config.factors.items():
        if settings.column not in table.columns:
            near = nearest(settings.column, table.columns)
            raise MetadataError(
                f"has no column {settings.column!r}, which factors.{factor} names{near}", path=table.path, line=1
            )
    base, sources = table.path.parent, list[Source]()
    for row, line in zip(table.rows, table.lines):
        name, file = row[columns.id], row[columns.path]
        if not name or not file:
            raise MetadataError(f"has no {'id' if not name else 'file'}", path=table.path, line=line)
        kind = kind_of(row[columns.kind] if columns.kind else "", file, table.path, line)
        assayed = row[columns.assayed] if columns.assayed else ""
        beside = located(base, assayed) if assayed else None
        sources.append(Source(name, kind, located(base, file), file, beside, row, line))
    _check_names(sources, table.path)
    return sorted(sources, key=lambda source: source.kind != "peaks")


def _check_names(sources: Sequence[Source], path: Path) -> None:
    """MetadataError where the name of a track or a file cannot be shown, or is there twice."""
    lines: dict[tuple[str, str], int] = {}
    for source in sources:
        for what, name, same in (
            ("track", source.id, source.id),
            ("file", source.name, os.path.normpath(source.path)),
        ):
            if len(name) > _LONGEST_NAME or any(unicodedata.category(letter)[0] == "C" for letter in name):
                raise MetadataError(
                    f"the name of the {what}, {name[:40]!r}, is too long or has letters that cannot be seen",
                    path=path,
                    line=source.line,
                )
            before = lines.setdefault((what, same), source.line)
            if before != source.line:
                raise MetadataError(f"{what} {name[:60]!r} is on line {before} already", path=path, line=source.line)


def kind_of(told: str, file: str, path: Path, line: int) -> Kind:
    """Peaks or signal: by the kind column if it says so, otherwise by the file's name."""
    told, name = told.lower(), file.lower().removesuffix(".gz")
    if any(word in told for word in ("signal", "bigwig")) or (not told and name.endswith((".bw", ".bigwig"))):
        return "signal"
    if any(word in told for word in ("peak", "bed")) or (not told and name.endswith((".bed", "peak"))):
        return "peaks"
    shown = f"the kind {told[:40]!r}" if told else f"the file name {file[-60:]!r}"
    raise MetadataError(
        f"{shown} tells neither peaks nor signal",
        path=path,
        line=line,
        hint="peaks are .bed, .narrowPeak or .broadPeak (.gz), signal is .bigWig or .bw; or set tracks.kind",
    )


def check_sources(sources: Sequence[Source]) -> None:
    """Look at every track file before the long work; all that are faulty are reported together."""
    errors: list[MfdError] = []
    for source in sources:
        try:
            if source.kind == "signal":
                check_bigwig(source.path)
            else:
                check_input(source.path, RegionError)
            if source.assayed is not None:
                check_input(source.assayed, RegionError)
        except MfdError as error:
            error.hint = error.hint or f"line {source.line} of the metadata table names it"
            errors.append(error)
    if errors:
        raise errors[0] if len(errors) == 1 else InputErrors(errors)
