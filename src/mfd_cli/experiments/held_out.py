"""Which tracks are kept out of training: named ones, those of a level, those of a combination of levels.

Files of one experiment or one library share their reads, so they are held out together.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence

from mfd_cli.base.errors import ConfigError, nearest
from mfd_cli.core.metadata import ENCODERS, MISSING, is_missing
from mfd_cli.settings.config import Config

Row = Mapping[str, str]


def held_out_tracks(config: Config, rows: Mapping[str, Row], warn: Callable[[str], None] | None = None) -> set[str]:
    """Return the ids of the tracks that `train.held_out` names, with every other file of the same experiment or library.

    `rows` maps a track's id to its metadata. Raises ConfigError for an unknown factor, for an item that names no track of
    these, and where nothing would be left to train on. With `warn`, which is told of it, an item that names no track holds
    nothing out: the table may be another than the one that the list was written for.
    """
    named: set[str] = set()
    for item in config.train.held_out:
        found = {item} & set(rows) if isinstance(item, str) else matching_tracks(config, rows, item)
        named |= found
        if not found:
            error = names_nothing(config, rows, item)
            if warn is None:
                raise error
            warn(f"an item of the list holds nothing out of this table, and mfd train would refuse it: {error.message}")
    held = named | same_experiment(named, config.tracks.experiment, rows)
    if rows and held >= set(rows):
        raise ConfigError("train.held_out leaves no track to train on")
    return held


def matching_tracks(config: Config, rows: Mapping[str, Row], levels: Mapping[str, str]) -> set[str]:
    """Return the ids of the tracks that have all of these levels, given as {factor: level}; ConfigError for an unknown factor.

    A level that is empty or NA means the tracks without a value, as in the table.
    """
    levels = as_in_tables(levels)
    for factor in levels:
        if factor not in config.factors:
            raise ConfigError(f"train.held_out names the factor {factor!r}{nearest(factor, list(config.factors))}")
    return {
        name
        for name, row in rows.items()
        if all(level in levels_of_row(config, factor, row) for factor, level in levels.items())
    }


def as_in_tables(levels: Mapping[str, str]) -> dict[str, str]:
    """Return levels by factor, with one name for a value that is missing."""
    return {factor: MISSING if is_missing(level) else level for factor, level in levels.items()}


def names_nothing(config: Config, rows: Mapping[str, Row], item: str | Mapping[str, str]) -> ConfigError:
    """Return the error that says why an item of the list names no track of these rows."""
    if isinstance(item, str):
        return ConfigError(f"train.held_out names {item!r}, which is no track{nearest(item, list(rows))}")
    levels = as_in_tables(item)
    for factor, level in levels.items():
        known = {name for row in rows.values() for name in levels_of_row(config, factor, row)}
        if level not in known:
            return ConfigError(f"train.held_out: {factor} has no level {level!r}{nearest(level, known)}")
    wanted = ", ".join(f"{factor} = {level}" for factor, level in levels.items())
    return ConfigError(f"train.held_out: no track has {wanted}", hint="each of these levels exists, but not together")


def levels_of_row(config: Config, factor: str, row: Row) -> list[str]:
    """Return the levels of one factor that a metadata row has; a number is its own level."""
    settings = config.factors[factor]
    return ENCODERS[settings.type].split(row.get(settings.column, ""))


def same_experiment(named: set[str], columns: Sequence[str], rows: Mapping[str, Row]) -> set[str]:
    """Return the tracks that share a value in one of these columns with a named one; a missing value is shared with nobody."""
    sharing = set[str]()
    for column in columns:
        values = {name: row.get(column, "").strip() for name, row in rows.items()}
        taken = {values[name] for name in named if not is_missing(values[name])}
        sharing |= {name for name, value in values.items() if value in taken}
    return sharing
