"""Variants that break one of the planted causes, or none, with their true changes."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from mfd_cli.base.arrays import Bytes, Doubles
from mfd_cli.genome.grid import BIN
from mfd_cli.genome.motifs import Motif
from mfd_cli.genome.sequence import decode, encode
from mfd_cli.simulate.causes import bins_acted_on, find_causes, reach
from mfd_cli.simulate.options import SimulateOptions, Size
from mfd_cli.simulate.planted import ASSAYS, SHARED, TARGETS, planted_motifs
from mfd_cli.simulate.true_parts import PART_NAMES, PLAIN, Tracks, TrueParts, true_parts

KIND_NONE = "none"
"""Variants that break no cause."""
TRIES = 50
"""Sites that are tried per variant that is wanted."""
LEAST_SITE = 0.8
"""Share of the best possible log odds that a site has at least: of a weaker one a variant breaks little."""
LEAST_EFFECT, CLEAR, MOST_OF_NONE = 0.5, 3, 0.15
"""Logits that a variant changes its own part by, how many times as much as any other part, and what is no change."""
APART = 4
"""Bases between two variants."""


@dataclass(frozen=True)
class Site:
    """Where a variant is tried: a bin of a contig, the place in it, and the motif that is to be broken (empty for none)."""

    contig: str
    bin_start: int
    place: int
    motif: str

    @property
    def position(self) -> int:
        """The 0-based position on the contig."""
        return self.bin_start + self.place


def make_variants(
    genome: Mapping[str, Bytes],
    tracks: Tracks,
    scale: Size,
    options: SimulateOptions,
    rng: np.random.Generator,
) -> list[dict[str, Any]]:
    """Return variants that break biological, technical or shared motifs, or nothing; with their true changes, in order.

    Sites are tried until each kind has a quarter of the variants, or TRIES times as often, and more often with a distance.
    """
    motifs, wanted = planted_motifs(options.shared_letters), scale.variants // 4
    tries = round(
        wanted * TRIES * bins_acted_on(options.distance)
    )  # where motifs act on more bins there are fewer of them
    variants = dict[tuple[str, int], dict[str, Any]]()
    for kind, names in motifs_by_kind(tracks.rows).items():
        of_kind = 0
        for _ in range(tries):
            if of_kind == wanted:
                break
            site = draw_site(genome, names, motifs, 2 * reach(options.distance) + 2, rng)
            if site is None:
                continue
            codes = genome[site.contig]
            ref, alt = draw_alleles(codes[site.bin_start : site.bin_start + BIN], site.place, rng)
            effect = true_change(codes, site.position, ref, alt, tracks, options)
            if breaks(kind, effect) and is_apart(site, variants):
                variants[site.contig, site.position] = variant_row(site, ref, alt, kind, effect)
                of_kind += 1
    return sorted(variants.values(), key=lambda variant: (list(genome).index(variant["chrom"]), variant["pos"]))


def motifs_by_kind(rows: Sequence[Mapping[str, str]]) -> dict[str, list[str]]:
    """Return the motifs that a variant of each kind may break."""
    return {
        "biological": [TARGETS[target] for target in dict.fromkeys(row["target"] for row in rows)],
        "technical": list(ASSAYS.values()),
        "shared": [SHARED],
        KIND_NONE: [""],
    }


def draw_site(
    genome: Mapping[str, Bytes],
    names: Sequence[str],
    motifs: Mapping[str, Motif],
    margin: int,
    rng: np.random.Generator,
) -> Site | None:
    """Return a random bin with the likeliest place for a variant that breaks one of the motifs; None where it has no site.

    The bin is at least `margin` bins away from the ends of its contig.
    """
    contig = str(rng.choice(list(genome)))
    bin_start = int(rng.integers(margin, len(genome[contig]) // BIN - margin)) * BIN
    name, anywhere = str(rng.choice(names)), int(rng.integers(40, 88))
    if not name:
        return Site(contig, bin_start, anywhere, name)
    place = costliest_base(motifs[name], genome[contig][bin_start : bin_start + BIN])
    return None if place is None else Site(contig, bin_start, place, name)


def costliest_base(motif: Motif, window: Bytes) -> int | None:
    """Return the base of a window where a change costs the motif's best site most; None where the site is weak."""
    forward, reverse = motif.scan(window)
    best = int(np.maximum(forward, reverse).argmax())
    if max(forward[best], reverse[best]) < LEAST_SITE * motif.log_odds.max(1).sum():
        return None
    weights = motif.log_odds if forward[best] >= reverse[best] else motif.log_odds[::-1, ::-1]
    return best + int((weights.max(1) - weights.min(1)).argmax())


def draw_alleles(window: Bytes, place: int, rng: np.random.Generator) -> tuple[str, str]:
    """Return a substitution at a place of a window, or (one in ten) a deletion of three bases after it."""
    base = int(window[place])
    if rng.random() < 0.1 and place + 4 < len(window):
        return decode(window[place : place + 4]), decode(window[place : place + 1])
    return "ACGT"[base], "ACGT"[(base + int(rng.integers(1, 4))) % 4]


def breaks(kind: str, effect: Mapping[str, float]) -> bool:
    """Return whether a variant changes the part of its kind, and that clearly more than the others; or nothing, for `none`."""
    if kind == KIND_NONE:
        return max(effect.get(name, 0) for name in PART_NAMES) <= MOST_OF_NONE
    # What belongs to neither, and what is a track's own, goes with a motif of any kind.
    size = {name: effect[name] for name in ("biological", "technical", "shared")}
    own = size.pop(kind)
    return own >= LEAST_EFFECT and own >= CLEAR * max(size.values())


def is_apart(site: Site, variants: Iterable[tuple[str, int]]) -> bool:
    """Return whether no other variant, (contig, position), is near a site."""
    return not any(contig == site.contig and abs(site.position - position) < APART for contig, position in variants)


def variant_row(site: Site, ref: str, alt: str, kind: str, effect: Mapping[str, float]) -> dict[str, Any]:
    """Return a row of truth/variants.tsv; `pos` counts from 1, as in VCF."""
    row = {"chrom": site.contig, "pos": site.position + 1, "ref": ref, "alt": alt, "kind": kind, "motif": site.motif}
    return row | {f"true_{name}": round(value, 6) for name, value in effect.items()}


def true_change(
    codes: Bytes, position: int, ref: str, alt: str, tracks: Tracks, options: SimulateOptions = PLAIN
) -> dict[str, float]:
    """Return alternate minus reference in the bin that holds the variant: root mean square over tracks of each centred part.

    `shared` is signed in the logit but its size is given here; `total` is the largest change of any track, signed. Where
    motifs act at a distance, `total_bin+1` is the same for the next bin, and so on for all bins that the variant may reach.
    The variant is at least as many bins, twice, from the ends of the contig.
    """
    far = reach(options.distance)
    # The outermost bins that change depend on as many bins beyond them.
    low = (position // BIN - 2 * far) * BIN
    high = low + (4 * far + 1) * BIN
    changed = np.concatenate([codes[low:position], encode(alt), codes[position + len(ref) : high + BIN]])[: high - low]
    motifs = planted_motifs(options.shared_letters)
    causes = (find_causes(some.reshape(-1, BIN), motifs, options.distance) for some in (codes[low:high], changed))
    before, after = (true_parts(cause, tracks, options) for cause in causes)
    middle, total = 2 * far, after.total() - before.total()
    sizes = {name: root_mean_square(value) for name, value in changes(before, after, middle).items()}
    centred = changes(before.centred(), after.centred(), middle)
    return {
        **sizes,
        **{f"centred_{name}": root_mean_square(value) for name, value in centred.items()},
        "total": largest(total[middle]),
        **{f"total_bin{step:+d}": largest(total[middle + step]) for step in range(-far, far + 1) if step},
    }


def changes(before: TrueParts, after: TrueParts, row: int) -> dict[str, Doubles]:
    """Return by part what changes in one bin, (tracks,)."""
    return {name: after.every()[name][row] - part[row] for name, part in before.every().items()}


def largest(values: Doubles) -> float:
    """Return the value that is furthest from 0, with its sign."""
    return float(values[np.abs(values).argmax()])


def root_mean_square(values: Doubles) -> float:
    """Return the size of values over tracks, whatever their signs."""
    return float(np.sqrt((values**2).mean()))
