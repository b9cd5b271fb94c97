"""The prediction loss and the scale of signals."""

from __future__ import annotations

import math

import numpy as np
import pytest
import torch
import torch.nn.functional as F

from mfd_cli.base.errors import ConfigError
from mfd_cli.core import losses
from mfd_cli.core.losses import SignalScale, prediction_loss


def test_peaks_and_signals_by_hand() -> None:
    logits = torch.tensor([[0.0, 2.0], [math.log(3), 1.0]])
    peaks, signal = torch.tensor([[1.0], [0.0]]), torch.tensor([[0.0], [3.0]])
    loss, per_track = prediction_loss(logits, peaks, signal, torch.ones(1, 2), signal_weight=0.5)
    cross = (math.log(2) + math.log(4)) / 2
    square = 0.5 * 0.5 * (4 + 4) / 2
    assert per_track.tolist() == pytest.approx([cross, square])
    assert loss.item() == pytest.approx((cross + square) / 2)


def test_a_weighed_bin_counts_as_often_as_it_weighs() -> None:
    """Weights that are 1 on average: the loss of a batch in which the second bin is there three times and the first once."""
    logits, peaks = torch.tensor([[0.3], [-1.0]]), torch.tensor([[1.0], [0.0]])
    none, one = torch.zeros(2, 0), torch.ones(1, 1)
    weighed = prediction_loss(logits, peaks, none, one, 1.0, weight=torch.tensor([[0.5], [1.5]]))
    again = [0, 1, 1, 1]
    repeated = prediction_loss(logits[again], peaks[again], torch.zeros(4, 0), one, 1.0)
    assert [value.tolist() for value in weighed] == [pytest.approx(value.tolist()) for value in repeated]


def test_the_scale_of_signals_is_the_same_in_blocks(monkeypatch: pytest.MonkeyPatch) -> None:
    signal = np.random.default_rng(3).lognormal(size=(50, 3)).astype(np.float32)
    signal[::7, 1] = np.nan
    counts = np.array([False, False, True])
    whole = SignalScale.fit(signal, counts).to_json()
    monkeypatch.setattr(losses, "BLOCK", 8)
    blocks = SignalScale.fit(signal, counts).to_json()
    assert all(blocks[name] == pytest.approx(whole[name]) for name in ("floor", "mean", "sd", "ratio"))


def test_unmeasured_cells_and_held_out_tracks_have_no_gradient() -> None:
    logits = torch.zeros(3, 3, requires_grad=True)
    peaks, signal = torch.ones(3, 2), torch.full((3, 1), torch.nan)
    used = torch.ones(3, 3)
    used[1, 0] = used[:, 1] = used[:, 2] = 0
    loss, _ = prediction_loss(logits, peaks, signal, used, 1.0)
    loss.backward()
    assert loss.item() == pytest.approx(F.binary_cross_entropy_with_logits(torch.zeros(2), torch.ones(2)).item())
    assert logits.grad is not None
    assert (logits.grad != 0).tolist() == [[True, False, False], [False, False, False], [True, False, False]]


def test_signal_scale_is_standardised_logs_and_inverts() -> None:
    rng = np.random.default_rng(0)
    signal = rng.lognormal(1, 1, (200, 2)).astype(np.float32) * [1, -3]
    signal[:7, 1] = np.nan
    signal = signal.astype(np.float32)
    scale = SignalScale.fit(signal)
    scaled = scale.forward(torch.from_numpy(signal))
    known = scaled[~scaled[:, 1].isnan()]
    assert known.mean(0).abs().max() < 0.1
    assert scaled[7:].std(0, correction=0).tolist() == pytest.approx([1, 1], abs=0.05)
    assert torch.allclose(scale.inverse(scaled)[7:], torch.from_numpy(signal)[7:], rtol=1e-4)
    again = SignalScale.from_json(scale.to_json())
    assert np.array_equal(again.mean, scale.mean)


def test_the_ratio_makes_the_mean_of_back_transformed_medians_that_of_the_signal() -> None:
    rng = np.random.default_rng(2)
    centre = rng.normal(0, 0.5, (5000, 1))
    noise = rng.normal(0, 0.8, (5000, 6))
    signal = np.exp(centre + noise).astype(np.float32) * [1, -2, 1, 1, 1, 1]  # the second is a minus strand
    signal[:, 2] = rng.poisson(3, 5000)  # counts
    signal[:, 3] -= 1.0  # both signs
    signal[:, 4] = np.nan  # held out
    signal[::5, 5] = 0.0
    counts = np.arange(6) == 2
    scale = SignalScale.fit(signal.astype(np.float32), counts)
    truth = scale.forward(torch.from_numpy(signal.astype(np.float32)))
    predicted = truth - (truth - truth.nanmean(0)) * 0.7  # regression to the mean on the scale of logs
    measured = scale.calibrated(predicted, truth)
    for track in (0, 1, 5):
        back = measured.inverse(predicted)[:, track].double().mean()
        assert float(back) == pytest.approx(float(signal[:, track].mean()), rel=1e-3)
        assert measured.ratio[track] > 1.1 and float(measured.median(predicted)[:, track].abs().mean()) < 0.9 * abs(
            float(back)
        )
    assert measured.ratio[2] == measured.ratio[3] == 1
    assert measured.ratio[4] == pytest.approx(np.median(measured.ratio[[0, 1, 5]]))
    again = SignalScale.from_json(measured.to_json())
    assert np.array_equal(again.ratio, measured.ratio) and again.only(1).ratio.tolist() == [measured.ratio[1]]
    old = {name: values for name, values in measured.to_json().items() if name != "ratio"}
    assert SignalScale.from_json(old).ratio.tolist() == [1] * 6


def test_a_track_without_signal_does_not_divide_by_zero() -> None:
    scale = SignalScale.fit(np.zeros((5, 1), np.float32))
    assert torch.isfinite(scale.forward(torch.zeros(2, 1))).all()


def test_counts_have_a_poisson_loss() -> None:
    """torch's own Poisson loss and scikit-learn's deviance, at the scale of the mean."""
    from sklearn.metrics import mean_poisson_deviance

    counts = np.random.default_rng(0).poisson(3.0, (400, 1)).astype(np.float32)
    scale = SignalScale.fit(counts, np.array([True]))
    assert scale.mean[0] == pytest.approx(counts.mean())
    logits = torch.randn(400, 1, generator=torch.Generator().manual_seed(0)).double()
    target = scale.forward(torch.from_numpy(counts)).double()
    none = torch.zeros(400, 0)
    loss, _ = prediction_loss(logits, none, target, torch.ones(1, 1), 1.0, torch.tensor([True]))
    deviance = mean_poisson_deviance(target.numpy()[:, 0], logits.exp().numpy()[:, 0])
    assert loss.item() == pytest.approx(deviance / 2, rel=1e-5)
    logits.requires_grad_()
    ours, _ = prediction_loss(logits, none, target, torch.ones(1, 1), 1.0, torch.tensor([True]))
    (own,) = torch.autograd.grad(ours, logits)
    (theirs,) = torch.autograd.grad(F.poisson_nll_loss(logits, target, log_input=True), logits)
    assert torch.allclose(own, theirs)
    assert torch.allclose(scale.inverse(scale.forward(torch.from_numpy(counts))), torch.from_numpy(counts))
    assert torch.allclose(scale.expected(logits), logits.exp())


def test_counts_and_log_normal_tracks_in_one_loss() -> None:
    signal = np.array([[0.0, -2], [4, 3], [2, np.nan]], np.float32)
    scale = SignalScale.fit(signal, np.array([True, False]))
    target, logits = scale.forward(torch.from_numpy(signal)), torch.zeros(3, 2, requires_grad=True)
    used = torch.tensor([[1.0, 1], [1, 1], [1, 0]])
    loss, per_track = prediction_loss(logits, torch.zeros(3, 0), target, used, 1.0, torch.from_numpy(scale.counts))
    loss.backward()
    assert torch.isfinite(loss) and logits.grad is not None and torch.isfinite(logits.grad).all()
    assert per_track[0].item() == pytest.approx((1 + (1 + 2 * math.log(2) - 2) + 0) / 3)
    alone, _ = prediction_loss(torch.zeros(3, 1), torch.zeros(3, 0), target[:, 1:], used[:, 1:], 1.0)
    assert per_track[1].item() == pytest.approx(alone.item())
    with pytest.raises(ConfigError, match="below zero"):
        SignalScale.fit(signal, np.array([True, True]))
    again = SignalScale.from_json(scale.to_json())
    assert again.counts.tolist() == [True, False]
    assert torch.isfinite(scale.expected(torch.full((1, 2), 1e4))).all()
