"""Similarities of images and persons over all modalities of a run: the sum of the alignments that there are."""

from __future__ import annotations

from collections.abc import Iterator

import numpy as np
import torch
from torch import Tensor

from mfd_cli.base.arrays import Bools, Ints
from mfd_cli.contig.run import ContigRun
from mfd_cli.contig.seen import SeenSplit

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
    model, everybody = run.model.to(device).eval(), np.flatnonzero(who)
    features = torch.from_numpy(seen.features[images]).to(device)
    total: Tensor | None = None
    for name in run.inputs:
        having = seen.share.has[name] & who
        rows = np.flatnonzero(having)
        if not len(rows):
            continue
        inputs = torch.from_numpy(seen.people.cohort.inputs(seen.share, name, rows)).to(device)
        z, u = model.image_projection(name, features), model.person_projection(name, inputs)
        temperature = model.temperature(name, run.config.objective.least_temperature)
        yield name, rows, z[torch.from_numpy(rows)] @ u.T / temperature
        if len(run.inputs) > 1:
            table = z[torch.from_numpy(everybody)] @ u.T / temperature
            filled = table.mean(1, keepdim=True).repeat(1, len(everybody))
            filled[:, torch.from_numpy(np.flatnonzero(having[everybody]))] = table
            total = filled if total is None else total + filled
    if total is not None:
        yield ALL, everybody, total
