"""Rows that are fitted on latents, against other programs' optima."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from scipy.optimize import minimize
from sklearn.linear_model import LogisticRegression

from mfd_cli.base import long_array
from mfd_cli.base.long_array import LongArray
from mfd_cli.core.fit_rows import Directions, Labelled, fit_rows, ridge_directions, ridge_penalty

BINS, LATENTS = 600, 6


def latents(seed: int = 0) -> np.ndarray:
    """Latents (bins, latents) that vary together, by very different amounts."""
    rng = np.random.default_rng(seed)
    mixing = rng.normal(size=(LATENTS, LATENTS)) * np.logspace(0, -2, LATENTS)
    return (rng.normal(size=(BINS, LATENTS)) @ mixing.T).astype(np.float32)


def peaks_of(x: np.ndarray, seed: int = 1) -> np.ndarray:
    rng = np.random.default_rng(seed)
    logits = x @ rng.normal(size=(LATENTS, 3)) - 1
    return (rng.random((BINS, 3)) < 1 / (1 + np.exp(-logits))).astype(np.float32)


def along(x: np.ndarray, ridge: float) -> Directions:
    return ridge_directions(torch.from_numpy(np.cov(x.T).astype(float)), 100.0, ridge)


def fitted(
    x: np.ndarray, labels: np.ndarray, ridge: float, counts: list[bool] | None = None
) -> tuple[np.ndarray, np.ndarray]:
    data = Labelled(LongArray.of(x), labels, torch.tensor(counts or [], dtype=torch.bool), 1.0)
    start = torch.zeros(labels.shape[1], x.shape[1]), torch.zeros(labels.shape[1])
    weight, bias = fit_rows(data, *start, ridge_penalty(ridge), along(x, ridge))
    return weight.numpy(), bias.numpy()


@pytest.mark.parametrize("ridge", [0.5, 20.0])
def test_peaks_have_the_optimum_of_scikit_learn(ridge: float) -> None:
    x, labels = latents(), peaks_of(latents())
    labels[::7, 1] = np.nan  # a track that was not measured everywhere
    weight, bias = fitted(x, labels, ridge)
    for track in range(3):
        known = ~np.isnan(labels[:, track])
        other = LogisticRegression(C=1 / ridge, tol=1e-10, max_iter=10_000).fit(
            x[known].astype(float), labels[known, track]
        )
        assert np.allclose(weight[track], other.coef_[0], atol=1e-4) and abs(bias[track] - other.intercept_[0]) < 1e-4


def test_signals_have_the_ridge_regression_and_counts_the_poisson_regression() -> None:
    x, rng = latents(), np.random.default_rng(2)
    signal = x @ rng.normal(size=LATENTS) + 0.3 * rng.normal(size=BINS) + 0.5
    counts = rng.poisson(np.exp(0.3 * x[:, 0] + 1)).astype(float)
    labels = np.stack([signal, counts / counts.mean()], 1).astype(np.float32)
    weight, bias = fitted(x, labels, 2.0, [False, True])
    wide = x.astype(float)
    centred = wide - wide.mean(0)
    exact = np.linalg.solve(centred.T @ centred + 2 * np.eye(LATENTS), centred.T @ labels[:, 0])
    assert np.allclose(weight[0], exact, atol=1e-4)
    assert bias[0] == pytest.approx(float((labels[:, 0] - wide @ exact).mean()), abs=1e-4)

    def deviance(values: np.ndarray) -> float:
        logits = wide @ values[:-1] + values[-1]
        return float((np.exp(logits) - labels[:, 1] * logits).sum() + (values[:-1] ** 2).sum())

    best = minimize(deviance, np.zeros(LATENTS + 1), tol=1e-12)
    assert deviance(np.append(weight[1], bias[1])) <= best.fun + 1e-6 * abs(best.fun)
    assert np.allclose(weight[1], best.x[:-1], atol=1e-2)


def test_blocks_of_latents_make_no_difference(monkeypatch: pytest.MonkeyPatch) -> None:
    x, labels = latents(), peaks_of(latents())
    whole = fitted(x, labels, 1.0)
    monkeypatch.setattr(long_array, "NUMBERS_AT_ONCE", 100 * LATENTS)
    pieces = fitted(x, labels, 1.0)
    assert all(np.allclose(a, b, atol=1e-5) for a, b in zip(whole, pieces))


def test_a_bin_that_stands_for_two_counts_twice() -> None:
    x, labels = latents(), peaks_of(latents())
    start = torch.zeros(3, LATENTS), torch.zeros(3)
    none = torch.zeros(0, dtype=torch.bool)
    twice = Labelled(LongArray.of(np.concatenate([x, x])), np.concatenate([labels, labels]), none, 1.0)
    for_two = Labelled(LongArray.of(x), labels, none, 1.0, of=2.0)
    found = [fit_rows(data, *start, ridge_penalty(5.0), along(x, 5.0)) for data in (twice, for_two)]
    assert torch.allclose(found[0][0], found[1][0], atol=1e-5)
