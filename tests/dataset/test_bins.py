"""Bins of which only those with data take room: what some of the tracks say, and what all of them do."""

from __future__ import annotations

import numpy as np

from mfd_cli.dataset.bins import NO_DATA, Bins, pack_bits

RNG = np.random.default_rng(0)
PEAKS, SIGNAL, MASKS = RNG.random((5, 11)) < 0.5, RNG.normal(size=(5, 3)).astype(np.float32), RNG.random((2, 11)) < 0.5
ROW = np.array([NO_DATA, 3, 0, NO_DATA, 4, 1, 2], np.int32)
MASK = np.array([0, 1, 1, 0, 0, 1, 0], np.int32)


def bins(masks: bool) -> Bins:
    start, contig = np.arange(7) * 128, np.zeros(7, np.int32)
    known = (MASK, pack_bits(MASKS)) if masks else (None, None)
    return Bins(contig, start, ROW, pack_bits(PEAKS), SIGNAL, *known)


def test_some_tracks_in_any_order() -> None:
    wanted = np.array([10, 0, 7, 8])
    labels = np.where(ROW[:, None] == NO_DATA, False, PEAKS[ROW])
    assert np.array_equal(bins(False).labels(wanted), labels[:, wanted])
    assert np.array_equal(bins(False).labels(np.arange(11)), labels)
    assert bins(False).measured(wanted) is None
    assert np.array_equal(bins(True).measured(wanted), MASKS[MASK][:, wanted])
    signals = bins(False).signals(np.array([2, 1]))
    assert np.isnan(signals[ROW == NO_DATA]).all()
    assert np.array_equal(signals[ROW != NO_DATA], SIGNAL[ROW[ROW != NO_DATA]][:, [2, 1]])
