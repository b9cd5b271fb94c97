"""The mean of a gradient along a straight path: what integrated gradients are made of (Sundararajan et al., ICML 2017)."""

from __future__ import annotations

from collections.abc import Callable

import torch
from torch import Tensor


def mean_along_path(gradient: Callable[[Tensor], Tensor], start: Tensor, end: Tensor, steps: int) -> Tensor:
    """Return the mean of `gradient` over `steps` points of the straight path from `start` to `end`, by the midpoint rule.

    All have one shape. Times `end - start` it is what each number contributes: the sum is the difference of the function whose
    gradient it is, up to the error of the rule.
    """
    total = torch.zeros_like(end)
    for step in range(steps):
        at = (step + 0.5) / steps  # the midpoint rule
        total += gradient(start + at * (end - start))
    return total / steps
