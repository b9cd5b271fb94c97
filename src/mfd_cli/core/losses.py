"""The prediction loss: cross-entropy for peak tracks, log-normal or Poisson likelihoods for signal tracks.

A signal x is predicted on the scale y = (sign(x) log(1 + |x| / c) - mean) / sd of the training bins, c a tenth of the
track's mean absolute signal: the logit of a signal track is y, and its loss half the squared error (the negative log
likelihood of a log-normal with the track's spread). A signal that is declared as counts is divided by its mean, y = x / m;
its logit f is log y's expectation, and its loss half the Poisson deviance, exp(f) - y f + y log y - y, which is 0 for a
perfect prediction. Cells that were not measured are left out.

What a log-normal track's logit says on the scale of the signal is the median, which lies below the mean. The mean is estimated
by the ratio estimator of Snowdon (1991): the median times the ratio of the summed signal to the summed medians on bins that
were not trained on. Duan's smearing factor, the mean of exp(residual), holds for signals far above the floor c only.
"""

from __future__ import annotations

import math
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor

from mfd_cli.base.arrays import Bools, Doubles, Floats
from mfd_cli.base.errors import ConfigError

ROUNDING = 1e-3
"""Signals below so many floors c are 0: to the model's scale and back, float32 does not keep more."""


@dataclass(frozen=True)
class SignalScale:
    """The scale of each signal track: floor c, mean and sd of sign(x) log(1 + |x| / c), each (tracks,) float32.

    `counts` marks tracks with a Poisson loss; for them `mean` is the mean count and the others have no meaning. `ratio` is that
    of the mean signal to the mean of the medians, 1 before it is measured (see `calibrated`).
    """

    floor: Floats
    mean: Floats
    sd: Floats
    counts: Bools
    ratio: Floats

    @classmethod
    def fit(cls, signal: Floats, counts: Bools | None = None) -> SignalScale:
        """Return the scales of training bins (bins, tracks), NaN where not measured. ConfigError for counts below zero."""
        counts = np.zeros(signal.shape[1], bool) if counts is None else counts
        if signal.shape[1] == 0:
            empty = np.zeros(0, np.float32)
            return cls(empty, empty, empty, counts, empty)
        count, total, size = (np.zeros(signal.shape[1]) for _ in range(3))
        for block in _blocks(signal):
            if (block[:, counts] < 0).any():
                raise ConfigError("a signal track that is declared as counts has values below zero")
            count += (~np.isnan(block)).sum(0)
            total += np.nansum(block, 0, dtype=np.float64)
            size += np.nansum(np.abs(block), 0, dtype=np.float64)
        count = np.maximum(count, 1)
        average, floor = total / count, size / count / 10
        floor = np.where(floor > 0, floor, 1.0)
        mean, square = np.zeros_like(floor), np.zeros_like(floor)
        for block in _blocks(signal):
            mean += np.nansum(_logs(block, floor), 0) / count
        for block in _blocks(signal):
            square += np.nansum((_logs(block, floor) - mean) ** 2, 0)
        sd = np.sqrt(square / count)
        mean = np.where(counts, np.where(average > 0, average, 1), mean)
        scale, middle, spread = (values.astype(np.float32) for values in (floor, mean, np.where(sd > 0, sd, 1)))
        return cls(scale, middle, spread, counts, np.ones_like(scale))

    def calibrated(self, predicted: Tensor, signal: Tensor) -> SignalScale:
        """Return these scales with the ratio measured on bins: `predicted`, `signal` (bins, tracks) on the scale of `forward`.

        NaN is not measured. Counts have a ratio of 1, as their prediction is a mean, and so has a signal with values of both
        signs, or a prediction of the other sign. A track without a measured bin has the median ratio of the others.
        """
        known = ~(torch.isnan(predicted) | torch.isnan(signal))
        medians, truth = (
            torch.where(known, self.median(values.double()), 0.0).cpu().numpy() for values in (predicted, signal)
        )
        rounding = ROUNDING * self.floor
        one_sign = (truth >= -rounding).all(0) | (truth <= rounding).all(0)
        with np.errstate(divide="ignore", invalid="ignore"):
            ratio = truth.sum(0) / medians.sum(0)
        usable = one_sign & np.isfinite(ratio) & (ratio > 0) & ~self.counts
        measured = known.any(0).cpu().numpy()
        typical = float(np.median(ratio[usable & measured])) if (usable & measured).any() else 1.0
        ratio = np.where(usable, ratio, np.where(measured | self.counts, 1.0, typical))
        return replace(self, ratio=ratio.astype(np.float32))

    def only(self, track: int) -> SignalScale:
        """Return the scale of one track alone."""
        own = slice(track, track + 1)
        return SignalScale(self.floor[own], self.mean[own], self.sd[own], self.counts[own], self.ratio[own])

    def _of(self, like: Tensor) -> tuple[Tensor, ...]:
        return tuple(torch.as_tensor(v, device=like.device) for v in (self.floor, self.mean, self.sd, self.counts))

    def forward(self, signal: Tensor) -> Tensor:
        """Return signal (batch, tracks) on the scale that the loss compares with; NaN stays NaN."""
        floor, mean, sd, counts = self._of(signal)
        return torch.where(counts, signal / mean, (torch.sign(signal) * torch.log1p(signal.abs() / floor) - mean) / sd)

    def expected(self, logits: Tensor) -> Tensor:
        """Return what logits (batch, tracks) predict on the scale of `forward`."""
        return torch.where(self._of(logits)[3], bounded_exp(logits), logits)

    def inverse(self, scaled: Tensor) -> Tensor:
        """Return the mean signal (batch, tracks) where a prediction on the scale of `forward` is this."""
        return self.median(scaled) * torch.as_tensor(self.ratio, device=scaled.device)

    def median(self, scaled: Tensor) -> Tensor:
        """Return the signal whose value on the scale of `forward` this is: the median of the log-normal, the mean count."""
        floor, mean, sd, counts = self._of(scaled)
        logs = scaled * sd + mean
        return torch.where(counts, scaled * mean, torch.sign(logs) * torch.expm1(logs.abs()) * floor)

    def to_json(self) -> dict[str, list[Any]]:
        """Return the scales as lists, for model.json."""
        return {name: getattr(self, name).tolist() for name in ("floor", "mean", "sd", "counts", "ratio")}

    @classmethod
    def from_json(cls, stored: Mapping[str, Any]) -> SignalScale:
        """Return the scales that `to_json` described; of a run that never measured a ratio, it is 1."""
        floor, mean, sd = (np.array(stored[name], np.float32) for name in ("floor", "mean", "sd"))
        ratio = np.array(stored.get("ratio") or np.ones_like(floor), np.float32)
        return cls(floor, mean, sd, np.array(stored["counts"], bool), ratio)


BLOCK = 65_536
"""Bins whose signals are looked at together: memory does not grow with the genome."""


def _blocks(signal: Floats) -> Iterator[Floats]:
    """Some bins of (bins, tracks) after the other."""
    return (signal[low : low + BLOCK] for low in range(0, len(signal), BLOCK))


def _logs(signal: Floats, floor: Doubles) -> Doubles:
    """sign(x) log(1 + |x| / c) of signals, NaN where not measured."""
    logs: Doubles = np.sign(signal) * np.log1p(np.abs(signal) / floor)
    return logs


LINEAR_BEYOND = 15
"""A logit of counts, as log of a multiple of the track's mean: no genome has a bin with e^15 times the mean."""


def bounded_exp(logits: Tensor) -> Tensor:
    """Return exp(logits), continued by its tangent beyond LINEAR_BEYOND, so that a wild prediction cannot overflow."""
    tangent = math.exp(LINEAR_BEYOND) * (logits - (LINEAR_BEYOND - 1))
    # The branch that is not taken must be finite too: an infinite one would make the gradient of the other NaN.
    return torch.where(logits > LINEAR_BEYOND, tangent, logits.clamp_max(LINEAR_BEYOND).exp())


def poisson_loss(logits: Tensor, target: Tensor) -> Tensor:
    """Return half the Poisson deviance exp(f) - y f + y log y - y of counts relative to their mean, in the shape of both."""
    return bounded_exp(logits) - target * logits + torch.special.xlogy(target, target) - target


def curvature(logits: Tensor, peaks: int, signal_weight: float, counts: Tensor) -> Tensor:
    """Return the second derivative of each track's loss by its logit, the mean over a batch: (tracks,).

    `logits` (batch, tracks), of which the first `peaks` are of peak tracks: p (1 - p). Of signals it is their weight, times the
    expected count where `counts` (signal tracks,) says so.
    """
    share = torch.sigmoid(logits[:, :peaks])
    of_peaks = (share * (1 - share)).mean(0)
    of_signal = torch.where(counts, bounded_exp(logits[:, peaks:]).mean(0), 1.0)
    return torch.cat([of_peaks, signal_weight * of_signal])


def prediction_loss(
    logits: Tensor,
    peaks: Tensor,
    signal: Tensor,
    used: Tensor,
    signal_weight: float,
    counts: Tensor | None = None,
    weight: Tensor | None = None,
) -> tuple[Tensor, Tensor]:
    """Return the loss to minimise and its value per track (tracks,), each averaged over the measured bins of the batch.

    `logits` (batch, peak tracks + signal tracks), `peaks` (batch, peak tracks) 0/1, `signal` (batch, signal tracks) on
    the model's scale, `used` (batch or 1, tracks) 1 where a cell is measured and its track trains, 0 elsewhere, `counts`
    (signal tracks,) marks those with a Poisson loss. `weight` (batch, 1), where given, is what each bin counts for; it is not
    part of what is divided by, so that weights which are 1 on average leave the loss what it is on average.
    """
    count = peaks.shape[1]
    losses = F.binary_cross_entropy_with_logits(logits[:, :count], peaks, reduction="none")
    if signal.shape[1]:
        known, guess = torch.nan_to_num(signal), logits[:, count:]
        of_signal = 0.5 * (guess - known).pow(2)
        if counts is not None and counts.any():
            # Where it is not used, a negative value would make the other branch, and its gradient, NaN.
            of_signal = torch.where(counts, poisson_loss(guess, known.clamp_min(0)), of_signal)
        losses = torch.cat([losses, signal_weight * of_signal], 1)
    used = used.expand_as(losses)
    weighted = losses * used if weight is None else losses * used * weight
    return weighted.sum() / used.sum().clamp_min(1), weighted.sum(0) / used.sum(0).clamp_min(1)
