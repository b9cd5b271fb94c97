"""Whether the numbers of a step are finite, asked without making the device wait."""

from __future__ import annotations

import torch
from torch import Tensor, nn


class Later:
    """A boolean on a device, on its way to the host while the device works on."""

    def __init__(self, flag: Tensor) -> None:
        self.ready: torch.cuda.Event | None = None
        if flag.device.type == "cuda":
            self.host = torch.empty((), dtype=torch.bool, pin_memory=True)
            self.host.copy_(flag, non_blocking=True)
            self.ready = torch.cuda.Event()
            self.ready.record()
        else:
            self.host = flag

    def value(self) -> bool:
        """Return the boolean; wait for what was computed before it, not for what was asked for since."""
        if self.ready is not None:
            self.ready.synchronize()
        return bool(self.host)


def any_not_finite(model: nn.Module) -> Tensor:
    """Return 1 where any gradient is not finite, else 0, as a scalar on the device; nobody waits for it."""
    norms = torch._foreach_norm([parameter.grad for parameter in model.parameters() if parameter.grad is not None])
    return (~torch.isfinite(torch.stack(norms).sum())).float()
