"""What the metadata table says of a signal track beyond its factors: the strand it was read on, whether it counts.

A stranded pair is two signal tracks of one experiment, one per strand. Seen from the other strand of DNA they trade places.
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from mfd_cli.base.arrays import Bools, Floats, Ints
from mfd_cli.base.errors import MetadataError
from mfd_cli.core.metadata import is_missing
from mfd_cli.experiments.track import Track
from mfd_cli.settings.config import Config

# The words that tables use; a word outside these lists is an error, because a guess would be wrong silently.
STRANDS = {"+": 1, "plus": 1, "forward": 1, "-": -1, "minus": -1, "reverse": -1}
UNSTRANDED = ("", ".", "*", "both", "unstranded")
COUNTS = ("counts", "count", "yes", "true", "1", "poisson")
NOT_COUNTS = ("", "no", "false", "0", "log-normal")


def strand_of(value: str, track: str) -> int:
    """Return 1, -1, or 0 for a track that is not stranded; MetadataError for any other word."""
    word = value.strip().lower()
    if word in STRANDS:
        return STRANDS[word]
    if word in UNSTRANDED or is_missing(word):
        return 0
    raise MetadataError(f"track {track!r}: the strand {value[:20]!r} is neither + nor -")


def strand_partners(tracks: Sequence[Track], config: Config) -> Ints:
    """Return (tracks,) the index of each track's partner on the other strand; its own index for a track without one.

    Raises MetadataError for a stranded track without exactly one partner, and where no factor of a conditioned model reads
    the strand: both tracks of a pair would have the same weights.
    """
    column = config.tracks.strand
    partners = np.arange(len(tracks))
    if column is None:
        return partners
    pairs: dict[tuple[str, ...], dict[int, int]] = {}
    for index, track in enumerate(tracks):
        strand = strand_of(track.metadata.get(column, ""), track.id)
        if strand == 0:
            continue
        if track.kind != "signal":
            raise MetadataError(
                f"track {track.id!r} has a strand, but its kind is {track.kind}: only signals are stranded"
            )
        pair = pairs.setdefault(experiment_of(track, config), {})
        if strand in pair:
            raise MetadataError(
                f"tracks {tracks[pair[strand]].id!r} and {track.id!r} are the same strand of one experiment"
            )
        pair[strand] = index
    for pair in pairs.values():
        if len(pair) == 1:
            alone = tracks[next(iter(pair.values()))].id
            raise MetadataError(f"track {alone!r} has a strand but no partner on the other strand in its experiment")
        partners[pair[1]], partners[pair[-1]] = pair[-1], pair[1]
    reads_strand = any(factor.column == column for factor in config.factors.values())
    if pairs and config.model.head == "conditioned" and not reads_strand:
        raise MetadataError(
            f"no factor reads the column {column!r}: both strands of an experiment would be predicted alike",
            hint=f'add to [factors]   strand = {{column = "{column}", group = "technical"}}',
        )
    return partners


def experiment_of(track: Track, config: Config) -> tuple[str, ...]:
    """Return what names a track's experiment.

    That is its cells in the columns of `tracks.experiment`, or if it has none, all of its row but id, file and strand.
    """
    cells = (track.metadata.get(column, "") for column in config.tracks.experiment)
    own = tuple(cell for cell in cells if not is_missing(cell))
    if own:
        return own
    apart = (config.tracks.id, config.tracks.path, config.tracks.strand)
    return tuple(value for column, value in track.metadata.items() if column not in apart)


def swapped_signs(tracks: Sequence[Track], partners: Ints) -> Floats:
    """Return (tracks,) -1 where a track and its partner have opposite signs (minus strands are often written below zero)."""
    means = np.array([track.mean_signal for track in tracks])
    return np.where(means * means[partners] < 0, -1, 1).astype(np.float32)


def count_tracks(tracks: Sequence[Track], config: Config) -> Bools:
    """Return (tracks,) which signal tracks are declared as counts; MetadataError for a word that is neither yes nor no."""
    column = config.tracks.counts
    if column is None:
        return np.zeros(len(tracks), bool)
    return np.array([track.kind == "signal" and is_count(track.metadata.get(column, ""), track.id) for track in tracks])


def is_count(cell: str, track: str) -> bool:
    """Return whether a cell declares a track as counts; MetadataError for a word that is neither yes nor no."""
    word = cell.strip().lower()
    if word in COUNTS:
        return True
    if word in NOT_COUNTS or is_missing(word):
        return False
    raise MetadataError(f"track {track!r}: tracks.counts says {word[:20]!r}, neither counts nor log-normal")
