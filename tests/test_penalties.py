"""Penalties: zero for independent groups, one for copies, blind to order and scale; the adversary is kept apart."""

from __future__ import annotations

import pytest
import torch

from mfd_cli.core.penalties import PENALTIES, Covariance, Predictor, standardise

SIZES = {"biological": 6, "technical": 4}


def build(name: str, sizes: dict[str, int] = SIZES) -> torch.nn.Module:
    torch.manual_seed(0)
    return PENALTIES[name](sizes, 32)


def latents(batch: int, sizes: dict[str, int] = SIZES, seed: int = 1) -> dict[str, torch.Tensor]:
    generator = torch.Generator().manual_seed(seed)
    return {name: torch.randn(batch, size, generator=generator) for name, size in sizes.items()}


@pytest.mark.parametrize("name", list(PENALTIES))
def test_about_zero_for_independent_groups(name: str) -> None:
    penalty = build(name)
    values = torch.stack([penalty(latents(256, seed=seed)) for seed in range(40)])
    assert abs(values.mean().item()) < 0.02


@pytest.mark.parametrize("name", list(PENALTIES))
def test_blind_to_the_order_of_the_batch_and_the_scale_of_features(name: str) -> None:
    values = latents(128)
    penalty = build(name)
    order = torch.randperm(128)
    before = penalty(values)
    assert torch.allclose(penalty({name: v[order] for name, v in values.items()}), before, atol=1e-5)
    if name == "covariance":
        scaled = {name: v * torch.rand(v.shape[1]).add(0.1) + 3 for name, v in values.items()}
        assert torch.allclose(penalty(scaled), before, atol=1e-5)


def test_covariance_is_one_for_copies_whatever_the_size() -> None:
    for size in (4, 64):
        x = torch.randn(4096, size)
        q, _ = torch.linalg.qr(x - x.mean(0))  # uncorrelated columns
        value = Covariance({}, 0)({"a": q, "b": q.clone()})
        assert value.item() == pytest.approx(1 - size / 4095, abs=1e-3)


def test_covariance_by_hand() -> None:
    """Two columns with r = 0.5 over 5 examples: r^2 - 1/4."""
    a = torch.tensor([[-2.0], [-1], [0], [1], [2]])
    b = torch.tensor([[-1.0], [-2], [1], [2], [0]])  # sum of products 2 + 2 + 0 + 2 + 0 = 6 of 10
    assert Covariance({}, 0)({"a": a, "b": b}).item() == pytest.approx(0.36 - 0.25, abs=1e-6)


def test_constant_columns_do_not_give_nan() -> None:
    values = {"a": torch.zeros(16, 3), "b": torch.randn(16, 3)}
    assert torch.isfinite(Covariance({}, 0)(values))
    assert standardise(values["a"]).abs().sum() == 0


def test_the_adversary_learns_a_copy_with_unequal_sizes_and_both_networks_get_gradients() -> None:
    penalty = build("predictor")
    assert isinstance(penalty, Predictor)
    optimiser = torch.optim.Adam(penalty.parameters(), 1e-2)
    for step in range(60):
        values = latents(128, seed=step)
        values["technical"] = values["biological"][:, :4] ** 3  # a non-linear copy
        optimiser.zero_grad()
        penalty.adversary_loss(values).backward()
        if step == 0:
            assert set(penalty.networks) == {"biological->technical", "technical->biological"}
            assert all(
                p.grad is not None and p.grad.abs().sum() > 0 for n, p in penalty.named_parameters() if "weight" in n
            )
        optimiser.step()
    fresh = latents(512, seed=999)
    fresh["technical"] = fresh["biological"][:, :4] ** 3
    assert penalty(fresh).item() > 0.6  # technical is known wholly, four of six biological latents too


def test_the_adversary_never_moves_the_latents() -> None:
    penalty = build("predictor")
    values = {name: v.requires_grad_() for name, v in latents(64).items()}
    penalty.adversary_loss(values).backward()
    assert all(v.grad is None for v in values.values())


def test_more_than_two_groups() -> None:
    sizes = {"a": 3, "b": 4, "c": 5}
    for name in PENALTIES:
        assert torch.isfinite(build(name, sizes)(latents(64, sizes)))
