"""A trained model on the labelled bins of a dataset: what every verb that compares the two begins with."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Self

import numpy as np
import torch
from torch import Tensor

from mfd_cli.base.arrays import Floats, Ints
from mfd_cli.base.errors import DatasetError, RunError, few
from mfd_cli.base.long_array import NUMBERS_AT_ONCE, LongArray, joined, long_array
from mfd_cli.base.progress import Progress
from mfd_cli.base.words import counted
from mfd_cli.core.mixed_head import AXIS_BINS
from mfd_cli.core.predictor import Predictor
from mfd_cli.core.stretches import STRETCH
from mfd_cli.dataset.bins import Bins
from mfd_cli.dataset.folder import Dataset, open_dataset
from mfd_cli.engine.jobs import Piece, Work
from mfd_cli.engine.parts import Columns
from mfd_cli.genome.grid import off_line, on_line
from mfd_cli.runs.batches import GenomeOnDevice
from mfd_cli.runs.draws import thinned_in_stretches
from mfd_cli.runs.folder import Run
from mfd_cli.runs.sources import Sources


def check_same_tracks(run: Run, dataset: Dataset) -> None:
    """Raise RunError, which says what differs and what to do, where the dataset's tracks are not the model's, in its order."""
    ours = [track.id for track in run.tracks]
    theirs = [track.id for track in dataset.peak_tracks + dataset.signal_tracks]
    if ours == theirs:
        return
    lacking = [name for name in ours if name not in set(theirs)]
    more = [name for name in theirs if name not in set(ours)]
    again = (
        "mfd preprocess --metadata ALL.tsv --dataset ALL, of a table with all tracks of the run in its order"
        f"{', the added ones last' if run.model.added.any() else ''}, and then this command with --dataset ALL"
    )
    if lacking:
        told, hint = f"has {counted(len(lacking), 'track')} that the dataset lacks: {few(lacking)}", again
    elif more:
        told = f"does not have {counted(len(more), 'track')} of the dataset: {few(more)}"
        hint = f"mfd train trains a run on all of them, mfd add-tracks adds them to this one; or {again}"
    else:
        place = next(place for place, (own, other) in enumerate(zip(ours, theirs)) if own != other)
        told, hint = f"has the dataset's tracks in another order, from {ours[place]} on", again
    raise RunError(f"{told} ({dataset.path.name})", path=run.path, hint=hint)


def bin_latents(
    run: Run,
    dataset: Dataset,
    bins: Bins,
    device: torch.device | str = "cpu",
    batch_size: int = 256,
    progress: Progress | None = None,
) -> Floats:
    """Return the latents (bins, latent) of labelled bins, both strands averaged (of a stranded model the forward strand's)."""
    shape = len(bins), run.model.settings.latent
    return joined(shape, latent_blocks(run, dataset, bins, device, batch_size, progress))


def latents_of_axes(
    run: Run, dataset: Dataset, device: torch.device | str = "cpu", progress: Progress | None = None
) -> Floats:
    """Return the latents (bins, latent) that axes are learnt from: of AXIS_BINS bins at most, up to half of them validation
    bins, the others training bins; none of the test. The more bins, the more of what is rare is among them."""
    validation = thinned_in_stretches(dataset.split("validation"), AXIS_BINS // 2, STRETCH)
    training = thinned_in_stretches(dataset.split("train"), AXIS_BINS - len(validation), STRETCH)
    own = [bin_latents(run, dataset, bins, device, progress=progress) for bins in (training, validation) if len(bins)]
    return np.concatenate(own)


@contextmanager
def kept_latents(
    run: Run,
    dataset: Dataset,
    bins: Bins,
    folder: Path,
    device: torch.device | str = "cpu",
    batch_size: int = 256,
    progress: Progress | None = None,
) -> Iterator[LongArray]:
    """Yield what `bin_latents` returns; on the disk of `folder`, for as long as the context lasts, where it is large."""
    shape = len(bins), run.model.settings.latent
    with long_array(shape, latent_blocks(run, dataset, bins, device, batch_size, progress), folder) as latents:
        yield latents


def latent_blocks(
    run: Run, dataset: Dataset, bins: Bins, device: torch.device | str, batch_size: int, progress: Progress | None
) -> Iterator[Floats]:
    """Yield the latents (some bins, latent) of labelled bins, block after block, see `bin_latents`."""
    reader = BinReader(run, dataset, bins, device, batch_size)
    step = max(NUMBERS_AT_ONCE // run.model.settings.latent, 1)
    for low in range(0, len(bins), step):

        def report(done: int, before: int = low) -> None:
            if progress:
                progress("predicting bins", before + done, len(bins))

        yield reader.latents(low, low + step, report)


class BinReader:
    """A model at work on labelled bins of a dataset."""

    def __init__(self, run: Run, dataset: Dataset, bins: Bins, device: torch.device | str, batch_size: int) -> None:
        self.predictor = Predictor(run.model, device, batch_size)
        window, left, stretch = self.predictor.window, self.predictor.left, self.predictor.block
        self.genome = GenomeOnDevice(dataset, window, left, self.predictor.device, stretch=stretch)
        self.starts = on_line(bins.contig.astype(np.int64), bins.start)

    def latents(self, low: int, high: int, report: Callable[[int], None] | None = None) -> Floats:
        """Return the latents (bins, latent) of the bins from number `low` up to `high`, which is not included."""
        return self.predictor.latents_at(self.starts[low:high], self.cut, report)

    def cut(self, firsts: Ints, length: int) -> Tensor:
        """Return the base codes (stretches, length) of stretches whose first bins are at places on the line of all contigs."""
        return self.genome.stretches(self.genome.starts(*off_line(firsts)), length)


# -- latents as work in pieces -----------------------------------------------------------------------------------------

PIECE = 4096
"""Bins whose latents are made together where others make them too."""


class LatentMaker:
    """Makes the latents of pieces: which of several models, and from which bin of a split to which."""

    def __init__(
        self, runs: Sequence[Run], dataset: Dataset, split: str, device: torch.device | str, batch_size: int
    ) -> None:
        self.runs, self.dataset, self.bins = runs, dataset, dataset.split(split)
        self.device, self.batch_size = device, batch_size
        self.reader: tuple[int, BinReader] | None = None  # one at a time: a GPU may hold the genome once only

    def made(self, piece: tuple[int, int, int]) -> Columns:
        """Return the latents of a piece (number of the run, first bin, end), a column per latent, by number."""
        number, low, high = piece
        if self.reader is None or self.reader[0] != number:
            self.reader = None
            reader = BinReader(self.runs[number], self.dataset, self.bins, self.device, self.batch_size)
            self.reader = number, reader
        latents = self.reader[1].latents(low, high)
        return {str(i): np.ascontiguousarray(values) for i, values in enumerate(latents.T)}


@dataclass(frozen=True)
class LatentJob:
    """Latents that several models have of the bins of a dataset's split, as work in pieces."""

    sources: Sources
    dataset: Path
    dataset_digest: str
    split: str
    device: str
    batch_size: int

    @classmethod
    def of(cls, runs: Sequence[Run], dataset: Dataset, split: str, device: torch.device | str, batch_size: int) -> Self:
        """Return the job of what `LatentMaker` makes with the same arguments."""
        sources = Sources.of_dataset(runs, dataset)
        return cls(sources, dataset.path.absolute(), dataset.digest, split, str(device), batch_size)

    @property
    def plan(self) -> Mapping[str, Any]:
        """Return what latents depend on besides the bins."""
        more = {"dataset": self.dataset_digest, "split": self.split, "batch size": self.batch_size}
        return self.sources.plan(self.device, **more)

    def start(self, device: str) -> Callable[[Any], Columns]:
        """Open models and dataset and return what makes a piece. DatasetError where it is no longer the same dataset."""
        runs, _ = self.sources.open()
        dataset = open_dataset(self.dataset, verify=False)
        if dataset.digest != self.dataset_digest:
            raise DatasetError("is another dataset than when the work began", path=self.dataset)
        return LatentMaker(runs, dataset, self.split, device, self.batch_size).made


def latent_pieces(number: int, bins: int) -> list[Piece]:
    """Return the pieces that are the latents which the run of this number has of so many bins."""
    runs = [(number, low, min(low + PIECE, bins)) for low in range(0, bins, PIECE)]
    return [
        Piece(run, str(run), f"model {number + 1}, bins {run[1] + 1:,}-{run[2]:,}", run[2] - run[1]) for run in runs
    ]


@contextmanager
def gathered_latents(
    work: Work, number: int, shape: tuple[int, int], folder: Path, progress: Progress | None
) -> Iterator[LongArray]:
    """Yield the latents (bins, latent) that the run of a number has, made as pieces; see `kept_latents`."""

    def blocks() -> Iterator[Floats]:
        done = 0
        for piece, columns in work.parts_of((piece, piece) for piece in latent_pieces(number, shape[0])):
            yield np.stack([columns[str(i)] for i in range(shape[1])], axis=1)
            done += piece.size
            if progress:
                progress("predicting bins", done, shape[0])

    with long_array(shape, blocks(), folder) as latents:
        yield latents


def labels_of(run: Run, bins: Bins, tracks: Ints | None = None) -> torch.Tensor:
    """Return the labels of some peak tracks, by default all, (bins, tracks): 0 or 1, NaN where a track was not measured."""
    tracks = np.arange(run.peak_tracks) if tracks is None else tracks
    labels = torch.from_numpy(bins.labels(tracks)).float()
    if (measured := bins.measured(tracks)) is not None:
        labels[torch.from_numpy(~measured)] = torch.nan
    return labels
