"""Contributions of bases to directions, as work in pieces: some windows and one direction each."""

from __future__ import annotations

import hashlib
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from functools import partial
from typing import Any, NamedTuple

import numpy as np
import torch

from mfd_cli.base.arrays import Bytes, Floats
from mfd_cli.core.attribute import Method, attribute
from mfd_cli.core.model import MfdModel
from mfd_cli.engine.jobs import Piece, Work
from mfd_cli.engine.parts import Columns
from mfd_cli.explain.results import Direction, Region
from mfd_cli.runs.sources import Sources

WINDOWS_AT_ONCE = 64
"""Windows of a piece: by mutagenesis some hundred thousand substitutions."""


class Windows(NamedTuple):
    """Windows as base codes (windows, window), and the direction in a part of the latent that is asked about."""

    codes: Bytes
    weights: Floats
    start: int
    stop: int


def attributed(model: MfdModel, device: torch.device | str, method: Method, windows: Windows) -> Columns:
    """Return the hypothetical contributions of a piece (windows, 4, window), in one column, row after row."""
    subspace = slice(windows.start, windows.stop)
    values = attribute(model, windows.codes, windows.weights, subspace, method=method, device=device)
    return {"contributions": np.ascontiguousarray(values, np.float32).reshape(-1)}


@dataclass(frozen=True)
class AttributionJob:
    """Contributions that a model's bases make, by one method."""

    sources: Sources
    device: str
    method: Method

    @property
    def plan(self) -> Mapping[str, Any]:
        """Return what contributions depend on besides windows and direction."""
        return self.sources.plan(self.device, method=self.method)

    def start(self, device: str) -> Callable[[Any], Columns]:
        """Open the model and return what explains a piece."""
        runs, _ = self.sources.open()
        return partial(attributed, runs[0].model, device, self.method)


def window_pieces(direction: Direction, regions: Sequence[Region]) -> Iterator[Piece]:
    """Yield the windows of a direction's regions as pieces."""
    weights, subspace = np.ascontiguousarray(direction.weights, np.float32), direction.subspace
    for low in range(0, len(regions), WINDOWS_AT_ONCE):
        own = regions[low : low + WINDOWS_AT_ONCE]
        windows = Windows(np.stack([region.codes for region in own]), weights, subspace.start, subspace.stop)
        content = hashlib.sha256(windows.codes.tobytes() + weights.tobytes()).hexdigest()
        key = f"{content} {subspace.start}-{subspace.stop} {len(own)}"
        name = f"{direction.name}, {own[0].contig}:{own[0].start + 1:,} and {len(own) - 1} more"
        yield Piece(windows, key, name, len(own))


def contributions_of(
    work: Work, directions: Sequence[Direction], regions: Sequence[Sequence[Region]]
) -> Iterator[Floats]:
    """Yield the hypothetical contributions (regions, 4, window) of each direction on its regions, in order."""
    pieces = ((number, piece) for number, one in enumerate(directions) for piece in window_pieces(one, regions[number]))
    made: list[Floats] = []
    number = 0
    for number_of_piece, columns in work.parts_of(pieces):
        if number_of_piece != number:
            yield np.concatenate(made)
            made, number = [], number_of_piece
        window = regions[number][0].codes.shape[0]
        made.append(np.asarray(columns["contributions"], np.float32).reshape(-1, 4, window))
    if made:
        yield np.concatenate(made)
