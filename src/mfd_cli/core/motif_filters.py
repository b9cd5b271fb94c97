"""Filters of a motif's length that read a bin's bases directly: of each, its best match in the bin, on either strand.

A way from single sites to the latents beside the tower. Through the tower a site has to pass seven convolutions and poolings,
and what only few of hundreds of tracks need is hardly learnt there; here one filter learns one motif, and nothing else stands
between it and the latents. Wide first layers with a maximum over the whole sequence are those of DeepBind (Alipanahi et al.,
Nature Biotechnology 2015) and Basset (Kelley et al., Genome Research 2016). Both strands share their filters, which halves how
many are needed.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from itertools import product

import torch
import torch.nn.functional as F
from torch import Tensor

from mfd_cli.genome.grid import BIN

KERNEL = 19
"""Positions that a filter reads: odd, and no fewer than most known motifs have."""
REACH = KERNEL // 2
_PLACE = BIN - 1
"""The lowest bits of a float32 that hold a position in a bin: changing them changes a score by a part in 65,536 at most."""


def best_matches(x: Tensor, weight: Tensor, order: int) -> Tensor:
    """Return the best match of each filter in each bin, (batch, filters, bins) in its precision, of one-hot k-mers.

    `x` (batch, 4^k, bins x 128 + 2 x REACH), `weight` (filters, 4^k, KERNEL). A match belongs to the bin of its middle.
    """
    if torch.is_grad_enabled() and (x.requires_grad or weight.requires_grad):
        place = places_of_best(x.detach(), weight.detach(), order)
        with torch.autocast(x.device.type, enabled=False):
            return scores_at(x.to(weight.dtype), weight, order, place)
    scores = match_scores(x, both_strands(weight, order))
    return stronger_strand(scores.unflatten(1, (-1, BIN)).amax(2)).transpose(1, 2).to(weight.dtype)


def both_strands(weight: Tensor, order: int) -> Tensor:
    """Return filters (filters, 4^k, KERNEL) and, behind them, what matches where they do on the other strand."""
    return torch.cat([weight, on_other_strand(weight, order)])


def on_other_strand(weight: Tensor, order: int) -> Tensor:
    """Return filters (filters, 4^k, positions) that score a sequence as these score its reverse complement."""
    letters = list(product(range(4), repeat=order))
    place = {kmer: number for number, kmer in enumerate(letters)}
    other = [place[tuple(3 - letter for letter in reversed(kmer))] for kmer in letters]
    return weight[:, other].flip(-1)


def match_scores(x: Tensor, filters: Tensor) -> Tensor:
    """Return how well filters match at each position, (batch, positions, filters), of one-hot k-mers (batch, 4^k, length).

    As a two-dimensional convolution of height 1, channels last: on a CPU that is three times as fast as a one-dimensional one
    of four channels, and the maxima over positions afterwards read memory in its order.
    """
    form = torch.channels_last
    columns = x.unsqueeze(2).contiguous(memory_format=form)
    return F.conv2d(columns, filters.unsqueeze(2).contiguous(memory_format=form)).squeeze(2).transpose(1, 2)


def stronger_strand(matches: Tensor) -> Tensor:
    """Return the better of both strands, (..., filters), of matches (..., 2 x filters) of `both_strands`."""
    return torch.maximum(*matches.chunk(2, dim=-1))


@torch.no_grad()
def places_of_best(x: Tensor, weight: Tensor, order: int) -> Tensor:
    """Return where each filter matches best, (batch, bins, filters): the first position that it reads.

    A maximum that returns its index takes ten times as long on a CPU as one that does not. So the position is written into the
    score's lowest bits, and read from those of the maximum.
    """
    scores = stronger_strand(match_scores(x, both_strands(weight, order))).float()
    number = torch.arange(BIN, dtype=torch.int32, device=x.device)[:, None]
    packed = scores.view(torch.int32).unflatten(1, (-1, BIN)).bitwise_and_(~_PLACE).bitwise_or_(number)
    place = (packed.view(torch.float32).amax(2).view(torch.int32) & _PLACE).long()
    return place + BIN * torch.arange(place.shape[1], device=x.device)[:, None]


def scores_at(x: Tensor, weight: Tensor, order: int, place: Tensor) -> Tensor:
    """Return the scores (batch, filters, bins) of filters at known places (batch, bins, filters), the better of both strands.

    Only what is read there takes part, so that a gradient costs a hundredth of the convolution's.
    """
    columns, kinds = x.transpose(1, 2).flatten(1), x.shape[1]  # position by position
    batch = torch.arange(len(x), device=x.device)[:, None, None]
    read = columns.unfold(1, kinds * KERNEL, kinds)[batch, place]  # (batch, bins, filters, KERNEL x 4^k)
    strands = both_strands(weight, order).transpose(1, 2).flatten(1).unflatten(0, (2, -1))
    return torch.einsum("nbfr,sfr->snfb", read, strands).amax(0)


@dataclass(frozen=True)
class Best:
    """The best scores of motif filters in a bin, but for a piece that a substitution changes.

    `before[:, :, i]` is the best of the positions below i of the bin, and `after[:, :, i]` of those from i on: both
    (stretches, bins, 129, filters). What is the best of none is -inf.
    """

    before: Tensor
    after: Tensor

    @classmethod
    def of(cls, scores: Tensor) -> Best:
        """Return them for scores (stretches, bins x 128, filters)."""
        scores = scores.unflatten(1, (-1, BIN))
        none = torch.full_like(scores[:, :, :1], -math.inf)
        after = torch.cat([running_best(scores.flip(2)).flip(2), none], 2)
        return cls(torch.cat([none, running_best(scores)], 2), after)

    def whole(self) -> Tensor:
        """Return the best of all positions, (stretches x bins, filters)."""
        return self.before[:, :, -1].flatten(0, 1)

    def without(self, bin_: Tensor, low: Tensor, count: int) -> Tensor:
        """Return the best (bins, filters) of all positions but `count` from `low` on; `bin_` counts all stretches' bins."""
        before, after = self.before.flatten(0, 1), self.after.flatten(0, 1)
        return torch.maximum(before[bin_, low.clamp(0, BIN)], after[bin_, (low + count).clamp(0, BIN)])


def running_best(x: Tensor) -> Tensor:
    """Return the best of each position of a bin and of those before it; x (stretches, bins, 128, filters)."""
    step = 1
    while step < x.shape[2]:
        x = torch.cat([x[:, :, :step], torch.maximum(x[:, :, step:], x[:, :, :-step])], 2)
        step *= 2
    return x
