"""A trained backbone arranged for inference: only what the kept bins read, and only what a substitution changes.

Same numbers as `MfdModel.latent` in evaluation mode, up to rounding. Three things make it fast:

- Of every layer only the positions are computed that the kept ones depend on (in `wide-2176` 1,926 of 2,176 bp).
- Activations lie position by position, channels last: convolutions and pointwise products read them without a copy.
- A substitution changes at most 15 + k - 1 positions of the stem and, because pooling halves what the convolution before it
  widened by four, 14 or fewer of every later layer. Only these are computed anew, among the activations that the pass over
  the reference left behind; and of the motif filters' scores only the 19 + k - 1 that read the base.

Positions count from the start of a layer's whole length. What lies outside a layer is zero after the activation, as the
padding of its convolution is.
"""

from __future__ import annotations

import math
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from itertools import product
from typing import Generic, NamedTuple, TypeVar

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from mfd_cli.core.backbones import TENSOR_CORE, ConvBlock, DilatedBackbone
from mfd_cli.core.motif_filters import REACH, Best, both_strands, match_scores, stronger_strand
from mfd_cli.core.onehot import kmers, one_hot
from mfd_cli.genome.grid import BIN
from mfd_cli.genome.sequence import UNKNOWN

Position = TypeVar("Position", int, Tensor)


class Span(NamedTuple):
    """Positions [low, high) of a layer."""

    low: int
    high: int

    def widened(self, by: int) -> Span:
        """Return the span with `by` more positions on either side."""
        return Span(self.low - by, self.high + by)

    def inside(self, length: int) -> Span:
        """Return the part of the span that lies in a layer of this length."""
        return Span(max(self.low, 0), min(self.high, length))

    def before_pooling(self) -> Span:
        """Return the positions that pairwise pooling turns into these."""
        return Span(2 * self.low, 2 * self.high)


@dataclass(frozen=True)
class Block:
    """A ConvBlock in evaluation mode: gelu(x * scale + shift), then a convolution."""

    scale: Tensor
    shift: Tensor
    weight: Tensor  # (outputs, inputs, 1, kernel), channels last

    @classmethod
    def of(cls, block: nn.Module, device: torch.device, dtype: torch.dtype, inputs: int = 1, outputs: int = 1) -> Block:
        """Return the block's copy on a device, its channels filled up with zeros to multiples of `inputs` and `outputs`."""
        assert isinstance(block, ConvBlock)
        scale, shift = (filled(values, inputs).to(dtype) for values in affine(block.norm, device))
        return cls(scale, shift, channels_last(block.conv.weight.to(device), dtype, inputs, outputs))

    def activate(self, x: Tensor) -> Tensor:
        """Return x (..., channels) after normalisation and GELU."""
        return F.gelu(torch.addcmul(self.shift, x, self.scale), approximate="tanh")

    def pointwise(self, x: Tensor) -> Tensor:
        """Return what the whole block makes of x (..., inputs) where its kernel is 1: (..., outputs)."""
        return F.linear(self.activate(x), self.weight[:, :, 0, 0])


def convolve(x: Tensor, weight: Tensor, bias: Tensor | None = None, stride: int = 1) -> Tensor:
    """Return the convolution of x (rows, positions, inputs) along the positions; `weight` (outputs, inputs, 1, kernel).

    It is computed as a two-dimensional one of height 1: in that form libraries read and write channels last without a copy.
    """
    return F.conv2d(x.transpose(1, 2).unsqueeze(2), weight, bias, stride=(1, stride)).squeeze(2).transpose(1, 2)


def channels_last(weight: Tensor, dtype: torch.dtype, inputs: int = 1, outputs: int = 1) -> Tensor:
    """Return the weight of a one-dimensional convolution as `convolve` takes it, filled up with zeros to multiples."""
    wide = F.pad(weight.detach(), (0, 0, 0, -weight.shape[1] % inputs, 0, -weight.shape[0] % outputs))
    return wide[:, :, None].to(dtype).contiguous(memory_format=torch.channels_last)


def filled(values: Tensor, multiple: int) -> Tensor:
    """Return a vector with zeros behind it up to a multiple."""
    return F.pad(values.detach(), (0, -len(values) % multiple))


def affine(norm: nn.BatchNorm1d, device: torch.device) -> tuple[Tensor, Tensor]:
    """Return what a batch norm is in evaluation mode, whatever mode it is in: scale and shift, (channels,) each."""
    assert norm.running_mean is not None and norm.running_var is not None
    scale = torch.rsqrt(norm.running_var.to(device) + norm.eps)
    if norm.weight is not None:
        scale = scale * norm.weight.detach().to(device)
    shift = -norm.running_mean.to(device) * scale
    return scale, shift if norm.bias is None else shift + norm.bias.detach().to(device)


@dataclass(frozen=True)
class Reference:
    """What a pass over reference stretches leaves behind; a window is a stretch of one bin.

    codes (stretches, bases); `extent` of each; latents (stretches x bins, latent) float32; `activations`, one per tower block:
    (stretches, positions, channels) from position `lows[i]` on, after norm and GELU, zero outside the layer; `top` (stretches,
    positions, width), the last pooled layer; `best`, of the motif filters, None where there are none.
    """

    codes: Tensor
    extent: Extent
    latents: Tensor
    activations: Sequence[Tensor]
    lows: Sequence[int]
    top: Tensor
    best: Best | None

    @property
    def bins(self) -> int:
        """How many bins each stretch has."""
        return len(self.extent.kept)


@dataclass(frozen=True)
class Extent:
    """What is computed of a stretch with `stem` positions in the stem.

    `lengths[i]` is that of the pooled layer below tower block i (the last: above them all), `spans[i]` the part of it that the
    bins at positions `kept` of the last layer depend on.
    """

    stem: int
    kept: range
    lengths: Sequence[int]
    spans: Sequence[Span]

    @classmethod
    def of(cls, length: int, margin: int, levels: int, reach: int, far: int) -> Extent:
        """Return that of a stretch of `length` bp with a `margin` of bins. A convolution of the tower's `levels` reads `reach`
        positions to either side, the dilated ones together `far`."""
        lengths = [length >> (level + 1) for level in range(levels + 1)]
        kept = range(margin, lengths[-1] - margin)
        spans = [Span(kept[0] - far, kept[-1] + far + 1).inside(lengths[-1])]
        for below in lengths[-2::-1]:
            spans.insert(0, spans[0].before_pooling().widened(reach).inside(below))
        return cls(length, kept, lengths, spans)


class Seen(NamedTuple):
    """Which bins are wanted with which substitution, (bins,) each: the variant's number, and the bin's in its stretch."""

    variant: Tensor
    place: Tensor

    @classmethod
    def alone(cls, row: Tensor) -> Seen:
        """Return that each of the variants, (variants,) in number, is seen in the first bin of its stretch."""
        return cls(torch.arange(len(row), device=row.device), torch.zeros_like(row))


@dataclass(frozen=True)
class Layer(Generic[Position]):
    """One tower block under a substitution: changed inputs from `low` on, `count` outputs from `start` on, before pooling."""

    low: Position
    start: Position
    count: int


class CentrePass:
    """The backbone and the last batch norm of a model for inference, with copies of the weights as they are now.

    `dtype` is that of weights and activations; latents are in the model's own precision. Channels are filled up as in
    training (`backbone.multiple`).
    """

    def __init__(
        self,
        backbone: DilatedBackbone,
        norm: nn.BatchNorm1d,
        window: int,
        order: int,
        dtype: torch.dtype,
        device: torch.device | None = None,
    ) -> None:
        """Fold the batch norms into scales and shifts, layer by layer on `device` (default: the backbone's own).

        The backbone and the norm are read only: neither their mode nor their place changes, and no second copy of them is
        made anywhere.
        """
        self.order, self.dtype, self.margin = order, dtype, backbone.margin
        device = device or backbone.stem.weight.device
        fill = backbone.multiple or (TENSOR_CORE if device.type == "cuda" else 1)

        def block(of: nn.Module, outputs: int = fill) -> Block:
            return Block.of(of, device, dtype, fill, outputs)

        self.stem_weight = channels_last(backbone.stem.weight.to(device), dtype, outputs=fill)
        assert backbone.stem.bias is not None
        self.stem_bias = filled(backbone.stem.bias.to(device), fill).to(dtype)
        self.stem_reach = backbone.stem.kernel_size[0] // 2
        self.stem_residual = block(backbone.stem_residual)
        self.tower = [block(one) for one in backbone.tower]
        self.tower_residual = [block(one) for one in backbone.tower_residual]
        self.reach = self.tower[0].weight.shape[-1] // 2  # how far a convolution of the tower reads to either side
        self.dilated = [block(one) for one in backbone.dilated]
        self.dilated_pointwise = [block(one) for one in backbone.dilated_pointwise]
        self.dilations = list(backbone.dilations)
        self.pointwise = block(backbone.pointwise, outputs=1)
        self.motifs: tuple[Tensor, Block] | None = None
        """The motif filters of both strands, and what turns their matches into latents."""
        if backbone.filters:
            filters = both_strands(backbone.motifs.weight.detach().to(device), self.order)
            after = Block.of(backbone.motifs_pointwise, device, dtype)
            self.motifs = (filters.to(dtype), after)
        self.scale, self.shift = affine(norm, device)
        self.window_extent = self.extent(window)

    def extent(self, length: int) -> Extent:
        """Return what is computed of a stretch of `length` bp, the k - 1 bases that complete the last k-mer left out."""
        return Extent.of(length, self.margin, len(self.tower), self.reach, sum(self.dilations))

    # -- windows and stretches -----------------------------------------------------------------------------------------

    def latents(self, codes: Tensor, mirrored: bool = False) -> Tensor:
        """Return the latents (stretches x bins, latent) float32 of codes (stretches, (bins + 2 x margin) x 128 + k - 1).

        `mirrored` says that the second half of the stretches is the other strand of the first.
        """
        extent, scores = self.extent(codes.shape[1] - self.order + 1), None
        if self.motifs is not None:
            scores = self._scores(codes, extent, mirrored).unflatten(1, (-1, BIN)).amax(2).flatten(0, 1)
        return self._finish(self._climb(codes, extent), extent, scores)

    def reference(self, codes: Tensor, first: int, last: int, mirrored: bool = False) -> Reference:
        """Return the pass over stretches, with what substitutions at the indexes `first` to `last` of a stretch need of it."""
        extent, activations = self.extent(codes.shape[1] - self.order + 1), list[Tensor]()
        spans = self._read_by(first, last, extent)
        top = self._climb(codes, extent, spans, activations)
        best = None if self.motifs is None else Best.of(self._scores(codes, extent, mirrored))
        latents = self._finish(top, extent, None if best is None else best.whole())
        return Reference(codes, extent, latents, activations, [span.low for span in spans], top, best)

    def _climb(
        self,
        codes: Tensor,
        extent: Extent,
        spans: Sequence[Span] | None = None,
        activations: list[Tensor] | None = None,
    ) -> Tensor:
        """Return what stem and tower make of base codes: (stretches, positions of the last span, width).

        With `spans`, one per tower block, the activations there are added to the list `activations`.
        """
        x = self._stem(self._cut(codes, extent.spans[0].before_pooling(), self.stem_reach))
        for index, (block, residual) in enumerate(zip(self.tower, self.tower_residual)):
            have, wanted = extent.spans[index], extent.spans[index + 1].before_pooling().widened(self.reach)
            active = cut_to(block.activate(x), have, wanted)  # zero where the layer ends
            if spans is not None and activations is not None:
                activations.append(cut_to(active, wanted, spans[index]).contiguous())
            x = pool(convolve(active, block.weight), residual)
        return x

    def _cut(self, codes: Tensor, span: Span, reach: int) -> Tensor:
        """Return the base codes that a convolution of the k-mers reads, `reach` to either side, at positions `span`.

        Beyond the window they are unknown bases, whose k-mers are columns of zeros, as a convolution's padding is.
        """
        whole = Span(0, codes.shape[1])
        wanted = Span(span.low - reach, span.high + reach + self.order - 1)
        inner = wanted.inside(whole.high)
        missing = (inner.low - wanted.low, wanted.high - inner.high)
        return F.pad(codes[:, inner.low : inner.high], missing, value=UNKNOWN)

    def _stem(self, codes: Tensor) -> Tensor:
        """Return the pooled stem of base codes that bring their margins: (rows, positions / 2, channels)."""
        columns = kmers(one_hot(codes, self.dtype), self.order)
        x = convolve(columns.transpose(1, 2).contiguous(), self.stem_weight, self.stem_bias)
        return pool(x, self.stem_residual)

    def _scores(self, codes: Tensor, extent: Extent, mirrored: bool) -> Tensor:
        """Return the motif filters' scores (stretches, bins x 128, filters) at each position of the bins.

        They are the same on the other strand, in the opposite order; of k-mers they are k - 1 positions further on.
        """
        inner = Span(extent.kept[0] * BIN, (extent.kept[-1] + 1) * BIN)
        if mirrored and self.order == 1:
            half = self._match(self._cut(codes[: len(codes) // 2], inner, REACH))
            return torch.cat([half, half.flip(1)])
        return self._match(self._cut(codes, inner, REACH))

    def _match(self, codes: Tensor) -> Tensor:
        """Return the motif filters' scores (rows, positions, filters) of base codes that bring their margins."""
        assert self.motifs is not None
        return stronger_strand(match_scores(kmers(one_hot(codes, self.dtype), self.order), self.motifs[0]))

    def _finish(self, top: Tensor, extent: Extent, matches: Tensor | None) -> Tensor:
        """Return the latents (stretches x bins, latent) float32 of the tower's output and the best matches (bins, filters).

        A dilated block is computed only where a later one reads it.
        """
        x, places = top, list(range(*extent.spans[-1]))
        for index, (block, pointwise) in enumerate(zip(self.dilated, self.dilated_pointwise)):
            later = product(*((-step, 0, step) for step in self.dilations[index + 1 :]))
            inside = range(extent.lengths[-1])
            wanted = sorted({place + sum(steps) for steps in later for place in extent.kept} & set(inside))
            active, step = block.activate(x), self.dilations[index]
            # What each output reads, side by side: three positions an output.
            read = take(active, places, [place + tap * step for place in wanted for tap in (-1, 0, 1)])
            inner = convolve(read, block.weight, stride=3)
            x, places = take(x, places, wanted) + pointwise.pointwise(inner), wanted
        latent = self.pointwise.pointwise(x.flatten(0, 1))
        if self.motifs is not None and matches is not None:
            latent = latent + self.motifs[1].pointwise(matches)
        return torch.addcmul(self.shift, latent.to(self.shift.dtype), self.scale)

    # -- substitutions -------------------------------------------------------------------------------------------------

    def alternates(
        self,
        reference: Reference,
        row: Tensor,
        position: Tensor,
        base: Tensor,
        seen: Seen | None = None,
    ) -> Tensor:
        """Return the latents (bins, latent) float32 of bins with one base of their stretch exchanged.

        `row` (variants,) is the stretch's in the reference, `position` the index of the base in it, between the `first` and
        the `last` that the reference was made for, `base` the new code. `seen` says which bins are wanted with which variant
        (default: the first bin of its stretch with each); one that is seen in several climbs the tower once.
        """
        extent = reference.extent
        x = self._stem(self._mutated(reference, row, position, base))
        layers = self._changes(position, extent)
        for index, layer in enumerate(layers):
            block, stored = self.tower[index], reference.activations[index]
            width, first = layer.count + 2 * self.reach, layer.start - self.reach
            flat = stored.flatten(0, 1)
            source = row * stored.shape[1] + first - reference.lows[index]
            buffer = flat.index_select(0, steps(source, width).flatten())
            into = torch.arange(len(row), device=x.device) * width + layer.low - first
            buffer.index_copy_(0, steps(into, x.shape[1]).flatten(), block.activate(x).flatten(0, 1))
            x = pool(convolve(buffer.view(len(row), width, -1), block.weight), self.tower_residual[index])
        low = layers[-1].start // 2 - extent.spans[-1].low
        variant, place = seen or Seen.alone(row)
        # In the last layer a bin of a stretch reads as many positions as in its own window, `place` positions further on.
        one = self.window_extent
        places = steps(row[variant] * reference.top.shape[1] + place, one.spans[-1].high - one.spans[-1].low)
        below = reference.top.flatten(0, 1)[places]
        matches = self._changed_matches(reference, row, position, base, variant, place)
        return self._finish(overlaid(below, x[variant], low[variant] - place), one, matches)

    def _changed_matches(
        self, reference: Reference, row: Tensor, position: Tensor, base: Tensor, variant: Tensor, place: Tensor
    ) -> Tensor | None:
        """Return the best matches (bins, filters) in the bins at `place` of their stretch, each with its `variant`."""
        if reference.best is None:
            return None
        low = position - REACH - (self.order - 1)  # the first middle of a filter that reads the base
        count = 2 * REACH + self.order
        pieces = self._exchanged(reference, row, position, base, low - REACH, count + 2 * REACH + self.order - 1)
        kept = reference.extent.kept
        in_bin = low[variant] - (kept[0] + place) * BIN
        middles = steps(in_bin, count)
        outside = ((middles < 0) | (middles >= BIN))[:, :, None]
        changed = self._match(pieces)[variant].masked_fill(outside, -math.inf).amax(1)
        return torch.maximum(changed, reference.best.without(row[variant] * len(kept) + place, in_bin, count))

    def _mutated(self, reference: Reference, row: Tensor, position: Tensor, base: Tensor) -> Tensor:
        """Return the bases that the changed stem positions read, with the new one: (variants, bases)."""
        first = self._stem_start(position, reference.extent) - self.stem_reach
        count = self._stem_count + 2 * self.stem_reach + self.order - 1
        return self._exchanged(reference, row, position, base, first, count)

    def _exchanged(
        self, reference: Reference, row: Tensor, position: Tensor, base: Tensor, first: Tensor, count: int
    ) -> Tensor:
        """Return `count` bases of the stretches from index `first` on, with the new one: (variants, bases)."""
        codes, places = reference.codes, steps(first, count)
        known = (places >= 0) & (places < codes.shape[1])
        pieces = codes[row[:, None], places.clamp(0, codes.shape[1] - 1)].masked_fill(~known, UNKNOWN)
        return pieces.scatter(1, (position - first)[:, None], base[:, None].to(pieces.dtype))

    @property
    def _stem_count(self) -> int:
        """Return how many stem positions before pooling are computed anew: those that change, from an even one on."""
        return min(even(2 * self.stem_reach + 1 + self.order - 1 + 1), self.window_extent.stem)

    def _stem_start(self, position: Position, extent: Extent) -> Position:
        """Return the first stem position that is computed anew for a substitution at this index of the stretch."""
        return even_within(position - self.stem_reach - (self.order - 1), extent.stem - self._stem_count)

    def _changes(self, position: Position, extent: Extent) -> list[Layer[Position]]:
        """Return where a substitution at this index of the stretch changes each layer of the tower."""
        result = []
        low, changed = self._stem_start(position, extent) // 2, self._stem_count // 2
        for length in extent.lengths[:-1]:
            count = min(even(changed + 2 * self.reach + 1), length)
            start = even_within(low - self.reach, length - count)
            result.append(Layer(low, start, count))
            low, changed = start // 2, count // 2
        return result

    def _read_by(self, first: int, last: int, extent: Extent) -> list[Span]:
        """Return per tower block the positions of its input that substitutions at these indexes of the stretch read."""
        pairs = zip(self._changes(first, extent), self._changes(last, extent))
        return [Span(one.start - self.reach, other.start + other.count + self.reach) for one, other in pairs]


def even(count: int) -> int:
    """Return the even number at or above `count`."""
    return count + count % 2


def even_within(start: Position, most: int) -> Position:
    """Return the even number at or below `start`, moved into 0 to `most`."""
    if isinstance(start, Tensor):
        return (start // 2 * 2).clamp(0, most)
    return min(max(start // 2 * 2, 0), most)


def pool(x: Tensor, residual: Block) -> Tensor:
    """Return the maximum of neighbouring pairs of positions of x + residual(x): (rows, positions / 2, channels)."""
    x = x + residual.pointwise(x)
    return torch.maximum(x[:, 0::2], x[:, 1::2])


def cut_to(x: Tensor, have: Span, wanted: Span) -> Tensor:
    """Return positions `wanted` of an array (rows, positions, channels) that holds `have`; zero where it has nothing."""
    inner = Span(max(have.low, wanted.low), min(have.high, wanted.high))
    if inner.high <= inner.low:
        return x.new_zeros(len(x), wanted.high - wanted.low, x.shape[2])
    piece = x[:, inner.low - have.low : inner.high - have.low]
    return F.pad(piece, (0, 0, inner.low - wanted.low, wanted.high - inner.high))


def take(x: Tensor, places: Sequence[int], wanted: Iterable[int]) -> Tensor:
    """Return positions `wanted` of an array (rows, positions, channels) that holds the positions `places`; zero elsewhere."""
    column = {place: number for number, place in enumerate(places)}
    zeros = len(places)  # the column that is added behind the others
    return F.pad(x, (0, 0, 0, 1))[:, [column.get(place, zeros) for place in wanted]]


def steps(start: Tensor, count: int) -> Tensor:
    """Return (rows, count): each start (rows,) and the numbers that follow."""
    return start[:, None] + torch.arange(count, device=start.device)


def overlaid(below: Tensor, above: Tensor, low: Tensor) -> Tensor:
    """Return `below` (rows, positions, channels) with `above` laid over it from position `low` (rows,) on, where they meet."""
    index = torch.arange(below.shape[1], device=low.device) - low[:, None]
    covered = (index >= 0) & (index < above.shape[1])
    index = index.clamp(0, above.shape[1] - 1)[:, :, None].expand(-1, -1, above.shape[2])
    return torch.where(covered[:, :, None], above.gather(1, index), below)
