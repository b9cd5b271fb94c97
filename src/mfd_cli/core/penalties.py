"""What makes the subspaces independent. Each penalty is about 0 for independent groups and about 1 for copies.

A penalty is a module called with {group: latents (batch, size)}. It averages over dimensions, so that a weight keeps
its meaning when the latent size changes, and subtracts what chance gives at this batch size. A penalty that learns (an
adversary) also has `adversary_loss`. To add one: write it, list it in PENALTIES.
"""

from __future__ import annotations

from collections.abc import Mapping
from itertools import combinations, permutations
from typing import Protocol

import torch
from torch import Tensor, nn

Latents = Mapping[str, Tensor]


def standardise(x: Tensor) -> Tensor:
    """Columns of (batch, size) with mean 0 and sample variance 1; a constant column becomes 0."""
    centred = x - x.mean(0)
    spread = centred.pow(2).sum(0).div(max(len(x) - 1, 1)).sqrt()
    return torch.where(spread > 1e-6, centred / spread.clamp_min(1e-6), torch.zeros_like(centred))


def chance(batch: int) -> float:
    """Expected squared correlation of two independent columns of this length."""
    return 1 / max(batch - 1, 1)


class Covariance(nn.Module):
    """Cross-covariance of standardised latents, squared, per dimension, chance subtracted.

    (||R||_F^2 - K_a K_b / (B - 1)) / sqrt(K_a K_b), averaged over pairs of groups, R the cross-correlation matrix. The
    paper's penalty is ||R||_F: it grows with the latent and is about sqrt(K_a K_b / B) for independent groups.
    """

    def __init__(self, groups: Mapping[str, int], hidden: int) -> None:
        super().__init__()

    def forward(self, latents: Latents) -> Tensor:
        standard = [standardise(values) for values in latents.values()]
        terms = []
        for a, b in combinations(standard, 2):
            correlation = a.T @ b / max(len(a) - 1, 1)  # (size of a, size of b)
            excess = correlation.pow(2).sum() - correlation.numel() * chance(len(a))
            terms.append(excess / correlation.numel() ** 0.5)
        return torch.stack(terms).mean()


class Predictor(nn.Module):
    """Adversary: one network per direction predicts a group's latents from another's; mean squared correlation.

    The paper's adversarial predictor, with the mean over dimensions in place of the sum, chance subtracted, and two
    networks where the research code used one for both directions.
    """

    def __init__(self, groups: Mapping[str, int], hidden: int) -> None:
        super().__init__()
        self.pairs = list(permutations(groups, 2))
        self.networks = nn.ModuleDict({f"{a}->{b}": _adversary(groups[a], hidden, groups[b]) for a, b in self.pairs})

    def forward(self, latents: Latents) -> Tensor:
        return self.explained(latents) - chance(len(next(iter(latents.values()))))

    def explained(self, latents: Latents) -> Tensor:
        """Mean over directions and dimensions of the squared correlation of prediction and truth on this batch."""
        terms = []
        for a, b in self.pairs:
            guess, truth = standardise(self.networks[f"{a}->{b}"](latents[a])), standardise(latents[b])
            correlation = (guess * truth).sum(0).div(max(len(truth) - 1, 1)).clamp(-1, 1)
            terms.append(correlation.pow(2).mean())
        return torch.stack(terms).mean()

    def adversary_loss(self, latents: Latents) -> Tensor:
        """What the adversary minimises, on detached latents."""
        return -self.explained({name: values.detach() for name, values in latents.items()})


def _adversary(inputs: int, hidden: int, outputs: int) -> nn.Sequential:
    """Three hidden layers, each linear, batch norm, leaky ReLU."""
    layers: list[nn.Module] = []
    for width in (inputs, hidden, hidden):
        layers += [nn.Linear(width, hidden), nn.BatchNorm1d(hidden), nn.LeakyReLU()]
    return nn.Sequential(*layers, nn.Linear(hidden, outputs))


class Penalty(Protocol):
    """How a penalty is built: sizes of the groups, width of the adversary's hidden layers."""

    def __call__(self, groups: Mapping[str, int], hidden: int) -> nn.Module: ...


PENALTIES: dict[str, Penalty] = {"covariance": Covariance, "predictor": Predictor}
