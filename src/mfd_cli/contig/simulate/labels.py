"""What somebody who looks at the simulated eyes would write down: the latents, and a grade from 0 to 4."""

from __future__ import annotations

from pathlib import Path

import numpy as np

from mfd_cli.base.arrays import Doubles, Ints
from mfd_cli.contig.simulate.people import LATENTS
from mfd_cli.formats.tables import write_tsv

CUTS = (0.0, 0.8, 1.3, 1.8)
"""Where on the severity, of mean 0 and sd 1, the grades 1 to 4 begin: half of the persons are of grade 0, 4 % of grade 4."""
GRADER = 0.1
"""Share of the severity's variance that is the grader's, and no picture shows."""
COLUMNS = tuple(name.replace(" ", "_") for name in LATENTS)


def grades(latents: Doubles, rng: np.random.Generator) -> Ints:
    """Return a grade from 0 to 4 of each person (persons,), to which all latents (persons, latents) add the same."""
    seen = latents.sum(1) / np.sqrt(latents.shape[1])
    severity = np.sqrt(1 - GRADER) * seen + np.sqrt(GRADER) * rng.standard_normal(len(latents))
    return np.searchsorted(CUTS, severity, side="right").astype(np.int64)


def write_labels(path: Path, ids: list[str], latents: Doubles, seed: int) -> None:
    """Write the table of labels, a row per person. Its random numbers are its own: pictures and genotypes do not move."""
    given = grades(latents, np.random.default_rng([seed, 22]))
    rows = [
        {"person": person, **dict(zip(COLUMNS, row)), "grade": grade}
        for person, row, grade in zip(ids, latents.tolist(), given.tolist())
    ]
    write_tsv(path, rows)
