"""The pass of another package's trunk for inference: always the whole of it, since a base may change every bin of a block.

core/incremental.py has that of our own network, where a substitution costs a twentieth of a pass.
"""

from __future__ import annotations

from copy import deepcopy
from dataclasses import dataclass

import torch
from torch import Tensor, nn

from mfd_cli.core.incremental import Seen, affine
from mfd_cli.core.onehot import one_hot
from mfd_cli.core.trunks import TrunkBackbone


@dataclass(frozen=True)
class PassedBlocks:
    """A pass over stretches: base codes (stretches, length) uint8 and latents (stretches x bins, latent)."""

    codes: Tensor
    latents: Tensor

    @property
    def bins(self) -> int:
        """How many bins each stretch has."""
        return len(self.latents) // len(self.codes)


class TrunkPass:
    """A trunk, its projection and the last batch norm of a model, with copies of the weights as they are now.

    With `dtype` bfloat16 the layers run in it that autocast chooses. Latents are float32.
    """

    def __init__(self, backbone: TrunkBackbone, norm: nn.BatchNorm1d, dtype: torch.dtype, device: torch.device) -> None:
        self.backbone = deepcopy(backbone).to(device).eval().requires_grad_(False)
        self.scale, self.shift = affine(norm, device)
        self.dtype, self.device = dtype, device

    def latents(self, codes: Tensor, mirrored: bool = False) -> Tensor:
        """Return the latents (stretches x bins, latent) of base codes (stretches, (bins + 2 x margin) x 128). Whether half of
        them are `mirrored` makes no difference."""
        with torch.autocast(self.device.type, torch.bfloat16, enabled=self.dtype == torch.bfloat16):
            latents = self.backbone(one_hot(codes))
        return torch.addcmul(self.shift, latents.transpose(1, 2).flatten(0, 1).float(), self.scale)

    def reference(self, codes: Tensor, first: int, last: int, mirrored: bool = False) -> PassedBlocks:
        """Return a pass over stretches, against which any substitution can be measured."""
        return PassedBlocks(codes, self.latents(codes))

    def alternates(
        self, reference: PassedBlocks, row: Tensor, position: Tensor, base: Tensor, seen: Seen | None = None
    ) -> Tensor:
        """Return the latents (bins, latent) of bins with one base of their stretch exchanged: see `CentrePass.alternates`.

        Each variant is a whole pass over its stretch; as many go together as the reference has stretches.
        """
        seen = seen or Seen.alone(row)
        found = torch.empty(len(seen.variant), self.backbone.project.out_channels, device=row.device)
        for low in range(0, len(row), len(reference.codes)):
            piece = slice(low, low + len(reference.codes))
            codes = reference.codes[row[piece]]
            codes[torch.arange(len(codes), device=codes.device), position[piece]] = base[piece].to(codes.dtype)
            latents = self.latents(codes).unflatten(0, (len(codes), -1))
            mine = ((seen.variant >= low) & (seen.variant < low + len(codes))).nonzero()[:, 0]
            found[mine] = latents[seen.variant[mine] - low, seen.place[mine]]
        return found
