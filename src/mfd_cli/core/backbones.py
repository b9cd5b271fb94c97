"""Convolutional networks from one-hot DNA to a latent vector per bin (method: section B of the paper's model).

A backbone takes (batch, 4^k, (bins + 2 x margin) x 128) and returns (batch, latent, bins): a window is a stretch of one bin.
`margin` is how many bins it reads on either side of those that it describes; `sees_padding` says whether it would read farther
if it could. Then a stretch of many bins gives other numbers than as many windows, which end sooner.
To add one: write the class, list it in BACKBONES, and write its inference pass beside the one in core/incremental.py. Those of
other people's packages are in core/trunks.py.
"""

from __future__ import annotations

from collections.abc import Callable
from itertools import pairwise
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from mfd_cli.base.errors import ConfigError
from mfd_cli.core.motif_filters import KERNEL, REACH, best_matches
from mfd_cli.core.trunks import TRUNKS, TrunkBackbone
from mfd_cli.genome.grid import BIN
from mfd_cli.settings.network import ResolvedModel

TENSOR_CORE = 8
"""Channels come in multiples of this on a CUDA device: 431 or 483 of them keep tensor cores from their work."""
STEM_KERNEL, TOWER_KERNEL = 15, 5
"""Positions that a convolution of the stem and one of the tower read."""
RARE, FAINT = -2.0, 0.1
"""Where motif filters start: the bias in front of their GELU, in standard deviations of a filter's matches, and the share that
their weights to the latents have of the usual ones."""


class ChannelNorm(nn.BatchNorm1d):
    """BatchNorm1d of (batch, channels or more, length): channels beyond its own are zero and stay so."""

    def forward(self, x: Tensor) -> Tensor:
        """(batch, channels or more, length) to the same shape, normalised; the channels that are more stay zero."""
        extra = x.shape[1] - self.num_features
        if not extra:
            return super().forward(x)
        assert self.running_mean is not None and self.running_var is not None and self.momentum is not None
        mean, variance = F.pad(self.running_mean, (0, extra)), F.pad(self.running_var, (0, extra), value=1.0)
        scale, shift = F.pad(self.weight, (0, extra)), F.pad(self.bias, (0, extra))
        y = F.batch_norm(x, mean, variance, scale, shift, self.training, self.momentum, self.eps)
        if self.training:
            with torch.no_grad():
                self.running_mean.copy_(mean[: self.num_features])
                self.running_var.copy_(variance[: self.num_features])
                if self.num_batches_tracked is not None:
                    self.num_batches_tracked += 1
        return y


class ConvBlock(nn.Module):
    """Pre-activation block: batch norm, GELU (tanh form), convolution without bias, same length."""

    def __init__(self, inputs: int, outputs: int, kernel: int, dilation: int = 1) -> None:
        super().__init__()
        self.norm = ChannelNorm(inputs)
        padding = (kernel - 1) // 2 * dilation
        self.conv = nn.Conv1d(inputs, outputs, kernel, padding=padding, dilation=dilation, bias=False)

    def forward(self, x: Tensor, multiple: int = 1, share: Tensor | None = None) -> Tensor:
        """(batch, inputs, length) to (batch, outputs, length), both filled up with channels of zeros to a `multiple`.

        `share` (batch, inputs, length) is what the activations are multiplied by.
        """
        active = F.gelu(self.norm(x), approximate="tanh")
        return convolved(self.conv, active if share is None else active * share, multiple)


def convolved(conv: nn.Conv1d, x: Tensor, multiple: int) -> Tensor:
    """Return a convolution of x, whose channels may be more than its own, with outputs filled up with zeros to a `multiple`.

    Weights are filled up with zeros: the other channels' numbers and gradients are what they would be without.
    """
    inputs, outputs = x.shape[1] - conv.in_channels, -conv.out_channels % multiple
    if not inputs and not outputs:
        return conv(x)
    weight = F.pad(conv.weight, (0, 0, 0, inputs, 0, outputs))
    bias = None if conv.bias is None else F.pad(conv.bias, (0, outputs))
    return F.conv1d(x, weight, bias, conv.stride, conv.padding, conv.dilation)


class _PairMax(torch.autograd.Function):
    """Maximum of neighbouring pairs. Its memory for the backward pass is one boolean per pair, where MaxPool1d keeps
    int64 indices and torch.maximum compares both halves again (a fifth of a training step on a CPU)."""

    @staticmethod
    def forward(ctx: Any, x: Tensor) -> Tensor:
        length = x.shape[-1] // 2 * 2
        left, right = x[..., 0:length:2], x[..., 1:length:2]
        ctx.save_for_backward(left >= right)
        ctx.odd = x.shape[-1] - length
        return torch.maximum(left, right)

    @staticmethod
    def backward(ctx: Any, *gradients: Tensor) -> Tensor:
        (first,) = ctx.saved_tensors
        left = gradients[0] * first
        both = torch.stack([left, gradients[0] - left], -1).flatten(-2)
        return F.pad(both, (0, ctx.odd)) if ctx.odd else both


def max_pool(x: Tensor) -> Tensor:
    """Return the maximum of neighbouring pairs along the length; a last odd position is dropped, as by MaxPool1d(2)."""
    pooled: Tensor = _PairMax.apply(x)
    return pooled


class DilatedBackbone(nn.Module):
    """Stem, six pooled tower blocks, two dilated residual blocks, a crop of the margins, a pointwise block; and beside them
    `filters` motif filters (0: none), whose best matches in the bin a pointwise block adds to the latents.

    `width` is C of the paper's model (channels of the last tower block, even); the output stride is 128 bp, so that
    `window` bp (128 x an odd number) leave exactly one position after the crop, centred on the bin. The centre reads 1,926 bp:
    shorter windows than 2,176 bp see their padding (`sees_padding`).
    """

    tower_blocks = 6
    dilated_blocks = 2
    block = 1
    """Bins of the stretches that it is read in: any number, as its bins do not depend on where in a stretch they lie."""
    multiple: int | None = None
    """Channels are filled up with zeros to a multiple of this; by default of TENSOR_CORE on a CUDA device, else not."""

    def __init__(self, width: int, window: int, order: int, latent: int, filters: int = 0) -> None:
        super().__init__()
        if width % 2 or width < 4:
            raise ConfigError(f"model.width is {width}; it must be even and at least 4")
        if window % BIN or window // BIN % 2 == 0:
            raise ConfigError(f"model.window is {window}; it must be 128 x an odd number")
        self.margin, self.order, self.filters = (window // BIN - 1) // 2, order, filters
        widths = tower_widths(width, self.tower_blocks)
        self.stem = nn.Conv1d(4**order, widths[0], STEM_KERNEL, padding=STEM_KERNEL // 2)
        self.stem_residual = ConvBlock(widths[0], widths[0], 1)
        self.tower = nn.ModuleList(ConvBlock(i, o, TOWER_KERNEL) for i, o in pairwise(widths))
        self.tower_residual = nn.ModuleList(ConvBlock(o, o, 1) for o in widths[1:])
        self.dilations = [int(2 * 1.5**level) for level in range(self.dilated_blocks)]
        self.dilated = nn.ModuleList(ConvBlock(width, width, 3, dilation=dilation) for dilation in self.dilations)
        self.dilated_pointwise = nn.ModuleList(ConvBlock(width, width, 1) for _ in range(self.dilated_blocks))
        self.pointwise = ConvBlock(width, latent, 1)
        if filters:
            self.motifs = nn.Conv1d(4**order, filters, KERNEL, bias=False)  # never called: see best_matches
            self.motifs_pointwise = ConvBlock(filters, latent, 1)
            # A filter that is on in half of the bins reads their composition, and tells bins by it. One that starts on in a
            # few of them can only gain by matching better where it matches: it becomes a motif.
            nn.init.constant_(self.motifs_pointwise.norm.bias, RARE)
            with torch.no_grad():
                self.motifs_pointwise.conv.weight.mul_(FAINT)

    @property
    def reach(self) -> int:
        """Bases before its first one that a bin depends on, and as many behind its last one, as far as the windows go."""
        far = sum(self.dilations)  # in positions of the last layer, then of each one below
        for _ in self.tower:
            far = 2 * far + TOWER_KERNEL // 2
        return 2 * far + STEM_KERNEL // 2

    @property
    def sees_padding(self) -> bool:
        """Whether the margin ends before what a bin depends on does."""
        return self.margin * BIN < self.reach

    def hold(self, held: bool) -> bool:
        """Hold the network as it is, or let it learn; return whether anything of it still learns."""
        if held:
            self.eval()
        return not held

    def forward(self, x: Tensor, kept: Tensor | None = None) -> Tensor:
        """One-hot k-mers (batch, 4^k, (bins + 2 x margin) x 128) to (batch, latent, bins), not yet normalised.

        `kept` (batch, filters, bins) is what each motif filter counts for in a step of training: see `kept_filters`.
        """
        multiple = self.multiple or (TENSOR_CORE if x.is_cuda else 1)
        of_motifs = self.motifs_pointwise(self.matches(x), share=kept) if self.filters else None
        x = convolved(self.stem, x, multiple)  # (batch, width / 2, length)
        x = max_pool(x + self.stem_residual(x, multiple))
        for block, residual in zip(self.tower, self.tower_residual):
            x = block(x, multiple)
            x = max_pool(x + residual(x, multiple))  # the length halves, seven times in all
        for wide, pointwise in zip(self.dilated, self.dilated_pointwise):
            x = x + pointwise(wide(x, multiple), multiple)
        latent: Tensor = self.pointwise(x[..., self.margin : x.shape[-1] - self.margin])  # (batch, latent, bins)
        return latent if of_motifs is None else latent + of_motifs

    def matches(self, x: Tensor) -> Tensor:
        """Return the motif filters' best matches (batch, filters, bins) in the bins between the margins of one-hot k-mers."""
        edge = self.margin * BIN
        inner = x[..., edge : x.shape[-1] - edge]
        around = F.pad(inner, (REACH, REACH)) if not edge else x[..., edge - REACH : x.shape[-1] - edge + REACH]
        return best_matches(around, self.motifs.weight, self.order)


def one_row_a_bin(x: Tensor) -> Tensor:
    """(batch, channels, bins) to (batch x bins, channels): the bins of a stretch follow each other."""
    return x.transpose(1, 2).flatten(0, 1)


def tower_widths(width: int, blocks: int) -> list[int]:
    """Return the channels of a tower, from C/2 to C in equal ratios, rounded down; the last is C exactly.

    >>> tower_widths(768, 6)
    [384, 431, 483, 543, 609, 684, 768]
    """
    widths = [int(width / 2 * 2 ** (level / blocks)) for level in range(blocks)]
    return [*widths, width]


Backbone = DilatedBackbone | TrunkBackbone


def dilated(settings: ResolvedModel) -> DilatedBackbone:
    """Return our own convolutional network."""
    return DilatedBackbone(settings.width, settings.window, settings.kmer, settings.latent, settings.filters)


def trunk(settings: ResolvedModel) -> TrunkBackbone:
    """Return another package's network. ConfigError where the package is missing or cannot make it."""
    return TrunkBackbone(settings.backbone, settings.architecture, settings.window, settings.block, settings.latent)


BACKBONES: dict[str, Callable[[ResolvedModel], Backbone]] = {"dilated": dilated, **dict.fromkeys(TRUNKS, trunk)}
