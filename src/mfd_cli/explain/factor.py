"""`mfd explain --factor F`: what a factor contributes, in numbers that add up, on DNA letters, in pictures.

explain/FACTOR/levels.tsv           one row per level: tracks, strength, share of variance, confounds in words
        latents.tsv                 direction of every level over the latents of the factor's group
        tracks.tsv                  share of each track's logit variance per factor; shares sum to one
        agreement.tsv               how well each level's score alone orders every track's own data
        *.png, *.svg, report.html   pictures, and one page that opens with no network

and the files of write_on_dna.py, for every level.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import torch

from mfd_cli.base.errors import ConfigError, nearest
from mfd_cli.base.files import whole_folder
from mfd_cli.base.progress import Progress
from mfd_cli.core.decompose import Decomposition, decompose
from mfd_cli.core.metadata import sole_level_words
from mfd_cli.core.predictor import Head, Predictor
from mfd_cli.dataset.folder import Dataset
from mfd_cli.engine.jobs import HERE, Workplace
from mfd_cli.explain.ground import NO_SPREAD, ground_of
from mfd_cli.explain.level_tables import add_agreement, agreement_rows, describe_levels, share_rows
from mfd_cli.explain.on_dna import MOST_DIRECTIONS, fingerprints, gc_words, look_at, motif_words, read_files
from mfd_cli.explain.results import Direction, ExplainSummary, Explanation, Look
from mfd_cli.explain.shares import share_remarks
from mfd_cli.explain.write_on_dna import write_on_dna
from mfd_cli.formats.tables import write_tsv
from mfd_cli.runs.at_work import check_same_tracks
from mfd_cli.runs.folder import Run
from mfd_cli.runs.near_chance import near_chance


def explain(
    run: Run,
    dataset: Dataset,
    factor: str,
    output: Path,
    *,
    levels: Sequence[str] = (),
    look: Look | None = None,
    device: torch.device | str = "cpu",
    batch_size: int = 256,
    workplace: Workplace = HERE,
    force: bool = False,
    progress: Progress | None = None,
) -> ExplainSummary:
    """Explain one factor of a trained model and write the folder `output`, whole.

    Shown on DNA are these `levels`, or those with the most tracks. Raises ConfigError for a factor that the model does not
    know, and for a level that no training track has.
    """
    look = look or Look()
    workplace.check_result(output, force)
    check_same_tracks(run, dataset)
    if factor not in run.model.metadata.encoders:
        known = list(run.model.metadata.encoders)
        raise ConfigError(f"the model has no factor {factor!r}{nearest(factor, known)}")
    files = read_files(look, dataset)
    decomposition = decompose(run.model)
    check_levels(decomposition, factor, levels)
    ground = ground_of(run, dataset, device, batch_size, progress)
    head = Predictor(run.model, device, batch_size).head
    tracks = share_rows(ground, head, decomposition)
    rows = describe_levels(ground, head, decomposition, factor, tracks)
    rows = chosen_first(rows, levels)
    directions = level_directions(head, decomposition, factor, rows[: len(set(levels)) or MOST_DIRECTIONS])
    agreement = agreement_rows(ground, decomposition, factor, directions)
    add_agreement(rows, agreement)
    result = Explanation(
        run,
        factor,
        decomposition.group_of[factor],
        decomposition,
        rows,
        tracks,
        agreement,
        look_at(ground, directions, look, files, output, workplace, progress),
        fingerprints(ground, directions, files.profiles),
        len(ground.bins),
        ground.split,
    )
    sentences, remarks = factor_sentences(result), files.sentences()
    with whole_folder(output) as folder:
        write_tables(folder, result, dataset)
        from mfd_cli.explain.factor_page import write_factor_page
        from mfd_cli.explain.pictures import draw_pictures

        pictures = draw_pictures(folder, result)
        write_factor_page(folder / "report.html", result, sentences, remarks, pictures)
    return ExplainSummary(output, factor, [*sentences, *remarks], near_chance(run))


def check_levels(decomposition: Decomposition, factor: str, levels: Sequence[str]) -> None:
    """Raise ConfigError for a level that no training track has, and for more levels than a page can show."""
    known = [level for level in decomposition.levels[factor] if decomposition.tracks_of(factor, level).any()]
    for level in levels:
        if level not in known:
            raise ConfigError(f"no training track has the level {level!r} of {factor}{nearest(level, known)}")
    if len(set(levels)) > MOST_DIRECTIONS:
        raise ConfigError(f"{len(set(levels))} levels are too many for one page, {MOST_DIRECTIONS} can be shown")


def chosen_first(rows: Sequence[dict[str, Any]], levels: Sequence[str]) -> list[dict[str, Any]]:
    """Return the rows of these levels, in this order, before all others."""
    by_name = {str(row["level"]): row for row in rows}
    first = dict.fromkeys(levels)
    return [by_name[level] for level in first] + [row for row in rows if row["level"] not in first]


def level_directions(
    head: Head, decomposition: Decomposition, factor: str, rows: Sequence[Mapping[str, Any]]
) -> list[Direction]:
    """Return the directions of the levels that rows of levels.tsv are about."""
    subspace = head.slices[decomposition.group_of[factor]]
    return [
        Direction(level, decomposition.direction(factor, level), subspace, decomposition.tracks_of(factor, level))
        for level in (str(row["level"]) for row in rows)
    ]


def write_tables(folder: Path, result: Explanation, dataset: Dataset) -> None:
    """Write every file but pictures and the page."""
    write_tsv(folder / "levels.tsv", result.levels)
    write_tsv(folder / "latents.tsv", latent_rows(result))
    write_tsv(folder / "tracks.tsv", result.tracks)
    write_tsv(folder / "agreement.tsv", result.agreement)
    write_on_dna(folder, result.shown, result.fingerprint, result.factor, result.run, dataset)


def latent_rows(result: Explanation) -> list[dict[str, Any]]:
    """Return one row per latent of the factor's group, with its weight in the direction of every level."""
    directions = {level: result.decomposition.direction(result.factor, level) for level in result.level_names}
    model, rows = result.run.model, list[dict[str, Any]]()
    start = model.slices[result.group].start
    for index in range(len(next(iter(directions.values())))):
        weights = {level: float(direction[index]) for level, direction in directions.items()}
        strongest = max(weights, key=lambda level: abs(weights[level]))
        row = {"latent": model.latent_name(start + index), "strongest_level": strongest}
        rows.append(row | {f"level {level}" if level in row else level: weight for level, weight in weights.items()})
    return rows


# -- words -------------------------------------------------------------------------------------------------------------


def credit_words(row: Mapping[str, Any]) -> str:
    """Return a level's share of logit variance in words, or the joint one where it cannot be told from another's."""
    if row["logit_sd"] < NO_SPREAD:
        return "which contribute nothing (the model gives them the weights of all tracks)"
    if row["cannot_be_told_from"]:
        return f"cannot be told apart from {row['cannot_be_told_from']}, jointly {row['joint_share']:z.1%} of logit variance"
    return (
        f"{row['share_of_variance']:z.1%} of their logit variance ({row['share_low']:z.1%} to {row['share_high']:z.1%})"
    )


def agreement_words(row: Mapping[str, Any]) -> str:
    """Say whether the data follow the level, after a comma; empty where nothing can be said."""
    if np.isnan(row["agreement_own"]) or np.isnan(row["agreement_others"]):
        return ""
    words = f", agreement {row['agreement_own']:.2f} of its own tracks and {row['agreement_others']:.2f} of others"
    return words + (f" (defied by {row['defied_by']})" if row["defied_by"] else "")


def factor_sentences(result: Explanation) -> list[str]:
    """Return what the report says first."""
    sole_levels = result.run.model.metadata.sole_levels()
    if result.factor in sole_levels:
        return [f"The factor {sole_level_words(result.factor, sole_levels[result.factor])}."]
    shares = np.array([row[f"share_{result.factor}"] for row in result.tracks])
    known = shares[~np.isnan(shares)]
    carried = f"{known.mean():z.1%}" if len(known) else "nothing"
    rows = [
        f"The factor {result.factor} ({result.group}) carries {carried} of the variance of a track's logit, on "
        f"average over {len(result.tracks)} tracks and {result.bins:,} {result.split} bins."
    ]
    levels = result.levels[: len(result.shown)]
    for row, on_dna in zip(levels, result.shown):
        text = f"{row['level']}: {row['tracks']} tracks, {credit_words(row)}"
        text += gc_words(row["gc_correlation"]) if row["logit_sd"] >= NO_SPREAD else ""
        text += agreement_words(row) + motif_words(on_dna)
        rows.append(text + (f". Beware: {row['confounded_with']}." if row["confounded_with"] else "."))
    said = ("share_of_variance", "share_low", "share_high", "joint_share")
    return rows + share_remarks([known.mean() if len(known) else 0, *(row[key] for row in levels for key in said)])
