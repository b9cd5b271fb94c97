"""The rotation to independent axes: against scikit-learn, on sources that are known, and where there is nothing to find."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from sklearn.decomposition import FastICA
from torch import Tensor

from mfd_cli.core.independent_components import independent_rotation


def sparse(bins: int, sources: int, seed: int = 0) -> Tensor:
    """Sources that come and go by themselves: 0 in nine of ten bins, of variance 1 and mean 0."""
    generator = torch.Generator().manual_seed(seed)
    there = torch.rand(bins, sources, generator=generator) < 0.1
    values = there * (1 + torch.rand(bins, sources, generator=generator).double())
    return (values - values.mean(0)) / values.std(0)


def white(signals: Tensor) -> Tensor:
    """The signals without the correlation that chance gives them."""
    values, vectors = torch.linalg.eigh(torch.cov(signals.T, correction=0))
    return signals @ (vectors / values.sqrt()) @ vectors.T


def mixing(size: int, seed: int = 1) -> Tensor:
    generator = torch.Generator().manual_seed(seed)
    return torch.linalg.qr(torch.randn(size, size, generator=generator).double())[0]


def test_sources_that_were_mixed_come_back() -> None:
    sources, turn = sparse(8000, 9), mixing(9)
    found = sources @ turn @ independent_rotation(sources @ turn)
    alike = np.abs(np.corrcoef(found.T.numpy(), sources.T.numpy())[:9, 9:])
    assert (alike.max(0) > 0.995).all() and sorted(alike.argmax(0)) == list(range(9))


@pytest.mark.parametrize("seed", [2, 3])
def test_the_axes_are_those_of_another_program(seed: int) -> None:
    signals = white(sparse(4000, 5, seed)) @ mixing(5, seed)
    ours = signals @ independent_rotation(signals)
    theirs = FastICA(whiten="unit-variance", fun="logcosh", tol=1e-9, max_iter=1000, random_state=seed)
    alike = np.abs(np.corrcoef(ours.T.numpy(), theirs.fit_transform(signals.numpy()).T)[:5, 5:])
    assert (alike.max(0) > 0.9999).all() and sorted(alike.argmax(0)) == list(range(5))


def test_it_is_a_rotation_whatever_the_signals_are() -> None:
    generator = torch.Generator().manual_seed(4)
    normal = torch.randn(500, 6, generator=generator).double()
    for signals in (normal, normal[:3], normal * 0, torch.cat([normal, normal], 1), normal[:, :1], sparse(200, 4)):
        rotation = independent_rotation(signals)
        size = signals.shape[1]
        assert torch.allclose(rotation.T @ rotation, torch.eye(size).double(), atol=1e-9)
        assert torch.equal(rotation, independent_rotation(signals))


def test_signals_that_are_independent_already_stay_as_they_are() -> None:
    sources = sparse(20_000, 4)
    assert (independent_rotation(sources).abs() - torch.eye(4).double()).abs().max() < 0.02


def test_correlation_and_scale_that_are_left_do_not_matter() -> None:
    """Signals come nearly white: the rotation that is found is the one for signals that are."""
    sources, turn = sparse(8000, 5), mixing(5)
    bent = sources @ turn @ (torch.eye(5).double() * 0.9 + 0.05)
    found = bent @ independent_rotation(bent)
    alike = np.abs(np.corrcoef(found.T.numpy(), sources.T.numpy())[:5, 5:])
    assert (alike.max(0) > 0.95).all()
