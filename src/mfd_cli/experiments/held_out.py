"""Which tracks are kept out of training: named ones, those of a level, those of a combination of levels.

Files of one experiment or one library share their reads, so they are held out together.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence

from mfd_cli.base.errors import ConfigError, nearest
from mfd_cli.core.metadata import ENCODERS, MISSING, is_missing
from mfd_cli.settings.config import Config

Row = Mapping[str, str]


def held_out_tracks(config: Config, rows: Mapping[str, Row]) -> set[str]:
    """Return the ids of the tracks that `train.held_out` names, with every other file of the same experiment or library.

    `rows` maps a track's id to its metadata. Raises ConfigError for an item that names no track, factor or level, and
    where nothing would be left to train on.
    """
    named: set[str] = set()
    for item in config.train.held_out:
        named |= {_known(item, rows)} if isinstance(item, str) else matching_tracks(config, rows, item)
    held = named | same_experiment(named, config.tracks.experiment, rows)
    if rows and held >= set(rows):
        raise ConfigError("train.held_out leaves no track to train on")
    return held


def matching_tracks(config: Config, rows: Mapping[str, Row], levels: Mapping[str, str]) -> set[str]:
    """Return the ids of the tracks that have all of these levels, given as {factor: level}; ConfigError where there is none.

    A level that is empty or NA means the tracks without a value, as in the table.
    """
    levels = {factor: MISSING if is_missing(level) else level for factor, level in levels.items()}
    for factor in levels:
        if factor not in config.factors:
            raise ConfigError(f"train.held_out names the factor {factor!r}{nearest(factor, list(config.factors))}")
    matching = {
        name
        for name, row in rows.items()
        if all(level in levels_of_row(config, factor, row) for factor, level in levels.items())
    }
    if not matching:
        for factor, level in levels.items():
            known = {name for row in rows.values() for name in levels_of_row(config, factor, row)}
            if level not in known:
                raise ConfigError(f"train.held_out: {factor} has no level {level!r}{nearest(level, known)}")
        wanted = ", ".join(f"{factor} = {level}" for factor, level in levels.items())
        raise ConfigError(
            f"train.held_out: no track has {wanted}", hint="each of these levels exists, but not together"
        )
    return matching


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


def _known(name: str, rows: Mapping[str, Row]) -> str:
    if name not in rows:
        raise ConfigError(f"train.held_out names {name!r}, which is no track{nearest(name, list(rows))}")
    return name
