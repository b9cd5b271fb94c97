"""An experiment that nobody did, given by factor levels: which it is, of which kind, and the output that predicts it."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import replace

import numpy as np
from scipy.sparse import csr_array

from mfd_cli.base.errors import ConfigError, nearest
from mfd_cli.core.unseen import head_of_rows
from mfd_cli.experiments.track import Kind
from mfd_cli.runs.fixes import Fix, check_level, combinations_of, means_average, parse_assignment
from mfd_cli.runs.folder import Run
from mfd_cli.runs.panel import Mixture, Panel
from mfd_cli.runs.support import Backing, support_of_average


def parse_experiment(run: Run, texts: Sequence[str]) -> dict[str, str]:
    """Return factor -> level of texts such as `assay=ATAC-seq`. ConfigError where a name or level is unknown or there twice."""
    levels: dict[str, str] = {}
    for text in texts:
        asked = f"--experiment {text!r}"
        factor, level = parse_assignment(asked, text, "FACTOR=LEVEL", "--experiment assay=ATAC-seq")
        if factor not in run.model.factors:
            raise ConfigError(f"{asked}: there is no factor {factor!r}{nearest(factor, run.model.factors)}")
        if factor in levels:
            raise ConfigError(f"{asked}: {factor} is named twice")
        if means_average(run, factor, level):
            raise ConfigError(f"{asked}: expected a level", hint="a factor that is not named takes its average")
        check_level(asked, run, factor, level)
        levels[factor] = level
    return levels


def experiment_kind(run: Run, kind: Kind | None = None) -> Kind:
    """Return of which kind an experiment that nobody did is: `kind` if it is given; else peaks where training had a peak
    track, and signal otherwise. Raises ConfigError where training had no track of the kind: nothing tells its bias."""
    known = {track.kind for track, used in zip(run.tracks, run.model.trained.tolist()) if used}
    if kind is None:
        return "peaks" if "peaks" in known else "signal"
    if kind not in known:
        raise ConfigError(f"--kind {kind}: no track of this kind took part in training", hint=f"--kind {min(known)}")
    return kind


def experiment_panel(run: Run, levels: Mapping[str, str], kind: str = "peaks") -> Panel:
    """Return one output for an experiment given by factor levels.

    Factors that are not given take the mean over the combinations of them that were used and can be. ConfigError where there
    is none: the experiment is impossible.
    """
    model = run.model
    known = Backing(model.metadata, model.rows, model.trained)
    others = tuple(name for name in model.factors if name not in levels)
    fixes = [Fix((name,), level) for name, level in levels.items()] + ([Fix(others, None)] if others else [])
    candidates = combinations_of(run, fixes)
    support = known.of_all(candidates)
    rows = [row for row, backed in zip(candidates, support) if backed != "impossible"]
    name = ",".join(f"{factor}={level}" for factor, level in levels.items())
    if not rows:
        raise ConfigError(f"--experiment {name}: impossible: {known.of(candidates[0])[1]}")
    head_of_each = head_of_rows(model, rows, [track.kind for track in run.tracks], [kind] * len(rows))
    groups = {group: weights.mean(0, keepdims=True) for group, weights in head_of_each.groups.items()}
    head = replace(head_of_each, bias=head_of_each.bias.mean(keepdims=True), groups=groups)
    shown_row = rows[0] if len(rows) == 1 else {**rows[0], **{model.metadata.columns[n]: "" for n in others}}
    return Panel(
        np.array([name], object),
        np.array([-1]),
        np.array([kind == "peaks"]),
        head,
        [shown_row],
        np.ones(1, bool),
        [support_of_average(support, [True] * len(support))],
        len(candidates) - len(rows),
        Mixture(frozenset(model.groups), rows, [kind] * len(rows), csr_array(np.full((1, len(rows)), 1 / len(rows)))),
    )
