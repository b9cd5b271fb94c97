"""How sure a mixed head is of the parts that it predicts: standard deviations given the data, for the columns OUTPUT.sd.

They are on the scale on which parts add up, and a part lies within 1.645 of them in nine cases of ten. Of the total of a peak
track that is a probability between expit(logit - 1.645 sd) and expit(logit + 1.645 sd). What the network has not learnt of the
sequence is not in them, nor is the bias.
"""

from __future__ import annotations

from collections.abc import Sequence

from mfd_cli.base.errors import ConfigError, RunError
from mfd_cli.core.part_variances import PartVariances
from mfd_cli.runs.folder import GO_ON, Run
from mfd_cli.runs.panel import Panel, panel_variances
from mfd_cli.settings.names import DEBIASED, SHARED, TOTAL


def part_deviations(run: Run, panel: Panel, parts: Sequence[str]) -> PartVariances:
    """Return how sure the parts of the outputs are. ConfigError for a head that is not mixed, which does not know, and RunError
    for a training that has not finished."""
    if run.unfinished:
        raise RunError(
            "its training has not finished, so nobody knows how sure its parts are", path=run.path, hint=GO_ON
        )
    known = panel_variances(run, panel, groups_of_parts(run, parts))
    if known is None:
        raise ConfigError(
            f"--sd: this model has a {run.model.settings.head} head, which does not know how sure its parts are",
            hint="train with --head mixed",
        )
    return known


def groups_of_parts(run: Run, parts: Sequence[str]) -> dict[str, list[str]]:
    """Return which groups each part of a logit is the sum of, `shared` among them: the total, debiased, shared, or a group."""
    every, technical = [SHARED, *run.model.head.groups], run.model.settings.technical
    sums = {TOTAL: every, DEBIASED: [group for group in every if group not in technical]}
    return {part: sums.get(part, [part]) for part in parts}
