"""Ranking metrics against scikit-learn, with ties, unmeasured cells and tracks without positives."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy.stats import pearsonr, rankdata
from sklearn.metrics import average_precision_score, d2_tweedie_score, r2_score, roc_auc_score

from mfd_cli.core.metrics import auroc_auprc, average_ranks, correlation, deviance_explained


@settings(deadline=None, max_examples=60)
@given(seed=st.integers(0, 10_000), bins=st.integers(2, 60), levels=st.integers(1, 8))
def test_as_scikit_learn(seed: int, bins: int, levels: int) -> None:
    rng = np.random.default_rng(seed)
    scores = rng.integers(0, levels, (bins, 5)).astype(np.float32)  # few levels: many ties
    labels = rng.random((bins, 5)) < 0.4
    auroc, auprc = auroc_auprc(torch.from_numpy(scores), torch.from_numpy(labels))
    for i in range(5):
        if labels[:, i].all() or not labels[:, i].any():
            assert auroc[i].isnan() and auprc[i].isnan()
        else:
            assert auroc[i] == pytest.approx(roc_auc_score(labels[:, i], scores[:, i]))
            assert auprc[i] == pytest.approx(average_precision_score(labels[:, i], scores[:, i]))


def test_unmeasured_cells_do_not_count() -> None:
    rng = np.random.default_rng(0)
    scores, labels = rng.normal(size=(50, 1)), (rng.random((50, 1)) < 0.5).astype(float)
    labels[rng.random(50) < 0.4] = np.nan
    known = ~np.isnan(labels[:, 0])
    auroc, auprc = auroc_auprc(torch.from_numpy(scores), torch.from_numpy(labels))
    assert auroc[0] == pytest.approx(roc_auc_score(labels[known, 0], scores[known, 0]))
    assert auprc[0] == pytest.approx(average_precision_score(labels[known, 0], scores[known, 0]))


def test_by_hand() -> None:
    scores, labels = torch.tensor([[4.0], [3], [2], [1]]), torch.tensor([[True], [False], [True], [False]])
    auroc, auprc = auroc_auprc(scores, labels)
    assert auroc[0] == 0.75
    assert auprc[0] == pytest.approx((1 + 2 / 3) / 2)
    assert auroc_auprc(scores.bfloat16(), labels)[0] == auroc
    assert auroc_auprc(torch.zeros(0, 2), torch.zeros(0, 2))[0].isnan().all()
    assert auroc_auprc(torch.zeros(3, 0), torch.zeros(3, 0))[0].shape == (0,)


def test_deviance_explained_is_scikit_learns() -> None:
    rng = np.random.default_rng(3)
    truth, guess = rng.poisson(3.0, (200, 2)).astype(np.float32), rng.gamma(3.0, 1.0, (200, 2)).astype(np.float32)
    truth[:5, 1] = np.nan
    told = deviance_explained(torch.from_numpy(guess), torch.from_numpy(truth), torch.tensor([True, False]))
    assert told[0] == pytest.approx(d2_tweedie_score(truth[:, 0], guess[:, 0], power=1))
    assert told[1] == pytest.approx(r2_score(truth[5:, 1], guess[5:, 1]))
    constant = deviance_explained(torch.rand(4, 1), torch.ones(4, 1), torch.tensor([False]))
    assert constant.isnan().all()


def test_correlations() -> None:
    rng = np.random.default_rng(1)
    a, b = rng.normal(size=(40, 2)), rng.integers(0, 5, (40, 2)).astype(float)
    a[3, 0] = np.nan
    known = ~np.isnan(a[:, 0])
    r = correlation(torch.from_numpy(a), torch.from_numpy(b))
    assert r[0] == pytest.approx(pearsonr(a[known, 0], b[known, 0])[0])
    assert r[1] == pytest.approx(pearsonr(a[:, 1], b[:, 1])[0])
    assert np.array_equal(average_ranks(torch.from_numpy(b))[:, 1].numpy(), rankdata(b[:, 1]))
    assert average_ranks(torch.from_numpy(a))[3, 0].isnan()
    assert correlation(torch.ones(4, 1), torch.rand(4, 1))[0].isnan()
