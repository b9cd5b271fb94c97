"""How long a mixed head of ENCODE's size takes on one thread: `python examples/bench_head.py [TRACKS] [LATENT]`.

The weights are random ones of a mixed model with two biological and three technical factors and their products.
"""

from __future__ import annotations

import argparse
import time
from collections.abc import Callable

import numpy as np
import torch
from numpy.typing import NDArray

import mfd_cli.core.mixed_head as mixed
from mfd_cli.core.part_variances import part_variances
from mfd_cli.core.terms import Term

LEVELS = {"target": 300, "tissue": 200, "assay": 8, "lab": 12, "year": 10}
PRODUCTS = (("target", "tissue"), ("assay", "lab"), ("assay", "year"), ("lab", "year"))


def main() -> None:
    """Print the seconds of everything that grows with the number of tracks."""
    parser = argparse.ArgumentParser()
    parser.add_argument("tracks", type=int, nargs="?", default=2106)
    parser.add_argument("latent", type=int, nargs="?", default=1536)
    tracks, latent = vars(parser.parse_args()).values()
    torch.set_num_threads(1)
    head = random_head(tracks, latent)
    timed("the prior and its gradient, each step", lambda: head.prior().backward())
    timed("an iteration of the variances, ten at each validation", lambda: head.learn_variances(1))
    mixed.AXIS_ITERATIONS_OF_MANY = 1
    axes = min(mixed.MOST_AXES, latent)
    bins = torch.randn(mixed.AXIS_BINS, latent).pow(3)
    timed(f"{axes} axes with one iteration each, at the end (at most 30 each)", lambda: head.learn_axes(bins))
    timed("the parts of the weights, whenever a run is read", head.weights)
    groups = {group: [group] for group in head.groups}
    timed("how sure the parts are, whenever variants are scored", lambda: part_variances(head, groups))


def random_head(tracks: int, latent: int) -> mixed.MixedHead:
    """A head with the weights of targets, of assays, and of each track's own."""
    rng = np.random.default_rng(0)
    levels = {name: rng.integers(0, count, tracks) for name, count in LEVELS.items()}
    kernels: dict[str, NDArray[np.float64]] = {
        name: (own[:, None] == own[None]).astype(float) for name, own in levels.items()
    }
    kernels |= {f"{one} x {other}": kernels[one] * kernels[other] for one, other in PRODUCTS}
    group = {name: "biological" if name in ("target", "tissue") else "technical" for name in LEVELS}
    terms = [Term(name, group[name.split(" x ")[0]], tuple(name.split(" x "))) for name in kernels]
    average = np.ones(tracks) / tracks
    sizes = {"biological": latent * 3 // 4, "technical": latent - latent * 3 // 4}
    centre = dict.fromkeys(sizes, average)
    head = mixed.MixedHead(sizes, True, terms, kernels, centre, torch.zeros(tracks), np.ones(tracks, bool))
    with torch.no_grad():
        for own in (levels["target"], levels["assay"], np.arange(tracks)):
            head.weight += torch.from_numpy(rng.normal(size=(max(tracks, 300), latent)) * 0.1)[torch.from_numpy(own)]
        head.get_buffer("curvature").fill_(5e4)
    return head


def timed(what: str, work: Callable[[], object]) -> None:
    started = time.monotonic()
    work()
    print(f"{time.monotonic() - started:8.1f} s  {what}", flush=True)


if __name__ == "__main__":
    main()
