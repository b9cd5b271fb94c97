"""The tracks that a project's metadata table names: which files there are, what kind they are, whether they can be read."""

from __future__ import annotations

import os
import unicodedata
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path

from mfd_cli.base.errors import ConfigError, InputErrors, MetadataError, MfdError, RegionError, few, nearest
from mfd_cli.base.files import check_input
from mfd_cli.base.urls import is_url, key_of, name_of, shown, without_secrets
from mfd_cli.experiments.encode_portal import columns_of, md5_of_row
from mfd_cli.experiments.track import Kind
from mfd_cli.formats.bigwig_reader import check_bigwig
from mfd_cli.formats.metadata_table import read_table
from mfd_cli.settings.config import Config, TracksConfig
from mfd_cli.settings.project import Project, located

LONGEST_NAME = 500
"""Letters of the name of a track or a file."""
NO_CONTROL = ("", "no", "false", "0")
"""What a cell of the column of controls says of a track that is none, whatever its case."""


@dataclass(frozen=True)
class Source:
    """One row of the metadata table: a track and its file.

    `name` is the file as the table names it, `path` where it is, `file` the same for two names of one file; `assayed` is the
    BED of where the track was measured; `md5` (hexadecimal) is what the table tells of the file, if it does.
    """

    id: str
    kind: Kind
    path: Path
    name: str
    assayed: Path | None
    row: Mapping[str, str]
    line: int
    file: str
    md5: str | None = None


@dataclass(frozen=True)
class Sources:
    """The tracks of the metadata table at `path`, peaks first, and the ids of its controls, which are no tracks."""

    path: Path
    tracks: Sequence[Source]
    controls: Sequence[str]


def not_given(project: Project, what: str, hint: str) -> ConfigError:
    """Return the error for where neither mfd.toml nor an option names a file."""
    nowhere = "" if project.file else ", and there is no mfd.toml here"
    return ConfigError(f"no {what} is given{nowhere}", path=project.file, hint=hint)


def read_sources(project: Project) -> Sources:
    """Read the tracks of the project's metadata table. Their files are not looked at: see `check_sources`.

    Raises MetadataError where a row is wrong, the table lacks a column that mfd.toml names, or holds controls only.
    """
    if project.config.data.metadata is None:
        raise not_given(project, "metadata table", "set data.metadata in mfd.toml, or --metadata FILE")
    table = read_table(project.path(project.config.data.metadata))
    settings = [setting for setting, _ in columns_named(project.config)]
    check_columns(project.config, table.columns, settings, table.path, line=1)
    columns = project.config.tracks
    known = columns_of(table)
    sources, controls = list[Source](), list[str]()
    for row, line in zip(table.rows, table.lines):
        if is_control(row, columns):
            controls.append(row[columns.id])
        else:
            md5 = md5_of_row(row, known, table.path, line)
            sources.append(replace(_source_of(row, line, columns, table.path), md5=md5))
    if not sources:
        raise MetadataError(
            f"every track is marked as a control in the column {columns.control!r}",
            path=table.path,
            hint=f"the cell of a track that is none is empty, or one of: {', '.join(filter(None, NO_CONTROL))}",
        )
    _check_names(sources, table.path)
    return Sources(table.path, sorted(sources, key=lambda source: source.kind != "peaks"), controls)


def is_control(row: Mapping[str, str], columns: TracksConfig) -> bool:
    """Return whether a row of the metadata table is marked as a control, which is no track."""
    return columns.control is not None and row[columns.control].strip().lower() not in NO_CONTROL


def check_columns(
    config: Config, columns: Sequence[str], settings: Sequence[str], path: Path, line: int | None = None
) -> None:
    """Raise MetadataError where one of these settings of mfd.toml (such as tracks.strand) names a column that is not there.

    `path` and `line` are where the columns come from. tracks.experiment has columns by default, of which a table need have
    none; only those that are set must be there.
    """
    for setting, column in columns_named(config):
        if setting in settings and column not in columns:
            raise MetadataError(
                f"has no column {column!r}, which {setting} names{nearest(column, columns)}", path=path, line=line
            )


def columns_named(config: Config) -> list[tuple[str, str]]:
    """Return (setting, column) for every column of the metadata table that a configuration names."""
    tracks = config.tracks
    named = [(f"tracks.{key}", getattr(tracks, key)) for key in type(tracks).model_fields if key != "experiment"]
    if "experiment" in tracks.model_fields_set:
        named += [("tracks.experiment", column) for column in tracks.experiment]
    named += [(f"factors.{factor}", settings.column) for factor, settings in config.factors.items()]
    return [(setting, column) for setting, column in named if column is not None]


def _source_of(row: Mapping[str, str], line: int, columns: TracksConfig, path: Path) -> Source:
    """The track of a row of the table at `path`; its files are named relative to the table, or by URLs."""
    name, file = row[columns.id], row[columns.path]
    if not name or not file:
        raise MetadataError(f"has no {'id' if not name else 'file'}", path=path, line=line)
    kind = kind_of(row[columns.kind] if columns.kind else "", name_of(file) if is_url(file) else file, path, line)
    assayed = row[columns.assayed] if columns.assayed else ""
    beside = located(path.parent, assayed) if assayed else None
    where = located(path.parent, file)
    # Two experiments may have the same content, which is fetched once: they are two files all the same.
    plain, same = (shown(file), key_of(file)) if is_url(file) else (file, os.path.normpath(where))
    return Source(name, kind, where, plain, beside, without_secrets(row), line, same)


def controls_sentence(controls: Sequence[str], column: str | None) -> list[str]:
    """Return a sentence on the rows that were left out as controls, if there are any."""
    if not controls:
        return []
    count = f"{len(controls):,} track{'s' if len(controls) > 1 else ''}"
    return [f"left out as controls (column {column!r}): {count} ({few(controls)})"]


def _check_names(sources: Sequence[Source], path: Path) -> None:
    """MetadataError where the name of a track or a file cannot be shown, or is there twice."""
    lines: dict[tuple[str, str], int] = {}
    for source in sources:
        for what, name, same in (
            ("track", source.id, source.id),
            ("file", source.name, source.file),
        ):
            if len(name) > LONGEST_NAME or any(unicodedata.category(letter)[0] == "C" for letter in name):
                raise MetadataError(
                    f"the name of the {what}, {name[:40]!r}, is too long or has letters that cannot be seen",
                    path=path,
                    line=source.line,
                )
            before = lines.setdefault((what, same), source.line)
            if before != source.line:
                raise MetadataError(f"{what} {name[:60]!r} is on line {before} already", path=path, line=source.line)


def kind_of(word: str, file: str, path: Path, line: int) -> Kind:
    """Return peaks or signal: by the word in the kind column if there is one, otherwise by the file's name.

    Raises MetadataError, which names the line of the table at `path`, where that tells neither.
    """
    word, name = word.lower(), file.lower().removesuffix(".gz")
    if any(part in word for part in ("signal", "bigwig")) or (not word and name.endswith((".bw", ".bigwig"))):
        return "signal"
    if any(part in word for part in ("peak", "bed")) or (not word and name.endswith((".bed", "peak"))):
        return "peaks"
    shown = f"the kind {word[:40]!r}" if word else f"the file name {file[-60:]!r}"
    raise MetadataError(
        f"{shown} tells neither peaks nor signal",
        path=path,
        line=line,
        hint="peaks are .bed, .narrowPeak or .broadPeak (.gz), signal is .bigWig or .bw; or set tracks.kind",
    )


def check_sources(sources: Sequence[Source]) -> None:
    """Look at every track file before the long work.

    Raises InputErrors with all that are faulty together, or the one error.
    """
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
