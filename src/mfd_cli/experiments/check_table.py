"""What training will do with the metadata table, done once and thrown away: what it would refuse is refused before the work."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

from mfd_cli.base.errors import MetadataError
from mfd_cli.core.metadata import ENCODERS, fit_metadata, is_missing
from mfd_cli.experiments.held_out import held_out_tracks
from mfd_cli.experiments.sources import Source, Sources
from mfd_cli.experiments.strands import is_count, strand_of, strand_partners
from mfd_cli.experiments.track import Track
from mfd_cli.settings.config import Config


def check_table(config: Config, table: Sources, warn: Callable[[str], None] | None = None) -> set[str]:
    """Check the cells of every factor, strands and counts, and the training tracks together; return the held-out tracks' ids.

    Raises MetadataError, which names the line and the track where a cell is wrong, ConfigError for train.held_out; with `warn`
    not for what it names and this table lacks (see `held_out_tracks`).
    """
    for source in table.tracks:
        with errors_at(table.path, source.line):
            check_row(config, source)
    held_out = held_out_tracks(config, {source.id: source.row for source in table.tracks}, warn)
    training = [source for source in table.tracks if source.id not in held_out]
    for source in training:
        with errors_at(table.path, source.line):
            check_no_value_is_missing(config, source)
    tracks = [Track(source.id, source.kind, source.row) for source in table.tracks]
    with errors_at(table.path):
        fit_metadata([source.row for source in training], config.factors)
        strand_partners(tracks, config)
    return held_out


def check_row(config: Config, source: Source) -> None:
    """Raise MetadataError where a cell is not what its column holds."""
    for name, factor in config.factors.items():
        try:
            ENCODERS[factor.type].split(source.row[factor.column])
        except MetadataError as error:
            raise MetadataError(f"track {source.id!r}: {error.message}, for factors.{name}") from error
    if config.tracks.strand:
        strand_of(source.row[config.tracks.strand], source.id)
    if config.tracks.counts and source.kind == "signal":
        is_count(source.row[config.tracks.counts], source.id)


def check_no_value_is_missing(config: Config, source: Source) -> None:
    """Raise MetadataError where a training track has no value of a factor that must have one."""
    for name, factor in config.factors.items():
        if factor.missing == "error" and is_missing(source.row[factor.column]):
            raise MetadataError(
                f"track {source.id!r}: has no value in the column {factor.column!r}, for factors.{name}",
                hint='missing = "level" makes the missing value a level of its own',
            )


@contextmanager
def errors_at(path: Path, line: int | None = None) -> Iterator[None]:
    """Name the file and the line in a MetadataError that is raised inside the block."""
    try:
        yield
    except MetadataError as error:
        error.path, error.line = path, line
        raise
