"""Parts beside the planted truth: leakage does not depend on how noisy an estimate is, and signs do not cancel."""

from __future__ import annotations

import sys

import numpy as np
import pytest

from kit.places import EXAMPLES

sys.path.insert(0, str(EXAMPLES))
from truth import LEAST_RELIABILITY, Truth, correlations, leakage, parts_beside_truth


def columns(count: int, bins: int = 64) -> list[np.ndarray]:
    """So many columns (bins, 1) of mean 0 and variance 1 that are exactly uncorrelated."""
    random = np.random.default_rng(0).normal(size=(bins, count))
    orthogonal, _ = np.linalg.qr(random - random.mean(0))
    return [np.sqrt(bins) * orthogonal[:, i : i + 1] for i in range(count)]


def test_noise_does_not_lower_leakage() -> None:
    """own + 0.5 other + noise: r with the other is 0.5 / size, with its own 1 / size, whatever the size."""
    own, other, noise = columns(3)
    sizes = (0.0, 1.0, 3.0)
    found = [float(leakage(own + 0.5 * other + size * noise, own, other)[0]) for size in sizes]
    assert found == pytest.approx([0.5] * 3)
    attenuated = [float(correlations(own + 0.5 * other + size * noise, other)[0]) for size in sizes]
    assert attenuated[0] > attenuated[1] > attenuated[2]  # which is why it is divided


def test_a_noisy_copy_of_the_truth_leaks_as_little_as_the_truth() -> None:
    """The true parts correlate at 0.6: the copy has 0.6 / sqrt(1 + 4) with the other, 1 / sqrt(1 + 4) with its own."""
    own, apart, noise = columns(3)
    other = 0.6 * own + 0.8 * apart
    for size in (0.0, 2.0):
        assert leakage(own + size * noise, own, other) == pytest.approx([0.0], abs=1e-12)
    assert leakage(3 * own, own, other) == pytest.approx([0.0], abs=1e-12)  # and whatever its scale


def test_leaks_of_opposite_signs_do_not_cancel() -> None:
    bio, tech = columns(2)
    pair = np.hstack([bio, bio]), np.hstack([tech, tech])
    truth = Truth(sum(pair), *pair, np.zeros((64, 2), bool))
    seen = np.ones(2, bool)
    found = parts_beside_truth(np.hstack([bio + 0.2 * tech, bio - 0.4 * tech]), pair[1], truth, seen)
    assert found["leakage_mean"] == pytest.approx((0.2 + 0.4 + 0 + 0) / 4)
    assert found["leakage_max"] == pytest.approx(0.4)
    assert found["biological_r"] == pytest.approx((1 / np.sqrt(1.04) + 1 / np.sqrt(1.16)) / 2)
    assert found["technical_r"] == pytest.approx(1)


def test_only_the_tracks_that_were_seen_are_compared() -> None:
    bio, tech = columns(2)
    truth = Truth(bio + tech, np.hstack([tech, bio]), np.hstack([bio, tech]), np.zeros((64, 2), bool))
    assert parts_beside_truth(bio, tech, truth, np.array([False, True]))["leakage_max"] == pytest.approx(0, abs=1e-12)


def test_a_part_that_is_the_other_one_leaks_as_much_as_can_be_said() -> None:
    own, other = columns(2)
    assert leakage(other, own, other) == pytest.approx([1 / LEAST_RELIABILITY])
    assert leakage(np.zeros_like(own), own, other) == pytest.approx([0.0])  # nothing carries nothing
