"""How fast a training learns, and how the running average of its weights follows: functions of the step alone."""

from __future__ import annotations

import math

import torch
from torch import Tensor, nn

EMA_DECAY = 0.999
"""Share of the running average that each step keeps, once training is some hundred steps old."""


def rate(step: int, total: int) -> float:
    """Return the learning rate as a share of its peak: a linear rise over the first steps, then half a cosine down to 1 %."""
    warm = max(1, min(total // 20, 500))
    if step < warm:
        return (step + 1) / warm
    return 0.01 + 0.99 * 0.5 * (1 + math.cos(math.pi * (step - warm) / max(total - warm, 1)))


def average_share(step: int) -> float:
    """Return the share of a running average that a step keeps."""
    return min(EMA_DECAY, (1 + step) / (10 + step))


@torch.no_grad()
def follow(average: nn.Module, model: nn.Module, step: int) -> None:
    """Move the running average of the weights towards the model; it is what is validated and saved."""
    keep = average_share(step)
    ours: list[Tensor] = list(average.parameters())
    theirs: list[Tensor] = list(model.parameters())
    torch._foreach_lerp_(ours, theirs, 1 - keep)
    for own, new in zip(average.buffers(), model.buffers()):
        if own.is_floating_point():
            own.lerp_(new, 1 - keep)
        else:
            own.copy_(new)
