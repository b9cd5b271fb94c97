"""A folder of `mfd predict`: its bigWigs, and the bins where they are highest."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import pyarrow.compute as pc
import pyarrow.parquet as pq

from mfd_cli.base.errors import InputError
from mfd_cli.formats.bigwig_reader import check_bigwig
from mfd_cli.formats.tables import read_tsv
from mfd_cli.genome.intervals import Interval
from mfd_cli.settings.names import SURE_COLUMN, TOTAL
from mfd_cli.view.drawn import axis_of, colour_of
from mfd_cli.view.read_folder import read_runs
from mfd_cli.view.shown import NumbersTrack, Table, Track, written

OF_OUTPUTS = ("output", "file", "part", "scale", "support", "bias")
"""Columns of outputs.tsv beside one for every factor."""


@dataclass(frozen=True)
class PredictionFolder:
    """`outputs` are the rows of outputs.tsv; `top` is how many bins of each output are listed."""

    path: Path
    lengths: Mapping[str, int]
    outputs: Sequence[Mapping[str, str]]
    top: int

    def tables(self, within: Sequence[Interval] = ()) -> list[Table]:
        """Return the table of the bins in which the totals (or, without any, the parts) are highest."""
        totals = [row["output"] for row in self.outputs if row["part"] == TOTAL]
        names = totals or [row["output"] for row in self.outputs if not row["part"].endswith(SURE_COLUMN)]
        table = pq.read_table(self.path / "predictions.parquet", columns=["contig", "start", "end", *names])
        rows, places = [], []
        for name in names:
            best = pc.select_k_unstable(table, self.top, [(name, "descending")])
            for row in table.select(["contig", "start", "end", name]).take(best).to_pylist():
                places.append(Interval(row["contig"], row["start"], row["end"]))
                rows.append({"bin": written(places[-1]), "value": str(np.float32(row[name])), "output": name})
        return [
            Table(
                "Highest predictions", f"The bins in which the outputs of {self.path.name} are highest.", rows, places
            )
        ]

    def tracks(self, regions: Sequence[Interval]) -> list[Track]:
        """Return a track per output that has a value in the regions."""
        made = [self._track(row, regions) for row in self.outputs]
        return [track for track in made if track.runs]

    def _track(self, row: Mapping[str, str], regions: Sequence[Interval]) -> NumbersTrack:
        of = row["output"].removesuffix(f".{row['part']}")
        return NumbersTrack(
            row["output"],
            f"{row['part']}: {row['scale']}",
            read_runs(self.path / row["file"], regions),
            colour_of(row["part"]),
            axis=axis_of(of, row["part"], row["scale"]),
            part=row["part"],
            of=of,
            levels={name: level for name, level in row.items() if name not in OF_OUTPUTS},
            unit=row["scale"],
        )


def open_predictions(path: Path, top: int) -> PredictionFolder:
    """Open a folder of `mfd predict`. InputError where it has no bigWigs; SignalError where the first one is damaged."""
    outputs = read_tsv(path / "outputs.tsv", ("output", "file", "part", "scale"))
    if not outputs or not all(row["file"] for row in outputs):
        raise InputError("holds no bigWigs to show", path=path, hint="mfd predict --bigwig writes them")
    return PredictionFolder(path, check_bigwig(path / outputs[0]["file"]), outputs, top)
