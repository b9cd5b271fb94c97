"""What every bin of the genome is: in a split, or left out and why; told in runs of neighbouring bins."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from mfd_cli.base.arrays import Bools, Bytes, Ints
from mfd_cli.dataset.bins import bit_of, pack_bits
from mfd_cli.dataset.manifest import SPLITS
from mfd_cli.genome.grid import BinGrid

LEFT_OUT = {
    "excluded": "excluded",
    "outside": "outside the regions",
    "unknown": "unknown sequence",
    "unmappable": "hardly mappable",
    "guard": "in the guard band",
}
"""Why a bin is in no split, and how that is said."""
STATES = (*SPLITS, *LEFT_OUT)
"""What a bin can be; a number stands for one, its place here."""


@dataclass(frozen=True)
class Runs:
    """Runs of neighbouring bins that have everything in common, in genome order; together all bins of the genome.

    `first` (runs,) int64 is the global index of the first bin of each, `state` (runs,) int8 a place in STATES. `mask` (runs,)
    int32 says which of the `masks` (masks, ceil(peak tracks / 8)), packed bits, tells where peak tracks were measured; both
    are None where all were measured everywhere.
    """

    first: Ints
    state: NDArray[np.int8]
    mask: NDArray[np.int32] | None = None
    masks: Bytes | None = None

    def lengths(self, total: int) -> Ints:
        """Return (runs,) how many bins each run has, of a genome of `total`."""
        return np.diff(self.first, append=total)

    def of_split(self, name: str, total: int) -> tuple[Ints, NDArray[np.int32] | None]:
        """Return the global indices of the bins of a split, and the mask of each (None where there are none)."""
        lengths = self.lengths(total)
        index = np.flatnonzero(np.repeat(self.state == STATES.index(name), lengths))
        return index, None if self.mask is None else np.repeat(self.mask, lengths)[index]


def runs_of(states: NDArray[np.int8], grid: BinGrid, tracks: int, assayed: Mapping[int, Bools]) -> Runs:
    """Return the runs of a genome from the state of every bin (bins,).

    `assayed` has, by the number of the peak track among `tracks`, in which bins (bins,) it was measured, of those that were
    not measured everywhere.
    """
    new = np.zeros(grid.total, bool)
    new[[first for name, first in grid.offsets.items() if grid.counts[name]]] = True
    for values in (states, *assayed.values()):
        new[1:] |= values[1:] != values[:-1]
    first = np.flatnonzero(new)
    if not assayed:
        return Runs(first, states[first])
    known = np.repeat(pack_bits(np.ones((1, tracks), bool)), len(first), 0)
    for column, there in assayed.items():
        known[~there[first], column // 8] &= ~bit_of(column)
    masks, mask = np.unique(known, axis=0, return_inverse=True)
    return Runs(first, states[first], mask.reshape(-1).astype(np.int32), masks)
