"""Measuring a model while it is trained, and keeping the best."""

from __future__ import annotations

import json
import time
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from mfd_cli.base.files import whole_file
from mfd_cli.core.losses import SignalScale, prediction_loss
from mfd_cli.core.metrics import auroc_auprc, correlation
from mfd_cli.core.model import MfdModel
from mfd_cli.core.unseen import fill_held_out
from mfd_cli.dataset.folder import Dataset
from mfd_cli.runs.batches import LabelledBins
from mfd_cli.runs.folder import METRICS, Run, save_run
from mfd_cli.training.setup import Best, Trainer, outputs_of

FEWEST_POSITIVES = 5
"""A track needs this many positive and negative bins before its AUROC counts in an average."""


def due(trainer: Trainer, bins: int) -> bool:
    """Whether it is time to validate: once an epoch, or every so many windows, and at the end."""
    size = min(trainer.config.train.batch_size, bins)
    every = max(1, (trainer.config.train.windows_per_validation or bins) // size)
    return trainer.step % every == 0 or trainer.step == trainer.total_steps


def out_of_time(trainer: Trainer) -> bool:
    limit = trainer.config.train.max_minutes
    return limit is not None and trainer.seconds > 60 * limit


def validate(
    trainer: Trainer, data: LabelledBins, dataset: Dataset, folder: Path, scale: SignalScale, about: dict[str, Any]
) -> bool:
    """Measure the averaged model, keep it if it is the best, add to metrics.jsonl; True if training should end."""
    started = time.monotonic()
    fill_held_out(trainer.average, [track.kind for track in outputs_of(dataset)])
    measured = measure(trainer.average, data, trainer.config.objective.signal_weight, trainer.used)
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
        "windows": trainer.step * trainer.config.train.batch_size,
        "seconds": round(trainer.seconds, 1),
        "lr": trainer.optimiser.param_groups[0]["lr"],
        **averages,
        **measured,
        "best": better,
    }
    append_metrics(folder / METRICS, line)
    if better:
        summary = {**about, "step": trainer.step, "windows": line["windows"], "validation": measured}
        save_run(Run(folder, trainer.config, trainer.average, outputs_of(dataset), scale, summary))
    return trainer.best.without_improvement >= trainer.config.train.patience


@torch.inference_mode()
def measure(model: MfdModel, data: LabelledBins, signal_weight: float, used: Tensor) -> dict[str, float]:
    """Prediction loss, AUROC, AUPRC and correlation of signals on these bins, averaged over the training tracks.

    `skill`, by which the best weights are chosen, is the mean over tracks of the AUROC, or for signals of (1 + r) / 2.
    """
    if not len(data):
        return {"skill": 0.0}
    model.eval()
    logits, peaks, signals, known, losses = [], [], [], [], 0.0
    for batch in data.in_order(512):
        out = model(batch.codes).logits
        cells = (batch.measured * used).expand(len(out), -1)
        loss, _ = prediction_loss(out, batch.peaks, batch.signal, cells, signal_weight, data.counts)
        losses += float(loss) * len(out)
        logits.append(torch.cat([out[:, : data.peak_tracks], data.scale.expected(out[:, data.peak_tracks :])], 1))
        peaks.append(batch.peaks.masked_fill(cells[:, : batch.peaks.shape[1]] == 0, torch.nan))
        signals.append(batch.signal.masked_fill(cells[:, batch.peaks.shape[1] :] == 0, torch.nan))
        known.append(cells)
    scores, labels, signal = torch.cat(logits), torch.cat(peaks), torch.cat(signals)
    auroc, auprc = auroc_auprc(scores[:, : labels.shape[1]], labels)
    positives, negatives = (labels == 1).sum(0).cpu(), (labels == 0).sum(0).cpu()
    rated = (positives >= FEWEST_POSITIVES) & (negatives >= FEWEST_POSITIVES)
    r = correlation(scores[:, labels.shape[1] :], signal).cpu()
    skills = torch.cat([auroc[rated], (1 + r[~r.isnan()]) / 2])
    result = {"loss": losses / len(scores), "skill": float(skills.mean()) if len(skills) else 0.0}
    if rated.any():
        result |= {
            "auroc_mean": float(auroc[rated].mean()),
            "auroc_median": float(auroc[rated].median()),
            "auprc_mean": float(auprc[rated].mean()),
            "rated_tracks": float(rated.sum()),
        }
    if (~r.isnan()).any():
        result["pearson_mean"] = float(r[~r.isnan()].mean())
    return result


def append_metrics(path: Path, line: Mapping[str, Any]) -> None:
    """Add a line to metrics.jsonl, dropping lines of a future that a resumed run has not reached yet."""
    kept = []
    if path.is_file():
        kept = [text for text in path.read_text("utf-8").splitlines() if json.loads(text)["step"] < line["step"]]
    with whole_file(path) as temporary:
        temporary.write_text("\n".join([*kept, json.dumps(line)]) + "\n", "utf-8")
