"""What `mfd simulate` plants, and what follows from it: every true logit is a function of the sequence.

    logit_ij = b_i + shared_j + biological_ij + technical_ij

A motif's presence in a bin is a smooth number between 0 and 1 (its best hit, both strands). shared: a promoter-like
motif and G+C. biological: the target's motif, the tissue's motif, and their product. technical: the assay's cutting
motif, a G+C slope per lab, a preference for A/T runs per year. The same function scores the genome and every variant.
Below it: the genome that holds the causes, and the variants that break them.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any

import numpy as np

from mfd_cli.base.arrays import Bools, Bytes, Doubles
from mfd_cli.base.errors import ConfigError
from mfd_cli.genome.grid import BIN
from mfd_cli.genome.motifs import Motif
from mfd_cli.genome.sequence import decode, encode, reverse_complement
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
class Parts:
    """The true logit in parts, not centred: shared (bins, 1), biological and technical (bins, tracks)."""

    shared: Doubles
    biological: Doubles
    technical: Doubles

    def centred(self, trained: Bools | None = None) -> Parts:
        """Return the parts with what all (training) tracks have in common moved to the shared part, as in the model."""
        used = slice(None) if trained is None else trained
        bio, tech = (part[:, used].mean(1, keepdims=True) for part in (self.biological, self.technical))
        return Parts(self.shared + bio + tech, self.biological - bio, self.technical - tech)

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
    found = {name: np.concatenate([presence(motif, piece) for piece in pieces]) for name, motif in motifs.items()}
    gc = ((codes == 1) | (codes == 2)).mean(1)
    weak = (codes == 0) | (codes == 3)
    runs = (weak[:, :-3] & weak[:, 1:-2] & weak[:, 2:-1] & weak[:, 3:]).mean(1)
    # Fixed centres and scales, so that a variant's bin is measured with the same ruler as the genome's.
    return Causes(found, (gc - 0.42) / 0.08, (runs - 0.14) / 0.09)


def true_parts(
    causes: Causes, rows: Sequence[Mapping[str, str]], hidden: Bools | None = None, saturating: bool = False
) -> Parts:
    """Return the true logit of every bin and track, in parts. `hidden` marks the tracks of a batch that no column names; with
    `saturating` the biological part approaches 3 instead of growing with every cause."""
    one = causes.motifs
    shared = EFFECTS["shared"] * one[SHARED] + EFFECTS["G+C"] * causes.gc
    biological, technical = [], []
    for index, row in enumerate(rows):
        target, tissue = one[TARGETS[row["target"]]], one[TISSUES[row["biosample"]]]
        joint = EFFECTS["target x tissue"] * target * tissue
        whole = EFFECTS["target"] * target + EFFECTS["tissue"] * tissue + joint
        biological.append(3 * np.tanh(whole / 3) if saturating else whole)
        part = EFFECTS["assay"] * one[ASSAYS[row["assay"]]] + EFFECTS["lab"] * LABS[row["lab"]] * causes.gc
        part = part + EFFECTS["year"] * YEARS[row["year"]] * causes.at_runs
        if hidden is not None and hidden[index]:
            part = part + EFFECTS["hidden batch"] * causes.at_runs
        technical.append(part)
    return Parts(shared[:, None], np.stack(biological, 1), np.stack(technical, 1))


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
        given = {name: getattr(self, name) for name in ("correlation", "overlap")}
        return replace(self, **{name: getattr(size, name) for name, value in given.items() if value is None})


# -- the genome --------------------------------------------------------------------------------------------------------


def plant_genome(
    scale: Size, options: SimulateOptions, rng: np.random.Generator
) -> tuple[dict[str, Bytes], list[dict[str, Any]]]:
    """Return contigs of base codes with a smooth G+C landscape, and the motif instances that were put in."""
    motifs, genome, instances = built_in(), {}, []
    used = [m for m in motifs if m not in TARGETS.values()] + list(TARGETS.values())[: scale.targets]
    first_assay = next(iter(ASSAYS.values()))
    for number in range(1, scale.contigs + 1):
        name = f"chr{number}"
        gc = landscape(scale.bins_per_contig * BIN, rng)
        strong = rng.random(len(gc)) < gc
        codes = np.where(strong, rng.integers(1, 3, len(gc)), rng.integers(0, 2, len(gc)) * 3).astype(np.uint8)
        for bin_index in range(scale.bins_per_contig):
            chosen = [name for name in used if rng.random() < 0.06]
            targets = set(chosen) & set(TARGETS.values())
            if targets and first_assay not in chosen and rng.random() < (options.correlation or 0):
                chosen.append(first_assay)
            slots = rng.permutation(6)
            placed = []
            for motif, slot in zip((motifs[m] for m in chosen), slots):
                placed.append((motif.name, int(slot) * 21 + int(rng.integers(0, 21 - len(motif.counts)))))
                instances.append(plant(codes, name, bin_index * BIN + placed[-1][1], motif, rng))
            if options.overlap:
                for motif_name, offset in overlapping(placed, used, options.overlap, rng):
                    instances.append(plant(codes, name, bin_index * BIN + offset, motifs[motif_name], rng))
        genome[name] = codes
    return genome, instances


def plant(codes: Bytes, contig: str, start: int, motif: Motif, rng: np.random.Generator) -> dict[str, Any]:
    """Put a drawn instance of a motif into a contig, on a random strand; where it is, for truth/motifs.tsv.

    Instances are drawn from the squared, renormalised matrix: of the sites that a matrix allows, the better ones are bound.
    """
    sharp = motif.probabilities**2
    drawn = np.array([rng.choice(4, p=row / row.sum()) for row in sharp], np.uint8)
    strand = "+-"[rng.integers(2)]
    codes[start : start + len(drawn)] = drawn if strand == "+" else reverse_complement(drawn)
    kind, cause = CAUSES[motif.name]
    where = {"contig": contig, "start": start, "end": start + len(drawn), "strand": strand}
    return {**where, "motif": motif.name, "kind": kind, "cause": cause}


def overlapping(
    placed: Sequence[tuple[str, int]], used: Sequence[str], share: float, rng: np.random.Generator
) -> list[tuple[str, int]]:
    """Return, for some of the targets' motifs in a bin, another target's motif that begins on its last three bases."""
    motifs, extra = built_in(), []
    targets = [name for name in used if name in TARGETS.values()]
    for name, offset in placed:
        others = [target for target in targets if target != name]
        if name in targets and others and rng.random() < share:
            second, start = str(rng.choice(others)), offset + len(motifs[name].counts) - 3
            if start + len(motifs[second].counts) <= BIN:
                extra.append((second, start))
    return extra


def landscape(length: int, rng: np.random.Generator, step: int = 2048) -> Doubles:
    """Return (length,) the probability of G or C at every base: a bounded random walk with a knot every 2 kb."""
    knots = 0.42 + 0.08 * rng.normal(size=length // step + 2)
    result: Doubles = np.interp(np.arange(length), np.arange(len(knots)) * step, np.clip(knots, 0.25, 0.65))
    return result


# -- variants ----------------------------------------------------------------------------------------------------------


def make_variants(
    genome: Mapping[str, Bytes],
    rows: Sequence[Mapping[str, str]],
    hidden: Bools | None,
    scale: Size,
    rng: np.random.Generator,
    saturating: bool = False,
) -> list[dict[str, Any]]:
    """Return variants that break biological, technical or shared motifs, or nothing; with their true changes, in order."""
    motifs = built_in()
    kinds = {
        "biological": [TARGETS[r] for r in dict.fromkeys(row["target"] for row in rows)],
        "technical": list(ASSAYS.values()),
        "shared": [SHARED],
        "none": [""],
    }
    found: dict[tuple[str, int], dict[str, Any]] = {}
    for kind, names in kinds.items():
        wanted = scale.variants // 4
        for _ in range(wanted * 50):
            if sum(v["kind"] == kind for v in found.values()) >= wanted:
                break
            contig = str(rng.choice(list(genome)))
            codes = genome[contig]
            start = int(rng.integers(2, len(codes) // BIN - 2)) * BIN
            window = codes[start : start + BIN]
            motif_name = str(rng.choice(names))
            place = int(rng.integers(40, 88))
            if motif_name:
                motif = motifs[motif_name]
                forward, reverse = motif.scan(window)
                best = int(np.maximum(forward, reverse).argmax())
                if max(forward[best], reverse[best]) < 0.8 * motif.log_odds.max(1).sum():
                    continue
                weights = motif.log_odds if forward[best] >= reverse[best] else motif.log_odds[::-1, ::-1]
                inner = int((weights.max(1) - weights.min(1)).argmax())
                place = best + inner
            draft = _alleles(window, place, rng)
            effect = true_change(codes, start + place, *draft, rows, hidden, saturating)
            size = {name: effect[name] for name in ("biological", "technical", "shared")}
            if kind == "none" and max(size.values()) > 0.15:
                continue
            if kind != "none" and (size[kind] < 0.5 or size[kind] < 3 * max(v for k, v in size.items() if k != kind)):
                continue
            if any(abs(start + place - at) < 4 for name, at in found if name == contig):
                continue
            found[contig, start + place] = {
                "chrom": contig,
                "pos": start + place + 1,
                "ref": draft[0],
                "alt": draft[1],
                "kind": kind,
                "motif": motif_name,
                **{f"true_{name}": round(value, 6) for name, value in effect.items()},
            }
    return sorted(found.values(), key=lambda v: (list(genome).index(v["chrom"]), v["pos"]))


def _alleles(window: Bytes, place: int, rng: np.random.Generator) -> tuple[str, str]:
    """A substitution at a place of a window, or (one in ten) a deletion of three bases after it."""
    base = int(window[place])
    if rng.random() < 0.1 and place + 4 < len(window):
        return decode(window[place : place + 4]), decode(window[place : place + 1])
    return "ACGT"[base], "ACGT"[(base + int(rng.integers(1, 4))) % 4]


def true_change(
    codes: Bytes,
    position: int,
    ref: str,
    alt: str,
    rows: Sequence[Mapping[str, str]],
    hidden: Bools | None,
    saturating: bool = False,
) -> dict[str, float]:
    """Return alternate minus reference in the bin that holds the variant: root mean square over tracks of each centred part.

    `shared` is signed in the logit but its size is given here; `total` is the largest change of any track, signed.
    """
    start = position // BIN * BIN
    reference = codes[start : start + BIN]
    changed = np.concatenate([codes[start:position], encode(alt), codes[position + len(ref) : start + 2 * BIN]])[:BIN]
    causes = find_causes(np.stack([reference, changed]))
    parts = true_parts(causes, rows, hidden, saturating)
    both, whole = parts.centred(), parts.total()
    raw = {name: np.diff(getattr(parts, name), axis=0)[0] for name in ("shared", "biological", "technical")}
    total = np.diff(whole, axis=0)[0]
    return {
        **{name: float(np.sqrt((change**2).mean())) for name, change in raw.items()},
        **{f"centred_{n}": float(np.sqrt((np.diff(getattr(both, n), axis=0)[0] ** 2).mean())) for n in raw},
        "total": float(total[np.abs(total).argmax()]),
    }
