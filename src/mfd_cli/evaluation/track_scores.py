"""How well predictions fit the data of each track: one row of numbers per track, and averages of them.

Peak tracks are judged by how their logits rank the bins (AUROC, average precision) and by whether probabilities are right
(calibration); signal tracks by correlations and by the deviance that is explained. A row has the columns of both kinds; those
that do not belong to its kind are NaN, so that tracks.tsv is one table.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from typing import Any

import numpy as np
import torch

from mfd_cli.base.arrays import Bools, Ints
from mfd_cli.core.metrics import auroc_auprc, average_ranks, correlation, deviance_explained
from mfd_cli.dataset.bins import Bins
from mfd_cli.evaluation.linear import Scores
from mfd_cli.runs.at_work import labels_of
from mfd_cli.runs.folder import Run

LOGITS_AT_ONCE = 2**28
"""Logits that are in memory together: 1 GiB. More of them mean fewer passes over the latents."""
CELLS_AT_ONCE = 2**23
"""Cells, bins of tracks, that are ranked together: what that takes is some 20 times as large as they are."""
FEWEST_POSITIVES = 5
"""Tracks with fewer positive (or negative) bins in the split have metrics, but do not count in averages."""
RANKING = ("auroc", "auroc_occupied", "auprc", "auprc_over_prevalence", "prevalence", "calibration")
"""Columns that only peak tracks have, besides the number of their positives."""
FIT = ("pearson", "spearman", "deviance_explained")
"""Columns that only signal tracks have."""

Look = Callable[[int, Mapping[str, Any], torch.Tensor, torch.Tensor], None]
"""What looks at a peak track's place, its row, its logits (bins,), and its labels (bins,), NaN where not measured."""


def scores_of(
    run: Run,
    bins: Bins,
    prediction: Scores,
    tracks: Ints,
    look: Look | None = None,
    report: Callable[[int, int], None] | None = None,
) -> Iterator[tuple[int, dict[str, Any]]]:
    """Yield the number of each column of a prediction that says something, and how well it fits the data of its track.

    `tracks` (columns,) are the places among the run's tracks of those that the columns are compared with. The logits of a few
    columns are in memory together. `report` is told how many columns are done, and of how many; `look` is shown every peak
    track's cells.
    """
    columns = np.flatnonzero(~np.isnan(prediction.bias))
    occupied = torch.from_numpy(bins.occupied(np.ones(run.peak_tracks, bool)))
    at_once = max(LOGITS_AT_ONCE // len(bins), 1)
    for low in range(0, len(columns), at_once):
        chosen = columns[low : low + at_once]
        logits = torch.from_numpy(prediction.logits(chosen)).T
        for first, last in _together(tracks[chosen] < run.peak_tracks, max(CELLS_AT_ONCE // len(bins), 1)):
            mine, own = logits[:, first:last], tracks[chosen[first:last]]
            if own[0] >= run.peak_tracks:
                rows = [signal_row(run, bins, int(own[0]) - run.peak_tracks, mine)]
            else:
                labels = labels_of(run, bins, own)
                rows = peak_metrics(mine, labels, occupied)
                if look is not None:
                    for place, row in enumerate(rows):
                        look(int(own[place]), row, mine[:, place], labels[:, place])
            yield from zip(chosen[first:last].tolist(), rows)
            if report:
                report(low + last, len(columns))


def _together(peaks: Bools, most: int) -> Iterator[tuple[int, int]]:
    """Which columns are scored together, from the first to before the last: at most so many peak tracks, or one signal."""
    first = 0
    while first < len(peaks):
        last = first + 1
        while peaks[first] and last < min(len(peaks), first + most) and peaks[last]:
            last += 1
        yield first, last
        first = last


def peak_metrics(logits: torch.Tensor, labels: torch.Tensor, occupied: torch.Tensor) -> list[dict[str, Any]]:
    """Return one row per column of `logits` and `labels`, (bins, tracks) both, NaN where not measured.

    `occupied` (bins,) marks the bins where any track has a peak. Among them the question "is there a peak at all" is
    settled, so AUROC there (auroc_occupied) is what tells a track from the others.
    """
    auroc, auprc = auroc_auprc(logits, labels)
    auroc_occupied, _ = auroc_auprc(logits[occupied], labels[occupied])
    positives = (labels == 1).sum(0).numpy()
    measured = (~labels.isnan()).sum(0).numpy()
    expected = torch.sigmoid(logits).masked_fill(labels.isnan(), 0).sum(0).numpy()
    rows = []
    for i in range(labels.shape[1]):
        prevalence = positives[i] / measured[i] if measured[i] else np.nan
        rows.append(
            {
                "bins": int(measured[i]),
                "positives": int(positives[i]),
                "prevalence": float(prevalence),
                "auroc": float(auroc[i]),
                "auroc_occupied": float(auroc_occupied[i]),
                "auprc": float(auprc[i]),
                "auprc_over_prevalence": float(auprc[i] / prevalence) if positives[i] else np.nan,
                "calibration": float(expected[i] / positives[i]) if positives[i] else np.nan,
                **dict.fromkeys(FIT, np.nan),
            }
        )
    return rows


def signal_row(run: Run, bins: Bins, place: int, predicted: torch.Tensor) -> dict[str, Any]:
    """Return the row of one signal track, by its place among them, from the model's output for it (bins, 1).

    It is compared on the scale that the track was trained on.
    """
    scale = run.signal_scale.only(place)
    truth = scale.forward(torch.from_numpy(bins.signals(np.array([place]))))
    return signal_metrics(scale.expected(predicted), truth, torch.from_numpy(scale.counts))[0]


def signal_metrics(guess: torch.Tensor, truth: torch.Tensor, counts: torch.Tensor) -> list[dict[str, Any]]:
    """Return one row per column of `guess` and `truth`, (bins, tracks) both, NaN where not measured.

    `counts` (tracks,) marks the columns with a Poisson loss, whose deviance is Poisson's; of the others it is the squared
    error.
    """
    guess = torch.where(truth.isnan(), torch.nan, guess)
    pearson, spearman = correlation(guess, truth), correlation(average_ranks(guess), average_ranks(truth))
    explained = deviance_explained(guess, truth, counts)
    return [
        {
            "bins": int((~truth[:, i].isnan()).sum()),
            "positives": np.nan,
            **dict.fromkeys(RANKING, np.nan),
            "pearson": float(pearson[i]),
            "spearman": float(spearman[i]),
            "deviance_explained": float(explained[i]),
        }
        for i in range(truth.shape[1])
    ]


def rated(track: Mapping[str, Any]) -> bool:
    """Return whether a row is of a peak track with enough positives and negatives to count in averages."""
    enough = FEWEST_POSITIVES <= track["positives"] <= track["bins"] - FEWEST_POSITIVES
    return bool(track["kind"] == "peaks" and enough)


def mean_of(rows: Sequence[Mapping[str, Any]], column: str) -> float:
    """Return the mean of a column over the rows that have a number there, NaN where none has."""
    values = np.array([row[column] for row in rows], float)
    known = values[~np.isnan(values)]
    return float(known.mean()) if len(known) else np.nan


def averages(tracks: Sequence[Mapping[str, Any]], shares: Sequence[str]) -> dict[str, float]:
    """Return means over tracks: of RANKING over the rated ones, of FIT and of the columns `shares` over all that have them."""
    used = [track for track in tracks if rated(track)]
    result: dict[str, float] = {
        "rated_tracks": len(used),
        "signal_tracks": sum(track["kind"] == "signal" for track in tracks),
    }
    for name in RANKING:
        result[name] = mean_of(used, name)
    result["auroc_median"] = float(np.median([track["auroc"] for track in used])) if used else np.nan
    for name in (*FIT, *shares):
        result[name] = mean_of(tracks, name)
    return result
