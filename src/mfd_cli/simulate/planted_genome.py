"""The genome of a planted world: a G+C landscape, and motifs in it that are the causes of the tracks."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from typing import Any

import numpy as np

from mfd_cli.base.arrays import Bytes, Doubles
from mfd_cli.genome.grid import BIN
from mfd_cli.genome.motifs import Motif
from mfd_cli.genome.sequence import reverse_complement
from mfd_cli.simulate.causes import bins_acted_on
from mfd_cli.simulate.options import SimulateOptions, Size
from mfd_cli.simulate.planted import ASSAYS, TARGETS, TISSUES, causes_by_motif, planted_motifs

SLOT = 21
"""Bases in which one motif of a bin is put: six slots fill a bin, and the longest motif fits into one."""
MOTIF_CHANCE = 0.06
"""How likely a bin holds a given motif."""
MOST_CHANCE = 0.3
"""How likely at most, where there is much G+C: of more motifs than slots, some would have no place."""
MEAN_GC, SPREAD_OF_GC = 0.42, 0.08
"""Of the knots of the G+C landscape."""


def plant_genome(
    scale: Size, options: SimulateOptions, rng: np.random.Generator
) -> tuple[dict[str, Bytes], list[dict[str, Any]]]:
    """Return contigs of base codes with a smooth G+C landscape, and the motif instances that were put in."""
    motifs, genome, instances = planted_motifs(options.shared_letters), dict[str, Bytes](), list[dict[str, Any]]()
    used = [name for name in motifs if name not in TARGETS.values()] + list(TARGETS.values())[: scale.targets]
    causes = causes_by_motif(options, list(TARGETS)[: scale.targets], list(TISSUES)[: scale.tissues])
    for number in range(1, scale.contigs + 1):
        contig = f"chr{number}"
        gc = landscape(scale.bins_per_contig * BIN, rng)
        codes = random_bases(gc, rng)
        chances = motif_chances(gc.reshape(-1, BIN).mean(1), options)
        for start, chance in zip(range(0, len(codes), BIN), chances.tolist()):
            instances += plant_bin(codes, contig, start, {name: motifs[name] for name in used}, chance, options, rng)
        genome[contig] = codes
    for instance in instances:
        instance["kind"], instance["cause"] = causes[instance["motif"]]
    return genome, instances


def motif_chances(gc: Doubles, options: SimulateOptions) -> Doubles:
    """Return (bins,) how likely each bin holds a given motif, by its G+C in the landscape.

    Where motifs act at a distance there are fewer of them, so that what acts on a bin is as much as without.
    """
    chance = MOTIF_CHANCE / bins_acted_on(options.distance)
    result: Doubles = np.minimum(chance * np.exp(options.gc_correlated * (gc - MEAN_GC) / SPREAD_OF_GC), MOST_CHANCE)
    return result


def plant_bin(
    codes: Bytes,
    contig: str,
    start: int,
    motifs: Mapping[str, Motif],
    chance: float,
    options: SimulateOptions,
    rng: np.random.Generator,
) -> list[dict[str, Any]]:
    """Put each of the motifs, by chance, into the bin of a contig that begins at `start`, and return the instances."""
    names, slots = drawn_names(motifs, chance, options.correlation or 0, rng), rng.permutation(BIN // SLOT)
    instances, offsets = [], list[tuple[str, int]]()
    for name, slot in zip(names, slots.tolist()):
        offset = slot * SLOT + int(rng.integers(0, SLOT - len(motifs[name].counts)))
        offsets.append((name, offset))
        instances.append(plant(codes, contig, start + offset, motifs[name], rng))
    if options.overlap:
        for name, offset in overlapping(offsets, motifs, options.overlap, rng):
            instances.append(plant(codes, contig, start + offset, motifs[name], rng))
    return instances


def drawn_names(motifs: Iterable[str], chance: float, correlation: float, rng: np.random.Generator) -> list[str]:
    """Return which motifs a bin gets. With a target's motif comes that of the first assay, as often as `correlation` says."""
    first_assay = next(iter(ASSAYS.values()))
    names = [name for name in motifs if rng.random() < chance]
    if set(names) & set(TARGETS.values()) and first_assay not in names and rng.random() < correlation:
        names.append(first_assay)
    return names


def random_bases(gc: Doubles, rng: np.random.Generator) -> Bytes:
    """Return base codes (length,) of which each is G or C with its own probability."""
    strong = rng.random(len(gc)) < gc
    return np.where(strong, rng.integers(1, 3, len(gc)), rng.integers(0, 2, len(gc)) * 3).astype(np.uint8)


def plant(codes: Bytes, contig: str, start: int, motif: Motif, rng: np.random.Generator) -> dict[str, Any]:
    """Put a drawn instance of a motif into a contig, on a random strand, and return where it is, for truth/motifs.tsv.

    Instances are drawn from the squared, renormalised matrix: of the sites that a matrix allows, the better ones are bound.
    """
    sharp = motif.probabilities**2
    drawn = np.array([rng.choice(4, p=row / row.sum()) for row in sharp], np.uint8)
    strand = "+-"[rng.integers(2)]
    codes[start : start + len(drawn)] = drawn if strand == "+" else reverse_complement(drawn)
    return {"contig": contig, "start": start, "end": start + len(drawn), "strand": strand, "motif": motif.name}


def overlapping(
    offsets: Sequence[tuple[str, int]], motifs: Mapping[str, Motif], share: float, rng: np.random.Generator
) -> list[tuple[str, int]]:
    """Return, for some of the targets' motifs in a bin, another target's motif that begins on its last three bases.

    `offsets` are those in the bin, (name, first base); so is what is returned.
    """
    targets, overlaps = [name for name in motifs if name in TARGETS.values()], []
    for name, offset in offsets:
        others = [target for target in targets if target != name]
        if name in targets and others and rng.random() < share:
            second, start = str(rng.choice(others)), offset + len(motifs[name].counts) - 3
            if start + len(motifs[second].counts) <= BIN:
                overlaps.append((second, start))
    return overlaps


def landscape(length: int, rng: np.random.Generator, step: int = 2048) -> Doubles:
    """Return (length,) the probability of G or C at every base: a bounded random walk with a knot every 2 kb."""
    knots = MEAN_GC + SPREAD_OF_GC * rng.normal(size=length // step + 2)
    result: Doubles = np.interp(np.arange(length), np.arange(len(knots)) * step, np.clip(knots, 0.25, 0.65))
    return result
