"""The causes that `mfd simulate` plants, and what follows from them: every true logit is a function of the sequence.

    logit_ij = b_i + shared_j + biological_ij + technical_ij

A motif's presence in a bin is a smooth number between 0 and 1 (its best hit, both strands). shared: a promoter-like
motif and G+C. biological: the target's motif, the tissue's motif, and their product. technical: the assay's cutting
motif, a G+C slope per lab, a preference for A/T runs per year. The same function scores the genome and every variant.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from mfd_cli.data.motifs import Motif, built_in
from mfd_cli.data.sequence import Bytes

BIN = 128
Floats = NDArray[np.float64]
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


@dataclass(frozen=True)
class Causes:
    """What the sequence of some bins holds: presence of each motif (bins,) 0 to 1, and compositions as z-scores."""

    motifs: Mapping[str, Floats]
    gc: Floats
    at_runs: Floats


@dataclass(frozen=True)
class Parts:
    """The true logit in parts, not centred: shared (bins, 1), biological and technical (bins, tracks)."""

    shared: Floats
    biological: Floats
    technical: Floats

    def centred(self) -> Parts:
        """The same with what all tracks have in common moved to the shared part, as in the model's decomposition."""
        bio, tech = self.biological.mean(1, keepdims=True), self.technical.mean(1, keepdims=True)
        return Parts(self.shared + bio + tech, self.biological - bio, self.technical - tech)

    def total(self) -> Floats:
        return self.shared + self.biological + self.technical


def presence(motif: Motif, codes: Bytes) -> Floats:
    """How clearly a motif is present in each row of base codes (bins, 128): 0 to 1, the best hit on either strand."""
    rows, width = codes.shape
    hits = np.maximum(*motif.scan(codes.reshape(-1)))
    starts = width - len(motif.counts) + 1  # a hit must lie wholly inside its bin
    padded = np.full(rows * width, -np.inf)
    padded[: len(hits)] = hits
    best = padded.reshape(rows, width)[:, :starts].max(1)
    threshold = 0.7 * motif.log_odds.max(1).sum()
    result: Floats = 1 / (1 + np.exp(-(best - threshold) / 0.8))
    return result


def find_causes(codes: Bytes, chunk: int = 8192) -> Causes:
    """The causes in every row of base codes (bins, 128)."""
    motifs = built_in()
    pieces = [codes[low : low + chunk] for low in range(0, len(codes), chunk)]
    found = {name: np.concatenate([presence(motif, piece) for piece in pieces]) for name, motif in motifs.items()}
    gc = ((codes == 1) | (codes == 2)).mean(1)
    weak = (codes == 0) | (codes == 3)
    runs = (weak[:, :-3] & weak[:, 1:-2] & weak[:, 2:-1] & weak[:, 3:]).mean(1)
    # Fixed centres and scales, so that a variant's bin is measured with the same ruler as the genome's.
    return Causes(found, (gc - 0.42) / 0.08, (runs - 0.14) / 0.09)


def true_parts(
    causes: Causes, rows: Sequence[Mapping[str, str]], hidden: NDArray[np.bool_] | None = None, saturating: bool = False
) -> Parts:
    """The true logit of every bin and track, in parts. `hidden` marks the tracks of a batch that no column names; with
    `saturating` the biological part approaches 3 instead of growing with every cause."""
    one = causes.motifs
    shared = EFFECTS["shared"] * one[SHARED] + EFFECTS["G+C"] * causes.gc
    biological, technical = [], []
    for index, row in enumerate(rows):
        target, tissue = one[TARGETS[row["target"]]], one[TISSUES[row["tissue"]]]
        joint = EFFECTS["target x tissue"] * target * tissue
        whole = EFFECTS["target"] * target + EFFECTS["tissue"] * tissue + joint
        biological.append(3 * np.tanh(whole / 3) if saturating else whole)
        part = EFFECTS["assay"] * one[ASSAYS[row["assay"]]] + EFFECTS["lab"] * LABS[row["lab"]] * causes.gc
        part = part + EFFECTS["year"] * YEARS[row["year"]] * causes.at_runs
        if hidden is not None and hidden[index]:
            part = part + EFFECTS["hidden batch"] * causes.at_runs
        technical.append(part)
    return Parts(shared[:, None], np.stack(biological, 1), np.stack(technical, 1))
