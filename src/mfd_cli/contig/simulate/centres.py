"""Centres that differ in who comes to them: by ancestry, or by how large a disc is. Each has a camera of its own.

A world without centres is not touched: what is drawn here comes from random numbers of its own.
"""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from mfd_cli.base.arrays import Doubles, Ints
from mfd_cli.contig.simulate.fundus import CAMERAS
from mfd_cli.contig.simulate.options import CohortOptions, Scale
from mfd_cli.formats.tables import write_tsv

CENTRES = ("North", "East", "South")
"""As many as cameras."""
SHIFTED = 2
"""The latent that differs between the populations of a structured world: vessel curvature."""
SHIFT_SHARE = 0.5
"""Of what genes, age and sex leave of that latent's variance, the share that lies between populations."""
TIED_BY = 0
"""The latent by whose thirds persons come to centres in a world without structure: disc radius."""
LEAST = 1e-3
"""An allele's frequency in a population is at least this far from 0 and 1."""


@dataclass(frozen=True)
class Structure:
    """Populations: of each person (persons,), the same for siblings, and the frequency of every SNP in each of them (SNPs,
    populations)."""

    population: Ints
    frequency: Doubles

    def shift(self, variance: float) -> Doubles:
        """Return what is added to the shifted latent of each person (persons,), of mean 0 and this variance over populations of
        the same size."""
        steps = np.linspace(-1, 1, len(CENTRES))
        return np.asarray((steps * np.sqrt(variance / np.mean(steps**2)))[self.population], np.float64)


def structure_of(scale: Scale, frequency: Doubles, fst: float, rng: np.random.Generator) -> Structure:
    """Draw populations that differ by `fst`: frequencies are of Balding and Nichols (1995), around `frequency` (SNPs,)."""
    pairs = rng.integers(0, len(CENTRES), scale.pairs)
    population = np.concatenate([np.repeat(pairs, 2), rng.integers(0, len(CENTRES), scale.persons - 2 * scale.pairs)])
    size = (1 - fst) / fst
    drawn = rng.beta(frequency[:, None] * size, (1 - frequency[:, None]) * size, (len(frequency), len(CENTRES)))
    return Structure(population, np.clip(drawn, LEAST, 1 - LEAST))


def centres_of(latents: Doubles, structure: Structure | None) -> Ints:
    """Return the centre of each person: that of the population, or the third of the latents (persons, 3) that ties it."""
    if structure is not None:
        return structure.population
    tied = latents[:, TIED_BY]
    return np.searchsorted(np.quantile(tied, [1 / 3, 2 / 3]), tied).astype(np.int64)


def tied_cameras(centre: Ints, confounding: float, rng: np.random.Generator) -> Ints:
    """Return the camera of each person (persons,): that of the centre for a share `confounding`, any for the others."""
    own = rng.random(len(centre)) < confounding
    return np.where(own, centre, rng.integers(0, len(CAMERAS), len(centre)))


def facts_of(options: CohortOptions) -> dict[str, Any]:
    """Return what truth.json says of centres."""
    if not options.has_centres:
        return {}
    facts: dict[str, Any] = {"confounding": options.tied, "structure": options.structure}
    if not options.structure:
        return facts | {"centres": "thirds of disc radius"}
    return facts | {"centres": "populations", "shifted latent": "vessel curvature"}


def write_centres(path: Path, ids: list[str], centre: Ints, camera: Ints) -> None:
    """Write the centre of each person, and the camera that was used."""
    rows = zip(ids, centre.tolist(), camera.tolist())
    write_tsv(path, [{"person": person, "centre": CENTRES[at], "camera": CAMERAS[by]} for person, at, by in rows])
