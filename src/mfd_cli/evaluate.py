"""`mfd evaluate`: how well a model predicts each track, and what its predictions are made of."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray

from mfd_cli.core.metrics import auroc_auprc, correlation, ranks
from mfd_cli.core.predict import Predictor, variance_shares, whole_latent
from mfd_cli.data.batches import GenomeOnDevice
from mfd_cli.data.dataset import Bins, Dataset, unpack_bits
from mfd_cli.errors import DatasetError, RunError
from mfd_cli.export import write_parquet, write_tsv
from mfd_cli.files import check_output, whole_folder, write_json
from mfd_cli.run_folder import Run

Progress = Callable[[str, int, int], None]
FEWEST_POSITIVES = 5
"""Tracks with fewer positive bins in the split have metrics, but do not count in averages."""


@dataclass(frozen=True)
class Evaluation:
    """Per-track rows, rows per factor level, and the averages; `tracks` and `levels` are plain dictionaries."""

    split: str
    bins: int
    tracks: Sequence[Mapping[str, Any]]
    levels: Sequence[Mapping[str, Any]]
    summary: Mapping[str, Any]


def evaluate(
    run: Run, dataset: Dataset, *, split: str = "test", output: Path | None = None, force: bool = False,
    device: torch.device | str = "cpu", batch_size: int = 256, progress: Progress | None = None,
) -> Evaluation:  # fmt: skip
    """Measure a model on one split of a dataset, both strands averaged; with `output`, write the folder of tables.

    tracks.tsv and tracks.parquet: one row per track: AUROC, AUPRC beside prevalence, calibration (mean predicted
    probability over prevalence), for signals Pearson and Spearman; shares of logit variance of the shared part and of
    each group. levels.tsv: means by factor level. summary.json: means over tracks with enough positives.
    """
    if output is not None:
        check_output(output, force)
    bins = dataset.split(split)
    if not len(bins):
        raise DatasetError(f"has no {split} bins", path=dataset.path)
    check_same_tracks(run, dataset)
    latents = bin_latents(run, dataset, bins, device, batch_size, progress)
    predictor = Predictor(run.model, device)
    tracks = track_rows(run, predictor, bins, latents)
    levels = level_rows(run, tracks)
    result = Evaluation(split, len(bins), tracks, levels, summarise(run, split, len(bins), tracks))
    if output is not None:
        with whole_folder(output) as folder:
            write_tsv(folder / "tracks.tsv", tracks)
            write_parquet(folder / "tracks.parquet", tracks)
            write_tsv(folder / "levels.tsv", levels)
            write_json(folder / "summary.json", result.summary)
    return result


def check_same_tracks(run: Run, dataset: Dataset) -> None:
    """RunError where the dataset's tracks are not the model's."""
    ours = [track.id for track in run.tracks]
    theirs = [track.id for track in dataset.peak_tracks + dataset.signal_tracks]
    if ours != theirs:
        raise RunError("was trained on other tracks than those of the dataset", path=run.path, hint="run mfd train")


def bin_latents(
    run: Run, dataset: Dataset, bins: Bins, device: torch.device | str = "cpu", batch_size: int = 256,
    progress: Progress | None = None,
) -> NDArray[np.float32]:  # fmt: skip
    """Latents (bins, latent) of labelled bins, both strands averaged."""
    predictor = Predictor(run.model, device, batch_size)
    genome = GenomeOnDevice(dataset, predictor.window, predictor.left, predictor.device)
    positions = torch.from_numpy(genome.positions(bins)).to(predictor.device)
    pieces = []
    with torch.inference_mode():
        for chunk in positions.split(batch_size):
            pieces.append(predictor.latents_of(genome.windows[chunk]).float().cpu().numpy())
            if progress:
                progress("predicting bins", min(len(pieces) * batch_size, len(bins)), len(bins))
    return np.concatenate(pieces)


def track_rows(run: Run, predictor: Predictor, bins: Bins, latents: NDArray[np.float32]) -> list[dict[str, Any]]:
    """One row per track, in the order of the model's outputs."""
    logits = predictor.head.logits(latents)
    peaks = peak_rows(run, logits[:, : run.peak_tracks], bins)
    signals = signal_rows(run, logits[:, run.peak_tracks :], bins)
    shares = group_shares(predictor, latents)
    rows = []
    for index, (track, row) in enumerate(zip(run.tracks, [*peaks, *signals])):
        levels = {name: track.metadata.get(column, "") for name, column in run.model.metadata.columns.items()}
        kept = {f"share_{name}": float(values[index]) for name, values in shares.items()}
        rows.append(
            {"track": track.id, "kind": track.kind, "trained": bool(run.model.trained[index]), **levels, **row, **kept}
        )
    return rows


def peak_rows(run: Run, logits: NDArray[np.float32], bins: Bins) -> list[dict[str, Any]]:
    """Metrics of the peak tracks over the bins where each was measured."""
    labels = torch.from_numpy(unpack_bits(bins.peaks, run.peak_tracks)).float()
    if bins.measured is not None:
        known = unpack_bits(bins.measured, len(run.tracks))[:, : run.peak_tracks]
        labels[torch.from_numpy(~known)] = torch.nan
    auroc, auprc = auroc_auprc(torch.from_numpy(logits), labels)
    positives = (labels == 1).sum(0).numpy()
    counted = (~labels.isnan()).sum(0).numpy()
    expected = torch.sigmoid(torch.from_numpy(logits)).masked_fill(labels.isnan(), 0).sum(0).numpy()
    rows = []
    for i in range(run.peak_tracks):
        prevalence = positives[i] / counted[i] if counted[i] else np.nan
        rows.append(
            {
                "bins": int(counted[i]), "positives": int(positives[i]), "prevalence": float(prevalence),
                "auroc": float(auroc[i]), "auprc": float(auprc[i]),
                "auprc_over_prevalence": float(auprc[i] / prevalence) if positives[i] else np.nan,
                "calibration": float(expected[i] / positives[i]) if positives[i] else np.nan,
                "pearson": np.nan, "spearman": np.nan,
            }
        )  # fmt: skip
    return rows


def signal_rows(run: Run, predicted: NDArray[np.float32], bins: Bins) -> list[dict[str, Any]]:
    """Correlations of the signal tracks on the model's log scale."""
    truth = run.signal_scale.forward(torch.from_numpy(np.array(bins.signal)))
    guess = torch.from_numpy(predicted)
    guess = torch.where(truth.isnan(), torch.nan, guess)
    pearson, spearman = correlation(guess, truth), correlation(ranks(guess), ranks(truth))
    nothing = dict.fromkeys(
        ("positives", "prevalence", "auroc", "auprc", "auprc_over_prevalence", "calibration"), np.nan
    )
    return [
        {
            "bins": int((~truth[:, i].isnan()).sum()), **nothing, "pearson": float(pearson[i]),
            "spearman": float(spearman[i]),
        }
        for i in range(truth.shape[1])
    ]  # fmt: skip


def group_shares(predictor: Predictor, latents: NDArray[np.float32]) -> dict[str, NDArray[np.float32]]:
    """Shares of each track's logit variance: `shared` and every group; they sum to one."""
    head, size = predictor.head, latents.shape[1]
    tracks = len(head.bias)
    parts = {"shared": np.broadcast_to(head.shared, (tracks, size))}
    parts |= {g: whole_latent(weights, head.slices[g], size) for g, weights in head.groups.items()}
    return variance_shares(latents, head.matrix(), parts)


def level_rows(run: Run, tracks: Sequence[Mapping[str, Any]]) -> list[dict[str, Any]]:
    """Means over the rated tracks of every level of every factor."""
    rows = []
    for factor in run.model.metadata.encoders:
        member = run.model.metadata.membership(factor, run.model.rows)
        for index, level in enumerate(run.model.metadata.levels(factor)):
            chosen = [row for row, inside in zip(tracks, member[:, index]) if inside]
            rows.append({"factor": factor, "level": level, "tracks": len(chosen), **averages(chosen)})
    return rows


def averages(tracks: Sequence[Mapping[str, Any]]) -> dict[str, float]:
    """Means over tracks: AUROC and AUPRC over those with enough positives, correlations and shares over all."""
    rated = [
        t for t in tracks if t["kind"] == "peaks" and FEWEST_POSITIVES <= t["positives"] <= t["bins"] - FEWEST_POSITIVES
    ]
    result: dict[str, float] = {"rated_tracks": len(rated)}
    for name in ("auroc", "auprc", "auprc_over_prevalence", "prevalence", "calibration"):
        result[name] = float(np.mean([t[name] for t in rated])) if rated else np.nan
    result["auroc_median"] = float(np.median([t["auroc"] for t in rated])) if rated else np.nan
    for name in ("pearson", "spearman", *(key for key in (tracks[0] if tracks else {}) if key.startswith("share_"))):
        values = np.array([t[name] for t in tracks], float)
        result[name] = float(values[~np.isnan(values)].mean()) if (~np.isnan(values)).any() else np.nan
    return result


def summarise(run: Run, split: str, bins: int, tracks: Sequence[Mapping[str, Any]]) -> dict[str, Any]:
    """The averages over training tracks, and over held-out ones where there are any; NaN becomes null."""
    result: dict[str, Any] = {"split": split, "bins": bins, "tracks": len(tracks), "model": run.digest}
    for name, chosen in (("training_tracks", True), ("held_out_tracks", False)):
        rows = [row for row in tracks if row["trained"] == chosen]
        if rows:
            result[name] = {key: None if np.isnan(value) else value for key, value in averages(rows).items()}
    return result
