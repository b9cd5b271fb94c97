"""What the sequence of bins holds: how clearly each motif is present, and compositions. Every true logit follows from it."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

import numpy as np

from mfd_cli.base.arrays import Bytes, Doubles, Ints
from mfd_cli.genome.grid import BIN
from mfd_cli.genome.motifs import Motif

COMPOSITIONS = ("G+C", "A/T runs")


@dataclass(frozen=True)
class Causes:
    """What the sequence of some bins holds: presence of each motif (bins,) 0 to 1, and compositions as z-scores."""

    motifs: Mapping[str, Doubles]
    gc: Doubles
    at_runs: Doubles

    def matrix(self) -> Doubles:
        """Return (bins, motifs + compositions) everything that a track can respond to, in the order of `names`."""
        return np.column_stack([*self.motifs.values(), self.gc, self.at_runs])

    @property
    def names(self) -> list[str]:
        """The motifs, then the compositions."""
        return [*self.motifs, *COMPOSITIONS]


def site_scores(motif: Motif, codes: Bytes) -> Doubles:
    """Return (bins, starts) the log odds on the better strand of the sites in each row of base codes (bins, 128).

    A site lies wholly inside its bin: one that crosses a border counts for neither bin.
    """
    rows, width = codes.shape
    hits = np.maximum(*motif.scan(codes.reshape(-1)))
    padded = np.full(rows * width, -np.inf)
    padded[: len(hits)] = hits
    result: Doubles = padded.reshape(rows, width)[:, : width - len(motif.counts) + 1]
    return result


def clearness(motif: Motif, scores: Doubles) -> Doubles:
    """Return how clear sites of these log odds are, from 0 to 1."""
    # Half present at 70 % of the best possible log odds; a width of 0.8 makes a smooth step, so that a variant that weakens a
    # site changes the logit by a share of its effect.
    threshold = 0.7 * motif.log_odds.max(1).sum()
    result: Doubles = 1 / (1 + np.exp(-(scores - threshold) / 0.8))
    return result


def presence(motif: Motif, codes: Bytes, distance: int = 0) -> Doubles:
    """Return (bins,) how clearly a motif is present in each of neighbouring bins, rows of base codes (bins, 128).

    It is a number from 0 to 1 that follows from the best site. With a `distance`, sites of other bins count as well, and a
    site whose nearest base is d bases outside of the bin counts 1 - d / distance times.
    """
    scores = site_scores(motif, codes)
    inside = clearness(motif, scores.max(1))
    return np.maximum(inside, from_afar(clearness(motif, scores), distance)) if distance else inside


def from_afar(sites: Doubles, distance: int) -> Doubles:
    """Return (bins,) the best that sites of other bins do to each bin, from their clearness (bins, starts)."""
    bins, starts = sites.shape
    before = np.arange(starts)  # bases between the bin's first base and the site
    after = before[::-1]
    best = np.zeros(bins)
    for steps in range(1, reach(distance) + 1):
        between = (steps - 1) * BIN  # bases of the bins that lie between
        left, right = ((sites * nearness(between + gap, distance)).max(1) for gap in (after, before))
        best[steps:] = np.maximum(best[steps:], left[:-steps])
        best[:-steps] = np.maximum(best[:-steps], right[steps:])
    return best


def nearness(gap: Ints, distance: int) -> Doubles:
    """Return what share of its effect a site has that is `gap` bases away from the bin."""
    result: Doubles = np.maximum(1 - gap / distance, 0)
    return result


def reach(distance: int) -> int:
    """Return how many bins to either side a motif can act on."""
    return -(-distance // BIN)


def bins_acted_on(distance: int) -> float:
    """Return on how many bins a site acts, each counted by its share of the effect: 1 without a distance."""
    return 1 + distance / BIN


def find_causes(codes: Bytes, motifs: Mapping[str, Motif], distance: int = 0) -> Causes:
    """Return the causes in neighbouring bins of one contig, rows of base codes (bins, 128)."""
    presences = {name: presence(motif, codes, distance) for name, motif in motifs.items()}
    gc = ((codes == 1) | (codes == 2)).mean(1)
    weak = (codes == 0) | (codes == 3)
    runs = (weak[:, :-3] & weak[:, 1:-2] & weak[:, 2:-1] & weak[:, 3:]).mean(1)
    # Fixed centres and scales, so that a variant's bin is measured with the same ruler as the genome's.
    return Causes(presences, (gc - 0.42) / 0.08, (runs - 0.14) / 0.09)


def genome_causes(genome: Mapping[str, Bytes], motifs: Mapping[str, Motif], distance: int = 0) -> Causes:
    """Return the causes in all bins of a genome, contig after contig."""
    contigs = [find_causes(codes.reshape(-1, BIN), motifs, distance) for codes in genome.values()]
    presences = {name: np.concatenate([contig.motifs[name] for contig in contigs]) for name in motifs}
    gc, at_runs = (np.concatenate([getattr(contig, name) for contig in contigs]) for name in ("gc", "at_runs"))
    return Causes(presences, gc, at_runs)
