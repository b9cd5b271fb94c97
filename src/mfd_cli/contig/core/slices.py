"""The slices of a feature, biological first, and the loss of telling technical factors from the technical one."""

from __future__ import annotations

from collections.abc import Mapping
from typing import NamedTuple

import torch
import torch.nn.functional as F
from torch import Tensor

from mfd_cli.settings.names import BIOLOGICAL, TECHNICAL


def slices_of(features: int, technical: int) -> dict[str, slice]:
    """Return where the slices of a feature are: all of it is biological where there is no technical one."""
    edge = features - technical
    own = {BIOLOGICAL: slice(0, edge)}
    return own | {TECHNICAL: slice(edge, features)} if technical else own


class Factor(NamedTuple):
    """What is predicted of a factor: `target` (images,) the place of each image's level, or its standardised number, NaN where
    there is none; `weight` (levels,) of each level in the loss, None for a number."""

    target: Tensor
    weight: Tensor | None

    def of(self, images: Tensor) -> Factor:
        """Return the same of some images (rows)."""
        return Factor(self.target[images], self.weight)


def level_weights(target: Tensor, levels: int) -> Tensor:
    """Return the weight of each level (levels,) so that all weigh the same over the images of `target` (images,): one over how
    many have it."""
    counts = torch.bincount(target[~target.isnan()].long(), minlength=levels).double()
    return torch.where(counts > 0, 1 / counts.clamp_min(1), 0.0).float()


def factor_loss(logits: Tensor, factor: Factor) -> Tensor:
    """Return the loss of predicting a factor in a batch, a scalar in units of guessing; 0 where no image has a value.

    `logits` are (images, levels), or (images, 1) for a number. Of levels it is the cross entropy, every level weighing the
    same, over ln(levels); of a number, standardised over training images, the squared error, whose mean for a guess is 1.
    """
    known = ~factor.target.isnan()
    if not bool(known.any()):
        return logits.sum() * 0.0
    logits, target = logits[known].float(), factor.target[known]
    if factor.weight is None:
        return (logits[:, 0] - target.float()).square().mean()
    guess = torch.log(torch.tensor(float(len(factor.weight)), device=logits.device))
    return F.cross_entropy(logits, target.long(), factor.weight) / guess


def mean_factor_loss(logits: Mapping[str, Tensor], factors: Mapping[str, Factor]) -> Tensor:
    """Return the mean of `factor_loss` over all factors, each with its logits."""
    return torch.stack([factor_loss(logits[name], factor) for name, factor in factors.items()]).mean()
