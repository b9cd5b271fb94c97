"""A trained model on the labelled bins of a dataset: what every verb that compares the two begins with."""

from __future__ import annotations

import torch

from mfd_cli.base.arrays import Floats
from mfd_cli.base.errors import RunError
from mfd_cli.base.progress import Progress
from mfd_cli.core.predictor import Predictor
from mfd_cli.dataset.bins import Bins, unpack_bits
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
    predictor = Predictor(run.model, device, batch_size)
    genome = GenomeOnDevice(dataset, predictor.window, predictor.left, predictor.device)

    def report(done: int) -> None:
        if progress:
            progress("predicting bins", done, len(bins))

    return predictor.latents_at(genome.positions(bins), genome.stretches, report)


def labels_of(run: Run, bins: Bins) -> torch.Tensor:
    """Return the labels of the peak tracks (bins, peak tracks): 0 or 1, NaN where a track was not measured."""
    labels = torch.from_numpy(unpack_bits(bins.peaks, run.peak_tracks)).float()
    if (measured := bins.measured) is not None:
        labels[torch.from_numpy(~unpack_bits(measured, run.peak_tracks))] = torch.nan
    return labels
