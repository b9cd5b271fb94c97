"""A training before its first step: the dataset, the model and its optimisers; whatever cannot work is refused here."""

from __future__ import annotations

from dataclasses import dataclass
from functools import cached_property

import numpy as np
import torch

from mfd_cli.base.arrays import Bools
from mfd_cli.base.errors import DatasetError
from mfd_cli.core.losses import SignalScale
from mfd_cli.dataset.bins import Bins
from mfd_cli.dataset.folder import Dataset, dataset_of
from mfd_cli.engine.processes import ALONE, Processes
from mfd_cli.experiments.held_out import held_out_tracks
from mfd_cli.experiments.sources import check_columns
from mfd_cli.experiments.strands import strand_partners, swapped_signs
from mfd_cli.runs.batches import GenomeOnDevice, LabelledBins, Partners, home_of
from mfd_cli.runs.draws import Draw, Tiling, thinned_in_stretches
from mfd_cli.settings.project import Project
from mfd_cli.training.record import check_board
from mfd_cli.training.setup import Trainer, build, check_batch, fit_scale, outputs_of, stretch_of
from mfd_cli.training.start import Start
from mfd_cli.training.start_trunk import StartFromTrunk
from mfd_cli.training.step import draws

READ_COLUMNS = ("tracks.strand", "tracks.counts", "tracks.experiment")
"""Settings whose columns training reads in the dataset's copy of the table, where an absent one would count as empty."""


@dataclass(frozen=True)
class Ready:
    """A training that can begin. The labels are placed on the device when they are asked for."""

    project: Project
    dataset: Dataset
    trainer: Trainer
    bins: Bins
    """Those of the training split."""
    stretch: int
    """Bins that are read in one pass."""
    scale: SignalScale
    pairs: Partners
    genome: GenomeOnDevice

    @cached_property
    def occupied(self) -> Bools | None:
        """The training bins (bins,) with a peak of a training track, where stretches are drawn by them; else None."""
        if self.project.config.train.draw == "uniform":
            return None
        peaks = [track.kind == "peaks" for track in outputs_of(self.dataset)]
        return self.bins.occupied((self.trainer.used.cpu().numpy() > 0)[peaks])

    @property
    def home(self) -> torch.device:
        """Where genome and labels are kept."""
        return self.genome.device

    def training_bins(self) -> LabelledBins:
        """Return the bins that are trained on, with their labels."""
        device = self.trainer.device
        return LabelledBins(
            self.genome, self.bins, self.dataset, self.scale, device, self.pairs, self.stretch, self.occupied
        )

    def validation_bins(self) -> LabelledBins:
        """Return at most `train.validation_bins` bins of the validation split, with their labels."""
        most = self.project.config.train.validation_bins
        held = thinned_in_stretches(self.dataset.split("validation"), most, self.stretch)
        return LabelledBins(self.genome, held, self.dataset, self.scale, self.trainer.device, stretch=self.stretch)

    def draw_of(self, step: int) -> Draw:
        """Return the bins of one step's batch, drawn again."""
        return next(draws(self.trainer, Tiling.of(self.bins, self.stretch, self.occupied), step))


def prepare(
    project: Project, device: torch.device, processes: Processes = ALONE, start: Start | StartFromTrunk | None = None
) -> Ready:
    """Open the dataset and build the model and its optimisers at step 0, from another run's weights where there is a `start`;
    nothing is written.

    Raises DatasetError where there is too little to train on, ConfigError or MetadataError where the settings do not fit
    the dataset, the model or the number of processes.
    """
    check_board(project.config)
    config, dataset = project.config, dataset_of(project)
    outputs = outputs_of(dataset)
    check_columns(config, list(outputs[0].metadata), READ_COLUMNS, project.dataset)
    held_out = held_out_tracks(config, {track.id: track.metadata for track in dataset.tracks})
    trained = np.array([track.id not in held_out for track in outputs])
    bins = dataset.split("train")
    if not len(bins):
        raise DatasetError("has no training bins", path=project.dataset, hint="look at [split] and [bins]")
    stretch = stretch_of(config)
    check_batch(config, Tiling.of(bins, stretch), project.dataset, processes)
    partners = strand_partners(outputs, config)
    pairs = Partners(partners, swapped_signs(outputs, partners))
    scale = fit_scale(dataset, bins, config, pairs)
    trainer = build(config, dataset, bins, trained, device, processes, start)
    if isinstance(start, Start) and (seen := start.seen_in(dataset, config.split)):
        trainer.source = {**start.source, "seen": seen}
    home = home_of(dataset, bins, device, config.train.memory)
    model, settings = trainer.model, config.train
    genome = GenomeOnDevice(dataset, model.window, model.left, home, settings.shift, stretch)
    return Ready(project, dataset, trainer, bins, stretch, scale, pairs, genome)
