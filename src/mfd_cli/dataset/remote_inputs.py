"""`mfd fetch-inputs`: which files a project, or a table of ENCODE's, names by URLs, and fetching them."""

from __future__ import annotations

import re
from collections.abc import Mapping
from pathlib import Path

from mfd_cli.base.errors import MetadataError
from mfd_cli.base.fetch import PAUSE, FetchPlan, FetchSummary, Remote, fetch, plan_fetch
from mfd_cli.base.fetched import fetched
from mfd_cli.base.progress import Progress
from mfd_cli.base.urls import is_url
from mfd_cli.experiments.encode_portal import (
    Columns,
    choose_files,
    columns_of,
    is_encode,
    md5_of_row,
    read_any_table,
    url_of_row,
)
from mfd_cli.experiments.sources import check_columns, is_control
from mfd_cli.formats.metadata_table import read_table
from mfd_cli.settings.project import Project


def fetch_inputs(
    project: Project,
    *,
    folder: Path | None = None,
    limit: int | None = None,
    again: bool = False,
    progress: Progress | None = None,
    pause: float = PAUSE,
) -> FetchSummary:
    """Fetch every input that a project names by a URL, and that is not in the folder of fetched inputs (or `folder`) yet.

    A table that is remote itself comes first, since it names the tracks. Raises what `fetch` raises, and MetadataError for the
    table.
    """
    table = table_url(project)
    first = fetch(table, folder=folder, limit=limit, again=again, progress=progress, pause=pause)
    left = limit - sum(file.bytes for _, file in first.fetched) if limit is not None else None
    others = [remote for remote in remote_inputs(project, folder) if remote not in table]
    rest = fetch(others, folder=folder, limit=left, again=again, progress=progress, pause=pause)
    return FetchSummary(rest.folder, [*first.fetched, *rest.fetched], [*first.present, *rest.present])


def plan_fetch_inputs(project: Project, *, folder: Path | None = None, again: bool = False) -> FetchPlan:
    """Return what `fetch_inputs` would do. Of a table that is remote, and not here yet, the tracks are not known."""
    table = plan_fetch(table_url(project), folder=folder)
    return table if table.missing else plan_fetch(remote_inputs(project, folder), folder=folder, again=again)


def table_url(project: Project) -> list[Remote]:
    """Return the project's metadata table, if it is named by a URL."""
    name = project.config.data.metadata
    return [Remote(name)] if name is not None and is_url(name) else []


def remote_inputs(project: Project, folder: Path | None = None) -> list[Remote]:
    """Return the inputs of a project that are named by URLs: what mfd.toml names, then what its metadata table names.

    A table that is remote itself is looked for in the folder of fetched inputs (or `folder`).
    """
    config, columns = project.config, project.config.tracks
    names = (config.data.fasta, config.data.metadata, config.bins.regions, config.bins.exclude, config.bins.mappability)
    named = [Remote(name) for name in names if name is not None and is_url(name)]
    if config.data.metadata is None:
        return named
    found = fetched(config.data.metadata, folder) if table_url(project) else None
    table = read_table(found.path if found is not None else project.path(config.data.metadata))
    check_columns(config, table.columns, ("tracks.path", "tracks.assayed", "tracks.control"), table.path, line=1)
    known = columns_of(table)
    for row, line in zip(table.rows, table.lines):
        if not is_control(row, columns):
            assayed = row[columns.assayed] if columns.assayed else ""
            named += [remote_of(row, row[columns.path], known, table.path, line)] if is_url(row[columns.path]) else []
            named += [Remote(assayed)] if is_url(assayed) else []
    return named


def chosen_inputs(metadata: Path, assembly: str | None = None) -> list[Remote]:
    """Return the files that `mfd init` chooses from a table of ENCODE's, of one assembly (None: that of most files).

    Of a table that says where its files are, these are all that it names by URLs. Raises MetadataError where nothing is left,
    or the table has no column of URLs.
    """
    table = read_any_table(metadata)
    columns = columns_of(table)
    if is_encode(table):
        named = [(row, url_of_row(row, columns)) for row in choose_files(table, assembly).rows]
        if not any(url for _, url in named):
            hint = "ENCODE's column is called File download URL"
            raise MetadataError("tells no URL of the files that were chosen", path=metadata, line=1, hint=hint)
    else:
        named = [(row, columns.cell(row, "path")) for row in table.rows]
    line_of = {id(row): line for row, line in zip(table.rows, table.lines)}
    return [remote_of(row, url, columns, metadata, line_of[id(row)]) for row, url in named if is_url(url)]


def remote_of(row: Mapping[str, str], url: str, columns: Columns, path: Path, line: int) -> Remote:
    """Return the file that a row of the table at `path` names, with the md5 and the size that it tells, if it does.

    Raises MetadataError where the md5 is none.
    """
    size = columns.cell(row, "size")
    md5 = md5_of_row(row, columns, path, line)
    return Remote(url, md5, int(size) if re.fullmatch("[0-9]{1,15}", size) else None)
