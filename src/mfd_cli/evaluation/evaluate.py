"""`mfd evaluate`: how well a model predicts each track, and what its predictions are made of."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch

from mfd_cli.base.arrays import Floats
from mfd_cli.base.errors import DatasetError
from mfd_cli.base.files import check_output, whole_folder, write_json
from mfd_cli.base.progress import Progress
from mfd_cli.base.stored_json import without_nan
from mfd_cli.core.metrics import auroc_auprc, correlation, deviance_explained, ranks
from mfd_cli.core.predictor import Predictor
from mfd_cli.core.shares import variance_shares, whole_latent
from mfd_cli.dataset.folder import Bins, Dataset
from mfd_cli.evaluation.baselines import from_other_tracks, kmer_ridge
from mfd_cli.evaluation.independence import contributions, independence, weight_leakage
from mfd_cli.evaluation.independence_picture import draw_independence
from mfd_cli.formats.tables import write_parquet, write_tsv
from mfd_cli.runs.at_work import bin_latents, check_same_tracks, labels_of
from mfd_cli.runs.folder import Run

FEWEST_POSITIVES = 5
"""Tracks with fewer positive bins in the split have metrics, but do not count in averages."""


@dataclass(frozen=True)
class Evaluation:
    """Rows per track, per factor level, per track and baseline, per independence measure; and the averages."""

    split: str
    bins: int
    tracks: Sequence[Mapping[str, Any]]
    levels: Sequence[Mapping[str, Any]]
    baselines: Sequence[Mapping[str, Any]]
    probes: Sequence[Mapping[str, Any]]
    weights: Sequence[Mapping[str, Any]]
    summary: Mapping[str, Any]


def evaluate(
    run: Run,
    dataset: Dataset,
    *,
    split: str = "test",
    output: Path | None = None,
    force: bool = False,
    beside: Mapping[str, Run] | None = None,
    kmer: bool = False,
    probes: bool = True,
    device: torch.device | str = "cpu",
    batch_size: int = 256,
    progress: Progress | None = None,
) -> Evaluation:
    """Measure a model on one split of a dataset, both strands averaged; with `output`, write the folder of tables.

    tracks.tsv and tracks.parquet: one row per track: AUROC, AUROC among the bins where any track has a peak, AUPRC beside
    prevalence, calibration (mean predicted probability over prevalence), for signals Pearson and Spearman; shares of logit
    variance of the shared part and of each group. levels.tsv: means by factor level. baselines.tsv: the same metrics of
    predictions made of those for other tracks, of the runs `beside` (name to run, such as the free twin), and with `kmer`
    of a k-mer model. independence.tsv and .png, weights.tsv: with `probes`, what fresh probes find of one group in another
    (see evaluation/independence.py). summary.json: means over tracks with enough positives, and all of the probes.
    """
    if output is not None:
        check_output(output, force)
    bins = dataset.split(split)
    if not len(bins):
        raise DatasetError(f"has no {split} bins", path=dataset.path)
    check_same_tracks(run, dataset)
    for other in (beside or {}).values():
        check_same_tracks(other, dataset)
    latents = bin_latents(run, dataset, bins, device, batch_size, progress)
    predictor = Predictor(run.model, device)
    tracks = track_rows(run, predictor, bins, latents)
    levels = level_rows(run, tracks)
    logits = predictor.head.logits(latents)
    others = from_other_tracks(
        logits, run.model.metadata, run.model.rows, run.model.trained, [t.kind for t in run.tracks]
    )
    others["shared part"] = predictor.head.bias + predictor.head.shared_part(latents)[:, None]
    for name, other in (beside or {}).items():
        own = bin_latents(other, dataset, bins, device, batch_size, progress)
        others[name] = Predictor(other.model, device).head.logits(own)
    if kmer:
        others["k-mers"] = kmer_ridge(dataset, bins)
    baselines = baseline_rows(run, bins, others)
    found, weights = probe(run, predictor, latents) if probes else ([], [])
    summary = summarise(run, split, len(bins), tracks) | {"within_bin": within_bin(run, bins, logits)}
    summary |= {"baselines": baseline_means(run, tracks, baselines), "independence": found, "weights": weights}
    result = Evaluation(split, len(bins), tracks, levels, baselines, found, weights, without_nan(summary))
    if output is not None:
        with whole_folder(output) as folder:
            publish(result, folder)
    return result


def publish(result: Evaluation, folder: Path) -> None:
    """Write the tables, the summary and the picture of an evaluation."""
    write_tsv(folder / "tracks.tsv", result.tracks)
    write_parquet(folder / "tracks.parquet", result.tracks)
    for name, rows in (
        ("levels", result.levels),
        ("baselines", result.baselines),
        ("independence", result.probes),
        ("weights", result.weights),
    ):
        if rows:
            write_tsv(folder / f"{name}.tsv", rows)
    write_json(folder / "summary.json", result.summary)
    if result.probes:
        draw_independence(folder / "independence.png", result.probes, result.weights)


def probe(run: Run, predictor: Predictor, latents: Floats) -> tuple[list[dict[str, Any]], list[dict[str, Any]]]:
    """What fresh probes find of one group in another: in the latents, and in the output weights."""
    head = predictor.head
    if len(head.groups) < 2 or len(latents) < FEWEST_BINS:
        return [], []
    groups = {group: latents[:, head.slices[group]] for group in head.groups}
    parts = {group: contributions(values, head.groups[group]) for group, values in groups.items()}
    found = [
        {"of": of, **row}
        for of, values in (("latents", groups), ("contributions", parts))
        for row in independence(values)
    ]
    group_of = {name: factor.group for name, factor in run.model.factors.items()}
    return found, weight_leakage(run, head.groups, group_of)


def baseline_rows(run: Run, bins: Bins, others: Mapping[str, Floats]) -> list[dict[str, Any]]:
    """One row per baseline and track that it says something about."""
    rows = []
    for name, scores in others.items():
        peaks = peak_rows(run, scores[:, : run.peak_tracks], bins)
        signals = signal_rows(run, scores[:, run.peak_tracks :], bins) if scores.shape[1] == len(run.tracks) else []
        for track, scored, row in zip(run.tracks, ~np.isnan(scores[0]), [*peaks, *signals]):
            if scored:
                kept = {key: row[key] for key in ("auroc", "auroc_occupied", "auprc", "pearson")}
                rows.append({"track": track.id, "kind": track.kind, "baseline": name, **kept})
    return rows


def baseline_means(
    run: Run, tracks: Sequence[Mapping[str, Any]], baselines: Sequence[Mapping[str, Any]]
) -> dict[str, dict[str, dict[str, float]]]:
    """Per set of tracks and baseline: means over the rated peak tracks that have the baseline, beside the model's own."""
    own = {row["track"]: row for row in tracks if rated(row)}
    result: dict[str, dict[str, dict[str, float]]] = {}
    for name, chosen in (("training_tracks", True), ("held_out_tracks", False)):
        for baseline in dict.fromkeys(row["baseline"] for row in baselines):
            pairs = [
                (row, own[row["track"]])
                for row in baselines
                if row["baseline"] == baseline and row["track"] in own and own[row["track"]]["trained"] == chosen
            ]
            if pairs:
                result.setdefault(name, {})[baseline] = {
                    "tracks": len(pairs),
                    **{key: float(np.mean([row[key] for row, _ in pairs])) for key in COMPARED},
                    **{f"model_{key}": float(np.mean([row[key] for _, row in pairs])) for key in COMPARED},
                }
    return result


COMPARED = ("auroc", "auroc_occupied", "auprc")
FEWEST_BINS = 200
"""Fewer bins than this say nothing about independence."""


def within_bin(run: Run, bins: Bins, logits: Floats, most: int = 20_000) -> dict[str, float]:
    """Whether the model ranks tracks within a bin: mean over bins of the AUROC over peak tracks, beside that of the
    tracks' prevalences alone, which is what a prediction that says nothing about the bin would reach."""
    labels = labels_of(run, bins)[:most].T
    scores = torch.from_numpy(logits[:most, : run.peak_tracks]).T
    prevalence = labels.nanmean(1, keepdim=True).expand_as(labels)
    auroc, constant = (auroc_auprc(values, labels, chunk=1024)[0].nanmean().item() for values in (scores, prevalence))
    return {"auroc": auroc, "auroc_prevalence": constant}


def track_rows(run: Run, predictor: Predictor, bins: Bins, latents: Floats) -> list[dict[str, Any]]:
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


def peak_rows(run: Run, logits: Floats, bins: Bins) -> list[dict[str, Any]]:
    """Metrics of the peak tracks over the bins where each was measured."""
    labels = labels_of(run, bins)
    return peak_metrics(torch.from_numpy(np.ascontiguousarray(logits)), labels, (labels == 1).any(1))


def peak_metrics(logits: torch.Tensor, labels: torch.Tensor, occupied: torch.Tensor) -> list[dict[str, Any]]:
    """Metrics per column: `logits` and `labels` (bins, tracks), NaN where not measured; `occupied` (bins,) marks the bins
    where any track has a peak, in which AUROC is what tells this track from others."""
    auroc, auprc = auroc_auprc(logits, labels)
    auroc_occupied, _ = auroc_auprc(logits[occupied], labels[occupied])
    positives = (labels == 1).sum(0).numpy()
    counted = (~labels.isnan()).sum(0).numpy()
    expected = torch.sigmoid(logits).masked_fill(labels.isnan(), 0).sum(0).numpy()
    rows = []
    for i in range(labels.shape[1]):
        prevalence = positives[i] / counted[i] if counted[i] else np.nan
        rows.append(
            {
                "bins": int(counted[i]),
                "positives": int(positives[i]),
                "prevalence": float(prevalence),
                "auroc": float(auroc[i]),
                "auroc_occupied": float(auroc_occupied[i]),
                "auprc": float(auprc[i]),
                "auprc_over_prevalence": float(auprc[i] / prevalence) if positives[i] else np.nan,
                "calibration": float(expected[i] / positives[i]) if positives[i] else np.nan,
                "pearson": np.nan,
                "spearman": np.nan,
                "deviance_explained": np.nan,
            }
        )
    return rows


def signal_rows(run: Run, predicted: Floats, bins: Bins) -> list[dict[str, Any]]:
    """Metrics of the signal tracks on the model's scale."""
    truth = run.signal_scale.forward(torch.from_numpy(np.array(bins.signal)))
    guess = run.signal_scale.expected(torch.from_numpy(np.ascontiguousarray(predicted)))
    return signal_metrics(guess, truth, torch.from_numpy(run.signal_scale.counts))


def signal_metrics(guess: torch.Tensor, truth: torch.Tensor, counts: torch.Tensor) -> list[dict[str, Any]]:
    """Correlations and the deviance that is explained, per column (bins, tracks), NaN where not measured; `counts` (tracks,)
    marks the columns with a Poisson loss."""
    guess = torch.where(truth.isnan(), torch.nan, guess)
    pearson, spearman = correlation(guess, truth), correlation(ranks(guess), ranks(truth))
    explained = deviance_explained(guess, truth, counts)
    nothing = dict.fromkeys(
        ("positives", "prevalence", "auroc", "auroc_occupied", "auprc", "auprc_over_prevalence", "calibration"), np.nan
    )
    return [
        {
            "bins": int((~truth[:, i].isnan()).sum()),
            **nothing,
            "pearson": float(pearson[i]),
            "spearman": float(spearman[i]),
            "deviance_explained": float(explained[i]),
        }
        for i in range(truth.shape[1])
    ]


def group_shares(predictor: Predictor, latents: Floats) -> dict[str, Floats]:
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


def rated(track: Mapping[str, Any]) -> bool:
    """Whether a row is of a peak track with enough positives and negatives to count in averages."""
    enough = FEWEST_POSITIVES <= track["positives"] <= track["bins"] - FEWEST_POSITIVES
    return bool(track["kind"] == "peaks" and enough)


def averages(tracks: Sequence[Mapping[str, Any]]) -> dict[str, float]:
    """Means over tracks: AUROC and AUPRC over those with enough positives, correlations and shares over all."""
    used = [track for track in tracks if rated(track)]
    result: dict[str, float] = {"rated_tracks": len(used)}
    for name in ("auroc", "auroc_occupied", "auprc", "auprc_over_prevalence", "prevalence", "calibration"):
        result[name] = float(np.mean([t[name] for t in used])) if used else np.nan
    result["auroc_median"] = float(np.median([t["auroc"] for t in used])) if used else np.nan
    for name in (
        "pearson",
        "spearman",
        "deviance_explained",
        *(key for key in (tracks[0] if tracks else {}) if key.startswith("share_")),
    ):
        values = np.array([t[name] for t in tracks], float)
        result[name] = float(values[~np.isnan(values)].mean()) if (~np.isnan(values)).any() else np.nan
    return result


def summarise(run: Run, split: str, bins: int, tracks: Sequence[Mapping[str, Any]]) -> dict[str, Any]:
    """The averages over training tracks, and over held-out ones where there are any."""
    result: dict[str, Any] = {"split": split, "bins": bins, "tracks": len(tracks), "model": run.digest}
    for name, chosen in (("training_tracks", True), ("held_out_tracks", False)):
        rows = [row for row in tracks if row["trained"] == chosen]
        if rows:
            result[name] = averages(rows)
    return result
