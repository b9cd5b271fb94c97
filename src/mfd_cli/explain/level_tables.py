"""The tables of an explanation: what every level and every track gets, in numbers that add up.

A level's share is the mean over its tracks of Cov(part, total) / Var(total), with a 95 % interval over chromosomes. Agreement
says how well a level's score alone orders a track's own data: AUROC for peaks (among the bins where any track has one),
(1 + Spearman's rho) / 2 for signals; 0.5 is chance in both.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
import torch

from mfd_cli.base.arrays import Bools, Floats
from mfd_cli.core.decompose import Decomposition
from mfd_cli.core.metrics import auroc_auprc, average_ranks, correlation
from mfd_cli.core.predictor import Predictor
from mfd_cli.core.shares import variance_shares
from mfd_cli.dataset.folder import Bins, Dataset
from mfd_cli.explain.fingerprint import correlation_over_bins
from mfd_cli.explain.on_dna import NOTHING, gc_content
from mfd_cli.explain.results import Direction
from mfd_cli.explain.shares import factor_parts, interval, share_draws, stretches
from mfd_cli.genome.grid import evenly
from mfd_cli.runs.at_work import labels_of
from mfd_cli.runs.folder import Run

CONFOUNDED = 0.8
FOLLOWED_BINS = 5_000
DEFIES = 0.05
"""How far below its level's other tracks a track's agreement must lie to be named."""


def share_rows(run: Run, predictor: Predictor, decomposition: Decomposition, latents: Floats) -> list[dict[str, Any]]:
    """Per training track: its levels, and the share of its logit variance of the shared part and of every factor."""
    head = predictor.head
    shares = variance_shares(latents, head.matrix(), factor_parts(head, decomposition))
    rows = []
    for index in np.flatnonzero(run.model.trained):
        track = run.tracks[index]
        levels = {name: track.metadata.get(column, "") for name, column in run.model.metadata.columns.items()}
        rows.append(
            {
                "track": track.id,
                "kind": track.kind,
                **levels,
                **{f"share_{n}": float(v[index]) for n, v in shares.items()},
            }
        )
    return rows


def describe_levels(
    run: Run,
    dataset: Dataset,
    predictor: Predictor,
    decomposition: Decomposition,
    factor: str,
    bins: Bins,
    latents: Floats,
    tracks: Sequence[Mapping[str, Any]],
    seed: int = 0,
) -> list[dict[str, Any]]:
    """Per level with a training track: strength of its direction on real bins, share with interval, latents, G+C, confounds.

    Where exactly the same tracks have a level of another factor, the credit of the two cannot be told apart: there is no
    share of the one, only the joint share of both.
    """
    gc = gc_content(dataset, bins)
    group = decomposition.group_of[factor]
    place = predictor.slices[group]
    spread = latents[:, place].std(0)
    trained = np.flatnonzero(decomposition.trained)
    shares = {row["track"]: row for row in tracks}
    own_part = {factor: factor_parts(predictor.head, decomposition)[factor]}
    draws = share_draws(latents, stretches(bins), predictor.head.matrix(), own_part, seed)[factor]
    rows = []
    for level in decomposition.levels[factor]:
        members = decomposition.tracks_of(factor, level)
        if not members.any():
            continue
        direction = decomposition.direction(factor, level)
        score = latents[:, place] @ direction
        twins = same_tracks(decomposition, factor, members)
        mine = [shares[run.tracks[i].id] for i in trained if members[i]]
        own, low, high = (np.nan, np.nan, np.nan) if twins else interval(draws[:, members])
        other, sentence = strongest_confound(decomposition, factor, members)
        together = (factor, *(twins or ([other] if other else [])))
        joint = float(np.mean([sum(row[f"share_{name}"] for name in together) for row in mine]))
        if other:
            sentence += f"; joint credit {joint:z.1%}"
        strongest = np.argsort(-np.abs(direction) * spread, kind="stable")[:3]
        rows.append(
            {
                "level": level,
                "tracks": int(members.sum()),
                "norm": float(np.linalg.norm(direction)),
                "logit_sd": float(score.std()),
                "share_of_variance": own,
                "share_low": low,
                "share_high": high,
                "cannot_be_told_from": ", ".join(f"{name} = {level}" for name, level in twins.items()),
                "joint_share": joint,
                "strongest_latents": ", ".join(f"{group}.{index}" for index in strongest),
                "gc_correlation": correlation_over_bins(score, gc) if score.std() > NOTHING else np.nan,
                "confounded_with": sentence,
                "sampling_error": decomposition.errors[factor],
            }
        )
    return sorted(rows, key=lambda row: (-row["tracks"], row["level"]))


def same_tracks(decomposition: Decomposition, factor: str, members: Bools) -> dict[str, str]:
    """Levels of other factors that exactly the same training tracks have, as {factor: level}."""
    trained = decomposition.trained
    if members[trained].all():
        return {}  # a level that every track has is in the shared part
    return {
        other: level
        for other, levels in decomposition.levels.items()
        if other != factor
        for index, level in enumerate(levels)
        if np.array_equal(decomposition.members[other][trained, index], members[trained])
    }


def strongest_confound(decomposition: Decomposition, factor: str, members: Bools) -> tuple[str, str]:
    """The factor, and in words the level, that this level's tracks share and others do not; both empty where none is."""
    best, found = 0.0, ("", "")
    rest = decomposition.trained & ~members
    for other, levels in decomposition.levels.items():
        if other == factor:
            continue
        for index, level in enumerate(levels):
            column = decomposition.members[other][:, index]
            inside = column[members].mean()
            outside = column[rest].mean() if rest.any() else 1.0
            if inside >= CONFOUNDED and inside - outside > max(best, 0.3):
                best = inside - outside
                apart = "the two cannot be told apart" if inside == 1 and outside == 0 else "hard to tell apart"
                told = f"{inside:.0%} of its tracks are {other} = {level}, {outside:.0%} of the others: {apart}"
                found = (other, told)
    return found


def agreement_rows(
    run: Run, decomposition: Decomposition, factor: str, directions: Sequence[Direction], bins: Bins, latents: Floats
) -> list[dict[str, Any]]:
    """How well each direction's score alone orders every training track's own data; see above."""
    peaks = run.peak_tracks
    labels = labels_of(run, bins)
    occupied = np.flatnonzero((labels == 1).any(1).numpy()) if peaks else np.arange(len(bins))
    occupied = occupied[evenly(len(occupied), FOLLOWED_BINS)]
    labels, signal = labels[occupied], torch.from_numpy(np.array(bins.signal[occupied]))
    ranked = average_ranks(signal)
    rows = []
    for one in directions:
        score = torch.from_numpy(one.scores(latents[occupied]))[:, None]
        auroc, _ = auroc_auprc(score.expand(-1, peaks).contiguous(), labels)
        order = average_ranks(score).expand(-1, signal.shape[1])
        values = torch.cat([auroc, (1 + correlation(order, ranked)) / 2]).numpy()
        members = decomposition.tracks_of(factor, one.name)
        rows += [
            {"level": one.name, "track": run.tracks[i].id, "has_level": bool(members[i]), "agreement": float(values[i])}
            for i in np.flatnonzero(decomposition.trained)
        ]
    return rows


def add_agreement(levels: Sequence[dict[str, Any]], agreement: Sequence[Mapping[str, Any]]) -> None:
    """Add to the rows of levels: median agreement of their own tracks and of others, and their tracks that defy them.

    A track defies its level where it agrees less than the median of the tracks without it, and than its own level's by DEFIES.
    """
    for row in levels:
        here = [one for one in agreement if one["level"] == row["level"] and not np.isnan(one["agreement"])]
        own = [one["agreement"] for one in here if one["has_level"]]
        others = [one["agreement"] for one in here if not one["has_level"]]
        row["agreement_own"] = float(np.median(own)) if own else np.nan
        row["agreement_others"] = float(np.median(others)) if others else np.nan
        limit = min(row["agreement_others"], row["agreement_own"] - DEFIES)
        defying = [one for one in here if one["has_level"] and one["agreement"] < limit]
        row["defied_by"] = ", ".join(one["track"] for one in sorted(defying, key=lambda one: one["agreement"])[:5])
