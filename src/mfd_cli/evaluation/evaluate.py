"""`mfd evaluate`: how well a model predicts each track, and what its predictions are made of.

evaluation-SPLIT/tracks.tsv, .parquet  one row per track: how well it is predicted, shares of its logit's variance
    levels.tsv                         means over the tracks of every factor level
    baselines.tsv                      the same scores of simpler predictions, and of other runs
    independence.tsv, .png             what fresh probes find of one group in another (core/probes.py)
    weights.tsv                        factors that show in another group's output weights, beyond an untrained network's
    calibration.tsv, .png              the reliability curve of peaks (calibration.py)
    parts.tsv                          how far each track's parts lie from the truth, of a mixed head (part_errors.py)
    summary.json                       means over tracks, all of the probes, and notes on what could not be measured
"""

from __future__ import annotations

import math
import tempfile
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
import torch

from mfd_cli.base.arrays import Doubles, Floats
from mfd_cli.base.errors import DatasetError, few
from mfd_cli.base.files import existing_parent, whole_folder, write_json
from mfd_cli.base.long_array import LongArray
from mfd_cli.base.notebook import Told
from mfd_cli.base.progress import Progress
from mfd_cli.base.stored_json import without_nan
from mfd_cli.base.words import counted
from mfd_cli.core.metrics import auroc_auprc
from mfd_cli.core.predictor import Head, Predictor
from mfd_cli.core.probes import MOST_BINS, independence, varying
from mfd_cli.core.shares import covariance_of, variance_shares, whole_latent
from mfd_cli.dataset.bins import Bins
from mfd_cli.dataset.folder import Dataset
from mfd_cli.engine.jobs import HERE, Workplace, at_work
from mfd_cli.evaluation.calibration import Reliability
from mfd_cli.evaluation.calibration_picture import draw_calibration
from mfd_cli.evaluation.comparison import (
    Reading,
    baseline_means,
    baselines_of,
    named_beside,
    score_baselines,
    spread_of_seeds,
)
from mfd_cli.evaluation.in_words import finding_lines
from mfd_cli.evaluation.independence import contributions, untrained_weights, weight_leakage
from mfd_cli.evaluation.independence_picture import draw_independence
from mfd_cli.evaluation.linear import Prediction
from mfd_cli.evaluation.part_errors import means_of_parts, part_errors
from mfd_cli.evaluation.track_scores import (
    FEWEST_POSITIVES,
    averages,
    rated,
)
from mfd_cli.formats.tables import write_parquet, write_tsv
from mfd_cli.genome.grid import evenly
from mfd_cli.runs.at_work import LatentJob, LatentMaker, check_same_tracks, labels_of, latent_pieces
from mfd_cli.runs.description import seen_sentence
from mfd_cli.runs.folder import Run
from mfd_cli.settings.names import RESIDUAL

FEWEST_BINS = 200
"""Fewer bins than this say nothing about independence."""
SHOWN_ADDED = 8
"""Names of added tracks in a line, at most."""
MOST_RANKED_BINS = 20_000
"""Bins in which the tracks are ranked against each other, spread evenly over the split."""


@dataclass(frozen=True, repr=False)
class Evaluation(Told):
    """Rows per track, per factor level, per track and baseline, per independence measure; the averages; notes; rows of the
    reliability curve; and rows per track and part.

    `notes` are sentences on what is zero or could not be measured, and why: a number that is absent is explained here.
    """

    split: str
    bins: int
    tracks: Sequence[Mapping[str, Any]]
    levels: Sequence[Mapping[str, Any]]
    baselines: Sequence[Mapping[str, Any]]
    probes: Sequence[Mapping[str, Any]]
    weights: Sequence[Mapping[str, Any]]
    summary: Mapping[str, Any]
    notes: Sequence[str] = field(default=())
    calibration: Sequence[Mapping[str, Any]] = field(default=())
    parts: Sequence[Mapping[str, Any]] = field(default=())

    def lines(self) -> list[str]:
        """Return what is said at the end: the averages over training tracks in one line, over added ones in another, and the
        notes."""
        overall, added = self.summary.get("training_tracks", {}), self.summary.get("added_tracks")
        counts = [counted(overall.get("rated_tracks", 0), "rated track")]
        if overall.get("signal_tracks"):
            counts.append(f"{overall['signal_tracks']} with signal")
        averaged = [f"{self.split}, {self.bins:,} bins, {', '.join(counts)}: {figures_of(overall)}"]
        averaged += [f"added: {few(added['names'], SHOWN_ADDED)}: {figures_of(added)}"] if added else []
        return [*averaged, *finding_lines(self.summary), *(f"note: {note}" for note in self.notes)]


def figures_of(averaged: Mapping[str, Any]) -> str:
    """Return averages as a line shows them."""
    return ", ".join(f"{name} {value:.4f}" for name, value in averaged.items() if isinstance(value, float))


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
    workplace: Workplace = HERE,
    progress: Progress | None = None,
) -> Evaluation:
    """Measure a model on one split of a dataset, both strands averaged; with `output`, write the folder of tables.

    tracks.tsv and tracks.parquet: one row per track: AUROC, AUROC among the bins where any track has a peak, AUPRC beside
    prevalence, calibration (mean predicted probability over prevalence), for signals Pearson and Spearman; shares of logit
    variance of the shared part and of each group. levels.tsv: means by factor level. baselines.tsv: the same metrics of
    predictions made of those for other tracks, of the runs `beside` (name to run, such as the free twin; one that has the
    name of another baseline is called `run NAME`; those that differ by the seed alone give the spread of the seeds), and with
    `kmer` of a k-mer model. independence.tsv and .png, weights.tsv:
    with `probes`, what fresh probes find of one group in another (see core/probes.py). calibration.tsv and .png:
    the reliability curve over all bins of all rated training tracks (see evaluation/calibration.py). parts.tsv: how far a mixed
    head's parts lie from the truth (see evaluation/part_errors.py). summary.json: means over
    tracks with enough positives, and all of the probes.

    Latents that are too large for memory lie in a file beside the output while this runs. Logits are made for some tracks
    at a time, so memory does not grow with bins x tracks. `workplace` says where latents are made.

    Raises DatasetError where the split has no bins, RunError where the dataset has other tracks than the model.
    """
    if output is not None:
        workplace.check_result(output, force)
    bins = bins_to_measure(dataset, split)
    check_same_tracks(run, dataset)
    beside = named_beside(run, beside or {})
    for other in beside.values():
        check_same_tracks(other, dataset)
    folder = Path(tempfile.gettempdir()) if output is None else existing_parent(output)
    runs = [run, *beside.values()]
    job = LatentJob.of(runs, dataset, split, device, batch_size)
    here = LatentMaker(runs, dataset, split, device, batch_size).made
    with at_work(job, here, output, workplace, keeps=False) as work:
        if workplace.shard is not None:
            assert output is not None, "shards have a result"
            pieces = (piece for number in range(len(runs)) for piece in latent_pieces(number, len(bins)))
            work.make_shard(output, pieces)
        reading = Reading(dataset, bins, folder, device, batch_size, progress, work, runs)
        result = measured(run, reading, split, beside, kmer, probes)
        if output is not None:
            with whole_folder(output) as built:
                publish(result, built)
    return result


def measured(run: Run, reading: Reading, split: str, beside: Mapping[str, Run], kmer: bool, probes: bool) -> Evaluation:
    """Return what `evaluate` measures, of bins that a reading makes the latents of."""
    bins = reading.bins
    with reading.latents(run) as latents:
        head = Predictor(run.model, reading.device).head
        own, reliability = Prediction(latents, head.matrix(), head.bias), Reliability()
        tracks = score_tracks(run, head, reading, own, reliability)
        levels = score_levels(run, tracks)
        baselines = score_baselines(run, reading, baselines_of(run, head, reading, own, beside, kmer))
        ranked = within_bin(run, bins, own)
        probed = latents.rows(evenly(len(bins), MOST_BINS))
        parts = part_errors(run, head, latents, bins)
    independence_rows, weights, unprobed = probe(run, head, probed) if probes else ([], [], [])
    seen = [sentence] if (sentence := seen_sentence(run.about, split)) else []
    notes = [*seen, *notes_on_groups(run, head, probed), *notes_on_tracks(tracks, kmer), *unprobed]
    summary = summarise(run, split, len(bins), tracks) | {"within_bin": ranked}
    if reliability.tracks:
        summary |= {"calibration": reliability.summary()}
    means = baseline_means(tracks, baselines)
    if seeds := spread_of_seeds(run, beside, means.get("training_tracks", {})):
        summary |= {"seeds": seeds}
    summary |= {"baselines": means, "independence": independence_rows, "weights": weights}
    summary |= {"notes": notes, "parts": means_of_parts(run, parts)}
    return Evaluation(
        split,
        len(bins),
        tracks,
        levels,
        baselines,
        independence_rows,
        weights,
        without_nan(summary),
        notes,
        reliability.rows(),
        parts,
    )


def bins_to_measure(dataset: Dataset, split: str) -> Bins:
    """Return the bins of a split; DatasetError, with the way out, where it has none."""
    bins = dataset.split(split)
    if not len(bins):
        other = "validation" if split != "validation" and len(dataset.split("validation")) else ""
        hint = f"set split.{split} in mfd.toml, then mfd preprocess and train" if split != "train" else ""
        if other:
            hint = f"--split {other} measures on those bins; or {hint}"
        raise DatasetError(f"has no {split} bins", path=dataset.path, hint=hint)
    return bins


def publish(result: Evaluation, folder: Path) -> None:
    """Write the tables, the summary and the picture of an evaluation."""
    write_tsv(folder / "tracks.tsv", result.tracks)
    write_parquet(folder / "tracks.parquet", result.tracks)
    for name, rows in (
        ("levels", result.levels),
        ("baselines", result.baselines),
        ("independence", result.probes),
        ("weights", result.weights),
        ("calibration", result.calibration),
        ("parts", result.parts),
    ):
        if rows:
            write_tsv(folder / f"{name}.tsv", rows)
    write_json(folder / "summary.json", result.summary)
    if result.probes:
        draw_independence(folder / "independence.png", result.probes, result.weights)
    if result.calibration:
        draw_calibration(folder / "calibration.png", result.calibration)


# -- the model itself --------------------------------------------------------------------------------------------------


def score_tracks(
    run: Run, head: Head, reading: Reading, own: Prediction, reliability: Reliability
) -> list[dict[str, Any]]:
    """Return one row per track, in the order of the model's outputs: levels, scores, shares of its logit's variance.

    The cells of rated training tracks are counted in `reliability`.
    """

    def count(track: int, scores: Mapping[str, Any], logits: torch.Tensor, labels: torch.Tensor) -> None:
        if run.model.trained[track] and rated({"kind": "peaks", **scores}):
            reliability.add(logits, labels)

    shares = group_shares(head, covariance_of(own.inputs))
    rows = []
    for index, scores in reading.scores(run, own, "tracks", count):
        track = run.tracks[index]
        levels = run.model.metadata.level_cells(track.metadata)
        own_shares = {f"share_{name}": float(values[index]) for name, values in shares.items()}
        trained = bool(run.model.trained[index])
        rows.append({"track": track.id, "kind": track.kind, "trained": trained, **levels, **scores, **own_shares})
    return rows


def group_shares(head: Head, covariance: Doubles) -> dict[str, Floats]:
    """Return each part's share of every track's logit variance, {part: (tracks,)}: `shared` and every group.

    `covariance` (latent, latent) is that of the latents. The shares sum to one over the parts. NaN for a track whose logit
    does not vary.
    """
    tracks, size = len(head.bias), len(covariance)
    parts = {"shared": np.broadcast_to(head.shared, (tracks, size))}
    parts |= {group: whole_latent(weights, head.slices[group], size) for group, weights in head.groups.items()}
    return variance_shares(covariance, head.matrix(), parts)


def share_columns(tracks: Sequence[Mapping[str, Any]]) -> list[str]:
    """Return the names of the columns that hold shares."""
    return [name for name in tracks[0] if name.startswith("share_")]


def score_levels(run: Run, tracks: Sequence[Mapping[str, Any]]) -> list[dict[str, Any]]:
    """Return the averages over the tracks of every level of every factor, one row per level.

    A level that no track has (such as `missing` of a number without gaps) has a row of zero tracks and NaN.
    """
    rows, shares = [], share_columns(tracks)
    for factor in run.model.metadata.encoders:
        member = run.model.metadata.membership(factor, run.model.rows)
        for index, level in enumerate(run.model.metadata.levels(factor)):
            chosen = [row for row, inside in zip(tracks, member[:, index]) if inside]
            rows.append({"factor": factor, "level": level, "tracks": len(chosen), **averages(chosen, shares)})
    return rows


def within_bin(run: Run, bins: Bins, own: Prediction) -> dict[str, float]:
    """Return whether the model ranks the peak tracks within a bin: the mean over bins of the AUROC over tracks.

    `auroc_prevalence` is that of the tracks' prevalences alone, which is what a prediction that says nothing about the bin
    would reach. Over at most MOST_RANKED_BINS bins, evenly spaced: the first ones would be the first contigs. NaN where no
    bin has both a track with and a track without a peak.
    """
    chosen = evenly(len(bins), MOST_RANKED_BINS)
    labels = labels_of(run, bins.taken(chosen)).T  # (peak tracks, bins): here the tracks are what is ranked
    thinned = Prediction(LongArray.of(own.inputs.rows(chosen)), own.weights, own.bias)
    scores = torch.from_numpy(thinned.logits(np.arange(run.peak_tracks)))
    prevalence = labels.nanmean(1, keepdim=True).expand_as(labels)
    auroc, constant = (auroc_auprc(values, labels)[0].nanmean().item() for values in (scores, prevalence))
    return {"auroc": auroc, "auroc_prevalence": constant}


def summarise(run: Run, split: str, bins: int, tracks: Sequence[Mapping[str, Any]]) -> dict[str, Any]:
    """Return the averages over training tracks, and over held-out ones and those added after the training, which count as
    training tracks too, where there are any."""
    result: dict[str, Any] = {"split": split, "bins": bins, "tracks": len(tracks), "model": run.digest}
    for name, trained in (("training_tracks", True), ("held_out_tracks", False)):
        rows = [row for row in tracks if row["trained"] == trained]
        if rows:
            result[name] = averages(rows, share_columns(tracks))
    if late := [row for row, added in zip(tracks, run.model.added) if added]:
        names = {"names": [row["track"] for row in late]}
        result["added_tracks"] = names | averages(late, share_columns(tracks))
    return result


# -- how independent the groups are ------------------------------------------------------------------------------------


def probe(run: Run, head: Head, latents: Floats) -> tuple[list[dict[str, Any]], list[dict[str, Any]], list[str]]:
    """Return what fresh probes find of one group in another, in the latents and in the weights, and notes on what they skip.

    A group whose latents do not vary, or that moves no logit, has nothing that a probe could find: it is left out. So are the
    latents of groups that share them, as those of a mixed head on joint subspaces do, and the residual, which is of no group.
    """
    names = [group for group in head.groups if group != RESIDUAL]
    if len(names) < 2:
        return [], [], [f"no probes of independence: the model has one group, {names[0]}"]
    if len(latents) < FEWEST_BINS:
        return [], [], [f"no probes of independence: {len(latents)} bins are fewer than {FEWEST_BINS}"]
    groups = {group: latents[:, head.slices[group]] for group in names}
    parts = {group: contributions(values, head.groups[group]) for group, values in groups.items()}
    rows, notes = [], []
    if len({head.slices[group].start for group in names}) < len(names):
        groups = {}
        notes.append("no probes of the latents: all groups have the same ones")
    for of, values in (("latents", groups), ("contributions", parts)):
        probed = {group: part for group, part in values.items() if varying(part).any()}
        rows += [{"of": of, **row} for row in independence(probed, weighed=of == "contributions")]
        silent = [group for group in values if group not in probed]
        if silent:
            notes.append(f"no probes of the {of} of {' and '.join(silent)}: they do not vary")
    group_of = {name: factor.group for name, factor in run.model.factors.items()}
    weights = {group: head.groups[group] for group in names}
    return rows, weight_leakage(run, weights, untrained_weights(run), group_of), notes


# -- what could not be measured ----------------------------------------------------------------------------------------


def notes_on_groups(run: Run, head: Head, latents: Floats) -> list[str]:
    """Return a sentence per group that contributes nothing to any logit: its share is 0, and this says why."""
    notes = []
    named = {factor.group for factor in run.model.factors.values()}
    for group, weights in head.groups.items():
        if group == RESIDUAL or contributions(latents[:, head.slices[group]], weights).shape[1]:
            continue
        why = "has no factors" if group not in named else "gives all tracks the same weights"
        notes.append(f"the group {group} {why}: it contributes nothing, its share is 0")
    return notes


def notes_on_tracks(tracks: Sequence[Mapping[str, Any]], kmer: bool) -> list[str]:
    """Return why averages over peak tracks, and correlations of signals, are absent where they are."""
    notes = []
    if not any(row["kind"] == "peaks" for row in tracks):
        notes.append("there are signal tracks alone: AUROC and AUPRC do not apply to them")
        if kmer:
            notes.append("the k-mer model is one of peak tracks: it is left out")
    elif not any(rated(row) for row in tracks):
        rare = f"fewer than {FEWEST_POSITIVES} bins with a peak, or without one"
        notes.append(f"every peak track has {rare}, in this split: there are no averages of AUROC and AUPRC")
    if unmeasured := [row["track"] for row in tracks if not row["bins"]]:
        notes.append(f"not measured in any bin of this split, so without a figure: {few(unmeasured)}")
    signals = [row for row in tracks if row["kind"] == "signal" and row["bins"]]
    if flat := [row["track"] for row in signals if math.isnan(row["pearson"])]:
        notes.append(f"no correlation for {few(flat)}: the signal or its prediction is the same in all bins measured")
    return notes
