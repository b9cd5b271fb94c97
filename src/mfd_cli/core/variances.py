"""Variance components of output weights: how much of them each term of the metadata explains, and what that makes of each.

    W = 1 u' + sum_k G_k + E        columns of G_k ~ N(0, s_k K_k), of E ~ N(0, D)

W is (tracks, columns), every column a replicate with a mean u of its own, of which W W' is all that matters; K_k (tracks,
tracks) are kernels, the last one the identity for what is peculiar to a track; D is diagonal: how well the data determine
each track's weights. With
V = sum_k s_k K_k + D and P = V^-1 - V^-1 1 (1' V^-1 1)^-1 1' V^-1, the restricted likelihood (Patterson & Thompson 1971) has
the stationary points s_k = s_k (tr K_k P W W' P / columns) / tr P K_k; the square root of that ratio never lowers it (Zhou,
Hu, Qiao & Lange 2019, the MM algorithm). Best linear unbiased predictions (Henderson 1975): G_k = s_k K_k P W, u the
generalised least squares mean; they add up to W where D is 0.
"""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor

LEAST = 1e-6
"""The least variance of a term, as a share of all together: next to nothing, from which it can grow again."""
TINY = 1e-10
"""The least variance at all, where weights are no more than noise: so that the prior stays one."""
TOLERANCE = 1e-3
"""Variances are found where none moves by more than this share of their sum in an iteration."""


@dataclass(frozen=True)
class Components:
    """Kernels (terms, tracks, tracks), their variances (terms,), the noise (tracks,) of the weights: all in float64."""

    kernels: Tensor
    variances: Tensor
    noise: Tensor

    def covariance(self) -> Tensor:
        """Return V (tracks, tracks), the covariance of a column of the weights."""
        return torch.einsum("k,kij->ij", self.variances, self.kernels) + torch.diag(self.noise)

    def projection(self) -> Tensor:
        """Return P (tracks, tracks): the inverse covariance once the mean is taken out."""
        return projection(self.covariance())

    def applied(self, weights: Tensor) -> tuple[Tensor, Tensor]:
        """Return P W of weights W (tracks, columns), and their generalised least squares mean (columns,); P is not formed."""
        ones = torch.ones_like(self.noise)[:, None]
        solved = torch.cholesky_solve(torch.cat([weights, ones], 1), torch.linalg.cholesky(self.covariance()))
        mean = solved[:, -1] @ weights / solved[:, -1].sum()
        return solved[:, :-1] - torch.outer(solved[:, -1], mean), mean


def projection(covariance: Tensor) -> Tensor:
    """Return V^-1 - V^-1 1 (1' V^-1 1)^-1 1' V^-1 of a covariance V (tracks, tracks)."""
    inverse = torch.cholesky_inverse(torch.linalg.cholesky(covariance))
    ones = inverse.sum(1)
    return inverse - torch.outer(ones, ones) / ones.sum()


def restricted_likelihood(gram: Tensor, columns: float, components: Components) -> float:
    """Return the restricted log likelihood of weights with W W' = `gram` (tracks, tracks), without its constant."""
    covariance = components.covariance()
    ones = torch.linalg.solve(covariance, torch.ones_like(components.noise)).sum()
    quadratic = (gram * components.projection()).sum()
    return float(-0.5 * (columns * (torch.logdet(covariance) + torch.log(ones)) + quadratic))


def learn_variances(
    weights: Tensor, columns: float, start: Components, iterations: int, shrunk: bool = False
) -> Components:
    """Return the components with the variances under which weights are likeliest, from `start` on.

    Of the `weights` W (tracks, any number), seen with the noise of `start`, W W' alone matters; they count as so many
    `columns`. With `shrunk` they are
    not what the data say but the best guess under the prior that `start` is: then their own prediction stands for each
    effect, and its uncertainty for what the prior took away (expectation maximisation; Dempster, Laird & Rubin 1977). At
    most so many iterations; fewer where they no longer move anything.
    """
    terms = len(start.kernels)
    flat = start.kernels.reshape(terms, -1)
    now, silent = start, torch.zeros_like(start.noise)
    for _ in range(iterations):
        expecting = now.projection()
        asking = Components(now.kernels, now.variances, silent).projection() if shrunk else expecting
        asked = asking @ weights
        found = flat @ (asked @ asked.T).reshape(-1) / columns
        expected = (flat @ expecting.reshape(-1)).clamp_min(torch.finfo(flat.dtype).tiny)
        variances = now.variances * torch.sqrt(found.clamp_min(0) / expected)
        total = variances.sum()
        variances = torch.maximum(variances, LEAST * total).clamp_min(TINY)
        moved = float((variances - now.variances).abs().max() / total)
        now = Components(start.kernels, variances, start.noise)
        if moved < TOLERANCE:
            break
    return now
