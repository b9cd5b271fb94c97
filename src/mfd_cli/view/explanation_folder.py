"""A folder of `mfd explain`: contributions of single bases, and the regions that were explained."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import NamedTuple

from mfd_cli.base.errors import InputError
from mfd_cli.base.files import names_of_files
from mfd_cli.formats.bigwig_reader import check_bigwig
from mfd_cli.formats.tables import read_tsv
from mfd_cli.genome.intervals import Interval
from mfd_cli.view.drawn import POSITIVE
from mfd_cli.view.read_folder import read_runs
from mfd_cli.view.shown import NumbersTrack, Table, Track, overlaps, written

PER_BASE = "contribution of a base, on the scale on which parts add up"


class Explained(NamedTuple):
    """A bin that was explained: the direction, where the bin is, its score, and that score as the table writes it."""

    direction: str
    place: Interval
    score: float
    text: str


@dataclass(frozen=True)
class ExplanationFolder:
    """`bins` are the rows of regions.tsv, `files` the bigWig of each direction; `top` bins of each direction are listed."""

    path: Path
    lengths: Mapping[str, int]
    bins: Sequence[Explained]
    files: Mapping[str, Path]
    top: int

    def tables(self, within: Sequence[Interval]) -> list[Table]:
        """Return the table of the strongest bins of every direction."""
        near = [one for one in self.bins if not within or overlaps(one.place, within)]
        shown = list[Explained]()
        for direction in self.files:
            own = (one for one in near if one.direction == direction)
            shown += sorted(own, key=lambda one: -one.score)[: self.top]
        rows = [{"bin": written(one.place), "score": one.text, "level": one.direction} for one in shown]
        about = "The explained bins with the largest scores."
        return [Table(f"Explained: {self.path.name}", about, rows, [one.place for one in shown])]

    def tracks(self, regions: Sequence[Interval]) -> list[Track]:
        """Return the contributions of every direction that has some in the regions, as letters."""
        about = f"{self.path.name}: contribution per base"
        made = [
            NumbersTrack(name, about, read_runs(file, regions), POSITIVE, letters=True, axis=about, unit=PER_BASE)
            for name, file in self.files.items()
        ]
        return [track for track in made if track.runs]


def open_explanation(path: Path, top: int) -> ExplanationFolder:
    """Open a folder of `mfd explain`. InputError where regions.tsv is not as it was written, or a bigWig is missing."""
    table = path / "regions.tsv"
    rows = read_tsv(table, ("level", "contig", "start", "end", "score"))
    bins = [_explained(row, table, number) for number, row in enumerate(rows, start=2)]
    directions = list(dict.fromkeys(one.direction for one in bins))
    files = {name: path / f"{stem}.bw" for name, stem in zip(directions, names_of_files(directions))}
    missing = [file.name for file in files.values() if not file.is_file()]
    if missing or not files:
        raise InputError(
            f"holds no {missing[0] if missing else 'regions'}", path=path, hint="mfd explain --force again"
        )
    return ExplanationFolder(path, check_bigwig(next(iter(files.values()))), bins, files, top)


def _explained(row: Mapping[str, str], path: Path, line: int) -> Explained:
    """Return a row of regions.tsv as values. InputError where it holds no numbers."""
    try:
        place = Interval(row["contig"], int(row["start"]), int(row["end"]))
        return Explained(row["level"], place, float(row["score"]), row["score"])
    except ValueError:
        raise InputError("start, end or score is no number", path=path, line=line) from None
