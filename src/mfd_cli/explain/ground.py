"""What a model is looked at on: the bins of one split, and their latents."""

from __future__ import annotations

from dataclasses import dataclass
from functools import cached_property

import numpy as np
import torch

from mfd_cli.base.arrays import Doubles, Floats
from mfd_cli.base.errors import DatasetError
from mfd_cli.base.progress import Progress
from mfd_cli.core.stretches import STRETCH
from mfd_cli.dataset.bins import Bins
from mfd_cli.dataset.folder import Dataset
from mfd_cli.genome.grid import BIN
from mfd_cli.genome.sequence import gc_share
from mfd_cli.runs.at_work import bin_latents
from mfd_cli.runs.draws import thinned_in_stretches
from mfd_cli.runs.folder import Run

MOST_BINS_LOOKED_AT = 40_000
NO_SPREAD = 1e-6
"""Logits: a score whose spread over bins is below this is the same in every bin; float32 is no more exact."""


@dataclass(frozen=True)
class Ground:
    """A run, a dataset, some bins of a split with their latents (bins, latent), and the device that the model runs on."""

    run: Run
    dataset: Dataset
    split: str
    bins: Bins
    latents: Floats
    device: torch.device | str

    @cached_property
    def labelled(self) -> Bins:
        """All bins of the split: those of which data can be shown."""
        return self.dataset.split(self.split)

    @cached_property
    def gc(self) -> Doubles:
        """The share of G and C in every bin, (bins,)."""
        pairs = zip(self.bins.contig.tolist(), self.bins.start.tolist())
        contigs, genome = self.dataset.contigs, self.dataset.genome
        return np.array([gc_share(genome.codes(contigs[contig], start, start + BIN)) for contig, start in pairs])


def ground_of(
    run: Run, dataset: Dataset, device: torch.device | str, batch_size: int, progress: Progress | None
) -> Ground:
    """Return the ground of a run: the bins to look at, with their latents. DatasetError for a dataset without bins."""
    split, bins = bins_to_look_at(dataset)
    return Ground(run, dataset, split, bins, bin_latents(run, dataset, bins, device, batch_size, progress), device)


def bins_to_look_at(dataset: Dataset) -> tuple[str, Bins]:
    """Return the test bins (validation, or training ones, where there are none), at most MOST_BINS_LOOKED_AT of them.

    They are evenly spaced stretches, which are read in one pass each.
    """
    for split in ("test", "validation", "train"):
        bins = dataset.split(split)
        if len(bins):
            return split, thinned_in_stretches(bins, MOST_BINS_LOOKED_AT, STRETCH)
    raise DatasetError("has no bins", path=dataset.path)
