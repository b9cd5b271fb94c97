"""The outputs that scores are taken over: a model's tracks, some of them, or tracks with factors fixed.

    --tracks 'target == "CTCF"'     only these tracks
    --fix assay=ATAC-seq            as if every track had been made with this assay
    --fix technical=average         with the mean over the technical conditions that were used, wherever they could be
    --fix GROUP=average             the same for the factors of any group

A fixed factor replaces what the track's own level contributes; combinations that cannot be an experiment are left out.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace

import numpy as np
from numpy.typing import NDArray

from mfd_cli.base.arrays import Bools, Doubles
from mfd_cli.base.errors import ConfigError, MetadataError, nearest
from mfd_cli.core.head import ConditionedHead
from mfd_cli.core.metadata import NumberEncoder, level_balanced_weights, level_cell
from mfd_cli.core.predictor import Head
from mfd_cli.core.unseen import head_of_rows
from mfd_cli.experiments.track import Kind
from mfd_cli.runs.folder import Run
from mfd_cli.runs.query import parse_query
from mfd_cli.runs.support import Backing, Support, support_of_average
from mfd_cli.settings.config import TECHNICAL

AVERAGE = "average"
Row = Mapping[str, str]


@dataclass(frozen=True)
class Panel:
    """`ids` (outputs,); `peaks` (outputs,) which are peak tracks; `head` their output weights; `rows` their metadata;
    `trained` (outputs,) which of the tracks behind them took part in training; `support` of each combination of levels."""

    ids: NDArray[np.object_]
    peaks: Bools
    head: Head
    rows: Sequence[Row]
    trained: Bools
    support: Sequence[Support]
    left_out: int = 0
    """Tracks whose fixed combination is impossible."""

    def only(self, chosen: Bools) -> Panel:
        """Return the panel with the `chosen` (outputs,) alone."""
        head, indices = self.head, np.flatnonzero(chosen).tolist()
        groups = {group: weights[indices] for group, weights in head.groups.items()}
        return replace(
            self,
            ids=self.ids[indices],
            peaks=self.peaks[indices],
            head=replace(head, bias=head.bias[indices], groups=groups),
            rows=[self.rows[i] for i in indices],
            trained=self.trained[indices],
            support=[self.support[i] for i in indices],
        )

    def weights(self, run: Run, groups: Sequence[str]) -> Doubles:
        """Return weights (outputs,) that sum to one, each level of the factors of these groups weighing the same; 0 for outputs
        of tracks that did not train, unless none did."""
        model = run.model
        names = [name for name, factor in model.factors.items() if factor.group in groups]
        used = self.trained if self.trained.any() else np.ones(len(self.ids), bool)
        return level_balanced_weights([model.metadata.membership(name, self.rows) for name in names], used)


def panel_of(run: Run, head: Head, tracks: str | None = None, fixes: Sequence[str] = ()) -> Panel:
    """Return the outputs of a run.

    `tracks` is a query over factors, columns, `id` and `kind`; `fixes` are FACTOR=LEVEL, FACTOR=average or GROUP=average.
    ConfigError where nothing is left, or a name or level is unknown.
    """
    model = run.model
    rows = [dict(row) for row in model.rows]
    known = Backing(model.metadata, model.rows, model.trained)
    panel = Panel(
        np.array([track.id for track in run.tracks], object),
        np.array([track.kind == "peaks" for track in run.tracks]),
        head,
        rows,
        model.trained,
        known.of_all(rows) if model.factors else ["measured"] * len(rows),
    )
    if tracks is not None:
        panel = panel.only(chosen_tracks(run, tracks))
    return fixed(run, panel, fixes, known) if fixes else panel


def chosen_tracks(run: Run, query: str) -> Bools:
    """Return which tracks (tracks,) a query picks. ConfigError where it picks none."""
    chosen = parse_query(query).select(query_rows(run))
    if not chosen.any():
        raise ConfigError(f"--tracks {query!r} picks none of {len(run.tracks)} tracks")
    return chosen


def query_rows(run: Run) -> list[dict[str, str]]:
    """Return what a query may ask of each track: its columns, its factors by name (a year is a year), `id` and `kind`."""
    columns = run.model.metadata.columns
    return [
        {
            **track.metadata,
            **{
                name: level_cell(run.model.metadata.encoders[name], track.metadata[column])
                for name, column in columns.items()
            },
            "id": track.id,
            "kind": track.kind,
        }
        for track in run.tracks
    ]


# -- experiments that nobody did ---------------------------------------------------------------------------------------


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
    found = head_of_rows(model, rows, [track.kind for track in run.tracks], [kind] * len(rows))
    groups = {group: weights.mean(0, keepdims=True) for group, weights in found.groups.items()}
    head = replace(found, bias=found.bias.mean(keepdims=True), groups=groups)
    told = rows[0] if len(rows) == 1 else {**rows[0], **{model.metadata.columns[n]: "" for n in others}}
    return Panel(
        np.array([name], object),
        np.array([kind == "peaks"]),
        head,
        [told],
        np.ones(1, bool),
        [support_of_average(support, [True] * len(support))],
        len(candidates) - len(rows),
    )


# -- fixed factors -----------------------------------------------------------------------------------------------------


@dataclass(frozen=True)
class Fix:
    """Factors that are replaced together, by a level or (None) by the mean over the combinations that were used."""

    factors: tuple[str, ...]
    level: str | None


def parse_fix(run: Run, text: str) -> Fix:
    """Return the fix that a text such as `assay=ATAC-seq`, `lab=average` or `technical=average` asks for.

    `technical` is every technical group (model.technical). ConfigError where a name or level is unknown, and for a group
    without factors.
    """
    asked, groups = f"--fix {text!r}", factors_of_groups(run)
    name, level = parse_assignment(asked, text, "FACTOR=LEVEL or GROUP=average", "--fix technical=average")
    if name in run.model.factors:
        if means_average(run, name, level):
            return Fix((name,), None)
        check_level(asked, run, name, level)
        return Fix((name,), level)
    if name not in groups:
        near = nearest(name, [*run.model.factors, *groups])
        raise ConfigError(f"{asked}: there is no factor or group {name!r}{near}")
    if level != AVERAGE:
        raise ConfigError(f"{asked}: a group can only be fixed at its average", hint=f"--fix {name}=average")
    if not groups[name]:
        raise ConfigError(
            f"{asked}: no factor is in the group {name!r}", hint="model.technical says which groups are technical"
        )
    return Fix(groups[name], None)


def parse_assignment(asked: str, text: str, form: str, example: str) -> tuple[str, str]:
    """Return the two halves of NAME=VALUE. ConfigError where one is missing; `asked` is the option as it was written."""
    name, _, value = (part.strip() for part in text.partition("="))
    if not name or not value:
        raise ConfigError(f"{asked}: expected {form}", hint=example)
    return name, value


def means_average(run: Run, factor: str, level: str) -> bool:
    """Return whether a level is the word `average`, and not a level of that name."""
    return level == AVERAGE and level not in run.model.metadata.levels(factor)


def check_level(asked: str, run: Run, factor: str, cell: str) -> None:
    """Raise ConfigError where a cell holds a level that the factor does not have: any one of several with commas."""
    encoder = run.model.metadata.encoders[factor]
    try:
        levels = [] if isinstance(encoder, NumberEncoder) else encoder.split(cell)
        encoder.encode([cell], "mean")  # a number that is none
    except MetadataError as error:
        raise ConfigError(f"{asked}: {error.message}", hint=error.hint) from error
    unknown = next((level for level in levels if level not in encoder.levels), None)
    if unknown is not None:
        raise ConfigError(f"{asked}: {factor} has no level {unknown!r}{nearest(unknown, encoder.levels)}")


def factors_of_groups(run: Run) -> dict[str, tuple[str, ...]]:
    """Return the factors of every group, and of all technical groups together under the name `technical`."""
    group_of = {name: factor.group for name, factor in run.model.factors.items()}
    members = {group: {group} for group in run.model.groups} | {TECHNICAL: set(run.model.settings.technical)}
    return {name: tuple(factor for factor, group in group_of.items() if group in own) for name, own in members.items()}


def fixed(run: Run, panel: Panel, texts: Sequence[str], known: Backing) -> Panel:
    """Return the panel with factors fixed, without the tracks for which that is no experiment.

    ConfigError for a free head, for a factor that is fixed twice, and where no track is left.
    """
    if not isinstance(run.model.head, ConditionedHead):
        raise ConfigError("--fix needs a model with a conditioned head", hint="train without --head free")
    fixes = [parse_fix(run, text) for text in texts]
    replaced = [factor for fix in fixes for factor in fix.factors]
    if len(set(replaced)) < len(replaced):
        raise ConfigError(f"--fix: {next(f for f in replaced if replaced.count(f) > 1)} is fixed twice")
    candidates = combinations_of(run, fixes)
    rows = [{**row, **candidate} for row in panel.rows for candidate in candidates]
    support = np.array(known.of_all(rows)).reshape(len(panel.rows), len(candidates))
    possible = support != "impossible"
    if not possible.any():
        raise ConfigError(f"--fix {' '.join(texts)}: no track can be such an experiment")
    head = averaged_head(run, panel, rows, possible, {run.model.factors[name].group for name in replaced})
    own = np.array(known.combinations(panel.rows), object)[:, None]
    others = np.array(known.combinations(rows), object).reshape(possible.shape) != own
    backing = [support_of_average(*of_track) for of_track in zip(support.tolist(), (others & possible).tolist())]
    told = [{**row, **(candidates[0] if len(candidates) == 1 else {})} for row in panel.rows]
    whole = replace(panel, head=head, rows=told, support=backing, left_out=int((~possible.any(1)).sum()))
    return whole.only(possible.any(1))


def combinations_of(run: Run, fixes: Sequence[Fix]) -> list[dict[str, str]]:
    """Return what the fixed columns are replaced by: the fixed levels, with each combination of averaged ones that was used."""
    columns = run.model.metadata.columns
    levels = {columns[fix.factors[0]]: fix.level for fix in fixes if fix.level is not None}
    averaged = [columns[factor] for fix in fixes if fix.level is None for factor in fix.factors]
    used = [row for row, keep in zip(run.model.rows, run.model.trained) if keep]
    distinct = dict.fromkeys(tuple(row[column] for column in averaged) for row in used)
    return [{**levels, **dict(zip(averaged, values))} for values in distinct]


def averaged_head(run: Run, panel: Panel, rows: Sequence[Row], possible: Bools, groups: set[str]) -> Head:
    """Return the output weights of each track, averaged in `groups` over its possible `rows` (tracks x combinations).

    The bias moves by as much as its estimate from the metadata does.
    """
    kinds = [track.kind for track in run.tracks]
    of = np.where(panel.peaks, "peaks", "signal")
    tracks, each = possible.shape
    share = possible / np.maximum(possible.sum(1, keepdims=True), 1)
    # Tracks of one condition share their rows: of a thousand combinations few are different.
    place: dict[tuple[str, ...], int] = {}
    columns = list(run.model.metadata.columns.values())
    keys = [(kind, *(row[c] for c in columns)) for row, kind in zip(rows, np.repeat(of, each).tolist())]
    which = [place.setdefault(key, len(place)) for key in keys]
    distinct = [dict(zip(columns, key[1:])) for key in place]
    found = head_of_rows(run.model, distinct, kinds, [key[0] for key in place])
    own = head_of_rows(run.model, panel.rows, kinds, of.tolist())
    bias = panel.head.bias + (found.bias[which].reshape(tracks, each) * share).sum(1) - own.bias
    weights = dict(panel.head.groups)
    for group in groups:
        weights[group] = np.einsum("tek,te->tk", found.groups[group][which].reshape(tracks, each, -1), share).astype(
            np.float32
        )
    return replace(panel.head, bias=bias.astype(np.float32), groups=weights)
