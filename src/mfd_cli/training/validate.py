"""Measuring a model while it is trained, and keeping the best."""

from __future__ import annotations

import time
from typing import Any, NamedTuple

import torch
from torch import Tensor

from mfd_cli.core.losses import SignalScale, prediction_loss
from mfd_cli.core.metrics import auroc_auprc, correlation
from mfd_cli.core.model import MfdModel, in_evaluation
from mfd_cli.core.unseen import fill_held_out
from mfd_cli.dataset.folder import Dataset
from mfd_cli.runs.batches import LabelledBins
from mfd_cli.runs.folder import Run, save_run
from mfd_cli.training.record import Record
from mfd_cli.training.setup import Best, Trainer, outputs_of

FEWEST_POSITIVES = 5
"""A track needs this many positive and negative bins before its AUROC counts in an average."""
SELECTION = "the mean of AUROC among occupied bins and AUPRC (signals: correlation), where 0 is chance and 1 is perfect"
"""What the best weights are chosen by, in words; a run that was chosen by something else cannot go on by this."""
MOST_WINDOWS = 250_000
"""Training windows from one validation to the next, where an epoch has more and nothing is set."""
VALIDATED_AT_ONCE = 512
"""Bins of one pass: without gradients so many fit wherever a training batch does."""


def due(trainer: Trainer) -> bool:
    """Return whether it is time to validate: once an epoch or every so many windows, and at the end."""
    return trainer.step % steps_between(trainer) == 0 or trainer.step == trainer.total_steps


def steps_between(trainer: Trainer) -> int:
    """Return how many steps there are from one validation to the next."""
    windows, pace = trainer.config.train.windows_per_validation, trainer.pace
    if windows is None:
        return min(pace.steps_per_epoch, max(1, MOST_WINDOWS // pace.bins))
    return max(1, windows // pace.bins)


def out_of_time(trainer: Trainer) -> bool:
    """Return whether the training has lasted longer than `train.max_minutes`."""
    limit = trainer.config.train.max_minutes
    return limit is not None and trainer.seconds > 60 * limit


def validate(
    trainer: Trainer, data: LabelledBins, dataset: Dataset, record: Record, scale: SignalScale, about: dict[str, Any]
) -> bool:
    """Measure the averaged model, record that, keep it in the record's folder if it is the best; return whether training
    should end."""
    started = time.monotonic()
    fill_held_out(trainer.average, [track.kind for track in outputs_of(dataset)])
    predicted = predict_bins(trainer.average, data, trainer.config.objective.signal_weight, trainer.used)
    measured = figures(predicted)
    steps = max(float(trainer.sums.get("steps", 0.0)), 1.0)
    averages = {f"train_{name}": float(value) / steps for name, value in trainer.sums.items() if name != "steps"}
    better = measured["skill"] > trainer.best.skill or not len(data)
    if better:
        trainer.best = Best(measured["skill"], trainer.step)
    else:
        trainer.best.without_improvement += 1
    trainer.seconds += time.monotonic() - started
    line = {
        "step": trainer.step,
        "windows": trainer.step * trainer.pace.bins,
        "seconds": round(trainer.seconds, 1),
        "lr": trainer.optimiser.param_groups[0]["lr"],
        **averages,
        **measured,
        "best": better,
    }
    record.add(line)
    if better:
        summary = {
            **about,
            "step": trainer.step,
            "windows": line["windows"],
            "validation": measured,
            "unfinished": True,
        }
        calibrated = scale.calibrated(predicted.expected, predicted.signal) if predicted else scale
        save_run(Run(record.folder, trainer.config, trainer.average, outputs_of(dataset), calibrated, summary))
    return trainer.best.without_improvement >= trainer.config.train.patience


class Predictions(NamedTuple):
    """What a model predicts of labelled bins, beside what is known of them; (bins, tracks) each, on the model's device.

    `scores` are the logits of the peak tracks; `peaks` their labels. `expected` is on the scale of `signal`, the model's.
    Labels are NaN where a track was not measured or does not train.
    """

    scores: Tensor
    peaks: Tensor
    expected: Tensor
    signal: Tensor
    loss: float


@torch.inference_mode()
def predict_bins(model: MfdModel, data: LabelledBins, signal_weight: float, used: Tensor) -> Predictions | None:
    """Apply the model, in evaluation mode, to all bins in order; None where there is none.

    `used` (tracks,) is 1 for training tracks: nothing is looked up of the others.
    """
    if not len(data):
        return None
    count, loss, seen = data.peak_tracks, 0.0, 0.0
    parts: list[tuple[Tensor, ...]] = []
    with in_evaluation(model):
        for batch in data.in_order(VALIDATED_AT_ONCE):
            logits = model(batch.codes).logits
            cells = (batch.measured * used).expand(len(logits), -1)
            mean, _ = prediction_loss(logits, batch.peaks, batch.signal, cells, signal_weight, data.counts)
            loss, seen = loss + float(mean) * float(cells.sum()), seen + float(cells.sum())
            peaks = batch.peaks.masked_fill(cells[:, :count] == 0, torch.nan)
            signal = batch.signal.masked_fill(cells[:, count:] == 0, torch.nan)
            parts.append((logits[:, :count], peaks, data.scale.expected(logits[:, count:]), signal))
    scores, peaks, expected, signal = (torch.cat(pieces) for pieces in zip(*parts))
    return Predictions(scores, peaks, expected, signal, loss / max(seen, 1.0))


def figures(predicted: Predictions | None) -> dict[str, float]:
    """Return the prediction loss, AUROC, AUPRC and correlation of signals, averaged over the training tracks.

    `skill`, by which the best weights are chosen, is the mean over rated tracks of `peak_skill`, or for signals of r. Which
    tracks are rated depends on the labels alone, so that the skills of two models can be compared: a peak track with
    FEWEST_POSITIVES bins of either kind, a signal that varies (a prediction that does not has r = 0). Where no track is
    rated, skill is minus the loss. Without bins it is 0.
    """
    if predicted is None:
        return {"skill": 0.0}
    auroc, auprc = auroc_auprc(predicted.scores, predicted.peaks)
    positives, negatives = (predicted.peaks == 1).sum(0).cpu(), (predicted.peaks == 0).sum(0).cpu()
    rated = (positives >= FEWEST_POSITIVES) & (negatives >= FEWEST_POSITIVES)
    r = correlation(predicted.expected, predicted.signal).cpu()[_varies(predicted.signal).cpu()].nan_to_num(0.0)
    among = auroc_among_occupied(predicted.scores, predicted.peaks, auroc)
    skills = torch.cat([peak_skill(among, auprc, positives / (positives + negatives))[rated], r])
    result = {"loss": predicted.loss, "skill": float(skills.mean()) if len(skills) else -predicted.loss}
    if rated.any():
        result |= {
            "auroc_mean": float(auroc[rated].mean()),
            "auroc_median": float(auroc[rated].median()),
            "auroc_occupied_mean": float(among[rated].mean()),
            "auprc_mean": float(auprc[rated].mean()),
            "rated_tracks": float(rated.sum()),
        }
    if len(r):
        result["pearson_mean"] = float(r.mean())
    return result


def auroc_among_occupied(scores: Tensor, peaks: Tensor, everywhere: Tensor) -> Tensor:
    """Return the AUROC (tracks,) among the bins where any track has a peak, of scores and labels (bins, tracks).

    There the question whether there is a peak at all is settled, and a model is asked whose it is. A track with fewer than
    FEWEST_POSITIVES bins of either kind among them (all peaks are its own, say) has its AUROC `everywhere` (tracks,).
    """
    occupied = (peaks == 1).any(1)
    among, _ = auroc_auprc(scores[occupied], peaks[occupied])
    each = torch.stack([(peaks[occupied] == label).sum(0) for label in (0, 1)]).cpu()
    return torch.where((each >= FEWEST_POSITIVES).all(0), among, everywhere)


def peak_skill(auroc: Tensor, auprc: Tensor, prevalence: Tensor) -> Tensor:
    """Return the mean of AUROC and AUPRC (tracks,), each moved so that chance is 0, and scaled so that perfect is 1.

    An AUROC of all bins is mostly that of telling promoters from the rest, which all tracks have in common. AUPRC asks for the
    few bins at the top; its chance is the prevalence.
    """
    return ((2 * auroc - 1) + (auprc - prevalence) / (1 - prevalence)) / 2


def _varies(signal: Tensor) -> Tensor:
    """Which columns (bins, tracks) have two different values among those that are known: (tracks,)."""
    known = ~torch.isnan(signal)
    largest = signal.masked_fill(~known, -torch.inf).amax(0)
    return largest > signal.masked_fill(~known, torch.inf).amin(0)
