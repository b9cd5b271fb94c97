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
import torch
from numpy.typing import NDArray
from scipy.sparse import csr_array

from mfd_cli.base.arrays import Bools, Doubles, Ints
from mfd_cli.base.errors import ConfigError
from mfd_cli.core.metadata import level_balanced_weights, sole_level_words
from mfd_cli.core.mixed_head import MixedHead
from mfd_cli.core.part_variances import Alike, PartVariances, part_variances
from mfd_cli.core.predictor import Head
from mfd_cli.core.terms import kernel_among
from mfd_cli.core.unseen import alike_rows, head_of_rows, kernels_with_training
from mfd_cli.runs.fixes import combinations_of, parse_fix
from mfd_cli.runs.folder import Run
from mfd_cli.runs.query import parse_query
from mfd_cli.runs.support import Backing, Row, Support, support_of_average


@dataclass(frozen=True)
class Mixture:
    """What outputs are means of in some `groups`: `rows` of metadata, each a condition, for tracks of `kinds` (rows,), and the
    `shares` (outputs, rows) that they have in each. Columns that say nothing of the groups have any value."""

    groups: frozenset[str]
    rows: Sequence[Row]
    kinds: Sequence[str]
    shares: csr_array


@dataclass(frozen=True)
class Panel:
    """`ids` (outputs,) and `track` (outputs,), the numbers of the tracks behind them; `peaks` (outputs,) which are peak tracks;
    `head` their output weights; `rows` their metadata; `trained` (outputs,) which of the tracks behind them took part in
    training; `support` of each combination of levels."""

    ids: NDArray[np.object_]
    track: Ints
    peaks: Bools
    head: Head
    rows: Sequence[Row]
    trained: Bools
    support: Sequence[Support]
    left_out: int = 0
    """Tracks whose fixed combination is impossible."""
    mixture: Mixture | None = None
    """What the outputs are means of, where factors are fixed."""

    def only(self, chosen: Bools) -> Panel:
        """Return the panel with the `chosen` (outputs,) alone."""
        head, indices = self.head, np.flatnonzero(chosen).tolist()
        groups = {group: weights[indices] for group, weights in head.groups.items()}
        added = None if head.added is None else head.added[indices]
        return replace(
            self,
            ids=self.ids[indices],
            track=self.track[indices],
            peaks=self.peaks[indices],
            head=replace(head, bias=head.bias[indices], groups=groups, added=added),
            rows=[self.rows[i] for i in indices],
            trained=self.trained[indices],
            support=[self.support[i] for i in indices],
            mixture=None if self.mixture is None else replace(self.mixture, shares=self.mixture.shares[indices]),
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
        np.arange(len(run.tracks)),
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
    parsed, rows = parse_query(query), query_rows(run)
    chosen = parsed.select(rows)
    if not chosen.any():
        unknown = "".join(f"; {sentence}" for sentence in parsed.unknown_texts(rows))
        raise ConfigError(f"--tracks {query!r} picks none of {len(run.tracks)} tracks{unknown}")
    return chosen


def query_rows(run: Run) -> list[dict[str, str]]:
    """Return what a query may ask of each track: its columns, its factors by name (a year is a year), `id` and `kind`."""
    return [
        {
            **track.metadata,
            **run.model.metadata.level_cells(track.metadata),
            "id": track.id,
            "kind": track.kind,
        }
        for track in run.tracks
    ]


def sole_level_remarks(run: Run, texts: Sequence[str]) -> list[str]:
    """Return a sentence for each factor that fixes (`lab=A`) or the levels of an experiment name in vain: it has one level.

    A group is remarked upon where that is so of all its factors. ConfigError where a name or level is unknown.
    """
    sole = run.model.metadata.sole_levels()
    fixes = [parse_fix(run, text) for text in texts]
    in_vain = [name for fix in fixes if set(fix.factors) <= set(sole) for name in fix.factors]
    return [sole_level_words(name, sole[name]) for name in dict.fromkeys(in_vain)]


def fixed(run: Run, panel: Panel, texts: Sequence[str], known: Backing) -> Panel:
    """Return the panel with factors fixed, without the tracks for which that is no experiment.

    ConfigError for a free head, for a factor that is fixed twice, and where no track is left.
    """
    if not run.model.has_parts:
        raise ConfigError("--fix needs a model whose head knows the metadata", hint="train without --head free")
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
    mixture, before = mixture_of(run, panel, rows, possible, {run.model.factors[name].group for name in replaced})
    head = averaged_head(run, panel, mixture, before)
    own = np.array(known.combinations(panel.rows), object)[:, None]
    others = np.array(known.combinations(rows), object).reshape(possible.shape) != own
    backing = [support_of_average(*of_track) for of_track in zip(support.tolist(), (others & possible).tolist())]
    shown_rows = [{**row, **(candidates[0] if len(candidates) == 1 else {})} for row in panel.rows]
    whole = replace(
        panel,
        head=head,
        rows=shown_rows,
        support=backing,
        left_out=int((~possible.any(1)).sum()),
        mixture=mixture,
    )
    return whole.only(possible.any(1))


def mixture_of(
    run: Run, panel: Panel, rows: Sequence[Row], possible: Bools, groups: set[str]
) -> tuple[Mixture, list[Row]]:
    """Return what the outputs are means of, where `groups` are fixed: each track's possible `rows` (tracks x combinations).
    And the outputs' rows from before, with the same value in columns that say nothing of the groups.

    Rows that differ in nothing on which these groups' parts depend are one, or a thousand tracks of a thousand conditions would
    be a million.
    """
    columns = [run.model.metadata.columns[factor] for factor in factors_behind(run, groups)]
    of = np.where(panel.peaks, "peaks", "signal").tolist()
    tracks, each = possible.shape
    row_of_key: dict[tuple[str, ...], int] = {}
    keys = [(kind, *(row[c] for c in columns)) for row, kind in zip(rows, np.repeat(of, each).tolist())]
    which = np.array([row_of_key.setdefault(key, len(row_of_key)) for key in keys])
    rest = panel.rows[0]  # any one: what else a row says changes nothing
    distinct = [{**rest, **dict(zip(columns, key[1:]))} for key in row_of_key]
    share = possible / np.maximum(possible.sum(1, keepdims=True), 1)
    number = np.repeat(np.arange(tracks), each)
    shares = csr_array((share.flatten(), (number, which)), shape=(tracks, len(distinct)))
    before: list[Row] = [{**rest, **{column: row[column] for column in columns}} for row in panel.rows]
    return Mixture(frozenset(groups), distinct, [key[0] for key in row_of_key], shares), before


def factors_behind(run: Run, groups: set[str]) -> list[str]:
    """Return the factors on which the parts of these groups depend."""
    head = run.model.head
    if isinstance(head, MixedHead):
        behind = {factor for term in head.terms if term.group in groups for factor in term.factors}
        return [name for name, factor in run.model.factors.items() if factor.group in groups or name in behind]
    return [name for name, factor in run.model.factors.items() if factor.group in groups]


def averaged_head(run: Run, panel: Panel, mixture: Mixture, before: Sequence[Row]) -> Head:
    """Return the output weights of each track, averaged over the conditions that it is a mixture of in the groups that are
    fixed. The bias moves by as much as its estimate from the metadata does, from that for the rows of `before`."""
    kinds, of = [track.kind for track in run.tracks], np.where(panel.peaks, "peaks", "signal")
    replaced = head_of_rows(run.model, mixture.rows, kinds, mixture.kinds)
    own = head_of_rows(run.model, before, kinds, of.tolist())
    bias = panel.head.bias + mixture.shares @ replaced.bias - own.bias
    weights = dict(panel.head.groups)
    for group in mixture.groups:
        weights[group] = np.asarray(mixture.shares @ replaced.groups[group], np.float32)
    return replace(panel.head, bias=bias.astype(np.float32), groups=weights)


def panel_variances(run: Run, panel: Panel, parts: Mapping[str, Sequence[str]]) -> PartVariances | None:
    """Return how sure the parts of the outputs are, name -> the groups each is the sum of. None where the head is not
    mixed, and of a training that has not finished: what data say of the parts is learnt at its end."""
    head, mixture = run.model.head, panel.mixture
    if not isinstance(head, MixedHead) or run.unfinished:
        return None
    own, cross, _ = alike_rows(run.model, head, [run.model.rows[track] for track in panel.track])
    own, cross = dict(own), dict(cross)
    if mixture is not None:
        across_all = kernels_with_training(run.model, head, mixture.rows)
        for term in (term for term in head.terms if term.group in mixture.groups):
            among = kernel_among(run.model.metadata, term, mixture.rows)
            own[term.name] = torch.from_numpy(
                np.asarray(mixture.shares.multiply(mixture.shares @ among).sum(1)).ravel()
            )
            cross[term.name] = torch.from_numpy(mixture.shares @ across_all[term.name])
    return part_variances(head, parts, Alike(own, cross, torch.from_numpy(panel.track)))
