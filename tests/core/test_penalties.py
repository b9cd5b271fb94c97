"""Penalties: zero for independent groups, one for copies, blind to order and scale; the adversary is kept apart."""

from __future__ import annotations

import numpy as np
import pytest
import torch

from mfd_cli.core.penalties import PENALTIES, Covariance, PredictionAdversary, standardise

SIZES = {"biological": 6, "technical": 4}


def build(name: str, sizes: dict[str, int] = SIZES, published: bool = False) -> torch.nn.Module:
    torch.manual_seed(0)
    return PENALTIES[name](sizes, 32, published)


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
    order = torch.randperm(128)
    # The false examples of the discriminator pair neighbours in the batch: another order, another sample.
    close = 0.05 if name == "discriminator" else 1e-5
    before = build(name)(values)
    assert torch.allclose(build(name)({group: v[order] for group, v in values.items()}), before, atol=close)
    if name != "predictor":  # its networks see the latents as they are; batch norm keeps their outputs comparable
        scaled = {group: v * torch.rand(v.shape[1]).add(0.1) + 3 for group, v in values.items()}
        assert torch.allclose(build(name)(scaled), before, atol=1e-5)


COPIES = {"covariance": 0.03, "covariance-l1": 0.1, "projections": 0.15, "distance": 0.03}
"""How far from 1 each may be: absolute values of small chance correlations add up, projections are random."""


@pytest.mark.parametrize("name", COPIES)
def test_one_for_copies_whatever_the_size(name: str) -> None:
    for size in (4, 32):
        x = torch.randn(2048, size)
        penalty = build(name, {"a": size, "b": size})
        values = [penalty({"a": x, "b": x.clone()}).item() for _ in range(20)]
        assert sum(values) / 20 == pytest.approx(1, abs=COPIES[name])


def test_published_forms_are_sums() -> None:
    """||R||_F, sum |R| and the sum of squared correlations, which for independent groups are far from zero."""
    values = latents(64)
    standard = [standardise(v) for v in values.values()]
    r = standard[0].T @ standard[1] / 63
    assert torch.allclose(build("covariance", published=True)(values), r.pow(2).sum().sqrt())
    assert torch.allclose(build("covariance-l1", published=True)(values), r.abs().sum())
    penalty = build("predictor")
    summed = build("predictor", published=True)
    assert summed(values).item() == pytest.approx(
        sum(r2.sum().item() for r2 in penalty.per_dimension(values)), rel=1e-5
    )


def test_distance_correlation_by_hand() -> None:
    """U-centred distances of four points, written out."""
    x, y = np.array([0.0, 1, 3, 7]), np.array([1.0, 0, 5, 2])

    def centred(v: np.ndarray) -> np.ndarray:
        v = (v - v.mean()) / v.std(ddof=1)
        d = np.abs(v[:, None] - v[None])
        u = d - d.sum(1)[:, None] / 2 - d.sum(0)[None] / 2 + d.sum() / 6
        np.fill_diagonal(u, 0)
        return u

    a, b = centred(x), centred(y)
    expected = (a * b).sum() / np.sqrt((a * a).sum() * (b * b).sum())
    values = {"a": torch.tensor(x)[:, None], "b": torch.tensor(y)[:, None]}
    assert build("distance")(values).item() == pytest.approx(expected, abs=1e-6)


def test_distance_correlation_sees_what_correlation_does_not() -> None:
    x = torch.randn(512, 1)
    values = {"a": x, "b": x**2}
    assert abs(build("covariance")(values).item()) < 0.05 < 0.15 < build("distance")(values).item()


def test_the_discriminator_learns_a_dependence_that_has_no_correlation() -> None:
    penalty = build("discriminator", {"a": 2, "b": 2})
    optimiser = torch.optim.Adam(penalty.parameters(), 3e-3)
    for step in range(150):
        x = torch.randn(256, 2, generator=torch.Generator().manual_seed(step))
        optimiser.zero_grad()
        penalty.adversary_loss({"a": x, "b": x**2}).backward()
        optimiser.step()
    x = torch.randn(512, 2, generator=torch.Generator().manual_seed(999))
    assert penalty({"a": x, "b": x**2}).item() > 0.5
    assert penalty.adversary_loss({"a": x, "b": x**2}).item() < 0.5  # chance: log 2 = 0.69


@pytest.mark.parametrize("name", list(PENALTIES))
def test_gradients_are_finite_where_examples_coincide(name: str) -> None:
    values = {group: v.repeat(2, 1).requires_grad_() for group, v in latents(16).items()}
    build(name)(values).backward()
    assert all(v.grad is not None and torch.isfinite(v.grad).all() for v in values.values())


def test_projections_are_drawn_afresh_and_reproducibly() -> None:
    values = latents(64)
    first, second = build("projections"), build("projections")
    a, b = first(values), first(values)
    assert a != b and second(values) == a
    second.load_state_dict(first.state_dict())
    assert second(values) == first(values)


def test_covariance_by_hand() -> None:
    """Two columns with r = 0.5 over 5 examples: r^2 - 1/4."""
    a = torch.tensor([[-2.0], [-1], [0], [1], [2]])
    b = torch.tensor([[-1.0], [-2], [1], [2], [0]])  # sum of products 2 + 2 + 0 + 2 + 0 = 6 of 10
    assert Covariance({}, 0, False)({"a": a, "b": b}).item() == pytest.approx(0.36 - 0.25, abs=1e-6)


def test_constant_columns_do_not_give_nan() -> None:
    values = {"a": torch.zeros(16, 3), "b": torch.randn(16, 3)}
    assert torch.isfinite(Covariance({}, 0, False)(values))
    assert standardise(values["a"]).abs().sum() == 0


def test_the_adversary_learns_a_copy_with_unequal_sizes_and_both_networks_get_gradients() -> None:
    penalty = build("predictor")
    assert isinstance(penalty, PredictionAdversary)
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
        for published in (False, True):
            assert torch.isfinite(build(name, sizes, published)(latents(64, sizes)))
