"""`mfd explain --latent G.N`, `mfd explain --track ID --part P`: what one latent reads, and what drives one track.

explain/latents, explain/TRACK/directions.tsv     one row per latent or part: spread, share of variance, G+C, motif
        *.png, *.svg, report.html                 pictures, and one page that opens with no network

and the files of write_on_dna.py, for every one of them.
"""

from __future__ import annotations

import re
from collections.abc import Collection, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import torch

from mfd_cli.base.arrays import Floats
from mfd_cli.base.errors import ConfigError, nearest
from mfd_cli.base.files import whole_folder
from mfd_cli.base.progress import Progress
from mfd_cli.core.predictor import Head, Predictor
from mfd_cli.core.shares import whole_latent
from mfd_cli.dataset.folder import Dataset
from mfd_cli.engine.jobs import HERE, Workplace
from mfd_cli.explain.fingerprint import correlation_over_bins
from mfd_cli.explain.ground import NO_SPREAD, Ground, ground_of
from mfd_cli.explain.on_dna import MOST_DIRECTIONS, fingerprints, gc_words, look_at, motif_words, read_files
from mfd_cli.explain.results import Direction, Directions, ExplainSummary, Look, OnDna
from mfd_cli.explain.shares import share_remarks
from mfd_cli.explain.write_on_dna import write_on_dna
from mfd_cli.formats.tables import write_tsv
from mfd_cli.runs.at_work import check_same_tracks
from mfd_cli.runs.folder import Run
from mfd_cli.runs.near_chance import near_chance
from mfd_cli.settings.names import DEBIASED, SHARED, TOTAL


def explain_latents(run: Run, dataset: Dataset, names: Sequence[str], output: Path, **options: Any) -> ExplainSummary:
    """Explain latents by their names, as in latents.tsv; see `explain_directions`. ConfigError for an unknown one."""
    directions, subspaces = [], run.model.subspaces
    for name in names:
        of, _, number = name.rpartition(".")
        if of not in subspaces or not re.fullmatch(r"[0-9]{1,6}", number):
            known = ", ".join(f"{one}.0 to {one}.{place.stop - place.start - 1}" for one, place in subspaces.items())
            raise ConfigError(f"the model has no latent {name!r}", hint=f"it has {known}")
        subspace = subspaces[of]
        size = subspace.stop - subspace.start
        if int(number) >= size:
            raise ConfigError(f"{of} has {size} latents, counted from 0, not {number}")
        weights = np.zeros(size, np.float32)
        weights[int(number)] = 1
        directions.append(Direction(name, weights, subspace, np.zeros(len(run.tracks), bool)))
    return explain_directions(run, dataset, "latents", directions, output, **options)


def explain_track(
    run: Run, dataset: Dataset, track: str, parts: Sequence[str], output: Path, **options: Any
) -> ExplainSummary:
    """Explain a track's logit or parts of it (default: all); see `explain_directions`. ConfigError for what the model lacks."""
    ids = [one.id for one in run.tracks]
    if track not in ids:
        raise ConfigError(f"the model has no track {track!r}{nearest(track, ids)}")
    weights = track_parts(Predictor(run.model).head, ids.index(track), run.model.settings.technical)
    if not run.model.has_parts:
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
    workplace: Workplace = HERE,
    force: bool = False,
    progress: Progress | None = None,
) -> ExplainSummary:
    """Write the folder `output`, whole, for at most MOST_DIRECTIONS directions in the latent."""
    look = look or Look()
    workplace.check_result(output, force)
    check_same_tracks(run, dataset)
    if len(directions) > MOST_DIRECTIONS:
        raise ConfigError(f"{len(directions)} are too many for one page, {MOST_DIRECTIONS} can be shown")
    files = read_files(look, dataset)
    ground = ground_of(run, dataset, device, batch_size, progress)
    shown = look_at(ground, directions, look, files, output, workplace, progress)
    prints = fingerprints(ground, directions, files.profiles)
    total = directions[0].scores(ground.latents) if directions[0].name == TOTAL else None
    rows = [direction_row(direction, ground, total, on_dna) for direction, on_dna in zip(directions, shown)]
    result = Directions(run, subject, rows, shown, prints, len(ground.bins), ground.split)
    sentences, remarks = direction_sentences(result), files.sentences()
    with whole_folder(output) as folder:
        write_tsv(folder / "directions.tsv", rows)
        write_on_dna(folder, shown, prints, subject, run, dataset)
        from mfd_cli.explain.direction_page import draw_direction_pictures, write_directions

        write_directions(folder / "report.html", result, sentences, remarks, draw_direction_pictures(folder, result))
    return ExplainSummary(output, subject, [*sentences, *remarks], near_chance(run))


def direction_row(direction: Direction, ground: Ground, total: Floats | None, on_dna: OnDna) -> dict[str, Any]:
    """Return a row of directions.tsv: spread, share of the variance of `total` (bins,) if there is one, G+C, motif."""
    score, share = direction.scores(ground.latents), np.nan
    if total is not None and total.std() > 0:
        share = float(np.cov(score, total, bias=True)[0, 1] / total.var())
    return {
        "name": direction.name,
        "spread": float(score.std()),
        "share_of_variance": share,
        "gc_correlation": correlation_over_bins(score, ground.gc) if score.std() > NO_SPREAD else np.nan,
        "sequence": on_dna.motif.sequence if on_dna.motif is not None else "",
        "known_motif": on_dna.match.name if on_dna.match is not None else "",
    }


def direction_sentences(result: Directions) -> list[str]:
    """Return what the report says first."""
    rows = [f"What drives {result.subject}, on {result.bins:,} {result.split} bins."]
    for row, on_dna in zip(result.rows, result.shown):
        share = row["share_of_variance"]
        if row["spread"] < NO_SPREAD:
            rows.append(f"{row['name']}: contributes nothing, it is the same in every bin.")
            continue
        text = f"{row['name']}: spread {row['spread']:.2f} logits"
        if not np.isnan(share) and row["name"] != TOTAL:
            text += f", {share:z.1%} of the variance"
        rows.append(f"{text}{gc_words(row['gc_correlation'])}{motif_words(on_dna)}.")
    return rows + share_remarks(row["share_of_variance"] for row in result.rows)
