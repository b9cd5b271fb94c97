"""A run: what its model predicts in some regions, part by part, beside the data that it learnt from."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property

import numpy as np

from mfd_cli.base.arrays import Bools, Floats, Ints
from mfd_cli.base.errors import ConfigError
from mfd_cli.core.predictor import Predictor
from mfd_cli.dataset.bins import Bins
from mfd_cli.dataset.folder import Dataset
from mfd_cli.dataset.manifest import SPLITS
from mfd_cli.experiments.track import Track as Experiment
from mfd_cli.genome.grid import BIN
from mfd_cli.genome.intervals import Interval
from mfd_cli.genome.sequence import Genome
from mfd_cli.predictions.predict import ModelAlongGenome, grid
from mfd_cli.predictions.predicted_columns import predicted_columns
from mfd_cli.runs.at_work import check_same_tracks, labels_of
from mfd_cli.runs.folder import Run
from mfd_cli.runs.panel import chosen_tracks, panel_of
from mfd_cli.settings.names import DEBIASED, SHARED, TOTAL
from mfd_cli.view.drawn import DATA, axis_of, colour_of
from mfd_cli.view.shown import NumbersTrack, Runs, Table, Track, written

FEW_TRACKS = 3
"""Tracks that are shown where no query says which: each has a lane for its data, its total and every part."""


@dataclass(frozen=True)
class OfRun:
    """A run, the genome it is applied to, and its dataset, if that is there. `query` says which tracks are shown, by default
    those with most peaks; `top` is how many bins are listed."""

    run: Run
    genome: Genome
    dataset: Dataset | None
    query: str | None
    top: int
    device: str = "cpu"
    batch_size: int = 256

    @property
    def lengths(self) -> Mapping[str, int]:
        """The lengths of the genome's contigs."""
        return self.genome.lengths

    @cached_property
    def chosen(self) -> Bools:
        """Which tracks (tracks,) are shown. ConfigError where the query picks none."""
        if self.query is not None:
            return chosen_tracks(self.run, self.query)
        busy = sorted(range(len(self.run.tracks)), key=lambda i: -self.run.tracks[i].positives)[:FEW_TRACKS]
        return np.isin(np.arange(len(self.run.tracks)), busy)

    def tables(self, within: Sequence[Interval] = ()) -> list[Table]:
        """Return the table of the test bins in which most tracks have a peak. ConfigError where there are no such bins."""
        if self.dataset is None or not self.run.peak_tracks or not len(self.dataset.split("test")):
            raise ConfigError(
                "which regions?", hint="-r chr1:1001-2000, -R regions.bed, or a scored VCF beside the run"
            )
        bins = self.dataset.split("test")
        counts = bins.labels(np.arange(self.run.peak_tracks)).sum(1)
        best = np.argsort(-counts, kind="stable")[: self.top]
        contigs = self.dataset.contigs
        starts = bins.start[best].tolist()
        places = [Interval(contigs[c], start, start + BIN) for c, start in zip(bins.contig[best].tolist(), starts)]
        rows = [{"bin": written(place), "tracks": int(n)} for place, n in zip(places, counts[best].tolist())]
        return [Table("Busiest test bins", "The test bins in which most tracks have a peak.", rows, places)]

    def tracks(self, regions: Sequence[Interval]) -> list[Track]:
        """Return the data of every shown track, then its total and its parts."""
        data = dict(self._data(regions))
        made = list[Track]()
        for track_id, track in self._predictions(regions):
            made += [data.pop(track_id), track] if track_id in data else [track]
        return made

    def _predictions(self, regions: Sequence[Interval]) -> Iterator[tuple[str, NumbersTrack]]:
        """Yield what the model predicts, both strands averaged, with the track's id: its total, then its parts."""
        predictor = Predictor(self.run.model, self.device, self.batch_size)
        panel = panel_of(self.run, predictor.head).only(self.chosen)
        parts = (TOTAL, SHARED, *panel.head.groups, DEBIASED) if self.run.model.has_parts else (TOTAL,)
        columns = predicted_columns(self.run, panel, parts, False)
        model = ModelAlongGenome(self.run, predictor, panel, columns, self.genome)
        levels = {track.id: self._levels(track) for track in self.run.tracks}
        pieces = [(*piece.what, model.values(*piece.what)) for piece in grid(regions, self.genome)]
        for number, column in enumerate(columns):
            runs = [Runs(contig, starts, starts + BIN, values[:, number]) for contig, starts, values in pieces]
            track_id = str(panel.ids[column.number])
            name, about = f"{track_id} {column.part}", f"predicted, {column.scale}"
            yield (
                track_id,
                NumbersTrack(
                    name,
                    about,
                    runs,
                    colour_of(column.part),
                    axis=axis_of(track_id, column.part, column.scale),
                    part=column.part,
                    of=track_id,
                    levels=levels[track_id],
                    unit=column.scale,
                ),
            )

    def _data(self, regions: Sequence[Interval]) -> Iterator[tuple[str, NumbersTrack]]:
        """Yield the data of every shown track, with its id, in the dataset's splits; what was not measured is left out."""
        if self.dataset is None:
            return
        near = [self._in_regions(self.dataset, self.dataset.split(split), regions) for split in SPLITS]
        for number in np.flatnonzero(self.chosen).tolist():
            track = self.run.tracks[number]
            unit = "1 in bins with a peak" if track.kind == "peaks" else "mean signal of a bin"
            runs = [self._runs(self.dataset, bins, self._values(bins, number)) for bins in near]
            found = [one for by_contig in runs for one in by_contig]
            top = 1.0 if track.kind == "peaks" else None
            yield (
                track.id,
                NumbersTrack(
                    f"{track.id} data",
                    f"data: {unit}",
                    found,
                    DATA,
                    top=top,
                    part="data",
                    of=track.id,
                    levels=self._levels(track),
                    unit=unit,
                ),
            )

    def _levels(self, experiment: Experiment) -> dict[str, str]:
        """Return the levels of an experiment by factor."""
        return self.run.model.metadata.level_cells(experiment.metadata)

    def _in_regions(self, dataset: Dataset, bins: Bins, regions: Sequence[Interval]) -> Bins:
        inside = np.zeros(len(bins), bool)
        for region in regions:
            on_contig = bins.contig == dataset.contigs.index(region.contig)
            inside |= on_contig & (bins.start + BIN > region.start) & (bins.start < region.end)
        return bins.taken(np.flatnonzero(inside))

    def _values(self, bins: Bins, number: int) -> Floats:
        """Return what was measured of a track in bins, (n,), NaN where nothing was."""
        if number < self.run.peak_tracks:
            labels: Floats = labels_of(self.run, bins, np.array([number])).numpy()[:, 0]
            return labels
        return bins.signals(np.array([number - self.run.peak_tracks]))[:, 0]

    def _runs(self, dataset: Dataset, bins: Bins, values: Floats) -> Iterator[Runs]:
        """Yield the known values of bins, contig by contig."""
        for contig in np.unique(bins.contig).tolist():
            chosen: Ints = np.flatnonzero((bins.contig == contig) & ~np.isnan(values))
            start = bins.start[chosen]
            yield Runs(dataset.contigs[contig], start, start + BIN, values[chosen])


def of_run(run: Run, genome: Genome, dataset: Dataset | None, query: str | None, top: int, device: str) -> OfRun:
    """Return a run as a source of a page. RunError where the dataset's tracks are not the run's."""
    if dataset is not None:
        check_same_tracks(run, dataset)
    return OfRun(run, genome, dataset, query, top, device)
