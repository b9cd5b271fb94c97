"""Which batch each experiment is done in, where a world has a column of batches."""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping, Sequence

import numpy as np

from mfd_cli.simulate.planted import ASSAYS, TARGETS, TISSUES

EXCEPTIONS = 0.2
"""Share of an assay's tracks that are done in the other assay's batch, where the two are mostly confounded."""


def with_batches(rows: Sequence[Mapping[str, str]], kind: str, rng: np.random.Generator) -> list[dict[str, str]]:
    """Return the experiments with a `batch`, which ends in 1 or 2.

    crossed: two batches, balanced over targets, tissues and assays. nested: the same halves, but every target has batches
    of its own. confounded: each assay has its batch, but for a few tracks.
    """
    if kind == "confounded":
        return [{**row, "batch": f"batch {number}"} for row, number in zip(rows, mostly_by_assay(rows, rng))]
    numbered = zip(rows, alternating(rows))
    return [{**row, "batch": f"{row['target']} lot {n}" if kind == "nested" else f"batch {n}"} for row, n in numbered]


def alternating(rows: Sequence[Mapping[str, str]]) -> list[int]:
    """Return 1 or 2 for each experiment, so that experiments that differ by one level have different numbers."""
    done, numbers = Counter[tuple[str, ...]](), []
    for row in rows:
        combination = (row["target"], row["biosample"], row["assay"])
        places = [list(known).index(level) for known, level in zip((TARGETS, TISSUES, ASSAYS), combination)]
        numbers.append(1 + (sum(places) + done[combination]) % 2)
        done[combination] += 1
    return numbers


def mostly_by_assay(rows: Sequence[Mapping[str, str]], rng: np.random.Generator) -> list[int]:
    """Return 1 for the tracks of the first assay and 2 for those of the second, but for some of each, at least one."""
    numbers = [1 + list(ASSAYS).index(row["assay"]) for row in rows]
    exceptions = set[int]()
    for number in (1, 2):
        places = [place for place, own in enumerate(numbers) if own == number]
        exceptions |= set(rng.permutation(places)[: max(1, round(EXCEPTIONS * len(places)))].tolist())
    return [3 - number if place in exceptions else number for place, number in enumerate(numbers)]
