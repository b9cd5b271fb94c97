"""Independent component analysis: the axes along which signals vary each by itself, found from more than their covariance.

The covariance of latents says which directions they vary in and leaves open how these are turned: any rotation of
uncorrelated signals of variance 1 is uncorrelated too. What varies with a motif is rare and large, and a sum of such things is
closer to a normal distribution than each of them; so the rotation is the one whose signals are farthest from normal. The fixed
point iteration and its contrast, log cosh, are FastICA's with symmetric decorrelation (Hyvärinen 1999, IEEE Transactions on
Neural Networks 10:626). Where signals are normal every rotation is as good, and one of them is returned.
"""

from __future__ import annotations

import torch
from torch import Tensor

ITERATIONS = 300
TOLERANCE = 1e-9
"""The rotation is found where none of its axes turns by more: 1 - cos of the angle."""
LEAST_VARIANCE = 1e-9
"""Signals vary in every direction by at least so much of what they do in the largest: few bins do not span all."""


def independent_rotation(signals: Tensor) -> Tensor:
    """Return the rotation (axes, axes) after which signals (bins, axes) are as independent as they can be: signals @ rotation.

    In float64. The signals are about uncorrelated and of variance 1; what is left of correlation is taken out before.
    The same signals have the same rotation; the iteration begins at the signals as they are.
    """
    centred = signals - signals.mean(0)
    values, vectors = torch.linalg.eigh(centred.T @ centred / len(centred))
    values = values.clamp_min(LEAST_VARIANCE * values[-1].clamp_min(1e-300))
    white = centred @ ((vectors / values.sqrt()) @ vectors.T)
    rotation = torch.eye(signals.shape[1], dtype=signals.dtype)
    for _ in range(ITERATIONS):
        seen = (white @ rotation).tanh()
        before, slope = rotation, 1 - seen.pow(2).mean(0)
        rotation = nearest_rotation(white.T @ seen / len(white) - rotation * slope)
        if float((1 - (rotation * before).sum(0).abs()).max()) < TOLERANCE:
            break
    return rotation


def nearest_rotation(matrix: Tensor) -> Tensor:
    """Return the orthogonal matrix that is closest to a square one (its polar factor)."""
    left, _, right = torch.linalg.svd(matrix)
    return left @ right
