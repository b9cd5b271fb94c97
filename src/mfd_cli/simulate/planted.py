"""What `mfd simulate` plants, and what follows from it: every true logit is a function of the sequence.

    logit_ij = b_i + shared_j + biological_ij + technical_ij

A motif's presence in a bin is a smooth number between 0 and 1 (its best hit, both strands). shared: a promoter-like
motif and G+C. biological: the target's motif, the tissue's motif, and their product. technical: the assay's cutting
motif, a G+C slope per lab, a preference for A/T runs per year. The same function scores the genome and every variant.
The genome that holds the causes is made in planted_genome.py, the variants that break them in planted_variants.py.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace

import numpy as np

from mfd_cli.base.arrays import Bools, Bytes, Doubles
from mfd_cli.base.errors import ConfigError
from mfd_cli.genome.motifs import Motif
from mfd_cli.simulate.built_in_motifs import built_in

TARGETS = {"ABF1": "ABF1", "REB1": "REB1", "RAP1": "RAP1", "CBF1": "CBF1", "UME6": "UME6", "BAS1": "BAS1"}
TISSUES = {"liver": "YAP1", "brain": "FKH1", "heart": "HAP3"}
ASSAYS = {"ChIP-seq": "MCM1", "CUT&RUN": "PDR3"}
SHARED = "SNT2"
CAUSES = {
    **{motif: ("biological", f"target={level}") for level, motif in TARGETS.items()},
    **{motif: ("biological", f"biosample={level}") for level, motif in TISSUES.items()},
    **{motif: ("technical", f"assay={level}") for level, motif in ASSAYS.items()},
    SHARED: ("shared", "all tracks"),
}
"""What each motif drives: the part of the logit, and the factor level in the words of the project's mfd.toml."""
LABS = {"Lab North": 1.0, "Lab South": -1.0, "Lab West": 0.0}
YEARS = {"2014": 1.0, "2018": 0.0, "2021": -1.0}
EFFECTS = {
    "target": 4.0, "tissue": 1.5, "target x tissue": 1.5, "shared": 2.0, "G+C": 0.4, "assay": 2.5, "lab": 0.5,
    "year": 0.5, "hidden batch": 1.0,
}  # fmt: skip
"""Change of the logit for a motif that is present, or per standard deviation of a composition."""
PREVALENCE_LOGIT = -4.4
"""Bias of a track: without any cause, 1.2 % of its bins have a peak."""


@dataclass(frozen=True)
class Causes:
    """What the sequence of some bins holds: presence of each motif (bins,) 0 to 1, and compositions as z-scores."""

    motifs: Mapping[str, Doubles]
    gc: Doubles
    at_runs: Doubles


@dataclass(frozen=True)
class TrueParts:
    """The true logit in parts, not centred: shared (bins, 1), biological and technical (bins, tracks)."""

    shared: Doubles
    biological: Doubles
    technical: Doubles

    def centred(self, trained: Bools | None = None) -> TrueParts:
        """Return the parts with what all (training) tracks have in common moved to the shared part, as in the model."""
        used = slice(None) if trained is None else trained
        bio, tech = (part[:, used].mean(1, keepdims=True) for part in (self.biological, self.technical))
        return TrueParts(self.shared + bio + tech, self.biological - bio, self.technical - tech)

    def total(self) -> Doubles:
        """Return (bins, tracks) the logit without its bias."""
        return self.shared + self.biological + self.technical


def presence(motif: Motif, codes: Bytes) -> Doubles:
    """Return (bins,) how clearly a motif is present in each row of base codes (bins, 128).

    It is a number from 0 to 1 that follows from the best hit on either strand.
    """
    rows, width = codes.shape
    hits = np.maximum(*motif.scan(codes.reshape(-1)))
    starts = width - len(motif.counts) + 1  # a hit must lie wholly inside its bin
    padded = np.full(rows * width, -np.inf)
    padded[: len(hits)] = hits
    best = padded.reshape(rows, width)[:, :starts].max(1)
    # Half present at 70 % of the best possible log odds; a width of 0.8 makes a smooth step, so that a variant that weakens a
    # site changes the logit by a share of its effect.
    threshold = 0.7 * motif.log_odds.max(1).sum()
    result: Doubles = 1 / (1 + np.exp(-(best - threshold) / 0.8))
    return result


def find_causes(codes: Bytes, chunk: int = 8192) -> Causes:
    """Return the causes in every row of base codes (bins, 128), of which `chunk` are scanned at once."""
    motifs = built_in()
    pieces = [codes[low : low + chunk] for low in range(0, len(codes), chunk)]
    presences = {name: np.concatenate([presence(motif, piece) for piece in pieces]) for name, motif in motifs.items()}
    gc = ((codes == 1) | (codes == 2)).mean(1)
    weak = (codes == 0) | (codes == 3)
    runs = (weak[:, :-3] & weak[:, 1:-2] & weak[:, 2:-1] & weak[:, 3:]).mean(1)
    # Fixed centres and scales, so that a variant's bin is measured with the same ruler as the genome's.
    return Causes(presences, (gc - 0.42) / 0.08, (runs - 0.14) / 0.09)


def true_parts(
    causes: Causes, rows: Sequence[Mapping[str, str]], hidden: Bools | None = None, saturating: bool = False
) -> TrueParts:
    """Return the true logit of every bin and track, in parts. `hidden` marks the tracks of a batch that no column names; with
    `saturating` the biological part approaches 3 instead of growing with every cause."""
    motifs = causes.motifs
    shared = EFFECTS["shared"] * motifs[SHARED] + EFFECTS["G+C"] * causes.gc
    biological, technical = [], []
    for index, row in enumerate(rows):
        target, tissue = motifs[TARGETS[row["target"]]], motifs[TISSUES[row["biosample"]]]
        joint = EFFECTS["target x tissue"] * target * tissue
        whole = EFFECTS["target"] * target + EFFECTS["tissue"] * tissue + joint
        biological.append(3 * np.tanh(whole / 3) if saturating else whole)
        part = EFFECTS["assay"] * motifs[ASSAYS[row["assay"]]] + EFFECTS["lab"] * LABS[row["lab"]] * causes.gc
        part = part + EFFECTS["year"] * YEARS[row["year"]] * causes.at_runs
        if hidden is not None and hidden[index]:
            part = part + EFFECTS["hidden batch"] * causes.at_runs
        technical.append(part)
    return TrueParts(shared[:, None], np.stack(biological, 1), np.stack(technical, 1))


# -- the world ---------------------------------------------------------------------------------------------------------


@dataclass(frozen=True)
class Size:
    """How large a planted world is."""

    contigs: int
    bins_per_contig: int
    targets: int
    tissues: int
    variants: int
    replicates: int = 1
    """Labs that measure each combination of target, tissue and assay."""
    test_contigs: int = 1
    correlation: float = 0.0
    overlap: float = 0.0


SIZES = {
    "tiny": Size(contigs=4, bins_per_contig=400, targets=3, tissues=2, variants=40),
    "small": Size(contigs=6, bins_per_contig=4000, targets=6, tissues=3, variants=400),
    "medium": Size(
        contigs=12,
        bins_per_contig=8000,
        targets=6,
        tissues=3,
        variants=1000,
        replicates=2,
        test_contigs=2,
        correlation=0.3,
        overlap=0.2,
    ),
}
"""The benchmark, medium, has causes that overlap and coincide unless its options say otherwise."""


@dataclass(frozen=True)
class SimulateOptions:
    """Ways to break the model's assumptions; by default none is broken."""

    correlation: float | None = None
    """Probability that a bin with a target's motif also gets the first assay's cutting motif: causes that coincide.
    None: what the size says."""
    overlap: float | None = None
    """Probability that another target's motif overlaps the end of a target's motif. None: what the size says."""
    saturating: bool = False
    """Accessibility and motifs saturate: the biological part is squashed, not a sum of its causes."""
    depth: float = 0.0
    """Depth-dependent peak calling: the shallowest tracks lose up to twice this from every logit."""
    hidden_batch: bool = False
    """Half of the tracks have a preference that no column names."""
    mislabelled: float = 0.0
    """Share of the tracks whose target column is wrong."""
    complete_confounding: bool = False
    """Every assay was done by one lab in one year: nothing can tell the three apart."""

    def __post_init__(self) -> None:
        for name in ("correlation", "overlap", "depth", "mislabelled"):
            if not 0 <= (getattr(self, name) or 0) <= 1:
                raise ConfigError(f"{name} is {getattr(self, name)}; it must be between 0 and 1")

    def resolved(self, size: Size) -> SimulateOptions:
        """Return these options with what is None taken from the size."""
        from_size = {name: getattr(size, name) for name in ("correlation", "overlap") if getattr(self, name) is None}
        return replace(self, **from_size)
