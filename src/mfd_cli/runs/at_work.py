"""A trained model on the labelled bins of a dataset: what every verb that compares the two begins with."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import numpy as np
import torch

from mfd_cli.base.arrays import Floats, Ints
from mfd_cli.base.errors import RunError
from mfd_cli.base.long_array import NUMBERS_AT_ONCE, LongArray, joined, long_array
from mfd_cli.base.progress import Progress
from mfd_cli.core.predictor import Predictor
from mfd_cli.dataset.bins import Bins
from mfd_cli.dataset.folder import Dataset
from mfd_cli.runs.batches import GenomeOnDevice
from mfd_cli.runs.folder import Run


def check_same_tracks(run: Run, dataset: Dataset) -> None:
    """Raise RunError where the dataset's tracks are not the model's, in the same order."""
    ours = [track.id for track in run.tracks]
    theirs = [track.id for track in dataset.peak_tracks + dataset.signal_tracks]
    if ours != theirs:
        raise RunError("was trained on other tracks than those of the dataset", path=run.path, hint="run mfd train")


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
    predictor = Predictor(run.model, device, batch_size)
    genome = GenomeOnDevice(dataset, predictor.window, predictor.left, predictor.device)
    starts = genome.positions(bins)
    step = max(NUMBERS_AT_ONCE // predictor.latent, 1)
    for low in range(0, len(bins), step):

        def report(done: int, before: int = low) -> None:
            if progress:
                progress("predicting bins", before + done, len(bins))

        yield predictor.latents_at(starts[low : low + step], genome.stretches, report)


def labels_of(run: Run, bins: Bins, tracks: Ints | None = None) -> torch.Tensor:
    """Return the labels of some peak tracks, by default all, (bins, tracks): 0 or 1, NaN where a track was not measured."""
    tracks = np.arange(run.peak_tracks) if tracks is None else tracks
    labels = torch.from_numpy(bins.labels(tracks)).float()
    if (measured := bins.measured(tracks)) is not None:
        labels[torch.from_numpy(~measured)] = torch.nan
    return labels
