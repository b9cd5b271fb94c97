"""Base codes as one-hot k-mers, on whatever device they are.

Codes are 0 to 3 for A, C, G, T and 4 for an unknown base; a k-mer that holds an unknown base is an all-zero column.
"""

from __future__ import annotations

import torch
from torch import Tensor


def one_hot(codes: Tensor, dtype: torch.dtype = torch.float32) -> Tensor:
    """Return codes (batch, length) uint8 as (batch, 4, length)."""
    letters = torch.arange(4, dtype=torch.uint8, device=codes.device)
    return (codes[:, None, :] == letters[None, :, None]).to(dtype)


def kmers(bases: Tensor, order: int) -> Tensor:
    """Return one-hot bases (batch, 4, length + k - 1) as one-hot k-mers (batch, 4^k, length), in lexicographic order.

    A product of shifted bases, so it is differentiable: attributions are per base whatever the order.
    """
    length = bases.shape[2] - order + 1
    columns = bases[:, :, :length]
    for shift in range(1, order):
        following = bases[:, :, shift : shift + length]
        columns = (columns[:, :, None] * following[:, None]).flatten(1, 2)
    return columns


def other_strand(codes: Tensor) -> Tensor:
    """Return the reverse complement of base codes (..., length) uint8: the other strand, read in its own direction."""
    # 3 - 4 is 255 in uint8: the minimum leaves an unknown base one. On a CPU torch.where of bytes takes 16 times as long.
    return (3 - codes.flip(-1)).clamp_max(4)
