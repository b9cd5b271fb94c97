"""A folder of `mfd explain`: contributions of single bases, and the regions that were explained."""

from __future__ import annotations

import csv
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

from mfd_cli.base.errors import InputError
from mfd_cli.base.files import names_of_files
from mfd_cli.formats.bigwig_reader import check_bigwig
from mfd_cli.genome.intervals import Interval
from mfd_cli.view.bigwigs import read_runs
from mfd_cli.view.colours import POSITIVE
from mfd_cli.view.shown import NumbersTrack, Table, Track, overlaps


@dataclass(frozen=True)
class ExplanationFolder:
    """`regions` are the rows of regions.tsv, `files` the bigWig of each direction; `top` regions of each are listed."""

    path: Path
    lengths: Mapping[str, int]
    regions: Sequence[Mapping[str, str]]
    files: Mapping[str, Path]
    top: int

    def tables(self, within: Sequence[Interval]) -> list[Table]:
        """Return the table of the strongest regions of every direction."""
        rows, places = [], []
        for direction in self.files:
            own = sorted((r for r in self.regions if r["level"] == direction), key=lambda row: -float(row["score"]))
            near = [row for row in own if not within or overlaps(_place(row), within)]
            for row in near[: self.top]:
                places.append(_place(row))
                rows.append({"bin": str(places[-1]), "score": row["score"], "level": direction})
        return [Table(f"Explained: {self.path.name}", "The bins with the largest scores.", rows, places)]

    def tracks(self, regions: Sequence[Interval]) -> list[Track]:
        """Return the contributions of every direction that has some in the regions, as letters."""
        made = [
            NumbersTrack(name, f"{self.path.name}: contribution per base", read_runs(file, regions), POSITIVE, letters=True)
            for name, file in self.files.items()
        ]
        return [track for track in made if track.runs]


def _place(row: Mapping[str, str]) -> Interval:
    return Interval(row["contig"], int(row["start"]), int(row["end"]))


def open_explanation(path: Path, top: int) -> ExplanationFolder:
    """Open a folder of `mfd explain`. InputError where it has no regions or lacks one of its bigWigs."""
    with (path / "regions.tsv").open(encoding="utf-8", newline="") as file:
        regions = [
            {**row, "level": row["level"].removeprefix("'")}
            for row in csv.DictReader(file, delimiter="\t", quoting=csv.QUOTE_NONE)
        ]
    directions = list(dict.fromkeys(row["level"] for row in regions))
    files = {name: path / f"{stem}.bw" for name, stem in zip(directions, names_of_files(directions))}
    missing = [file.name for file in files.values() if not file.is_file()]
    if missing or not files:
        raise InputError(f"holds no {missing[0] if missing else 'regions'}", path=path, hint="mfd explain --force again")
    return ExplanationFolder(path, check_bigwig(next(iter(files.values()))), regions, files, top)
