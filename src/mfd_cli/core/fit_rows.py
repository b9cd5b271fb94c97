"""Output weights of some tracks fitted on latents that are there already, by L-BFGS: minutes instead of a training.

What is minimised is the loss of a training (a negative log likelihood, summed over measured bins) and a penalty on the
weights. It is convex, so where the search begins does not matter. The search runs along directions in which the latents vary
alike and independently, where the loss is about as curved in all of them.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import NamedTuple

import numpy as np
import torch
from torch import Tensor

from mfd_cli.base.arrays import Floats
from mfd_cli.base.long_array import LongArray
from mfd_cli.core.losses import curvature, prediction_loss
from mfd_cli.core.mixed_head import MixedHead

ITERATIONS = 1000
"""Steps of the search at most; it takes some dozens."""
FLAT = 1e-4
"""The largest gradient at the end, in steps that each change loss and penalty by about a half: next to nothing is left."""
FLOOR = 1e-6
"""The least curvature of a direction, as a share of the mean: along others neither the data nor the penalty say anything."""

Penalty = Callable[[Tensor], Tensor]
"""Weights (tracks, latent) to a number: minus their log prior density."""


class Directions(NamedTuple):
    """Steps (tracks, `size`), each of which matters about as much as any other, and the `change` that they make of the weights
    (tracks, latent)."""

    size: int
    change: Callable[[Tensor], Tensor]


@dataclass(frozen=True)
class Labelled:
    """Latents (bins, latent), and the labels (bins, tracks) of tracks that are fitted on them: peak tracks first, 0 or 1, then
    `counts` (signal tracks,) many signals on the model's scale; NaN where not measured. A signal's loss counts
    `signal_weight`. Each bin stands for `of` bins of the genome."""

    latents: LongArray
    labels: Floats
    counts: Tensor
    signal_weight: float
    of: float = 1.0

    def information(self, bias: Tensor) -> Tensor:
        """Return how curved the loss of each track is in the weight of a latent that varies by 1, at `bias` (tracks,)."""
        known = torch.from_numpy((~np.isnan(self.labels)).sum(0)).to(bias)
        peaks = len(bias) - len(self.counts)
        return self.of * known * curvature(bias[None], peaks, self.signal_weight, self.counts.to(bias.device))

    def losses(self, weight: Tensor, bias: Tensor, learn: Callable[[Tensor], None] | None = None) -> Tensor:
        """Return the summed loss of each track (tracks,), in float64; `learn` is told that of each block."""
        peaks, device = self.labels.shape[1] - len(self.counts), weight.device
        counts, total = self.counts.to(device), weight.new_zeros(self.labels.shape[1])
        for part, block in self.latents.blocks():
            labels = torch.from_numpy(self.labels[part]).to(device).double()
            logits = torch.from_numpy(np.ascontiguousarray(block)).to(device).double() @ weight.T + bias
            known = ~labels.isnan()
            of_peaks, of_signal = labels[:, :peaks].nan_to_num(0), labels[:, peaks:]
            _, mean = prediction_loss(logits, of_peaks, of_signal, known.double(), self.signal_weight, counts)
            losses = self.of * mean * known.sum(0).clamp_min(1)
            if learn is not None:
                learn(losses.sum())
            total += losses.detach()
        return total


def fit_rows(
    data: Labelled,
    weight: Tensor,
    bias: Tensor,
    penalty: Penalty,
    directions: Directions,
) -> tuple[Tensor, Tensor]:
    """Return weights (tracks, latent) and biases (tracks,) under which loss and penalty together are least, in float64.

    The search begins at `weight` and `bias`, on whose device it runs, and goes along `directions`.
    """
    weight, bias = weight.double(), bias.double()
    unit = data.information(bias).clamp_min(1.0).rsqrt()
    moved = weight.new_zeros(len(bias), directions.size).requires_grad_()
    raised = torch.zeros_like(bias).requires_grad_()

    def place() -> tuple[Tensor, Tensor]:
        return weight + directions.change(moved), bias + unit * raised

    def value() -> Tensor:
        now, level = place()
        held = now.detach().requires_grad_(), level.detach().requires_grad_()
        loss = data.losses(*held, lambda part: part.backward()).sum()
        prior = penalty(now)
        moved.grad = raised.grad = None
        # The gradient of the blocks, which were read one after the other, goes on from here.
        torch.autograd.backward([now, level, prior], [held[0].grad, held[1].grad, torch.ones_like(prior)])
        return loss + prior.detach()

    search = torch.optim.LBFGS(
        [moved, raised],
        max_iter=ITERATIONS,
        max_eval=2 * ITERATIONS,
        tolerance_grad=FLAT,
        tolerance_change=FLAT**2,
        history_size=30,
        line_search_fn="strong_wolfe",
    )
    search.step(value)
    with torch.no_grad():
        return place()


def whitening(metric: Tensor) -> Tensor:
    """Return the matrix (latents, latents) by which steps are multiplied to have their size in a `metric` of that shape."""
    floor = FLOOR * float(metric.trace()) / len(metric) or 1.0
    return torch.linalg.inv(torch.linalg.cholesky(metric + floor * torch.eye(len(metric)).to(metric)))


def ridge_penalty(ridge: float) -> Penalty:
    """Return half the sum of squared weights, times `ridge`; biases are free."""
    return lambda weight: ridge * weight.pow(2).sum() / 2


def ridge_directions(covariance: Tensor, information: float, ridge: float) -> Directions:
    """Return the directions for rows under `ridge_penalty`, of latents with this `covariance` (latent, latent)."""
    whiten = whitening(information * covariance + ridge * torch.eye(len(covariance)).to(covariance))
    return Directions(len(whiten), lambda steps: steps @ whiten)


class PriorOfSpace(NamedTuple):
    """What a mixed head knows of added tracks in a subspace: precisions (axes + 1, added, added), the last one's beside all
    axes, the axes (latents, axes), their duals, and the covariance (latents, latents) of the latents."""

    place: slice
    precisions: Tensor
    axes: Tensor
    duals: Tensor
    covariance: Tensor


def priors_of_added(head: MixedHead, device: torch.device) -> list[PriorOfSpace]:
    """Return what a mixed head knows of its added tracks in each subspace; its variances and other rows stay as they are."""
    found = []
    for space in head.spaces:
        precisions = torch.stack([torch.linalg.inv(of.covariance) for of in head.expectations(space)])
        of_space = precisions, head.axes(space), head.get_buffer(f"duals_{space.name}"), head.latent_covariance(space)
        found.append(PriorOfSpace(space.place, *(values.double().to(device) for values in of_space)))
    return found


def penalty_of(priors: Sequence[PriorOfSpace], mean: Tensor) -> Penalty:
    """Return minus the log density of added tracks' weights, up to a constant; they are expected at `mean` (added, latent)."""

    def penalty(weight: Tensor) -> Tensor:
        total = weight.new_zeros(())
        for prior in priors:
            unexpected = (weight - mean)[:, prior.place]
            along = unexpected @ prior.axes  # (added, axes): on each, latents vary by 1 and prior variances are its own
            beside = unexpected - along @ prior.duals
            total = total + (torch.einsum("aij,ja->ia", prior.precisions[:-1], along) * along).sum() / 2
            total = total + ((prior.precisions[-1] @ beside) * (beside @ prior.covariance)).sum() / 2
        return total

    return penalty


def prior_directions(priors: Sequence[PriorOfSpace], information: Tensor) -> Directions:
    """Return the directions for rows under `penalty_of`: along each axis, and beside them, tracks together as the prior has
    them, with the `information` (added,) of their data."""
    parts, size = list[tuple[PriorOfSpace, slice, Tensor, Tensor]](), 0
    for prior in priors:
        known = prior.precisions + torch.diag(information.to(prior.precisions))
        roots = torch.linalg.cholesky(torch.linalg.inv(known))
        wide = prior.axes.shape[1] + len(prior.axes)
        parts.append((prior, slice(size, size + wide), roots, whitening(prior.covariance)))
        size += wide

    def change(steps: Tensor) -> Tensor:
        pieces = []
        for prior, own, roots, whiten in parts:
            count = prior.axes.shape[1]
            along = torch.einsum("aij,ja->ia", roots[:-1], steps[:, own][:, :count])
            beside = roots[-1] @ steps[:, own][:, count:] @ whiten
            pieces.append(along @ prior.duals + beside - beside @ prior.axes @ prior.duals)
        return torch.cat(pieces, 1)

    return Directions(size, change)
