"""How well the right partner is found among all: ranks, and the measures that are made of them."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import torch
from torch import Tensor

from mfd_cli.base.arrays import Doubles, Ints

AT_ONCE = 1024
"""Rows of a table of similarities that are held together."""


@dataclass(frozen=True)
class Ranks:
    """For every query: how many wrong candidates are above the right one (ties count half), among how many candidates, the
    loss of the right one and of guessing (nats)."""

    above: Doubles
    candidates: Ints
    loss: Doubles
    chance: Doubles

    @property
    def rank(self) -> Doubles:
        """1 is best."""
        return self.above + 1


def ranks(similarity: Tensor, family: Ints) -> Ranks:
    """Rank the right partner, at the same place, of each row of a square table of `similarity` (queries, candidates).

    Candidates of a query are its own partner and those of other families.
    """
    parts = []
    kin = torch.from_numpy(family).to(similarity.device)
    for low in range(0, len(similarity), AT_ONCE):
        rows = similarity[low : low + AT_ONCE].double()
        place = torch.arange(low, low + len(rows), device=rows.device)
        own = rows.gather(1, place[:, None])
        stranger = kin[place][:, None] != kin[None, :]
        above = ((rows > own) & stranger).sum(1) + 0.5 * ((rows == own) & stranger).sum(1)
        count = stranger.sum(1) + 1
        others = torch.logsumexp(torch.where(stranger, rows, -torch.inf), 1)
        loss = torch.logaddexp(others, own[:, 0]) - own[:, 0]
        parts.append([above.double(), count.double(), loss, count.double().log()])
    columns = [torch.cat(column).cpu().numpy() for column in zip(*parts)]
    return Ranks(columns[0], columns[1].astype(np.int64), columns[2], columns[3])


def measures(found: Ranks) -> dict[str, Doubles]:
    """Return what each query adds to the mean of each measure.

    `auc` is the share of wrong partners ranked below, `top 1`, `top 10` and `top 100` whether the right one is among the first,
    `skill` is in nats.
    """
    wrong = np.maximum(found.candidates - 1, 1)
    rank = found.rank
    return {
        "auc": 1 - found.above / wrong,
        **{f"top {most}": (rank <= most).astype(np.float64) for most in (1, 10, 100)},
        "reciprocal rank": 1 / rank,
        "skill": found.chance - found.loss,
    }


def chances(found: Ranks) -> dict[str, float]:
    """Return the mean of each measure for somebody who guesses."""
    counts = found.candidates.astype(np.float64)
    reciprocal = np.array([(1 / np.arange(1, count + 1)).mean() for count in np.unique(found.candidates)])
    of_each = dict(zip(np.unique(found.candidates).tolist(), reciprocal.tolist()))
    return {
        "auc": 0.5,
        **{f"top {most}": float(np.minimum(most / counts, 1).mean()) for most in (1, 10, 100)},
        "reciprocal rank": float(np.mean([of_each[count] for count in found.candidates.tolist()])),
        "skill": 0.0,
        "median rank": float(np.median((counts + 1) / 2)),
    }
