"""Similarities of images and persons over all modalities of a run: the sum of the alignments that there are."""

from __future__ import annotations

from collections.abc import Iterator

import numpy as np
import torch
from torch import Tensor

from mfd_cli.base.arrays import Bools, Ints
from mfd_cli.contig.run import ContigRun
from mfd_cli.contig.seen import SeenSplit, having, projected

ALL = "all"
"""What tables call the sum over modalities."""


@torch.no_grad()
def similarities(
    run: ContigRun, seen: SeenSplit, images: Ints, who: Bools, device: torch.device
) -> Iterator[tuple[str, Ints, Tensor]]:
    """Yield for each modality, and for `all` where there are several, persons of a split (rows) and how well the image of each
    fits the data of each of them (images, persons).

    `images` is one image of every person of the split, `who` (persons,) says who is asked. Of a modality they are those who
    have it. In the sum what a person lacks counts as the mean of what the others have, which draws the image neither way.
    """
    everybody = np.flatnonzero(who)
    total: Tensor | None = None
    for name in run.inputs:
        kept = np.flatnonzero(who[having(seen, name)])
        if not len(kept):
            continue
        rows, at = having(seen, name)[kept], torch.from_numpy(kept)
        z, u = (each[at] for each in projected(run, seen, name, images, device))
        temperature = run.model.temperature(name, run.config.objective.least_temperature)
        yield name, rows, z @ u.T / temperature
        if len(run.inputs) > 1:
            features = torch.from_numpy(seen.features[images[everybody]]).to(device)
            table = run.model.image_projection(name, features) @ u.T / temperature
            filled = table.mean(1, keepdim=True).repeat(1, len(everybody))
            filled[:, torch.from_numpy(np.searchsorted(everybody, rows))] = table
            total = filled if total is None else total + filled
    if total is not None:
        yield ALL, everybody, total
