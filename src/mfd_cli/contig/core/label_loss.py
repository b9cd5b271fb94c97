"""The loss of a network that is told labels: cross entropy of words, half the squared error of standardised numbers.

Both are in nats: half a squared error is what a normal distribution of sd 1 around the guess costs, but for a constant.
"""

from __future__ import annotations

from collections.abc import Sequence

import torch
import torch.nn.functional as F
from torch import Tensor

from mfd_cli.contig.core.views import Told


def label_loss(outputs: Tensor, values: Tensor, shares: Sequence[Sequence[float]]) -> tuple[Told, Tensor]:
    """Return the mean loss, and that of guessing, over the known labels of each row (rows,), and which rows have one (rows,).

    `values` (rows, columns) are labels as numbers, NaN where unknown; `shares` of each column are those of its classes, and
    empty for a column of numbers; `outputs` (rows, sum over columns of the classes, or 1) are logits and numbers. Who guesses
    says the mean, or the shares.
    """
    loss, chance, count = (outputs.new_zeros(len(outputs)) for _ in range(3))
    place = 0
    for number, of_classes in enumerate(shares):
        width = len(of_classes) or 1
        said, value = outputs[:, place : place + width], values[:, number]
        place += width
        known = ~torch.isnan(value)
        # Unknown ones are set before the loss, not after: a gradient through NaN is NaN even where it is multiplied by 0.
        value = torch.where(known, value, 0.0).to(outputs.dtype)
        if of_classes:
            right = value.long()
            own = F.cross_entropy(said, right, reduction="none")
            guess = -torch.tensor(of_classes, dtype=outputs.dtype, device=outputs.device).log()[right]
        else:
            own, guess = 0.5 * (said[:, 0] - value) ** 2, 0.5 * value**2
        loss, chance, count = loss + known * own, chance + known * guess, count + known
    return Told(loss / count.clamp_min(1), chance / count.clamp_min(1)), count > 0
