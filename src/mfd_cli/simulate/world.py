"""A planted world: the genome, the experiments, and every track's peaks, drawn from its true logits."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from itertools import combinations
from typing import Any

import numpy as np
from scipy.stats import rankdata

from mfd_cli.base.arrays import Bools, Bytes, Doubles
from mfd_cli.genome.grid import BIN
from mfd_cli.simulate import planted
from mfd_cli.simulate.batches import with_batches
from mfd_cli.simulate.causes import Causes, genome_causes
from mfd_cli.simulate.noise import dependent
from mfd_cli.simulate.options import SimulateOptions, Size
from mfd_cli.simulate.planted_genome import plant_genome
from mfd_cli.simulate.true_parts import Tracks, TrueParts, own_weights, true_parts


@dataclass(frozen=True)
class World:
    """All that is true: the genome and what was put into it, the experiments, their logits and their peaks.

    `bias` (tracks,) is what is added to the sum of the `parts`, `peaks` (bins, tracks) the bins that are called, and `noise`
    (bins, tracks) what they were drawn by, uniform and low where there is a peak. `held_out` lists the combinations of
    levels kept out of training.
    """

    options: SimulateOptions
    genome: Mapping[str, Bytes]
    instances: Sequence[Mapping[str, Any]]
    tracks: Tracks
    held_out: Sequence[Mapping[str, str]]
    causes: Causes
    parts: TrueParts
    bias: Doubles
    noise: Doubles
    peaks: Bools
    test_contigs: int

    @property
    def trained(self) -> Bools:
        """(tracks,) Which tracks are not held out."""
        return np.array(
            [not any(combination.items() <= row.items() for combination in self.held_out) for row in self.tracks.rows]
        )

    @property
    def logits(self) -> Doubles:
        """(bins, tracks) The true logits: the sum of the parts and the bias."""
        return self.parts.total() + self.bias

    def ceiling(self) -> list[float]:
        """Return the AUROC of the true logit on the test split, the last contigs, per track."""
        last = sum(len(codes) // BIN for codes in list(self.genome.values())[-self.test_contigs :])
        logits, peaks = self.logits[-last:], self.peaks[-last:]
        return [roc_area(logits[:, i], peaks[:, i]) for i in range(len(self.tracks.rows))]


def roc_area(scores: Doubles, labels: Bools) -> float:
    """Return the area under the ROC curve by ranks; NaN without positives or negatives."""
    positives = int(labels.sum())
    negatives = len(labels) - positives
    if not positives or not negatives:
        return float("nan")
    return float((rankdata(scores)[labels].sum() - positives * (positives + 1) / 2) / (positives * negatives))


def make_world(scale: Size, options: SimulateOptions, rng: np.random.Generator) -> World:
    """Plant a genome, design the experiments, and draw every track's peaks from its true logits."""
    # Streams of their own: an option changes nothing but what it says, and a world without it is what it was before.
    batch_rng, own_rng, noise_rng = rng.spawn(3)
    genome, instances = plant_genome(scale, options, rng)
    rows, held_out = design_experiments(scale, options, rng)
    hidden = rng.random(len(rows)) < 0.5 if options.hidden_batch else None
    if options.batch != "none":
        rows = with_batches(rows, options.batch, batch_rng)
    motifs = planted.planted_motifs(options.shared_letters)
    own = own_weights(len(rows), len(motifs), options.residual, own_rng) if options.residual else None
    tracks, causes = Tracks(rows, hidden, own), genome_causes(genome, motifs, options.distance)
    parts = true_parts(causes, tracks, options)
    shallow = 2 * options.depth * rng.random(len(rows)) if options.depth else 0.0
    bias = planted.PREVALENCE_LOGIT + rng.normal(0, 0.15, len(rows)) - shallow
    noise = rng.random((len(causes.gc), len(rows)))
    if options.spread or options.overdispersion:
        contigs = [len(codes) // BIN for codes in genome.values()]
        noise = dependent(noise, contigs, options.spread, options.overdispersion, noise_rng)
    peaks = noise < 1 / (1 + np.exp(-(parts.total() + bias)))
    return World(options, genome, instances, tracks, held_out, causes, parts, bias, noise, peaks, scale.test_contigs)


def design_experiments(
    scale: Size, options: SimulateOptions, rng: np.random.Generator
) -> tuple[list[dict[str, str]], list[dict[str, str]]]:
    """Return the experiments, as factor levels per track, and the combinations of levels that are held out of training.

    Each lab prefers an assay and each year a lab, as in real tables; the last target is mostly measured by one assay. A
    combination is held out only where each two of its levels are still seen together.
    """
    targets, tissues = list(planted.TARGETS)[: scale.targets], list(planted.TISSUES)[: scale.tissues]
    labs, years, assays = list(planted.LABS), list(planted.YEARS), list(planted.ASSAYS)
    made = [
        {"target": t, "biosample": s, "assay": a}
        for t in targets
        for s in tissues
        for a in assays
        if not (t == targets[-1] and len(tissues) > 2 and a == assays[-1] and s != tissues[0])
    ]
    held_out: list[dict[str, str]] = []
    for index in rng.permutation(len(made)):
        left = [c for c in made if c not in held_out and c != made[index]]
        if len(held_out) < max(1, len(made) // 9) and every_pair_seen(made[index], left):
            held_out.append(made[index])
    rows = []
    for number, combination in enumerate(made):
        usual = options.complete_confounding or rng.random() < 0.6
        first = assays.index(combination["assay"]) if usual else int(rng.integers(len(labs)))
        labs_of_it = scale.replicates + (number < scale.repeated)
        for replicate in range(1 if options.complete_confounding else labs_of_it):
            lab = labs[(first + replicate) % len(labs)]
            usual = options.complete_confounding or rng.random() < 0.5
            year = years[labs.index(lab) if usual else int(rng.integers(len(years)))]
            rows.append({**combination, "lab": lab, "year": year})
    return rows, [combination for combination in made if combination in held_out]


def every_pair_seen(combination: Mapping[str, str], others: Sequence[Mapping[str, str]]) -> bool:
    """Return whether each two levels of a combination are together in some other one as well."""
    pairs = combinations(combination.items(), 2)
    return all(any(other[f] == a and other[g] == b for other in others) for (f, a), (g, b) in pairs)
