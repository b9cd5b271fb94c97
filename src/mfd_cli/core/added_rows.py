"""What is known of the weights of tracks that were added to a model, from those of the tracks that it was trained on.

    w_A | W_O ~ N(m, V),  V = V_AA - V_AO V_OO^-1 V_OA + r c r',  r = 1 - V_AO V_OO^-1 1,  c = 1 / 1' V_OO^-1 1

O are the tracks that the variances were learnt from, A those added; the mean row is known from O alone (universal kriging). The
covariance of a term's part with the whole, C_k = s_k (K_AA - K_AO V_OO^-1 (V_OA + 1 c r')), says how much of what is unexpected
of a row belongs to it: C_k V^-1 (w_A - m). What is left belongs to the residual. Nothing is learnt of O from A.
"""

from __future__ import annotations

from typing import NamedTuple

import torch
from torch import Tensor


class Expected(NamedTuple):
    """`covariance` (added, added) of the weights of added tracks in a latent, given the others', and `shares` (terms, added,
    added): what of something unexpected is each term's, C_k V^-1. float64 on the CPU."""

    covariance: Tensor
    shares: Tensor


def expected_of_added(kernels: Tensor, variances: Tensor, old: Tensor, added: Tensor) -> Expected:
    """Return what is known of the rows `added` (indices) from those of `old`, for kernels (terms, tracks, tracks), without
    the residual's, and variances (terms + 1,), of which the residual's is the last."""
    own = variances[:-1, None, None] * kernels
    total = own.sum(0) if len(own) else kernels.new_zeros(kernels.shape[1:])
    residual = variances[-1]
    among_old = total[old][:, old] + residual * torch.eye(len(old), dtype=total.dtype)
    across, ones = total[added][:, old], torch.ones(len(old), 1, dtype=total.dtype)
    solved = torch.cholesky_solve(torch.cat([across.T, ones], 1), torch.linalg.cholesky(among_old))
    of_across, of_ones = solved[:, :-1], solved[:, -1:]  # V_OO^-1 V_OA, V_OO^-1 1
    unexplained, uncertain = 1 - across @ of_ones, 1 / of_ones.sum()  # r, c
    covariance = total[added][:, added] + residual * torch.eye(len(added), dtype=total.dtype)
    covariance = covariance - across @ of_across + uncertain * unexplained @ unexplained.T
    taken = of_across + uncertain * of_ones @ unexplained.T
    of_terms = own[:, added][:, :, added] - own[:, added][:, :, old] @ taken
    shares = torch.linalg.solve(covariance, of_terms.mT).mT
    return Expected((covariance + covariance.T) / 2, shares)
