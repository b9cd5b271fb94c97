"""What one block of tracks costs `mfd evaluate` at ENCODE's size: `python examples/evaluate_block.py FOLDER --bins N`.

Random latents of 1,536 numbers are written to the disk of FOLDER as `evaluate` does it, 6 kB a bin, and the tracks of one
block are scored against random labels of 2,106 tracks, of which each has a peak in one bin of a hundred. A human test split
is 2.4 million bins. Nothing is left on the disk. Prints one line of JSON.
"""

from __future__ import annotations

import argparse
import json
import resource
import time
from collections.abc import Iterator
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np

from mfd_cli.base.arrays import Floats, Ints
from mfd_cli.base.long_array import long_array
from mfd_cli.core.shares import covariance_of
from mfd_cli.dataset.bins import Bins
from mfd_cli.evaluation.calibration import Reliability
from mfd_cli.evaluation.linear import Prediction
from mfd_cli.evaluation.track_scores import LOGITS_AT_ONCE, scores_of

BLOCK, WITH_PEAK = 16_384, 0.25
"""Bins whose latents are made together; share of the bins in which some track has a peak."""


def main() -> None:
    parser = argparse.ArgumentParser()
    parser.add_argument("folder", type=Path)
    parser.add_argument("--bins", type=int, default=240_000)
    parser.add_argument("--latent", type=int, default=1536)
    parser.add_argument("--all-tracks", type=int, default=2106)
    parser.add_argument("--tracks", type=int, help="tracks that are scored; default: as many as one block has")
    parser.add_argument("--covariance", action="store_true", help="also the covariance of latents that shares need")
    options = parser.parse_args()
    options.folder.mkdir(parents=True, exist_ok=True)
    print(json.dumps(measured(options)))


def measured(options: argparse.Namespace) -> dict[str, float]:
    """The seconds of each step, and the largest resident memory, MiB."""
    rng, bins, size = np.random.default_rng(0), options.bins, options.latent
    result: dict[str, float] = {"bins": bins, "latent": size}
    data = labelled(bins, options.all_tracks, rng)
    tracks = min(options.tracks or max(LOGITS_AT_ONCE // bins, 1), options.all_tracks)
    weights = rng.standard_normal((tracks, size), np.float32) / np.float32(size**0.5)
    started = time.monotonic()

    def lap(name: str) -> None:
        nonlocal started
        result[name] = round(time.monotonic() - started, 2)
        started = time.monotonic()

    with long_array((bins, size), random_latents(bins, size, rng), options.folder) as latents:
        lap("seconds_to_make_and_write_latents")
        result["on_disk"] = float(latents.file is not None)
        if options.covariance:
            covariance_of(latents)
            lap("seconds_of_covariance")
        prediction, reliability = Timed(latents, weights, np.full(tracks, -4.6, np.float32)), Reliability()

        def look(track: int, row: Any, logits: Any, labels: Any) -> None:
            reliability.add(logits, labels)

        run: Any = SimpleNamespace(peak_tracks=options.all_tracks)
        result["tracks"] = len(list(scores_of(run, data, prediction, np.arange(tracks), look)))
        lap("seconds_of_logits_and_scores")
        result["seconds_of_logits"] = round(sum(SECONDS), 2)
    result["mebibytes"] = round(resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024)
    return result


SECONDS: list[float] = []
"""What each block of logits took."""


class Timed(Prediction):
    """A prediction that notes how long its logits take."""

    def logits(self, columns: Ints) -> Floats:
        started = time.monotonic()
        logits = super().logits(columns)
        SECONDS.append(time.monotonic() - started)
        return logits


def random_latents(bins: int, size: int, rng: np.random.Generator) -> Iterator[Floats]:
    for low in range(0, bins, BLOCK):
        yield rng.standard_normal((min(BLOCK, bins - low), size), np.float32)


def labelled(bins: int, tracks: int, rng: np.random.Generator) -> Bins:
    """Bins of which a quarter have data: there each track has a peak in one of 25."""
    there = rng.random(bins) < WITH_PEAK
    row = np.where(there, np.cumsum(there) - 1, -1).astype(np.int32)
    packed = np.zeros((int(there.sum()), -(-tracks // 8)), np.uint8)
    for bit in range(8):
        for low in range(0, len(packed), BLOCK):
            part = packed[low : low + BLOCK]
            part |= (rng.random(part.shape, np.float32) < 0.04).astype(np.uint8) << np.uint8(bit)
    return Bins(np.zeros(bins, np.int32), np.arange(bins) * 128, row, packed, np.zeros((len(packed), 0), np.float32))


if __name__ == "__main__":
    main()
