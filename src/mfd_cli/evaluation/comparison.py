"""What a model is compared with, one prediction after the other, and how it stands beside each."""

from __future__ import annotations

from collections.abc import Collection, Iterable, Iterator, Mapping, Sequence
from contextlib import AbstractContextManager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch

from mfd_cli.base.long_array import LongArray
from mfd_cli.base.progress import Progress
from mfd_cli.core.predictor import Head, Predictor
from mfd_cli.dataset.bins import Bins
from mfd_cli.dataset.folder import Dataset
from mfd_cli.evaluation.baselines import from_other_tracks, kmer_ridge
from mfd_cli.evaluation.linear import Prediction
from mfd_cli.evaluation.track_scores import Look, mean_of, rated, scores_of
from mfd_cli.runs.at_work import kept_latents
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

    def latents(self, run: Run) -> AbstractContextManager[LongArray]:
        """Return the latents (bins, latent) that a run has of the bins, for as long as the context lasts."""
        return kept_latents(run, self.dataset, self.bins, self.folder, self.device, self.batch_size, self.progress)

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
    names = {"shared part", KMERS}
    kinds = [track.kind for track in run.tracks]
    for name, prediction in from_other_tracks(own, run.model.metadata, run.model.rows, run.model.trained, kinds):
        names.add(name)
        yield name, prediction
    yield "shared part", Prediction(own.inputs, np.broadcast_to(head.shared, own.weights.shape), own.bias)
    if kmer and run.peak_tracks:
        with kmer_ridge(reading.dataset, reading.bins, reading.folder) as prediction:
            yield KMERS, prediction
    for name, other in beside.items():
        free = free_name(name, names)
        names.add(free)
        with reading.latents(other) as latents:
            theirs = Predictor(other.model, reading.device).head
            yield free, Prediction(latents, theirs.matrix(), theirs.bias)


def score_baselines(run: Run, reading: Reading, baselines: Iterable[tuple[str, Prediction]]) -> list[dict[str, Any]]:
    """Return one row per baseline and track that it says something about, from names and predictions."""
    rows = []
    for name, prediction in baselines:
        for index, row in reading.scores(run, prediction, name):
            track, shown = run.tracks[index], {key: row[key] for key in (*COMPARED, "pearson")}
            rows.append({"track": track.id, "kind": track.kind, "baseline": name, **shown})
    return rows


def free_name(run: str, taken: Collection[str]) -> str:
    """Return the name of a run among baselines: its own, or `run NAME` where another baseline has that."""
    while run in taken:
        run = f"run {run}"
    return run


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
