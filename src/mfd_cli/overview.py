"""`mfd explain --factor all`: what the predictions are made of, over all factors: the shared part, every factor, every group.

explain/all/factors.tsv     one row per part: mean share of the tracks' logit variance with its 95 % interval
        tracks.tsv          one row per training track: its levels, and the shares, which sum to one
        *.png, *.svg, report.html

Shares are Cov(part, total) / Var(total). Intervals resample chromosomes, or stretches of them where there are fewer than eight.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray

from mfd_cli.core.decompose import Decomposition, decompose
from mfd_cli.core.predict import Head, Predictor, whole_latent
from mfd_cli.data.dataset import Bins, Dataset
from mfd_cli.evaluate import bin_latents, check_same_tracks
from mfd_cli.explain import ExplainSummary, bins_to_look_at, track_rows
from mfd_cli.export import write_tsv
from mfd_cli.files import check_output, whole_folder
from mfd_cli.run_folder import Run

Progress = Callable[[str, int, int], None]
Floats = NDArray[np.floating[Any]]
FEWEST_CONTIGS, STRETCHES = 8, 20
DRAWS = 400
ALL = "all"
SHARED = "shared"


@dataclass(frozen=True)
class Overview:
    """`factors`: one row per part with its share and interval; `tracks`: one row per training track."""

    run: Run
    decomposition: Decomposition
    factors: Sequence[Mapping[str, Any]]
    tracks: Sequence[Mapping[str, Any]]
    bins: int
    split: str


def explain_all(
    run: Run, dataset: Dataset, output: Path, *, device: torch.device | str = "cpu", batch_size: int = 256,
    seed: int = 0, force: bool = False, progress: Progress | None = None,
) -> ExplainSummary:  # fmt: skip
    """Write the overview over all factors. ConfigError for a free head."""
    check_output(output, force)
    check_same_tracks(run, dataset)
    decomposition = decompose(run.model)
    split, bins = bins_to_look_at(dataset)
    latents = bin_latents(run, dataset, bins, device, batch_size, progress)
    predictor = Predictor(run.model, device, batch_size)
    parts = parts_of(predictor.head, decomposition, latents.shape[1])
    groups = {name: decomposition.group_of.get(name, name) for name in parts}
    intervals = share_intervals(latents, stretches(bins), predictor.head.matrix(), parts, run.model.trained, seed)
    factors = [
        {"part": name, "kind": kind_of(name, decomposition), "group": "" if name == SHARED else groups[name],
         "levels": len(decomposition.levels.get(name, ())), "share": mean, "low": low, "high": high}
        for name, (mean, low, high) in intervals.items()
    ]  # fmt: skip
    result = Overview(run, decomposition, factors, track_rows(run, predictor, decomposition, latents), len(bins), split)
    told = sentences(result)
    with whole_folder(output) as folder:
        write_tsv(folder / "factors.tsv", factors)
        write_tsv(folder / "tracks.tsv", result.tracks)
        from mfd_cli.report.overview_page import draw_overview, write_overview

        write_overview(folder / "report.html", result, told, draw_overview(folder, result))
    return ExplainSummary(output, ALL, told)


def kind_of(name: str, decomposition: Decomposition) -> str:
    """What a part is: shared, factor or group."""
    return "shared" if name == SHARED else "factor" if name in decomposition.factors else "group"


def parts_of(head: Head, decomposition: Decomposition, latent: int) -> dict[str, Floats]:
    """Weights (tracks, latent) over the whole latent: shared, every factor, and every group (the sum of its factors)."""
    parts: dict[str, Floats] = {SHARED: np.broadcast_to(head.shared, (len(head.bias), latent))}
    for name, weights in decomposition.factors.items():
        parts[name] = whole_latent(weights, head.slices[decomposition.group_of[name]], latent)
    for group in head.groups:
        parts[group if group not in parts else f"group {group}"] = whole_latent(
            head.groups[group], head.slices[group], latent
        )
    return parts


def stretches(bins: Bins) -> NDArray[np.int64]:
    """(bins,) the unit that is resampled: the chromosome, or one of STRETCHES pieces where there are few chromosomes."""
    contigs = np.unique(bins.contig)
    if len(contigs) >= FEWEST_CONTIGS:
        return np.searchsorted(contigs, bins.contig)
    return np.arange(len(bins)) * STRETCHES // len(bins)


def share_intervals(
    latents: Floats,
    unit: NDArray[np.int64],
    weights: Floats,
    parts: Mapping[str, Floats],
    used: NDArray[np.bool_],
    seed: int,
) -> dict[str, tuple[float, float, float]]:
    """Mean over the used tracks of each part's share of logit variance, and its 95 % interval over units.

    Shares depend on the latents through their covariance, and sums of products add up over units: a draw costs one
    weighted sum of matrices.
    """
    units = int(unit.max()) + 1
    wide = np.concatenate([latents.astype(np.float64), np.ones((len(latents), 1))], 1)
    moments = np.stack([wide[unit == number].T @ wide[unit == number] for number in range(units)])
    rng = np.random.default_rng(seed)
    counts = [np.ones(units), *(np.bincount(rng.integers(0, units, units), minlength=units) for _ in range(DRAWS))]
    matrix, chosen = (
        weights[used].astype(np.float64),
        {name: part[used].astype(np.float64) for name, part in parts.items()},
    )
    drawn: dict[str, list[float]] = {name: [] for name in parts}
    for count in counts:
        total = np.tensordot(count, moments, 1)
        mean = total[:-1, -1] / total[-1, -1]
        covariance = total[:-1, :-1] / total[-1, -1] - np.outer(mean, mean)
        with_total = covariance @ matrix.T
        variance = np.einsum("ik,ki->i", matrix, with_total)
        for name, part in chosen.items():
            drawn[name].append(float(np.mean(np.einsum("ik,ki->i", part, with_total) / variance)))
    result = {}
    for name, values in drawn.items():
        low, high = np.quantile(values[1:], [0.025, 0.975]).tolist()
        result[name] = (values[0], low, high)
    return result


def sentences(result: Overview) -> list[str]:
    """What the report says first."""
    rows = {row["part"]: row for row in result.factors}
    told = [
        f"Of the variance of a track's logit {_percent(rows[SHARED])} is in what all tracks share, on average over "
        f"{len(result.tracks)} tracks and {result.bins:,} {result.split} bins."
    ]
    ordered = sorted(result.factors, key=lambda row: -row["share"])
    told += [f"The group {row['part']} carries {_percent(row)}." for row in ordered if row["kind"] == "group"]
    told += [
        f"{row['part']} ({row['group']}, {row['levels']} levels): {_percent(row)}."
        for row in ordered if row["kind"] == "factor"
    ]  # fmt: skip
    return told


def _percent(row: Mapping[str, Any]) -> str:
    return f"{row['share']:.1%} ({row['low']:.1%} to {row['high']:.1%})"
