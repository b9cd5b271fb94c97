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

from collections.abc import Mapping
from dataclasses import dataclass

import torch
from torch import Tensor

LEAST = 1e-6
"""The least variance of a term, as a share of all together: next to nothing, from which it can grow again."""
TINY = 1e-10
"""The least variance at all, where weights are no more than noise: so that the prior stays one."""
TOLERANCE = 1e-3
"""Variances are found where none moves by more than this share of their sum in an iteration."""
WORTH = 1e-3
"""A term is there where it has at least so much of the variance of all."""
PRICE = 1.0
"""What a term more has to add to the restricted log likelihood, to be as likely as the terms without it: Akaike's."""


@dataclass(frozen=True)
class Components:
    """Kernels (terms, tracks, tracks), their variances (terms,), the noise (tracks,) of the weights: all in float64.

    Variances (..., terms) of several guesses at once make covariances and projections (..., tracks, tracks).
    """

    kernels: Tensor
    variances: Tensor
    noise: Tensor

    def covariance(self) -> Tensor:
        """Return V (tracks, tracks), the covariance of a column of the weights."""
        return torch.einsum("...k,kij->...ij", self.variances, self.kernels) + torch.diag(self.noise)

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
    """Return V^-1 - V^-1 1 (1' V^-1 1)^-1 1' V^-1 of covariances V (..., tracks, tracks)."""
    inverse = torch.cholesky_inverse(torch.linalg.cholesky(covariance))
    ones = inverse.sum(-1, keepdim=True)
    return inverse - ones @ ones.mT / ones.sum(-2, keepdim=True)


def restricted_likelihood(gram: Tensor, columns: float, components: Components) -> Tensor:
    """Return the restricted log likelihood (...) of weights with W W' = `gram` (tracks, tracks), without its constant."""
    covariance = components.covariance()
    ones = torch.linalg.inv(covariance).sum((-1, -2))
    quadratic = (gram * components.projection()).sum((-1, -2))
    return -0.5 * (columns * (torch.logdet(covariance) + torch.log(ones)) + quadratic)


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
    flat = start.kernels.flatten(1)
    now, silent, absent = start, torch.zeros_like(start.noise), start.variances == 0
    for _ in range(iterations):
        expecting = now.projection()
        asking = Components(now.kernels, now.variances, silent).projection() if shrunk else expecting
        asked = asking @ weights
        found = (asked @ asked.mT).flatten(-2) @ flat.T / columns
        expected = (expecting.flatten(-2) @ flat.T).clamp_min(torch.finfo(flat.dtype).tiny)
        variances = now.variances * torch.sqrt(found.clamp_min(0) / expected)
        total = variances.sum(-1, keepdim=True)
        variances = torch.maximum(variances, LEAST * total).clamp_min(TINY).masked_fill(absent, 0)
        moved = float(((variances - now.variances).abs() / total).max())
        now = Components(start.kernels, variances, start.noise)
        if moved < TOLERANCE:
            break
    return now


def averaged_variances(
    column: Tensor, start: Components, iterations: int, products: Mapping[int, tuple[int, int]] | None = None
) -> Tensor:
    """Return the variances (terms,) of one column of weights (tracks,), averaged over which terms there are.

    A column has too few weights to learn the variances of many terms from: the likeliest ones are spread over terms that are
    not there. So the last kernel, what is peculiar to a track, is learnt by itself and with every other term, and all terms
    together; each guess weighs as much as it is likely: its restricted likelihood, at a `PRICE` for every term (Burnham &
    Anderson 2002, chapter 4). `products` are terms that are there with the two that they are products of only (the principle
    of marginality: alone one would take what its factors do), each by itself, and not among all.
    """
    terms, weights, products = len(start.kernels), column[:, None], products or {}
    plain = [term for term in range(terms - 1) if term not in products]
    guessed = [*([term] for term in plain), [], plain, *([*pair, term] for term, pair in products.items())]
    chosen = dict.fromkeys((*guess, terms - 1) for guess in guessed)
    guesses = start.variances.new_zeros(len(chosen), terms)
    for guess, subset in zip(guesses, chosen):
        own = start.variances[list(subset)].clamp_min(LEAST * start.variances.sum())
        guess[list(subset)] = own / own.sum()
    learnt = learn_variances(weights, 1, Components(start.kernels, guesses, start.noise), iterations)
    price = PRICE * (learnt.variances > WORTH * learnt.variances.sum(-1, keepdim=True)).sum(-1)
    likely = torch.softmax(restricted_likelihood(weights @ weights.mT, 1, learnt) - price, 0)
    return likely @ learnt.variances
