"""The prediction loss: cross-entropy for peak tracks, a log-normal likelihood for signal tracks.

A signal x is predicted on the scale y = (sign(x) log(1 + |x| / c) - mean) / sd of the training bins, c a tenth of the
track's mean absolute signal: the logit of a signal track is y, and its loss half the squared error (the negative log
likelihood of a log-normal with the track's spread). Cells that were not measured are left out.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
import torch.nn.functional as F
from numpy.typing import NDArray
from torch import Tensor


@dataclass(frozen=True)
class SignalScale:
    """The log scale of each signal track: floor c, mean and sd of sign(x) log(1 + |x| / c), each (tracks,) float32."""

    floor: NDArray[np.float32]
    mean: NDArray[np.float32]
    sd: NDArray[np.float32]

    @classmethod
    def fit(cls, signal: NDArray[np.float32]) -> SignalScale:
        """From training bins (bins, tracks), NaN where not measured."""
        if signal.shape[1] == 0:
            empty = np.zeros(0, np.float32)
            return cls(empty, empty, empty)
        with np.errstate(invalid="ignore"):
            known = ~np.isnan(signal)
            count = np.maximum(known.sum(0), 1)
            floor = np.where(known, np.abs(signal), 0).sum(0, dtype=np.float64) / count / 10
            floor = np.where(floor > 0, floor, 1.0)
            logs = np.where(known, np.sign(signal) * np.log1p(np.abs(signal) / floor), 0.0)
            mean = logs.sum(0) / count
            sd = np.sqrt(np.where(known, (logs - mean) ** 2, 0).sum(0) / count)
        return cls(floor.astype(np.float32), mean.astype(np.float32), np.where(sd > 0, sd, 1).astype(np.float32))

    def forward(self, signal: Tensor) -> Tensor:
        """Signal (batch, tracks) on the model's scale; NaN stays NaN."""
        floor, mean, sd = (torch.as_tensor(v, device=signal.device) for v in (self.floor, self.mean, self.sd))
        return (torch.sign(signal) * torch.log1p(signal.abs() / floor) - mean) / sd

    def inverse(self, scaled: Tensor) -> Tensor:
        """The signal whose scaled value this is (the median of the log-normal)."""
        floor, mean, sd = (torch.as_tensor(v, device=scaled.device) for v in (self.floor, self.mean, self.sd))
        logs = scaled * sd + mean
        return torch.sign(logs) * torch.expm1(logs.abs()) * floor

    def to_json(self) -> dict[str, list[float]]:
        return {name: getattr(self, name).tolist() for name in ("floor", "mean", "sd")}

    @classmethod
    def from_json(cls, stored: Mapping[str, Any]) -> SignalScale:
        return cls(*(np.array(stored[name], np.float32) for name in ("floor", "mean", "sd")))


def prediction_loss(
    logits: Tensor, peaks: Tensor, signal: Tensor, used: Tensor, signal_weight: float
) -> tuple[Tensor, Tensor]:
    """Loss to minimise and its value per track (tracks,), each averaged over the measured bins of the batch.

    `logits` (batch, peak tracks + signal tracks), `peaks` (batch, peak tracks) 0/1, `signal` (batch, signal tracks) on
    the model's scale, `used` (batch or 1, tracks) 1 where a cell is measured and its track trains, 0 elsewhere.
    """
    count = peaks.shape[1]
    losses = F.binary_cross_entropy_with_logits(logits[:, :count], peaks, reduction="none")
    if signal.shape[1]:
        error = logits[:, count:] - torch.nan_to_num(signal)
        losses = torch.cat([losses, 0.5 * signal_weight * error.pow(2)], 1)
    used = used.expand_as(losses)
    weighted = losses * used
    return weighted.sum() / used.sum().clamp_min(1), weighted.sum(0) / used.sum(0).clamp_min(1)
