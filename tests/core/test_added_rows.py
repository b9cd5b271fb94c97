"""What is known of added rows, against conditioning of the whole normal distribution, with a mean row of a vast variance."""

from __future__ import annotations

import numpy as np
import pytest
import torch

from mfd_cli.core.added_rows import expected_of_added

VAST = 1e7
"""The variance of the mean row that stands for a flat one."""


@pytest.fixture(params=[0, 1, 2])
def world(request: pytest.FixtureRequest) -> tuple[torch.Tensor, torch.Tensor, torch.Tensor, torch.Tensor]:
    """Kernels of two factors with four levels, variances, and which of fourteen tracks are old and added."""
    rng = np.random.default_rng(request.param)
    levels = rng.integers(0, 4, (2, 14))
    kernels = torch.from_numpy((levels[:, :, None] == levels[:, None]).astype(float))
    variances = torch.from_numpy(rng.gamma(2, 1, 3))
    order = torch.from_numpy(rng.permutation(14))
    return kernels, variances, order[:10].sort().values, order[10:].sort().values


def conditioned(joint: torch.Tensor, on: torch.Tensor, of: torch.Tensor, other: torch.Tensor) -> torch.Tensor:
    """Cov(of, other | on) of a joint covariance."""
    return joint[of][:, other] - joint[of][:, on] @ torch.linalg.solve(joint[on][:, on], joint[on][:, other])


def test_the_covariance_is_that_of_the_whole_distribution(world: tuple[torch.Tensor, ...]) -> None:
    kernels, variances, old, added = world
    joint = (variances[:2, None, None] * kernels).sum(0) + variances[2] * torch.eye(14) + VAST
    found = expected_of_added(kernels, variances, old, added)
    assert torch.allclose(found.covariance, conditioned(joint, old, added, added), rtol=1e-4, atol=1e-5)


def test_shares_are_what_the_whole_distribution_says_of_a_term(world: tuple[torch.Tensor, ...]) -> None:
    """Terms' own values stand beside the weights in one distribution; what is left of a surprise is the residual's."""
    kernels, variances, old, added = world
    own = variances[:2, None, None] * kernels
    whole = own.sum(0) + variances[2] * torch.eye(14) + VAST
    found = expected_of_added(kernels, variances, old, added)
    for number in range(2):
        joint = torch.cat([torch.cat([whole, own[number]], 1), torch.cat([own[number], own[number]], 1)])
        across = conditioned(joint, old, added + 14, added)
        expected = across @ torch.linalg.inv(conditioned(joint, old, added, added))
        assert torch.allclose(found.shares[number], expected, rtol=1e-3, atol=1e-4)


def test_without_terms_a_surprise_is_the_residuals(world: tuple[torch.Tensor, ...]) -> None:
    _, variances, old, added = world
    found = expected_of_added(torch.zeros(0, 14, 14).double(), variances[2:], old, added)
    expected = variances[2] * (torch.eye(len(added)) + 1 / len(old))  # the mean of ten rows is known that well
    assert torch.allclose(found.covariance, expected.double()) and found.shares.shape == (0, len(added), len(added))
