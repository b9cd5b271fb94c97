"""What follows from what is planted: every true logit is a function of the sequence, and a sum of parts.

    logit_ij = b_i + shared_j + biological_ij + technical_ij (+ joint_ij + residual_ij)

shared: a promoter-like motif and G+C. biological: the target's motif, the tissue's motif, and their product. technical:
the assay's cutting motif, a G+C slope per lab and per batch, a preference for A/T runs per year. joint: a target's motif
counts more or less under an assay, which belongs to neither. residual: what a track has of its own. The last two are there
where options ask for them. The same function scores the genome and every variant.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np

from mfd_cli.base.arrays import Bools, Doubles
from mfd_cli.simulate.causes import COMPOSITIONS, Causes
from mfd_cli.simulate.options import SimulateOptions
from mfd_cli.simulate.planted import (
    ASSAYS,
    EFFECTS,
    LABS,
    SHARED,
    TARGETS,
    TISSUES,
    YEARS,
    assay_signs,
    batch_slope,
    levels_in,
    partner,
)

PLAIN = SimulateOptions()
PART_NAMES = ("shared", "biological", "technical", "joint", "residual")
OWN_COMPOSITION = 0.2
"""A track's own weight per standard deviation of a composition, beside that for a motif: as of a lab beside an assay."""


@dataclass(frozen=True)
class Tracks:
    """The experiments of a world, one per track, and what no column of theirs tells.

    `rows` are their factor levels, `hidden` (tracks,) marks those of a batch without a column, and `own` (tracks, causes)
    has each track's own weight for every motif and composition.
    """

    rows: Sequence[Mapping[str, str]]
    hidden: Bools | None = None
    own: Doubles | None = None

    def only(self, which: Bools) -> Tracks:
        """Return some of the tracks."""
        return Tracks(
            [row for row, chosen in zip(self.rows, which) if chosen],
            None if self.hidden is None else self.hidden[which],
            None if self.own is None else self.own[which],
        )


@dataclass(frozen=True)
class TrueParts:
    """The true logit in parts, not centred: shared (bins, 1), the others (bins, tracks). None: this world has no such part."""

    shared: Doubles
    biological: Doubles
    technical: Doubles
    joint: Doubles | None = None
    residual: Doubles | None = None

    def every(self) -> dict[str, Doubles]:
        """Return the parts that this world has, by name."""
        return {name: getattr(self, name) for name in PART_NAMES if getattr(self, name) is not None}

    def differing(self) -> dict[str, Doubles]:
        """Return the parts in which tracks differ, by name: all but the shared one."""
        return {name: part for name, part in self.every().items() if name != "shared"}

    def centred(self, trained: Bools | None = None) -> TrueParts:
        """Return the parts with what all (training) tracks have in common moved to the shared part, as in the model."""
        used = slice(None) if trained is None else trained
        parts = self.differing()
        means = {name: part[:, used].mean(1, keepdims=True) for name, part in parts.items()}
        shared = sum(means.values(), start=self.shared)
        return TrueParts(shared, **{name: part - means[name] for name, part in parts.items()})

    def total(self) -> Doubles:
        """Return (bins, tracks) the logit without its bias."""
        return sum(self.differing().values(), start=self.shared)


def true_parts(causes: Causes, tracks: Tracks, options: SimulateOptions = PLAIN) -> TrueParts:
    """Return the true logit of every bin and track, in parts."""
    shared = EFFECTS["shared"] * causes.motifs[SHARED] + EFFECTS["G+C"] * causes.gc
    targets = levels_in(tracks.rows, "target", TARGETS)
    bound = [bound_sites(causes, row, targets, options.interaction) for row in tracks.rows]
    biological = [biological_part(causes, row, sites, options.saturating) for row, sites in zip(tracks.rows, bound)]
    hidden = [False] * len(tracks.rows) if tracks.hidden is None else tracks.hidden
    technical = [technical_part(causes, row, batch, options.batch_dose) for row, batch in zip(tracks.rows, hidden)]
    joint = residual = None
    if options.technique_interaction:
        signs = assay_signs(targets)
        size = options.technique_interaction * EFFECTS["target"]
        joint = np.stack(
            [size * signs[row["target"], row["assay"]] * sites for row, sites in zip(tracks.rows, bound)], 1
        )
    if tracks.own is not None:
        residual = causes.matrix() @ tracks.own.T
    return TrueParts(shared[:, None], np.stack(biological, 1), np.stack(technical, 1), joint, residual)


def bound_sites(causes: Causes, row: Mapping[str, str], targets: Sequence[str], interaction: float) -> Doubles:
    """Return (bins,) how clearly the sites are present at which a track's target is bound in its tissue."""
    own = causes.motifs[TARGETS[row["target"]]]
    others = causes.motifs[TARGETS[partner(row["target"], row["biosample"], targets)]]
    result: Doubles = (1 - interaction) * own + interaction * others
    return result


def biological_part(causes: Causes, row: Mapping[str, str], sites: Doubles, saturating: bool) -> Doubles:
    """Return (bins,) what target and tissue do; with `saturating` it approaches 3 instead of growing with every cause."""
    tissue = causes.motifs[TISSUES[row["biosample"]]]
    joint = EFFECTS["target x tissue"] * sites * tissue
    whole = EFFECTS["target"] * sites + EFFECTS["tissue"] * tissue + joint
    return 3 * np.tanh(whole / 3) if saturating else whole


def technical_part(causes: Causes, row: Mapping[str, str], hidden: bool, batch_dose: float) -> Doubles:
    """Return (bins,) what assay, lab, year, a named batch and a hidden one do."""
    part = EFFECTS["assay"] * causes.motifs[ASSAYS[row["assay"]]] + EFFECTS["lab"] * LABS[row["lab"]] * causes.gc
    part = part + EFFECTS["year"] * YEARS[row["year"]] * causes.at_runs
    if hidden:
        part = part + EFFECTS["hidden batch"] * causes.at_runs
    if "batch" in row:
        part = part + batch_slope(row["batch"], batch_dose) * causes.gc
    return part


def own_weights(tracks: int, motifs: int, size: float, rng: np.random.Generator) -> Doubles:
    """Return (tracks, motifs + compositions) normal weights: a standard deviation of `size` for a motif that is present, and
    OWN_COMPOSITION times that per standard deviation of a composition."""
    scales = np.repeat([size, OWN_COMPOSITION * size], [motifs, len(COMPOSITIONS)])
    return scales * rng.normal(size=(tracks, len(scales)))
