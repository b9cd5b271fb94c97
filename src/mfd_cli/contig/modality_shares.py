"""How much of what fits persons to their pictures comes from each modality."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import numpy as np

from mfd_cli.base.arrays import Doubles, Ints
from mfd_cli.contig.core.family_draws import family_draws

RESAMPLED = 1000
"""Draws of families for an interval."""
MODALITIES = (
    "modality", "features", "persons", "sum_abs", "share", "low", "high", "mean_abs_per_feature", "sum_signed", "steps",
    "persons_that_add_up",
)  # fmt: skip
"""The columns of modalities.tsv."""


def shares_of(sums: Mapping[str, tuple[Ints, Doubles, Doubles]], family: Ints, seed: int) -> dict[str, dict[str, Any]]:
    """Return for each modality how many `persons` have all modalities, and of these the mean summed |attribution| (`sum_abs`,
    nats a person) and its `share` of that of all modalities, with the 95 % interval over families from `low` to `high`; and
    `sum_signed`, by how much their own data are better aligned with their pictures than the mean of training persons.

    `sums` has of each modality persons (rows of `family`), their summed |attribution|, and their summed attribution. Where
    nobody has all, nothing is known.
    """
    complete = np.arange(len(family))
    for rows, _, _ in sums.values():
        complete = np.intersect1d(complete, rows)
    nothing = dict.fromkeys(("sum_abs", "share", "low", "high", "sum_signed"))
    if not len(complete):
        return {name: {"persons": 0, **nothing} for name in sums}
    table = np.stack([of_each[np.searchsorted(rows, complete)] for rows, of_each, _ in sums.values()], 1)
    whole = table.sum()
    drawn = family_draws(family[complete], RESAMPLED, seed) @ table  # (draws, modalities)
    of_draw = drawn / np.maximum(drawn.sum(1, keepdims=True), 1e-300)
    result = {}
    for number, (name, (rows, _, signed)) in enumerate(sums.items()):
        low, high = np.quantile(of_draw[:, number], (0.025, 0.975)).tolist()
        mean, share = float(table[:, number].mean()), float(table[:, number].sum() / whole) if whole else 0.0
        facts = {"persons": len(complete), "sum_abs": mean, "share": share, "low": low, "high": high}
        result[name] = {**facts, "sum_signed": float(signed[np.searchsorted(rows, complete)].mean())}
    return result
