"""The tables of an explanation: what every level and every track gets, in numbers that add up.

A level's share is the mean over its tracks of Cov(part, total) / Var(total), with a 95 % interval over stretches of bins.
Agreement says how well a level's score alone orders a track's own data: AUROC for peaks (among the bins where any has one),
(1 + Spearman's rho) / 2 for signals; 0.5 is chance in both.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
import torch

from mfd_cli.base.arrays import Bools, Floats
from mfd_cli.base.long_array import LongArray
from mfd_cli.core.decompose import Decomposition
from mfd_cli.core.metrics import auroc_auprc, average_ranks, correlation
from mfd_cli.core.predictor import Head
from mfd_cli.core.shares import covariance_of, variance_shares
from mfd_cli.explain.fingerprint import correlation_over_bins
from mfd_cli.explain.ground import NO_SPREAD, Ground
from mfd_cli.explain.results import Direction
from mfd_cli.explain.shares import factor_parts, interval, resampling_units, share_draws
from mfd_cli.genome.grid import evenly
from mfd_cli.runs.at_work import labels_of

CONFOUNDED, LEAST_DIFFERENCE = 0.8, 0.3
"""Share of a level's tracks that have a level of another factor, at least, and how much larger it is than that of the others,
for the two to be hard to tell apart."""
FOLLOWED_BINS = 5_000
"""Bins over which agreement is measured."""
DEFIES = 0.05
"""How far below its level's other tracks a track's agreement must lie to be named."""

LEVEL_COLUMNS = (
    "level", "tracks", "norm", "logit_sd", "share_of_variance", "share_low", "share_high", "cannot_be_told_from", "joint_share",
    "strongest_latents", "gc_correlation", "confounded_with", "sampling_error",
)  # fmt: skip
"""Of levels.tsv; those of agreement come behind them."""


def share_rows(ground: Ground, head: Head, decomposition: Decomposition) -> list[dict[str, Any]]:
    """Return per training track its levels, and the share of its logit variance of the shared part and of every factor."""
    run = ground.run
    shares = variance_shares(
        covariance_of(LongArray.of(ground.latents)), head.matrix(), factor_parts(head, decomposition)
    )
    rows = []
    for index in np.flatnonzero(run.model.trained):
        track = run.tracks[index]
        levels = {name: track.metadata.get(column, "") for name, column in run.model.metadata.columns.items()}
        own_shares = {f"share_{name}": float(values[index]) for name, values in shares.items()}
        rows.append({"track": track.id, "kind": track.kind, **levels, **own_shares})
    return rows


def describe_levels(
    ground: Ground,
    head: Head,
    decomposition: Decomposition,
    factor: str,
    tracks: Sequence[Mapping[str, Any]],
    seed: int = 0,
) -> list[dict[str, Any]]:
    """Return one row per level with a training track: strength of its direction on real bins, share with interval, latents,
    G+C, confounds; levels of many tracks first. `tracks` are the rows of `share_rows`."""
    own_part = {factor: factor_parts(head, decomposition)[factor]}
    draws = share_draws(ground.latents, resampling_units(ground.bins), head.matrix(), own_part, seed)[factor]
    rows = [
        level_row(ground, head, decomposition, factor, level)
        | credit_columns(decomposition, factor, level, draws, tracks)
        | {"sampling_error": decomposition.errors[factor]}
        for level in decomposition.levels[factor]
        if decomposition.tracks_of(factor, level).any()
    ]
    return sorted(({name: row[name] for name in LEVEL_COLUMNS} for row in rows), key=by_tracks)


def by_tracks(row: Mapping[str, Any]) -> tuple[int, str]:
    """Return what rows of levels are sorted by: many tracks first, then the name."""
    return -row["tracks"], row["level"]


def level_row(ground: Ground, head: Head, decomposition: Decomposition, factor: str, level: str) -> dict[str, Any]:
    """Return how strong a level's direction is over the bins, in which latents, and how its score goes with G+C."""
    place, name_of = head.slices[decomposition.group_of[factor]], ground.run.model.latent_name
    latents, direction = ground.latents[:, place], decomposition.direction(factor, level)
    score = latents @ direction
    strongest = np.argsort(-np.abs(direction) * latents.std(0), kind="stable")[:3]
    return {
        "level": level,
        "tracks": int(decomposition.tracks_of(factor, level).sum()),
        "norm": float(np.linalg.norm(direction)),
        "logit_sd": float(score.std()),
        "strongest_latents": ", ".join(name_of(place.start + index) for index in strongest),
        "gc_correlation": correlation_over_bins(score, ground.gc) if score.std() > NO_SPREAD else np.nan,
    }


def credit_columns(
    decomposition: Decomposition, factor: str, level: str, draws: Floats, tracks: Sequence[Mapping[str, Any]]
) -> dict[str, Any]:
    """Return a level's share of variance with its interval, from the factor's `draws`, and what shares its tracks.

    Where exactly the same tracks have a level of another factor, the credit of the two cannot be told apart: there is no
    share of the one, only the joint share of both.
    """
    members = decomposition.tracks_of(factor, level)
    twins = same_tracks(decomposition, factor, members)
    share, low, high = (np.nan, np.nan, np.nan) if twins else interval(draws[:, members])
    other, sentence = strongest_confound(decomposition, factor, members)
    together = (factor, *(twins or ([other] if other else [])))
    own_rows = [row for row, member in zip(tracks, members[decomposition.trained]) if member]
    joint = float(np.mean([sum(row[f"share_{name}"] for name in together) for row in own_rows]))
    return {
        "share_of_variance": share,
        "share_low": low,
        "share_high": high,
        "cannot_be_told_from": ", ".join(f"{name} = {twin}" for name, twin in twins.items()),
        "joint_share": joint,
        "confounded_with": f"{sentence}; joint credit {joint:z.1%}" if other else "",
    }


def same_tracks(decomposition: Decomposition, factor: str, members: Bools) -> dict[str, str]:
    """Return the levels of other factors that exactly the same training tracks have, as {factor: level}."""
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
    """Return the factor, and in words the level, that this level's tracks share and others do not; both empty where none is."""
    largest, confound = LEAST_DIFFERENCE, ("", "")
    rest = decomposition.trained & ~members
    for other, levels in decomposition.levels.items():
        if other == factor:
            continue
        for index, level in enumerate(levels):
            with_level = decomposition.members[other][:, index]
            inside = with_level[members].mean()
            outside = with_level[rest].mean() if rest.any() else 1.0
            if inside >= CONFOUNDED and inside - outside > largest:
                largest = inside - outside
                apart = "the two cannot be told apart" if inside == 1 and outside == 0 else "hard to tell apart"
                sentence = f"{inside:.0%} of its tracks are {other} = {level}, {outside:.0%} of the others: {apart}"
                confound = (other, sentence)
    return confound


def agreement_rows(
    ground: Ground, decomposition: Decomposition, factor: str, directions: Sequence[Direction]
) -> list[dict[str, Any]]:
    """Return how well each direction's score alone orders every training track's own data; see the top of this file."""
    run, bins, peaks = ground.run, ground.bins, ground.run.peak_tracks
    labels = labels_of(run, bins)
    chosen = np.flatnonzero((labels == 1).any(1).numpy()) if peaks else np.arange(len(bins))
    chosen = chosen[evenly(len(chosen), FOLLOWED_BINS)]
    labels, signal = labels[chosen], torch.from_numpy(np.array(bins.signal[chosen]))
    signal_ranks = average_ranks(signal)
    rows = []
    for direction in directions:
        score = torch.from_numpy(direction.scores(ground.latents[chosen]))[:, None]
        auroc, _ = auroc_auprc(score.expand(-1, peaks).contiguous(), labels)
        score_ranks = average_ranks(score).expand(-1, signal.shape[1])
        values = torch.cat([auroc, (1 + correlation(score_ranks, signal_ranks)) / 2]).tolist()
        members = decomposition.tracks_of(factor, direction.name).tolist()
        rows += [
            {"level": direction.name, "track": track.id, "has_level": member, "agreement": value}
            for track, member, value, trained in zip(run.tracks, members, values, decomposition.trained)
            if trained
        ]
    return rows


def add_agreement(levels: Sequence[dict[str, Any]], agreement: Sequence[Mapping[str, Any]]) -> None:
    """Add to the rows of levels: median agreement of their own tracks and of others, and their tracks that defy them.

    A track defies its level where it agrees less than the median of the tracks without it, and than its own level's by DEFIES.
    """
    for row in levels:
        of_level = [one for one in agreement if one["level"] == row["level"] and not np.isnan(one["agreement"])]
        own = [one["agreement"] for one in of_level if one["has_level"]]
        others = [one["agreement"] for one in of_level if not one["has_level"]]
        row["agreement_own"] = float(np.median(own)) if own else np.nan
        row["agreement_others"] = float(np.median(others)) if others else np.nan
        limit = min(row["agreement_others"], row["agreement_own"] - DEFIES)
        defying = [one for one in of_level if one["has_level"] and one["agreement"] < limit]
        row["defied_by"] = ", ".join(one["track"] for one in sorted(defying, key=lambda one: one["agreement"])[:5])
