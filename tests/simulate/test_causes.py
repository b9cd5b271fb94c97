"""Presence of motifs in a bin, of those inside and of those that act from afar."""

from __future__ import annotations

import numpy as np
import pytest
from numpy.typing import NDArray

from mfd_cli.genome.motifs import Motif
from mfd_cli.simulate.built_in_motifs import built_in
from mfd_cli.simulate.causes import clearness, find_causes, genome_causes, presence, reach, site_scores

MOTIF = built_in()["SNT2"]
BEST = float(clearness(MOTIF, np.array([MOTIF.log_odds.max(1).sum()]))[0])
"""How clear the best possible site is."""


def contig_with(start: int, bins: int = 9) -> NDArray[np.uint8]:
    """(bins, 128): nothing but A, and the motif's consensus from base `start` on."""
    codes = np.zeros(bins * 128, np.uint8)
    codes[start : start + len(MOTIF.counts)] = MOTIF.counts.argmax(1)
    return codes.reshape(-1, 128)


def naive(motif: Motif, codes: NDArray[np.uint8], distance: int) -> list[float]:
    """Presence by the definition: of every bin and every site, one by one."""
    length, clear = len(motif.counts), clearness(motif, site_scores(motif, codes))
    result = []
    for own in range(len(codes)):
        best = 0.0
        for other, sites in enumerate(clear):
            for offset, value in enumerate(sites):
                first = 128 * (other - own) + offset  # from the bin's first base
                gap = max(first - 128, -(first + length), 0)
                best = max(best, value * (max(1 - gap / distance, 0) if other != own else 1))
        result.append(best)
    return result


@pytest.mark.parametrize(("gap", "factor"), [(0, 1.0), (50, 0.9), (300, 0.4), (450, 0.1)])
def test_a_motif_that_is_moved_away_counts_less_in_a_straight_line(gap: int, factor: float) -> None:
    for start in (5 * 128 + gap, 4 * 128 - gap - len(MOTIF.counts)):  # behind the fifth bin, and before it
        assert presence(MOTIF, contig_with(start), 500)[4] == pytest.approx(factor * BEST, abs=1e-6)
        assert presence(MOTIF, contig_with(start))[4] < 1e-6
    assert presence(MOTIF, contig_with(4 * 128 + 20), 500)[4] == pytest.approx(BEST, abs=1e-9)


@pytest.mark.parametrize("distance", [1, 128, 200, 500])
def test_presence_from_afar_is_what_the_definition_says(distance: int) -> None:
    codes = np.random.default_rng(distance).integers(0, 4, (7, 128)).astype(np.uint8)
    for motif in (MOTIF, built_in()["ABF1"]):
        assert np.allclose(presence(motif, codes, distance), naive(motif, codes, distance), atol=1e-12)
    assert reach(distance) == {1: 1, 128: 1, 200: 2, 500: 4}[distance]


def test_contigs_do_not_act_on_each_other() -> None:
    rng = np.random.default_rng(1)
    genome = {name: rng.integers(0, 4, 6 * 128).astype(np.uint8) for name in ("chr1", "chr2")}
    both = genome_causes(genome, built_in(), 500)
    alone = [find_causes(codes.reshape(-1, 128), built_in(), 500) for codes in genome.values()]
    for name in built_in():
        assert np.array_equal(both.motifs[name], np.concatenate([part.motifs[name] for part in alone]))
    assert both.matrix().shape == (12, len(both.names))
