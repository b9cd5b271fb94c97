"""NT-Xent, the loss of SimCLR (Chen et al., ICML 2020): two views of the same told apart from views of all others.

Ours differs in one thing: views of relatives are no wrong answers, as in `contrast.py`. Without relatives it is the published
loss.
"""

from __future__ import annotations

from typing import NamedTuple

import torch
from torch import Tensor


class Told(NamedTuple):
    """Of each pair of views, the mean over both as the question: the loss and what guessing would cost (pairs,), in nats."""

    loss: Tensor
    chance: Tensor


def nt_xent(one: Tensor, other: Tensor, family: Tensor, temperature: float) -> Told:
    """Return the loss of each pair of views.

    `one` and `other` (pairs, size) are projections of length one, of the same persons in the same order; `family` (pairs,)
    numbers that relatives share. Candidates of a view are the other view of its pair and both views of every pair of another
    family; of 2 N views without relatives these are the 2 N - 1 others.
    """
    views = torch.cat([one, other]).float()  # (2 pairs, size)
    similarity = views @ views.T / temperature
    kin = torch.cat([family, family])
    stranger = kin[:, None] != kin[None, :]
    count = len(one)
    right = torch.arange(2 * count, device=views.device).roll(count)
    own = similarity.gather(1, right[:, None])[:, 0]
    others = torch.logsumexp(torch.where(stranger, similarity, -torch.inf), 1)
    loss = torch.logaddexp(others, own) - own
    chance = (stranger.sum(1) + 1).double().log()
    return Told(loss.view(2, count).mean(0), chance.view(2, count).mean(0))
