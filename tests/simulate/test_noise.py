"""Noise that is alike in neighbours keeps peaks as frequent as the logits say."""

from __future__ import annotations

import numpy as np
import pytest
from scipy.special import ndtri
from scipy.stats import kstest

from mfd_cli.simulate.noise import dependent, remembering


@pytest.mark.parametrize(("spread", "overdispersion"), [(0.8, 0.0), (0.0, 0.5), (0.7, 0.4)])
def test_correlations_are_those_asked_for_and_each_number_stays_uniform(spread: float, overdispersion: float) -> None:
    rng = np.random.default_rng(1)
    noise = dependent(rng.random((40_000, 3)), [40_000], spread, overdispersion, rng)
    normal = ndtri(noise)
    assert np.corrcoef(normal[:-1, 0], normal[1:, 0])[0, 1] == pytest.approx(spread, abs=0.02)
    assert np.corrcoef(normal[:, 0], normal[:, 1])[0, 1] == pytest.approx(overdispersion, abs=0.04)
    assert kstest(noise[::50, 2], "uniform").pvalue > 1e-3


def test_peaks_are_as_frequent_as_the_sigmoid_of_the_logit_but_neighbours_and_tracks_go_together() -> None:
    """Over 4,000 worlds of the same logits."""
    logits = np.linspace(-3, 1, 30)[:, None] + np.array([-0.5, 0.5])
    wanted = 1 / (1 + np.exp(-logits))
    rng = np.random.default_rng(2)
    drawn = []
    for _ in range(4000):
        drawn.append(dependent(rng.random(logits.shape), [20, 10], 0.8, 0.5, rng) < wanted)
    peaks = np.array(drawn)
    z = (peaks.mean(0) - wanted) / np.sqrt(wanted * (1 - wanted) / len(peaks))
    assert np.abs(z).max() < 4.5  # 60 cells
    together = (peaks[:, 1:, 0] & peaks[:, :-1, 0]).mean(0)
    independent = wanted[1:, 0] * wanted[:-1, 0]
    assert (np.delete(together > 1.2 * independent, 19)).all()
    assert abs(together[19] / independent[19] - 1) < 0.2  # the border of two contigs
    count = peaks.sum(2)
    assert (count.var(0) > 1.1 * (wanted * (1 - wanted)).sum(1)).all()


def test_the_first_bin_remembers_nothing_and_the_next_its_share() -> None:
    out = remembering(np.array([[1.0], [0.0], [2.0]]), 0.6)
    assert np.allclose(out[:, 0], [1.0, 0.6, 0.36 + 0.8 * 2])
