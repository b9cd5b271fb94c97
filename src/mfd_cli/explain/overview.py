"""`mfd explain --factor all`: what the predictions are made of, over all factors: the shared part, every factor, every group.

explain/all/factors.tsv     one row per part: mean share of the tracks' logit variance with its 95 % interval
        tracks.tsv          one row per training track: its levels, and the shares, which sum to one
        *.png, *.svg, report.html
"""

from __future__ import annotations

from collections.abc import Collection, Mapping
from pathlib import Path
from typing import Any

import numpy as np
import torch

from mfd_cli.base.files import check_output, whole_folder
from mfd_cli.base.progress import Progress
from mfd_cli.core.decompose import Decomposition, decompose
from mfd_cli.core.metadata import sole_level_words
from mfd_cli.core.predictor import Head, Predictor
from mfd_cli.dataset.folder import Dataset
from mfd_cli.explain.ground import NO_SPREAD, Ground, ground_of
from mfd_cli.explain.level_tables import share_rows
from mfd_cli.explain.results import ExplainSummary, Overview
from mfd_cli.explain.shares import factor_parts, group_parts, interval, resampling_units, share_draws, share_remarks
from mfd_cli.formats.tables import write_tsv
from mfd_cli.runs.at_work import check_same_tracks
from mfd_cli.runs.folder import Run
from mfd_cli.runs.near_chance import near_chance
from mfd_cli.settings.names import ALL, RESIDUAL, SHARED


def explain_all(
    run: Run,
    dataset: Dataset,
    output: Path,
    *,
    device: torch.device | str = "cpu",
    batch_size: int = 256,
    seed: int = 0,
    force: bool = False,
    progress: Progress | None = None,
) -> ExplainSummary:
    """Write the overview over all factors. ConfigError for a free head."""
    check_output(output, force)
    check_same_tracks(run, dataset)
    decomposition = decompose(run.model)
    ground = ground_of(run, dataset, device, batch_size, progress)
    head = Predictor(run.model, device, batch_size).head
    factors = part_rows(ground, head, decomposition, seed)
    tracks = share_rows(ground, head, decomposition)
    result = Overview(run, decomposition, factors, tracks, len(ground.bins), ground.split)
    sentences = overview_sentences(result)
    with whole_folder(output) as folder:
        write_tsv(folder / "factors.tsv", factors)
        write_tsv(folder / "tracks.tsv", result.tracks)
        from mfd_cli.explain.overview_page import draw_overview, write_overview

        write_overview(folder / "report.html", result, sentences, draw_overview(folder, result))
    return ExplainSummary(output, ALL, sentences, near_chance(run))


def part_rows(ground: Ground, head: Head, decomposition: Decomposition, seed: int) -> list[dict[str, Any]]:
    """Return one row per part: the shared part, every factor, every group; its mean share with the interval over the genome."""
    by_factor = factor_parts(head, decomposition)
    by_group = group_parts(head, by_factor)
    group_of = {**decomposition.group_of, **dict(zip(by_group, head.groups)), SHARED: ""}
    used = ground.run.model.trained
    parts = {name: weights[used] for name, weights in (by_factor | by_group).items()}
    draws = share_draws(ground.latents, resampling_units(ground.bins), head.matrix()[used], parts, seed)
    rows = []
    for name, values in draws.items():
        share, low, high = interval(values)
        row: dict[str, Any] = {"part": name, "kind": part_kind(name, decomposition), "group": group_of[name]}
        row |= {"levels": len(decomposition.levels.get(name, ())), "share": share, "low": low, "high": high}
        rows.append(row)
    return rows


def part_kind(name: str, decomposition: Decomposition) -> str:
    """Return what a part is: shared, factor or group; of a mixed head also product (of factors) and residual."""
    if name in (SHARED, RESIDUAL):
        return name
    if name not in decomposition.factors:
        return "group"
    return "factor" if decomposition.levels[name] else "product"


def overview_sentences(result: Overview) -> list[str]:
    """Return what the report says first."""
    rows = {row["part"]: row for row in result.factors}
    sentences = [
        f"Of the variance of a track's logit {_percent(rows[SHARED])} is in what all tracks share, on average over "
        f"{len(result.tracks)} tracks and {result.bins:,} {result.split} bins."
    ]
    ordered = sorted(result.factors, key=lambda row: -row["share"])
    sentences += [
        group_sentence(row, set(result.decomposition.group_of.values())) for row in ordered if row["kind"] == "group"
    ]
    sole_levels = result.run.model.metadata.sole_levels()
    sentences += [
        f"{sole_level_words(row['part'], sole_levels[row['part']])}."
        if row["part"] in sole_levels
        else f"{row['part']} ({row['group']}, {row['levels']} levels): {_percent(row)}."
        for row in ordered
        if row["kind"] == "factor"
    ]
    sentences += [f"{row['part']} ({row['group']}): {_percent(row)}." for row in ordered if row["kind"] == "product"]
    if RESIDUAL in rows:
        sentences.append(f"{_percent(rows[RESIDUAL])} is peculiar to a track: no column of the metadata says it.")
    return sentences + share_remarks(row[key] for row in ordered for key in ("share", "low", "high"))


def group_sentence(row: Mapping[str, Any], groups_with_factors: Collection[str]) -> str:
    """Return what a group carries, and why where that is nothing."""
    if row["group"] not in groups_with_factors:
        return f"The group {row['part']} has no factors: it contributes nothing."
    if abs(row["share"]) < NO_SPREAD:
        return f"The group {row['part']} contributes nothing: all tracks have the same weights there."
    return f"The group {row['part']} carries {_percent(row)}."


def _percent(row: Mapping[str, Any]) -> str:
    """Return a share with its interval; "nothing" where no track's logit varies."""
    if np.isnan(row["share"]):
        return "nothing"
    return f"{row['share']:z.1%} ({row['low']:z.1%} to {row['high']:z.1%})"
