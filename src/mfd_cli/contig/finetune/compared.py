"""Predictions of several runs become rows: every measure with its interval, and paired differences between runs."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np

from mfd_cli.base.arrays import Doubles
from mfd_cli.contig.core.family_draws import family_draws
from mfd_cli.contig.finetune.target import Target
from mfd_cli.contig.finetune.tasks import TASKS, Measures

COLUMNS = ("run", "task", "label", "fraction", "draw", "measure", "value", "low", "high", "persons", "labelled")
AT_ONCE = 250
"""Draws that are held together."""
LEVEL = (2.5, 97.5)
"""Percentiles of an interval of 95 %."""


@dataclass(frozen=True)
class Sampled:
    """A measure of the test units, and of each draw of their families (draws,)."""

    value: float
    draws: Doubles


def sampled(target: Target, outputs: Doubles, weights: Doubles) -> dict[str, Sampled]:
    """Return every measure of what is said of the test units (units, width), with those of weighted samples (draws, units)."""
    task, values = TASKS[target.task], target.values["test"]
    whole = task.measures(outputs, values, target, np.ones((1, len(values))))
    parts: list[Measures] = [
        task.measures(outputs, values, target, weights[low : low + AT_ONCE]) for low in range(0, len(weights), AT_ONCE)
    ]
    return {
        name: Sampled(float(value[0]), np.concatenate([part[name] for part in parts] or [np.zeros(0)]))
        for name, value in whole.items()
    }


def draws_of(target: Target, count: int, seed: int) -> Doubles:
    """Return so many draws of the families of the test units (draws, units): the same for every run, so that differences are of
    the same persons."""
    return family_draws(target.units["test"].family, count, seed)


def rows_of(target: Target, name: str, facts: Mapping[str, Any], own: Mapping[str, Sampled]) -> list[dict[str, Any]]:
    """Return the rows of metrics.tsv of a run."""
    units = target.units["test"]
    base = {"run": name, "task": target.task, "label": target.label, **facts}
    persons = len(np.unique(units.person))
    return [
        {**base, "measure": measure, "value": each.value, **interval(each.draws), "persons": persons}
        for measure, each in own.items()
    ]


def difference(own: Mapping[str, Sampled], other: Mapping[str, Sampled]) -> dict[str, Sampled]:
    """Return how much more a run has of each measure than another one, draw by draw."""
    return {name: Sampled(each.value - other[name].value, each.draws - other[name].draws) for name, each in own.items()}


def interval(draws: Doubles) -> dict[str, float | None]:
    """Return where 95 % of the draws lie; nothing where there are none."""
    known = draws[~np.isnan(draws)]
    if not len(known):
        return {"low": None, "high": None}
    low, high = np.percentile(known, LEVEL)
    return {"low": float(low), "high": float(high)}
