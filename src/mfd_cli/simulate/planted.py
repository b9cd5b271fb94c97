"""What `mfd simulate` plants: levels, the motif that each drives, and the sizes of their effects.

The genome that holds the causes is made in planted_genome.py, the variants that break them in planted_variants.py; how the
logits follow from the sequence stands in true_parts.py.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import numpy as np

from mfd_cli.genome.motifs import Motif
from mfd_cli.simulate.built_in_motifs import built_in
from mfd_cli.simulate.options import SimulateOptions

TARGETS = {"ABF1": "ABF1", "REB1": "REB1", "RAP1": "RAP1", "CBF1": "CBF1", "UME6": "UME6", "BAS1": "BAS1"}
TISSUES = {"liver": "YAP1", "brain": "FKH1", "heart": "HAP3"}
ASSAYS = {"ChIP-seq": "MCM1", "CUT&RUN": "PDR3"}
SHARED = "SNT2"
LABS = {"Lab North": 1.0, "Lab South": -1.0, "Lab West": 0.0}
YEARS = {"2014": 1.0, "2018": 0.0, "2021": -1.0}
EFFECTS = {
    "target": 4.0, "tissue": 1.5, "target x tissue": 1.5, "shared": 2.0, "G+C": 0.4, "assay": 2.5, "lab": 0.5,
    "year": 0.5, "hidden batch": 1.0,
}  # fmt: skip
"""Change of the logit for a motif that is present, or per standard deviation of a composition."""
PREVALENCE_LOGIT = -4.4
"""Bias of a track: without any cause, 1.2 % of its bins have a peak."""
LETTERS = dict(zip(ASSAYS.values(), TARGETS.values()))
"""The target's motif from which each assay's motif takes letters, where they share any."""


def planted_motifs(shared_letters: float = 0.0) -> dict[str, Motif]:
    """Return the motifs of a world. `shared_letters` is the share of an assay's motif, at its end, whose columns are the first
    ones of a target's motif."""
    motifs = built_in()
    for name, target in LETTERS.items():
        own = motifs[name].counts
        taken = min(round(shared_letters * len(own)), len(motifs[target].counts))
        if taken:
            # Shares of a hundred sites, because the matrices were counted from different numbers of sites.
            joined = np.concatenate([own[: len(own) - taken], motifs[target].counts[:taken]])
            motifs[name] = Motif(name, 100 * joined / joined.sum(1, keepdims=True))
    return motifs


def partner(target: str, tissue: str, targets: Sequence[str]) -> str:
    """Return the target at whose sites another one is bound in a tissue where tissues matter; itself in the first tissue.

    In each tissue every target has another partner, so that no level alone says whose sites they are.
    """
    return targets[(targets.index(target) + list(TISSUES).index(tissue)) % len(targets)]


def assay_signs(targets: Sequence[str]) -> dict[tuple[str, str], float]:
    """Return how much more, -1 to 1, a target's motif does under an assay; on average no target and no assay does more."""
    assays = list(ASSAYS)
    signs = (-1.0) ** np.add.outer(np.arange(len(targets)), np.arange(len(assays)))
    signs = signs - signs.mean(0) - signs.mean(1, keepdims=True) + signs.mean()
    signs = signs / np.abs(signs).max()
    return {(target, assay): float(signs[i, j]) for i, target in enumerate(targets) for j, assay in enumerate(assays)}


def batch_slope(level: str, dose: float) -> float:
    """Return what a batch adds to the logit per standard deviation of G+C: `dose` for a number 1, and its negative for a 2."""
    return dose if level.endswith("1") else -dose


def causes_by_motif(
    options: SimulateOptions, targets: Sequence[str], tissues: Sequence[str]
) -> dict[str, tuple[str, str]]:
    """Return what each motif drives: the part of the logit, and the factor levels in the words of the project's mfd.toml."""
    causes = {motif: ("biological", f"target={level}") for level, motif in TARGETS.items()}
    if options.interaction:
        for owner in targets:
            own = [f"target={owner}"] if options.interaction < 1 else []
            pairs = [(t, s) for t in targets for s in tissues if partner(t, s, targets) == owner]
            bound = own + [f"target={t} & biosample={s}" for t, s in pairs]
            causes[TARGETS[owner]] = ("biological", ", ".join(bound))
    causes |= {motif: ("biological", f"biosample={level}") for level, motif in TISSUES.items()}
    causes |= {motif: ("technical", f"assay={level}") for level, motif in ASSAYS.items()}
    return {**causes, SHARED: ("shared", "all tracks")}


def levels_in(rows: Sequence[Mapping[str, str]], factor: str, order: Mapping[str, object]) -> list[str]:
    """Return the levels of a factor that these experiments have, in the order of the planted ones."""
    seen = {row[factor] for row in rows}
    return [level for level in order if level in seen]
