"""The dozen motifs that planted worlds are made of."""

from __future__ import annotations

from importlib import resources

import numpy as np

from mfd_cli.genome.motifs import Motif


def built_in() -> dict[str, Motif]:
    """Twelve matrices of yeast transcription factors with at least 11.5 bits each (JASPAR 2024 CORE fungi)."""
    rows: dict[str, list[list[float]]] = {}
    text = resources.files("mfd_cli.simulate").joinpath("motifs.tsv").read_text("utf-8")
    for line in text.splitlines()[1:]:
        name, _, _, *counts = line.split("\t")
        rows.setdefault(name, []).append([float(count) for count in counts])
    return {name: Motif(name, np.array(counts)) for name, counts in rows.items()}
