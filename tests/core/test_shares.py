"""The covariance that shares of variance are made of, block by block."""

from __future__ import annotations

import numpy as np
import pytest

from mfd_cli.base.long_array import LongArray
from mfd_cli.core.shares import covariance_of


def test_blocks_give_the_covariance_of_the_whole_whatever_the_mean(monkeypatch: pytest.MonkeyPatch) -> None:
    values = (np.random.default_rng(0).normal(size=(500, 4)) * [1, 2, 3, 0] + 10_000).astype(np.float32)
    monkeypatch.setattr("mfd_cli.base.long_array.NUMBERS_AT_ONCE", 4 * 37)
    expected = np.cov(values.astype(np.float64), rowvar=False)
    assert np.allclose(covariance_of(LongArray.of(values)), expected, rtol=1e-9, atol=1e-9)
    assert not covariance_of(LongArray.of(values[:1])).any()
