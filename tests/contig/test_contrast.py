"""The contrastive loss: a case by hand, the published form, any order, and who is whose negative."""

from __future__ import annotations

import math

import numpy as np
import pytest
import torch
import torch.nn.functional as F
from torch import Tensor

from mfd_cli.contig.core.contrast import Contrast, contrast
from mfd_cli.contig.core.ranks import chances, measures, ranks

ONE = torch.tensor(1.0)


def units(*shape: int, seed: int = 0) -> Tensor:
    return F.normalize(torch.randn(*shape, generator=torch.Generator().manual_seed(seed), dtype=torch.float32), dim=1)


def one_each(z: Tensor, u: Tensor, temperature: float = 0.1, alpha: float = 0.75) -> Contrast:
    count = torch.arange(len(u))
    return contrast(z, u, count, count, torch.tensor(temperature), alpha)


def test_a_case_by_hand() -> None:
    """Two persons, similarities 1 and 0: each loss is ln(1 + e^-1), and guessing costs ln 2."""
    z = u = torch.eye(2)
    found = one_each(z, u, temperature=1.0)
    assert float(found.loss) == pytest.approx(math.log(1 + math.exp(-1)), abs=1e-7)
    assert float(found.chance) == pytest.approx(math.log(2), abs=1e-12)


def test_with_one_image_a_person_it_is_the_published_loss() -> None:
    z, u = units(7, 5, seed=1), units(7, 5, seed=2)
    table, right = z @ u.T / 0.1, torch.arange(7)
    published = 0.75 * F.cross_entropy(table, right) + 0.25 * F.cross_entropy(table.T, right)
    assert float(one_each(z, u).loss) == pytest.approx(float(published), abs=1e-6)


def test_images_of_one_person_are_neither_right_nor_wrong_answers() -> None:
    """Three images of two persons: the sums of the definition, term by term."""
    z, u, owner = units(3, 4, seed=3), units(2, 4, seed=4), torch.tensor([0, 0, 1])
    found = contrast(z, u, owner, torch.tensor([0, 1]), ONE, 0.5)
    s = (z @ u.T).double()
    to_person = [math.log(sum(math.exp(s[i, j]) for j in (0, 1))) - float(s[i, owner[i]]) for i in range(3)]
    asked = [[0, 2], [1, 2], [2, 0, 1]]
    to_image = [math.log(sum(math.exp(s[k, owner[i]]) for k in asked[i])) - float(s[i, owner[i]]) for i in range(3)]
    assert float(found.loss) == pytest.approx(np.mean(to_person) / 2 + np.mean(to_image) / 2, abs=1e-6)
    assert float(found.chance) == pytest.approx(math.log(2) / 2 + (2 * math.log(2) + math.log(3)) / 6, abs=1e-9)


def test_relatives_are_never_each_others_negatives() -> None:
    """What a sibling looks like changes neither the loss of a person nor any gradient there."""
    z, u, family = units(4, 6, seed=5), units(4, 6, seed=6), torch.tensor([0, 0, 1, 2])
    owner = torch.arange(4)

    def of_first(z: Tensor, u: Tensor) -> Tensor:
        """The terms of the first person alone: the loss less what it is without that image."""
        rows = (z @ u.T)[0]
        seen = torch.tensor([True, False, True, True])
        return torch.logsumexp(rows[seen], 0) - rows[0]

    whole = contrast(z, u, owner, family, ONE, 1.0).loss * 4
    others = sum(
        torch.logsumexp((z @ u.T)[i][torch.tensor([j == i or family[j] != family[i] for j in range(4)])], 0)
        - (z @ u.T)[i, i]
        for i in range(1, 4)
    )
    assert float(whole - others) == pytest.approx(float(of_first(z, u)), abs=1e-5)


def test_the_order_of_persons_does_not_matter() -> None:
    z, u = units(9, 4, seed=7), units(9, 4, seed=8)
    order = torch.randperm(9, generator=torch.Generator().manual_seed(1))
    assert float(one_each(z, u).loss) == pytest.approx(float(one_each(z[order], u[order]).loss), abs=1e-6)


@pytest.mark.parametrize("persons", [0, 1, 3])
def test_where_nobody_can_be_told_from_anybody_nothing_is_lost(persons: int) -> None:
    z, u = units(persons, 4).requires_grad_(), units(persons, 4, seed=1).requires_grad_()
    found = contrast(z, u, torch.arange(persons), torch.zeros(persons), ONE, 0.75)
    assert found.loss.item() == 0 and found.chance.item() == 0
    found.loss.backward()
    assert z.grad is not None and not z.grad.isnan().any()


def test_skill_is_what_the_loss_is_below_guessing() -> None:
    """Ranks, loss and skill of a retrieval among all are those of the loss in one batch."""
    z, u, family = units(8, 4, seed=9), units(8, 4, seed=10), np.array([0, 0, 1, 2, 3, 3, 4, 5])
    table = z @ u.T / 0.5
    found = contrast(z, u, torch.arange(8), torch.from_numpy(family), torch.tensor(0.5), 1.0)
    of_rows = ranks(table, family)
    assert of_rows.loss.mean() == pytest.approx(float(found.loss), abs=1e-6)
    assert measures(of_rows)["skill"].mean() == pytest.approx(float(found.chance - found.loss), abs=1e-6)
    assert of_rows.candidates.tolist() == [7, 7, 8, 8, 7, 7, 8, 8]


def test_ranks_of_a_table_by_hand() -> None:
    table = torch.tensor([[3.0, 1.0, 2.0], [5.0, 4.0, 4.0], [0.0, 0.0, 0.0]])
    found = ranks(table, np.arange(3))
    assert found.rank.tolist() == [1.0, 2.5, 2.0]
    of_each = measures(found)
    assert of_each["auc"].tolist() == [1.0, 0.25, 0.5] and of_each["top 1"].tolist() == [1.0, 0.0, 0.0]
    guess = chances(found)
    assert guess["top 1"] == pytest.approx(1 / 3) and guess["reciprocal rank"] == pytest.approx((1 + 1 / 2 + 1 / 3) / 3)
    assert guess["median rank"] == 2


def test_who_guesses_gets_what_chance_says() -> None:
    rng = np.random.default_rng(0)
    found = ranks(torch.from_numpy(rng.normal(size=(600, 600))), np.arange(600))
    guess, of_each = chances(found), measures(found)
    for name in ("auc", "top 100", "reciprocal rank"):
        spread = of_each[name].std() / np.sqrt(600)
        assert abs(of_each[name].mean() - guess[name]) < 5 * spread, name
