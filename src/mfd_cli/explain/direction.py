"""`mfd explain --latent G.N`, `mfd explain --track ID --part P`: what one latent reads, and what drives one track.

explain/latents, explain/TRACK/directions.tsv     one row per latent or part: spread, share of variance, G+C, motif
        *.png, *.svg, report.html                 pictures, and one page that opens with no network

and the files of on_dna.py, for every one of them.
"""

from __future__ import annotations

import re
from collections.abc import Collection, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import torch

from mfd_cli.base.arrays import Doubles, Floats
from mfd_cli.base.errors import ConfigError, nearest
from mfd_cli.base.files import check_output, whole_folder
from mfd_cli.base.progress import Progress
from mfd_cli.core.head import ConditionedHead
from mfd_cli.core.predictor import Head, Predictor
from mfd_cli.core.shares import whole_latent
from mfd_cli.dataset.folder import Dataset
from mfd_cli.explain.on_dna import (
    MOST_DIRECTIONS,
    NOTHING,
    bins_to_look_at,
    fingerprints,
    gc_content,
    gc_words,
    look_at,
    motif_words,
    read_given,
    write_on_dna,
)
from mfd_cli.explain.results import Direction, Directions, ExplainSummary, Look, OnDna
from mfd_cli.formats.tables import write_tsv
from mfd_cli.runs.at_work import bin_latents, check_same_tracks
from mfd_cli.runs.folder import Run
from mfd_cli.settings.config import DEBIASED, SHARED, TOTAL


def explain_latents(run: Run, dataset: Dataset, names: Sequence[str], output: Path, **options: Any) -> ExplainSummary:
    """Explain latents named GROUP.NUMBER, as in latents.tsv; see `explain_directions`. ConfigError for an unknown one."""
    directions = []
    for name in names:
        group, _, number = name.rpartition(".")
        if group not in run.model.slices or not re.fullmatch(r"[0-9]{1,6}", number):
            groups = ", ".join(f"{g}.0 to {g}.{n - 1}" for g, n in run.model.settings.groups.items())
            raise ConfigError(f"the model has no latent {name!r}", hint=f"it has {groups}")
        place = run.model.slices[group]
        if int(number) >= place.stop - place.start:
            raise ConfigError(f"the group {group} has {place.stop - place.start} latents, counted from 0, not {number}")
        weight = np.zeros(place.stop - place.start, np.float32)
        weight[int(number)] = 1
        directions.append(Direction(name, weight, place, np.zeros(len(run.tracks), bool)))
    return explain_directions(run, dataset, "latents", directions, output, **options)


def explain_track(
    run: Run, dataset: Dataset, track: str, parts: Sequence[str], output: Path, **options: Any
) -> ExplainSummary:
    """Explain a track's logit or parts of it (default: all); see `explain_directions`. ConfigError for what the model lacks."""
    ids = [one.id for one in run.tracks]
    if track not in ids:
        raise ConfigError(f"the model has no track {track!r}{nearest(track, ids)}")
    weights = track_parts(Predictor(run.model).head, ids.index(track), run.model.settings.technical)
    if not isinstance(run.model.head, ConditionedHead):
        weights = {TOTAL: weights[TOTAL]}
    for part in parts:
        if part not in weights:
            raise ConfigError(f"--part {part!r}: the track has {', '.join(weights)}")
    own = np.array([one == track for one in ids])
    everywhere = slice(0, run.model.settings.latent)
    chosen = list(dict.fromkeys(parts)) or list(weights)
    directions = [Direction(part, weights[part], everywhere, own) for part in chosen]
    return explain_directions(run, dataset, f"track {track}", directions, output, **options)


def track_parts(head: Head, index: int, technical: Collection[str]) -> dict[str, Floats]:
    """Weights over the latent (latent,) of one track's total, shared part, groups, and all but the technical groups."""
    latent = len(head.shared)
    groups = {name: whole_latent(w[index : index + 1], head.slices[name], latent)[0] for name, w in head.groups.items()}
    parts = {TOTAL: head.matrix()[index], SHARED: head.shared, **groups}
    set_aside = [weights for name, weights in groups.items() if name in technical]
    if set_aside and len(groups) > len(set_aside):
        parts[DEBIASED] = parts[TOTAL] - sum(set_aside)
    return parts


def explain_directions(
    run: Run,
    dataset: Dataset,
    subject: str,
    directions: Sequence[Direction],
    output: Path,
    *,
    look: Look | None = None,
    device: torch.device | str = "cpu",
    batch_size: int = 256,
    force: bool = False,
    progress: Progress | None = None,
) -> ExplainSummary:
    """Write the folder `output`, whole, for at most MOST_DIRECTIONS directions in the latent."""
    look = look or Look()
    check_output(output, force)
    check_same_tracks(run, dataset)
    if len(directions) > MOST_DIRECTIONS:
        raise ConfigError(f"{len(directions)} are too many for one page, {MOST_DIRECTIONS} can be shown")
    given = read_given(look, dataset)
    split, bins = bins_to_look_at(dataset)
    latents = bin_latents(run, dataset, bins, device, batch_size, progress)
    shown = look_at(run, dataset, directions, split, bins, latents, look, given, device, progress)
    prints = fingerprints(dataset, bins, latents, directions, given.profiles)
    gc = gc_content(dataset, bins)
    rows = [direction_row(one, directions, latents, gc, told) for one, told in zip(directions, shown)]
    result = Directions(run, subject, rows, shown, prints, len(bins), split)
    sentences = direction_sentences(result)
    with whole_folder(output) as folder:
        write_tsv(folder / "directions.tsv", rows)
        write_tsv(folder / "fingerprint.tsv", prints)
        write_on_dna(folder, shown, subject, run, dataset)
        from mfd_cli.explain.direction_page import draw_directions, write_directions

        write_directions(folder / "report.html", result, sentences, draw_directions(folder, result))
    return ExplainSummary(output, subject, sentences)


def direction_row(
    one: Direction, directions: Sequence[Direction], latents: Floats, gc: Doubles, told: OnDna
) -> dict[str, Any]:
    """Spread, share of the variance of the first direction where that is a total, G+C, motif."""
    score = one.scores(latents)
    row = {"name": one.name, "spread": float(score.std()), "share_of_variance": np.nan}
    if directions[0].name == TOTAL:
        total = directions[0].scores(latents)
        row["share_of_variance"] = (
            float(np.cov(score, total, bias=True)[0, 1] / total.var()) if total.std() > 0 else np.nan
        )
    varies = score.std() > NOTHING and gc.std() > 0
    row["gc_correlation"] = float(np.corrcoef(score, gc)[0, 1]) if varies else np.nan
    row["sequence"] = told.motif.sequence if told.motif is not None else ""
    row["known_motif"] = told.match.name if told.match is not None else ""
    return row


def direction_sentences(result: Directions) -> list[str]:
    """What the report says first."""
    rows = [f"What drives {result.subject}, on {result.bins:,} {result.split} bins."]
    for row, one in zip(result.rows, result.shown):
        share = row["share_of_variance"]
        if row["spread"] < NOTHING:
            rows.append(f"{row['name']}: contributes nothing, it is the same in every bin.")
            continue
        text = f"{row['name']}: spread {row['spread']:.2f} logits"
        if not np.isnan(share) and row["name"] != TOTAL:
            text += f", {share:z.1%} of the variance"
        rows.append(f"{text}{gc_words(row['gc_correlation'])}{motif_words(one)}.")
    return rows
