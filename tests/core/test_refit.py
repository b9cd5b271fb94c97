"""A head that is fitted anew is centred as the model's own is."""

from __future__ import annotations

import numpy as np
import pytest
import torch

from kit import tiny
from mfd_cli.core.head import ConditionedHead
from mfd_cli.core.refit import RefittedHead, refit_head

TRAINED = [True] * 6 + [False] * 2
"""Levels are not balanced among these: 4 ChIP-seq tracks and 2 CUT&RUN ones, 2 of the lab C."""


def refitted(centre: str, steps: int = 1) -> tuple[ConditionedHead, RefittedHead]:
    """The head of a model that is centred in this way, and one fitted anew to chance labels."""
    model = tiny.model(8, TRAINED, model={"centre": centre})
    rng = np.random.default_rng(0)
    latents = rng.standard_normal((200, 16)).astype(np.float32)
    labels = (rng.random((200, 8)) < 0.3).astype(np.float32)
    assert isinstance(model.head, ConditionedHead)
    return model.head, refit_head(model, model.rows, latents, labels, model.trained, steps=steps)


@pytest.mark.parametrize("centre", ["tracks", "levels"])
def test_it_is_centred_like_the_model(centre: str) -> None:
    own, anew = refitted(centre)
    for group in own.groups:
        assert torch.equal(anew.head.centre(group), own.centre(group))


def test_centred_by_levels_is_not_centred_by_tracks() -> None:
    """Every level's mean weighs the same: the mean over the levels of a factor vanishes, that over the tracks does not."""
    own, anew = refitted("levels", steps=20)
    weights = anew.weights(tiny.rows(8)) - anew.shared
    for group, place in anew.slices.items():
        assert own.centre(group).numpy() @ weights[:, place] == pytest.approx(0, abs=1e-5)
        assert np.abs(weights[:6, place].mean(0)).max() > 1e-3
