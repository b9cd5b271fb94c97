"""NT-Xent: a case by hand, the published form with its gradient, and who is whose negative."""

from __future__ import annotations

import math

import pytest
import torch
import torch.nn.functional as F
from torch import Tensor

from mfd_cli.contig.core.views import nt_xent


def units(*shape: int, seed: int) -> Tensor:
    drawn = torch.randn(*shape, generator=torch.Generator().manual_seed(seed), dtype=torch.float64)
    return F.normalize(drawn, dim=1)


def published(one: Tensor, other: Tensor, temperature: float) -> Tensor:
    """Chen et al. (2020), equation 1, as a cross entropy over all views but the asked one, in float64."""
    views, count = torch.cat([one, other]), len(one)
    table = views @ views.T / temperature
    table = table.masked_fill(torch.eye(2 * count, dtype=torch.bool), -math.inf)
    right = torch.cat([torch.arange(count, 2 * count), torch.arange(count)])
    return F.cross_entropy(table, right)


def test_three_pairs_by_hand() -> None:
    """Views at 0, 90 and 180 degrees, the second of each 60 degrees further: every similarity is a cosine that is known."""
    angles = [math.radians(angle) for angle in (0, 90, 180, 60, 150, 240)]
    views = torch.tensor([[math.cos(a), math.sin(a)] for a in angles])
    found = nt_xent(views[:3], views[3:], torch.arange(3), 0.5)
    each = []
    for i, partner in enumerate((3, 4, 5, 0, 1, 2)):
        similar = [math.exp(math.cos(angles[i] - angles[j]) / 0.5) for j in range(6)]
        each.append(-math.log(similar[partner] / (sum(similar) - similar[i])))
    assert found.loss.tolist() == pytest.approx([(each[k] + each[k + 3]) / 2 for k in range(3)], abs=1e-6)
    assert found.chance.tolist() == pytest.approx([math.log(5)] * 3, abs=1e-12)


@pytest.mark.parametrize("temperature", [0.1, 0.2, 1.0])
def test_without_relatives_it_is_the_published_loss_and_so_is_its_gradient(temperature: float) -> None:
    one, other = units(9, 6, seed=1).requires_grad_(), units(9, 6, seed=2).requires_grad_()
    published(one, other, temperature).backward()
    ours = [view.detach().float().requires_grad_() for view in (one, other)]
    found = nt_xent(ours[0], ours[1], torch.arange(9), temperature).loss.mean()
    found.backward()
    assert found.item() == pytest.approx(published(one, other, temperature).item(), abs=2e-6)
    for mine, theirs in zip(ours, (one, other)):
        assert mine.grad is not None and theirs.grad is not None
        assert torch.allclose(mine.grad.double(), theirs.grad, atol=2e-6)


def test_relatives_are_no_wrong_answers() -> None:
    """What a sibling's pictures look like does not matter to a person."""
    one, other, family = units(5, 4, seed=3).float(), units(5, 4, seed=4).float(), torch.tensor([0, 0, 1, 2, 3])
    before = nt_xent(one, other, family, 0.2)
    moved = one.clone()
    moved[1] = -moved[1]
    after = nt_xent(moved, other, family, 0.2)
    assert after.loss[0] == before.loss[0] and after.loss[1] != before.loss[1] and after.loss[2] != before.loss[2]
    assert before.chance.tolist() == pytest.approx([math.log(7)] * 2 + [math.log(9)] * 3)


def test_the_order_does_not_matter_and_one_family_has_nobody_to_be_told_from() -> None:
    one, other = units(6, 4, seed=5).float(), units(6, 4, seed=6).float()
    order = torch.tensor([3, 1, 5, 0, 2, 4])
    family = torch.tensor([0, 0, 1, 2, 3, 4])
    straight = nt_xent(one, other, family, 0.2).loss
    assert torch.allclose(nt_xent(one[order], other[order], family[order], 0.2).loss, straight[order], atol=1e-6)
    assert torch.allclose(nt_xent(other, one, family, 0.2).loss, straight, atol=1e-6)
    alone = nt_xent(one, other, torch.zeros(6), 0.2)
    assert alone.loss.abs().max() == 0 and alone.chance.abs().max() == 0
