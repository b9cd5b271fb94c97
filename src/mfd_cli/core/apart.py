"""Groups kept apart while a model is trained: penalties with weights that rise, and the adversaries among them.

The penalties themselves are in penalties.py.
"""

from __future__ import annotations

from collections.abc import Mapping

import torch
from torch import Tensor, nn

from mfd_cli.core.penalties import PENALTIES
from mfd_cli.settings.config import PenaltyConfig, PenaltyName


def built_penalties(
    settings: Mapping[PenaltyName, PenaltyConfig], groups: Mapping[str, int], hidden: int
) -> nn.ModuleDict:
    """Return the penalties of these names for groups {name: size}; `hidden` is the width of an adversary's layers."""
    return nn.ModuleDict({name: PENALTIES[name](groups, hidden, each.published) for name, each in settings.items()})


def adversary_optimiser(penalties: nn.ModuleDict, lr: float, device: torch.device) -> torch.optim.Optimizer | None:
    """Return what moves the adversaries' own weights; None where no penalty has any."""
    parameters = list(penalties.parameters())
    return torch.optim.AdamW(parameters, lr=lr, fused=device.type in ("cuda", "cpu")) if parameters else None


def risen_weight(settings: PenaltyConfig, step: int, total: int, unit: float) -> float:
    """Return the weight of a penalty at a step of `total`: 0 until its start, then rising linearly to its full size over the
    warm-up.

    The published forms are weighed as they were published, all others in units of `unit`.
    """
    done, warm = step - settings.start * total, settings.warmup * total
    if done < 0:
        return 0.0
    own = 1.0 if settings.published else unit
    return settings.weight * own * (min(1.0, done / warm) if warm > 0 else 1.0)


def teach_adversaries(
    penalties: nn.ModuleDict, optimiser: torch.optim.Optimizer, latents: Mapping[str, Tensor], steps: int
) -> None:
    """Take the adversaries' own `steps` on the latents {group: (batch, size)} of a step, which are detached: no gradient of
    theirs reaches the model."""
    penalties.requires_grad_(True)
    detached = {name: values.detach() for name, values in latents.items()}
    losses = [penalty.adversary_loss for penalty in penalties.values() if hasattr(penalty, "adversary_loss")]
    for _ in range(steps):
        optimiser.zero_grad(set_to_none=True)
        total = torch.stack([loss(detached) for loss in losses]).sum()  # type: ignore[operator]
        total.backward()
        optimiser.step()
