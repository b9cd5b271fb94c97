"""The noise that makes peaks of probabilities: independent, or alike in neighbouring bins and in the tracks of a bin.

A bin has a peak where its noise, uniform from 0 to 1, is below the sigmoid of its logit. Whatever the noise of two bins or two
tracks have in common, each alone stays uniform: peaks are as frequent as the logits say.
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
from scipy.signal import lfilter
from scipy.special import ndtr, ndtri

from mfd_cli.base.arrays import Doubles


def dependent(
    noise: Doubles, contigs: Sequence[int], spread: float, overdispersion: float, rng: np.random.Generator
) -> Doubles:
    """Return uniform noise (bins, tracks) that is no longer independent, made of one that is.

    On the normal scale `overdispersion` is the correlation of two tracks in a bin, and `spread` that of a bin and the next
    on its contig; `contigs` are numbers of bins.
    """
    common = rng.normal(size=(len(noise), 1))
    normal = np.sqrt(overdispersion) * common + np.sqrt(1 - overdispersion) * ndtri(noise)
    along = [remembering(part, spread) for part in np.split(normal, np.cumsum(contigs)[:-1])]
    result: Doubles = ndtr(np.concatenate(along))
    return result


def remembering(normal: Doubles, spread: float) -> Doubles:
    """Return normal noise (bins, tracks) of which each bin keeps the share `spread` of the one before; its variance stays 1."""
    fresh = np.sqrt(1 - spread**2) * normal
    fresh[:1] = normal[:1]
    result: Doubles = lfilter([1.0], [1.0, -spread], fresh, axis=0)
    return result
