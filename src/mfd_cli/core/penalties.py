"""What makes the subspaces independent. Each penalty is about 0 for independent groups and about 1 for copies.

A penalty is a module called with {group: latents (batch, size)}. It averages over dimensions, so that a weight keeps
its meaning when the latent size changes, and subtracts what chance gives at this batch size. With `published` it is what
the paper's research code minimises instead: sums over dimensions, unsquared norms, nothing subtracted. A penalty that
learns (an adversary) also has `adversary_loss`. To add one: write it, list it in PENALTIES.
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from itertools import combinations, permutations
from typing import Protocol

import torch
import torch.nn.functional as F
from torch import Tensor, nn

Latents = Mapping[str, Tensor]

FEWEST_CORRELATED = 3
"""Windows in a batch: any two columns of two numbers correlate perfectly, whatever the model does."""
FEWEST_DISTANCES = 4
"""Windows in a batch: the unbiased distance correlation divides by n (n - 3)."""


def standardise(x: Tensor) -> Tensor:
    """Return the columns of (batch, size) with mean 0 and sample variance 1; a constant column becomes 0.

    This is z(.) of the paper's penalties: without it a penalty could be lowered by shrinking the latent.
    """
    centred = x - x.mean(0)
    spread = centred.pow(2).sum(0).div(max(len(x) - 1, 1)).sqrt()
    return torch.where(spread > 1e-6, centred / spread.clamp_min(1e-6), torch.zeros_like(centred))


def chance(batch: int) -> float:
    """Return the expected squared correlation, 1 / (B - 1), of two independent columns of length B = `batch`."""
    return 1 / max(batch - 1, 1)


def cross_correlation(a: Tensor, b: Tensor) -> Tensor:
    """Return the correlations R (size of a, size of b) of the columns of two standardised matrices: z(a)^T z(b) / (B - 1)."""
    return a.T @ b / max(len(a) - 1, 1)


class Covariance(nn.Module):
    """Cross-covariance of standardised latents, squared, per dimension, chance subtracted; the mean over pairs of groups.

    (||R||_F^2 - K_a K_b / (B - 1)) / sqrt(K_a K_b), R the cross-correlation matrix. Published: ||R||_F, which grows with
    the latent and is about sqrt(K_a K_b / B) for independent groups.
    """

    fewest_windows = FEWEST_CORRELATED

    def __init__(self, groups: Mapping[str, int], hidden: int, published: bool) -> None:
        super().__init__()
        self.published = published

    def forward(self, latents: Latents) -> Tensor:
        """{group: (batch, size)} to the mean penalty over all pairs of groups, a scalar."""
        standard = [standardise(values) for values in latents.values()]
        return torch.stack([self.term(cross_correlation(a, b), len(a)) for a, b in combinations(standard, 2)]).mean()

    def term(self, r: Tensor, batch: int) -> Tensor:
        """Return the penalty of one pair of groups from its cross-correlations (size of a, size of b)."""
        if self.published:
            return r.norm()
        return (r.pow(2).sum() - r.numel() * chance(batch)) / r.numel() ** 0.5


class AbsoluteCovariance(Covariance):
    """Cross-covariance with absolute correlations: (sum |R| - K_a K_b sqrt(2 / (pi (B - 1)))) / sqrt(K_a K_b).

    What is subtracted is the mean of |r| where r is normal with the variance that chance gives, 1 / (B - 1).

    Published: sum |R|.
    """

    def term(self, r: Tensor, batch: int) -> Tensor:
        """Return the penalty of one pair of groups from its cross-correlations (size of a, size of b)."""
        total = r.abs().sum()
        if self.published:
            return total
        return (total - r.numel() * math.sqrt(2 / math.pi * chance(batch))) / r.numel() ** 0.5


class Projections(nn.Module):
    """Cross-covariance of fresh random projections of each group: `COUNT` Gaussian matrices to `WIDTH` dimensions a step.

    mean(R^2 - chance) * sqrt(K_a K_b): in expectation the covariance penalty of uncorrelated latents, with noise. Published:
    ||R||_F of the projections. The matrices are a function of how often the penalty was called, which is part of its state.
    """

    COUNT, WIDTH = 4, 10
    calls: Tensor

    fewest_windows = FEWEST_CORRELATED

    def __init__(self, groups: Mapping[str, int], hidden: int, published: bool) -> None:
        super().__init__()
        self.published = published
        self.register_buffer("calls", torch.zeros((), dtype=torch.int64))

    def forward(self, latents: Latents) -> Tensor:
        """{group: (batch, size)} to the mean penalty over all pairs of groups, a scalar; every call draws new matrices."""
        draw = torch.Generator().manual_seed(int(self.calls))
        if self.training:
            self.calls += 1
        sizes, projected = [], []
        for values in latents.values():
            matrix = torch.randn(values.shape[1], self.COUNT * self.WIDTH, generator=draw) / self.WIDTH**0.5
            projected.append(standardise(standardise(values) @ matrix.to(values.device)))
            sizes.append(values.shape[1])
        terms = []
        for (a, size_a), (b, size_b) in combinations(zip(projected, sizes), 2):
            r = cross_correlation(a, b)
            terms.append(r.norm() if self.published else (r.pow(2).mean() - chance(len(a))) * (size_a * size_b) ** 0.5)
        return torch.stack(terms).mean()


class DistanceCorrelation(nn.Module):
    """Bias-corrected squared distance correlation of the groups (Szekely and Rizzo, 2013): any dependence, no tuning.

    Zero in expectation if and only if the groups are independent, 1 for copies. It costs B^2 distances per group.
    """

    fewest_windows = FEWEST_DISTANCES

    def __init__(self, groups: Mapping[str, int], hidden: int, published: bool) -> None:
        super().__init__()

    def forward(self, latents: Latents) -> Tensor:
        """{group: (batch, size)} to the mean over all pairs of groups of the bias-corrected squared distance correlation."""
        centred = [u_centred(standardise(values)) for values in latents.values()]
        terms = []
        for a, b in combinations(centred, 2):
            size = (a * a).sum() * (b * b).sum()
            terms.append((a * b).sum() / size.clamp_min(1e-12).sqrt())
        return torch.stack(terms).mean()


def u_centred(x: Tensor) -> Tensor:
    """Return the distances between the rows of (batch, size), U-centred: (batch, batch) with a zero diagonal.

    A_ij = d_ij - sum_k d_ik / (n - 2) - sum_k d_kj / (n - 2) + sum_kl d_kl / ((n - 1)(n - 2)) off the diagonal. These, unlike
    doubly centred distances, make the inner product an unbiased estimate: 0 in expectation for independent groups at any n.
    """
    count = len(x)
    squares = x.pow(2).sum(1)
    # The diagonal is exactly zero by masking; elsewhere a floor keeps the square root's gradient finite.
    squared = (squares[:, None] + squares[None] - 2 * x @ x.T).clamp_min(1e-8)
    off = ~torch.eye(count, dtype=torch.bool, device=x.device)
    distance = torch.where(off, squared.sqrt(), 0.0)
    rows = distance.sum(1) / max(count - 2, 1)
    total = distance.sum() / max((count - 1) * (count - 2), 1)
    return torch.where(off, distance - rows[:, None] - rows[None] + total, 0.0)


class PredictionAdversary(nn.Module):
    """Adversary: one network per direction predicts a group's latents from another's; mean squared correlation.

    The paper's adversarial predictor, with the mean over dimensions in place of the sum, chance subtracted, and two
    networks where the research code used one for both directions. Published: the sum over dimensions and directions.
    """

    fewest_windows = FEWEST_CORRELATED

    def __init__(self, groups: Mapping[str, int], hidden: int, published: bool) -> None:
        super().__init__()
        self.pairs, self.published = list(permutations(groups, 2)), published
        self.networks = nn.ModuleDict(
            {f"{a}->{b}": adversary_network(groups[a], hidden, groups[b]) for a, b in self.pairs}
        )

    def forward(self, latents: Latents) -> Tensor:
        """{group: (batch, size)} to what the adversary's networks explain beyond chance, a scalar, for the model to lower."""
        if self.published:
            return torch.stack([r2.sum() for r2 in self.per_dimension(latents)]).sum()
        return self.explained(latents) - chance(len(next(iter(latents.values()))))

    def per_dimension(self, latents: Latents) -> list[Tensor]:
        """Return, for each direction, the squared correlation of prediction and truth per dimension (size,) on this batch."""
        terms = []
        for a, b in self.pairs:
            guess, truth = standardise(self.networks[f"{a}->{b}"](latents[a])), standardise(latents[b])
            terms.append((guess * truth).sum(0).div(max(len(truth) - 1, 1)).clamp(-1, 1).pow(2))
        return terms

    def explained(self, latents: Latents) -> Tensor:
        """Return the mean over directions and dimensions of the squared correlation of prediction and truth on this batch."""
        return torch.stack([r2.mean() for r2 in self.per_dimension(latents)]).mean()

    def adversary_loss(self, latents: Latents) -> Tensor:
        """Return what the adversary minimises: minus what it explains of {group: (batch, size)}, which are detached first."""
        return -self.explained({name: values.detach() for name, values in latents.items()})


class Discriminator(nn.Module):
    """Adversary: a network tells whether the groups' latents come from one window or from different ones.

    False examples pair each window with its neighbours in the batch, whose order is random. The model minimises the
    cross-entropy under swapped labels, less log 2: 0 where the adversary can only guess; it has no upper bound.
    """

    fewest_windows = FEWEST_CORRELATED

    def __init__(self, groups: Mapping[str, int], hidden: int, published: bool) -> None:
        super().__init__()
        self.published = published
        self.network = adversary_network(sum(groups.values()), hidden, 1, norm=False)

    def loss(self, latents: Latents, swapped: bool) -> Tensor:
        """Return the mean cross-entropy over true and false examples; with `swapped` labels it is what the model minimises."""
        true = torch.cat([standardise(values) for values in latents.values()], 1)
        false = torch.cat([standardise(v).roll(shift, 0) for shift, v in enumerate(latents.values())], 1)
        logits = self.network(torch.cat([true, false]))[:, 0]
        labels = (torch.arange(len(logits), device=logits.device) < len(true)).float()
        return F.binary_cross_entropy_with_logits(logits, 1 - labels if swapped else labels)

    def forward(self, latents: Latents) -> Tensor:
        """{group: (batch, size)} to the cross-entropy under swapped labels, less log 2 (a guess), a scalar."""
        return self.loss(latents, swapped=True) - (0.0 if self.published else math.log(2))

    def adversary_loss(self, latents: Latents) -> Tensor:
        """Return what the adversary minimises: its cross-entropy on {group: (batch, size)}, which are detached first."""
        return self.loss({name: values.detach() for name, values in latents.items()}, swapped=False)


def adversary_network(inputs: int, hidden: int, outputs: int, norm: bool = True) -> nn.Sequential:
    """Return three hidden layers, each linear, batch norm (where the adversary regresses), leaky ReLU, and a linear output."""
    layers: list[nn.Module] = []
    for width in (inputs, hidden, hidden):
        layers += [nn.Linear(width, hidden), *([nn.BatchNorm1d(hidden)] if norm else []), nn.LeakyReLU()]
    return nn.Sequential(*layers, nn.Linear(hidden, outputs))


class Penalty(Protocol):
    """How a penalty is built: sizes of the groups, width of the adversary's hidden layers, the published form or ours."""

    fewest_windows: int

    def __call__(self, groups: Mapping[str, int], hidden: int, published: bool) -> nn.Module: ...


PENALTIES: dict[str, Penalty] = {
    "covariance": Covariance,
    "covariance-l1": AbsoluteCovariance,
    "projections": Projections,
    "discriminator": Discriminator,
    "predictor": PredictionAdversary,
    "distance": DistanceCorrelation,
}
