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
from mfd_cli.core.predictor import Predictor
from mfd_cli.dataset.folder import Dataset
from mfd_cli.explain.level_tables import share_rows
from mfd_cli.explain.on_dna import NOTHING, bins_to_look_at
from mfd_cli.explain.results import ExplainSummary, Overview
from mfd_cli.explain.shares import factor_parts, group_parts, interval, share_draws, share_remarks, stretches
from mfd_cli.formats.tables import write_tsv
from mfd_cli.runs.at_work import bin_latents, check_same_tracks
from mfd_cli.runs.folder import Run
from mfd_cli.settings.config import ALL, SHARED


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
    split, bins = bins_to_look_at(dataset)
    latents = bin_latents(run, dataset, bins, device, batch_size, progress)
    predictor = Predictor(run.model, device, batch_size)
    parts = factor_parts(predictor.head, decomposition)
    by_group = group_parts(predictor.head, parts)
    parts |= by_group
    groups = {**decomposition.group_of, **dict(zip(by_group, predictor.head.groups))}
    used = run.model.trained
    draws = share_draws(
        latents, stretches(bins), predictor.head.matrix()[used], {n: part[used] for n, part in parts.items()}, seed
    )
    factors = [
        {
            "part": name,
            "kind": kind_of(name, decomposition),
            "group": "" if name == SHARED else groups[name],
            "levels": len(decomposition.levels.get(name, ())),
            "share": mean,
            "low": low,
            "high": high,
        }
        for name, (mean, low, high) in ((name, interval(values)) for name, values in draws.items())
    ]
    result = Overview(run, decomposition, factors, share_rows(run, predictor, decomposition, latents), len(bins), split)
    told = overview_sentences(result)
    with whole_folder(output) as folder:
        write_tsv(folder / "factors.tsv", factors)
        write_tsv(folder / "tracks.tsv", result.tracks)
        from mfd_cli.explain.overview_page import draw_overview, write_overview

        write_overview(folder / "report.html", result, told, draw_overview(folder, result))
    return ExplainSummary(output, ALL, told)


def kind_of(name: str, decomposition: Decomposition) -> str:
    """What a part is: shared, factor or group."""
    return "shared" if name == SHARED else "factor" if name in decomposition.factors else "group"


def overview_sentences(result: Overview) -> list[str]:
    """What the report says first."""
    rows = {row["part"]: row for row in result.factors}
    told = [
        f"Of the variance of a track's logit {_percent(rows[SHARED])} is in what all tracks share, on average over "
        f"{len(result.tracks)} tracks and {result.bins:,} {result.split} bins."
    ]
    ordered = sorted(result.factors, key=lambda row: -row["share"])
    told += [
        group_sentence(row, set(result.decomposition.group_of.values())) for row in ordered if row["kind"] == "group"
    ]
    sole_levels = result.run.model.metadata.sole_levels()
    told += [
        f"{sole_level_words(row['part'], sole_levels[row['part']])}."
        if row["part"] in sole_levels
        else f"{row['part']} ({row['group']}, {row['levels']} levels): {_percent(row)}."
        for row in ordered
        if row["kind"] == "factor"
    ]
    return told + share_remarks(row[key] for row in ordered for key in ("share", "low", "high"))


def group_sentence(row: Mapping[str, Any], groups_with_factors: Collection[str]) -> str:
    """Return what a group carries, and why where that is nothing."""
    if row["group"] not in groups_with_factors:
        return f"The group {row['part']} has no factors: it contributes nothing."
    if abs(row["share"]) < NOTHING:
        return f"The group {row['part']} contributes nothing: all tracks have the same weights there."
    return f"The group {row['part']} carries {_percent(row)}."


def _percent(row: Mapping[str, Any]) -> str:
    """Return a share with its interval; "nothing" where no track's logit varies."""
    if np.isnan(row["share"]):
        return "nothing"
    return f"{row['share']:z.1%} ({row['low']:z.1%} to {row['high']:z.1%})"
