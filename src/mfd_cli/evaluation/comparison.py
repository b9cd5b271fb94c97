"""What a model is compared with, one prediction after the other, and how it stands beside each."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping, Sequence
from contextlib import AbstractContextManager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch

from mfd_cli.base.arrays import Floats
from mfd_cli.base.long_array import LongArray
from mfd_cli.base.progress import Progress
from mfd_cli.core.predictor import Head, Predictor
from mfd_cli.dataset.bins import Bins
from mfd_cli.dataset.folder import Dataset
from mfd_cli.engine.jobs import Work
from mfd_cli.evaluation.baselines import from_other_tracks, kmer_ridge
from mfd_cli.evaluation.linear import Prediction
from mfd_cli.evaluation.regressed_twin import regressed_twin
from mfd_cli.evaluation.track_scores import Look, mean_of, rated, scores_of
from mfd_cli.runs.at_work import gathered_latents
from mfd_cli.runs.folder import Run

KMERS = "k-mers"
"""The baseline of the k-mer model."""
COMPARED = ("auroc", "auroc_occupied", "auprc")
"""Scores of peak tracks that are put beside those of baselines; of signal tracks it is Pearson's correlation."""


@dataclass(frozen=True)
class Reading:
    """Bins of a dataset and how models read them: what is large lies on the disk of `folder` while it is needed."""

    dataset: Dataset
    bins: Bins
    folder: Path
    device: torch.device | str
    batch_size: int
    progress: Progress | None
    work: Work
    runs: Sequence[Run]

    def latents(self, run: Run) -> AbstractContextManager[LongArray]:
        """Return the latents (bins, latent) that one of the runs has of the bins, for as long as the context lasts."""
        number = next(number for number, each in enumerate(self.runs) if each is run)
        shape = len(self.bins), run.model.settings.latent
        return gathered_latents(self.work, number, shape, self.folder, self.progress)

    def scores(
        self, run: Run, prediction: Prediction, what: str, look: Look | None = None
    ) -> Iterator[tuple[int, dict[str, Any]]]:
        """Yield the number of each track that a prediction says something of, and how well it fits the track's data."""

        def report(done: int, of: int) -> None:
            if self.progress:
                self.progress(f"scoring {what}", done, of)

        tracks = np.arange(len(prediction.bias))
        return scores_of(run, self.bins, prediction, tracks, look, report)


def baselines_of(
    run: Run, head: Head, reading: Reading, own: Prediction, beside: Mapping[str, Run], kmer: bool
) -> Iterator[tuple[str, Prediction]]:
    """Yield the name and the prediction of everything that the model is compared with, one after the other.

    What a prediction needs is gone when the next one is asked for, so that there is one set of latents besides the model's own.
    """
    kinds = [track.kind for track in run.tracks]
    yield from from_other_tracks(own, run.model.metadata, run.model.rows, run.model.trained, kinds)
    yield "shared part", Prediction(own.inputs, np.broadcast_to(head.shared, own.weights.shape), own.bias)
    if kmer and run.peak_tracks:
        with kmer_ridge(reading.dataset, reading.bins, reading.folder) as prediction:
            yield KMERS, prediction
    for name, other in beside.items():
        with reading.latents(other) as latents:
            theirs = Predictor(other.model, reading.device).head
            yield name, Prediction(latents, theirs.matrix(), said_of(other, theirs.bias, other.model.has_parts))
            if other.model.factors and not other.model.has_parts and not other.model.trained.all():
                found = Predictor(regressed_twin(other, latents).model).head
                yield (
                    f"{name} + regression",
                    Prediction(latents, found.matrix(), said_of(other, found.bias, True, True)),
                )


def said_of(run: Run, bias: Floats, held_out: bool, held_out_alone: bool = False) -> Floats:
    """Return biases (tracks,) with NaN for the tracks of which a run says nothing: those that it did not train on, unless it
    says something of held-out ones too; and those that it did, where it is of `held_out_alone` that it is asked."""
    trained = run.model.trained
    silent = (trained & held_out_alone) | (~trained & (not held_out))
    return np.where(silent, np.float32(np.nan), bias)


def score_baselines(run: Run, reading: Reading, baselines: Iterable[tuple[str, Prediction]]) -> list[dict[str, Any]]:
    """Return one row per baseline and track that it says something about, from names and predictions."""
    rows = []
    for name, prediction in baselines:
        for index, row in reading.scores(run, prediction, name):
            track, shown = run.tracks[index], {key: row[key] for key in (*COMPARED, "pearson")}
            rows.append({"track": track.id, "kind": track.kind, "baseline": name, **shown})
    return rows


def named_beside(run: Run, beside: Mapping[str, Run]) -> dict[str, Run]:
    """Return other runs by their names among baselines: their own, or `run NAME` where another baseline has that."""
    named: dict[str, Run] = {}
    taken = {"average", "nearest", "shared part", KMERS, *(f"same {factor}" for factor in run.model.metadata.encoders)}
    for name, other in beside.items():
        while name in taken or name in named:
            name = f"run {name}"
        named[name] = other
    return named


def spread_of_seeds(
    run: Run, beside: Mapping[str, Run], means: Mapping[str, Mapping[str, float]]
) -> dict[str, dict[str, float]]:
    """Return, for each score, the mean and the standard deviation over this run and those trained like it with other seeds.

    `beside` are other runs by their names among baselines, `means` what `baseline_means` says of training tracks. Nothing where
    no run beside it differs by the seed alone. This is what another training gives; resampling bins does not show it.
    """
    seeds = {run.config.train.seed: ""}
    for name, other in beside.items():
        if name in means and but_for_the_seed(other) == but_for_the_seed(run):
            seeds.setdefault(other.config.train.seed, name)
    names = [name for name in seeds.values() if name]
    if not names:
        return {}
    result: dict[str, dict[str, float]] = {}
    for key in (*COMPARED, "pearson"):
        values = [means[names[0]].get(f"model_{key}", np.nan), *(means[name].get(key, np.nan) for name in names)]
        if not np.isnan(values).any():
            spread = {"mean": float(np.mean(values)), "sd": float(np.std(values, ddof=1))}
            result[key] = {"runs": len(values), **spread}
    return result


def but_for_the_seed(run: Run) -> dict[str, Any]:
    """Return what makes a training what it is, but for its seed."""
    plan = run.config.model_dump(include={"factors", "model", "objective", "train"})
    del plan["train"]["seed"]
    return plan


def baseline_means(
    tracks: Sequence[Mapping[str, Any]], baselines: Sequence[Mapping[str, Any]]
) -> dict[str, dict[str, dict[str, float]]]:
    """Return {set of tracks: {baseline: means}}, each mean beside the model's own over the same tracks (`model_...`).

    Over the rated peak tracks (`tracks`) and the signal tracks (`signal_tracks`) that have the baseline.
    """
    own = {row["track"]: row for row in tracks}
    result: dict[str, dict[str, dict[str, float]]] = {}
    for name, trained in (("training_tracks", True), ("held_out_tracks", False)):
        for baseline in dict.fromkeys(row["baseline"] for row in baselines):
            rows = [row for row in baselines if row["baseline"] == baseline and own[row["track"]]["trained"] == trained]
            peaks = [row for row in rows if rated(own[row["track"]])]
            signals = [row for row in rows if row["kind"] == "signal"]
            if not peaks and not signals:
                continue
            means: dict[str, float] = {"tracks": len(peaks), "signal_tracks": len(signals)}
            for chosen, columns in ((peaks, COMPARED), (signals, ("pearson",))):
                models = [own[row["track"]] for row in chosen]
                means |= {key: mean_of(chosen, key) for key in columns}
                means |= {f"model_{key}": mean_of(models, key) for key in columns}
            result.setdefault(name, {})[baseline] = means
    return result
