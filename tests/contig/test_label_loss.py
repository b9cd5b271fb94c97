"""What labels cost: numbers by hand, and rows without a label, which teach nothing."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from scipy.special import log_softmax

from mfd_cli.contig.core.label_loss import label_loss

NAN = float("nan")
SHARES = ((), (0.5, 0.25, 0.25))
"""A column of numbers, and one of three classes."""


def test_the_loss_of_numbers_and_words_by_hand() -> None:
    rng = np.random.default_rng(1)
    outputs = rng.normal(size=(4, 4))
    values = np.array([[0.5, 2.0], [NAN, 0.0], [-1.0, NAN], [NAN, NAN]])
    found, known = label_loss(torch.from_numpy(outputs), torch.from_numpy(values), SHARES)
    logs = log_softmax(outputs[:, 1:], 1)
    loss = [((outputs[0, 0] - 0.5) ** 2 / 2 - logs[0, 2]) / 2, -logs[1, 0], (outputs[2, 0] + 1) ** 2 / 2, 0.0]
    assert found.loss.tolist() == pytest.approx(loss, abs=1e-12) and known.tolist() == [True, True, True, False]
    assert found.chance.tolist() == pytest.approx([(0.125 + np.log(4)) / 2, np.log(2), 0.5, 0.0], abs=1e-12)


def test_who_says_the_shares_gets_what_guessing_gets() -> None:
    """So the skill of a network that ignores its picture is 0."""
    values = torch.tensor([[1.5, 0.0], [-0.5, 2.0]], dtype=torch.float64)
    said = torch.tensor([[0.0, *np.log(SHARES[1])]] * 2, dtype=torch.float64)
    found, _ = label_loss(said, values, SHARES)
    assert torch.allclose(found.loss, found.chance, atol=1e-12)


def test_an_unknown_label_has_no_gradient() -> None:
    outputs = torch.ones(2, 4, requires_grad=True)
    found, known = label_loss(outputs, torch.tensor([[NAN, NAN], [1.0, NAN]]), SHARES)
    ((found.loss * known).sum() / known.sum()).backward()
    assert outputs.grad is not None and outputs.grad.isfinite().all()
    assert outputs.grad[0].abs().max() == 0 and outputs.grad[1, 1:].abs().max() == 0
