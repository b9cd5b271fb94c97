"""Batches: windows centred on their bins, shift and strand per example, the same order whatever the memory."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import numpy as np
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from kit import tiny
from mfd_cli.core.losses import SignalScale
from mfd_cli.dataset.bins import pack_bits, unpack_bits
from mfd_cli.dataset.folder import Dataset
from mfd_cli.genome.sequence import reverse_complement
from mfd_cli.runs.batches import GenomeOnDevice, LabelledBins, bits, home_of
from mfd_cli.runs.draws import NO_BIN, Tiling, by_peaks, thinned_in_stretches

CPU = torch.device("cpu")
WINDOW, LEFT = 384, 128


def loaded(dataset: Dataset, split: str = "train", shift: int = 5) -> LabelledBins:
    bins = dataset.split(split)
    genome = GenomeOnDevice(dataset, WINDOW, LEFT, CPU, shift)
    return LabelledBins(genome, bins, dataset, SignalScale.fit(bins.signal), CPU)


def test_windows_are_what_the_genome_has_there(tiny_dataset: Dataset) -> None:
    data = loaded(tiny_dataset)
    index = torch.tensor([0, 1, 7, len(data) - 1])
    codes = data.batch(index[:, None]).codes.numpy()
    for row, i in zip(codes, index.tolist()):
        start = int(data.bins.start[i])
        assert np.array_equal(row, tiny_dataset.genome.codes("chr1", start - LEFT, start - LEFT + WINDOW))
        assert np.array_equal(row[LEFT : LEFT + 128], tiny_dataset.genome.codes("chr1", start, start + 128))
    assert (codes[0][:LEFT] == 4).all()  # nothing lies before the first bin


def test_shift_and_strand_are_per_example(tiny_dataset: Dataset) -> None:
    data = loaded(tiny_dataset)
    index, shift = torch.tensor([5, 5, 5]), torch.tensor([0, 3, -3])
    codes = data.batch(index[:, None], shift, torch.tensor([False, False, True])).codes.numpy()
    start = int(data.bins.start[5]) - LEFT
    assert np.array_equal(codes[1], tiny_dataset.genome.codes("chr1", start + 3, start + 3 + WINDOW))
    assert np.array_equal(
        codes[2], reverse_complement(tiny_dataset.genome.codes("chr1", start - 3, start - 3 + WINDOW))
    )


def test_labels_and_signals_belong_to_their_bins(tiny_dataset: Dataset) -> None:
    data = loaded(tiny_dataset, "test")
    bins = tiny_dataset.split("test")
    batches = list(data.in_order(50))
    peaks = torch.cat([batch.peaks for batch in batches]).numpy()
    assert np.array_equal(peaks.astype(bool), tiny.labels(tiny_dataset.genome, "chr2", 8))
    assert np.array_equal(peaks.astype(bool), unpack_bits(bins.peaks, 8))
    signal = torch.cat([batch.signal for batch in batches])
    assert torch.equal(signal, SignalScale.fit(bins.signal).forward(torch.from_numpy(np.array(bins.signal))))


def test_holes_are_in_the_mask(tmp_path: Path) -> None:
    data = loaded(tiny.dataset(tmp_path / "d", holes=True))
    measured = data.batch(torch.arange(len(data))[:, None]).measured
    assert measured.shape == (len(data), 9)
    assert measured[:, 0].sum() == len(data) - len(data) // 2 and measured[:, 1:].all()


def test_bits_are_the_inverse_of_packing() -> None:
    labels = np.random.default_rng(0).random((20, 13)) < 0.5
    assert np.array_equal(bits(torch.from_numpy(pack_bits(labels)), 13).numpy().astype(bool), labels)


def test_an_epoch_is_a_function_of_seed_and_number() -> None:
    bins = Tiling(np.zeros(100, np.int32), np.arange(100))
    one, two = ([*bins.epoch(32, 7, 0, 3, True)] for _ in range(2))
    assert len(one) == 3
    assert all(torch.equal(a, b) for x, y in zip(one, two) for a, b in zip(x[:3], y[:3]))
    other = [*bins.epoch(32, 7, 1, 3, True)]
    assert not torch.equal(one[0].rows, other[0].rows)
    seen = torch.cat([draw.rows for draw in one])
    assert len(seen.unique()) == 96
    shifts = torch.cat([draw.shift for draw in one])
    assert shifts.min() == -3 and shifts.max() == 3
    assert 0 < torch.cat([draw.reverse for draw in one]).float().mean() < 1
    assert not torch.cat([draw.reverse for draw in bins.epoch(32, 7, 0, 3, False)]).any()


def test_the_same_batches_read_ahead_and_at_once(tiny_dataset: Dataset) -> None:
    data = loaded(tiny_dataset)
    draws = [*data.tiling.epoch(16, 3, 0, 4, True)]
    for one, other in zip(data.stream(draws, False), data.stream(draws, True), strict=True):
        for a, b in zip(one[:4], other[:4]):
            assert torch.equal(torch.nan_to_num(a, -1.0), torch.nan_to_num(b, -1.0))


def test_where_genome_and_labels_are_kept(tiny_dataset: Dataset) -> None:
    bins = tiny_dataset.split("train")
    assert all(home_of(tiny_dataset, bins, CPU, memory) == CPU for memory in ("auto", "device", "host"))  # type: ignore[arg-type]
    gpu = torch.device("cuda", 0)
    assert home_of(tiny_dataset, bins, gpu, "device") == gpu and home_of(tiny_dataset, bins, gpu, "host") == CPU


# -- stretches of many bins --------------------------------------------------------------------------------------------


def stretched(dataset: Dataset, stretch: int, split: str = "train", shift: int = 5) -> LabelledBins:
    bins = dataset.split(split)
    genome = GenomeOnDevice(dataset, WINDOW, LEFT, CPU, shift, stretch)
    return LabelledBins(genome, bins, dataset, SignalScale.fit(bins.signal), CPU, stretch=stretch)


@settings(max_examples=100, deadline=None)
@given(st.sets(st.tuples(st.integers(0, 2), st.integers(0, 60)), min_size=1), st.integers(1, 9), st.integers(0, 99))
def test_a_tiling_has_every_bin_once_beside_its_neighbours(
    places: set[tuple[int, int]], size: int, offset: int
) -> None:
    where = sorted(places)
    tiling = Tiling(np.array([c for c, _ in where], np.int32), np.array([n for _, n in where]), size)
    rows = tiling.rows(offset % size)
    assert rows.shape[1] == size and tiling.fewest <= len(rows)
    there = rows != NO_BIN
    assert sorted(rows[there].tolist()) == list(range(len(where))) and there.any(1).all()
    for row in rows:
        known = [(where[index][0], where[index][1] - place) for place, index in enumerate(row) if index != NO_BIN]
        assert len(set(known)) == 1, "bins of one stretch lie on one contig, in order, without a gap"
    assert tiling.fewest == min(len(tiling.rows(other)) for other in range(size))


def test_a_stretch_carries_the_labels_of_its_bins_on_either_strand(tiny_dataset: Dataset) -> None:
    """Against one window a bin: the same labels in the same places; bases from the first window's to the last one's."""
    single, data = loaded(tiny_dataset), stretched(tiny_dataset, 4)
    length = WINDOW + 3 * 128
    for draw in data.tiling.epoch(3, 5, 1, 5, True):
        batch = data.batch(*draw)
        assert batch.codes.shape == (3, length) and batch.peaks.shape == (12, 8)
        for number, (rows, shift, reverse) in enumerate(zip(draw.rows.tolist(), draw.shift.tolist(), draw.reverse)):
            place = next(place for place, index in enumerate(rows) if index != NO_BIN)
            bins, index = data.bins, rows[place]
            start = int(bins.start[index]) - 128 * place - LEFT + shift
            codes = tiny_dataset.genome.codes(data_contig(tiny_dataset, bins.contig[index]), start, start + length)
            assert np.array_equal(batch.codes[number], reverse_complement(codes) if reverse else codes)
            for at, index in enumerate(reversed(rows) if reverse else rows):
                one = number * 4 + at
                if index == NO_BIN:
                    assert not batch.measured[one].any() and batch.signal[one].isnan().all()
                    continue
                expected = single.batch(torch.tensor([[index]]))
                assert torch.equal(batch.peaks[one], expected.peaks[0])
                assert torch.equal(batch.signal[one], expected.signal[0])
                assert batch.measured[one if len(batch.measured) > 1 else 0].all()


def data_contig(dataset: Dataset, number: int) -> str:
    return dataset.contigs[number]


def test_every_epoch_cuts_the_genome_elsewhere_and_has_as_many_batches(tiny_dataset: Dataset) -> None:
    tiling = stretched(tiny_dataset, 4).tiling
    epochs = [[*tiling.epoch(3, 1, number, 0, False)] for number in range(6)]
    assert {len(epoch) for epoch in epochs} == {tiling.fewest // 3}
    firsts = [{int(row[0]) % 4 for draw in epoch for row in draw.rows if row[0] != NO_BIN} for epoch in epochs]
    assert len({frozenset(first) for first in firsts}) > 1


def test_validation_takes_whole_stretches(tiny_dataset: Dataset) -> None:
    bins = tiny_dataset.split("train")
    few = thinned_in_stretches(bins, 20, 4)
    rows = Tiling.of(few, 4).rows()
    assert 12 <= len(few) <= 20 and (rows != NO_BIN).sum(1).mean() > 3
    assert thinned_in_stretches(bins, len(bins), 4) is bins
    assert len(thinned_in_stretches(bins, 3, 32)) == 3  # fewer than a stretch
    batches = [*stretched(tiny_dataset, 4, "validation").in_order(8)]
    labels = torch.cat([batch.peaks for batch in batches])
    assert labels.sum() >= unpack_bits(tiny_dataset.split("validation").peaks, 8).sum()


# -- draws by peaks ----------------------------------------------------------------------------------------------------


@settings(max_examples=100, deadline=None)
@given(st.lists(st.integers(0, 16), min_size=1, max_size=200), st.integers(0, 99))
def test_a_stretch_is_drawn_as_often_as_it_weighs_less(occupied: list[int], seed: int) -> None:
    """Systematic sampling: as often as expected, give or take one; times its weight, once."""
    counts = np.array(occupied)
    drawn, weights = by_peaks(counts, np.random.default_rng(seed))
    assert len(drawn) == len(counts) and weights.max() <= 2
    share = 0.5 if counts.sum() else 0.0
    expected = (1 - share) + share * counts / max(counts.mean(), 1e-9)
    times = np.bincount(drawn, minlength=len(counts))
    assert (np.abs(times - expected) < 1 + 1e-9).all()
    assert np.allclose(weights, 1 / expected[drawn])


def test_weighed_draws_have_the_mean_of_the_genome() -> None:
    """Over many epochs the weighed mean of anything is its mean over all bins: no prior is moved by what is drawn."""
    rng = np.random.default_rng(1)
    value, occupied = rng.normal(size=300), rng.random(300) < 0.07
    tiling = Tiling(np.zeros(300, np.int32), np.arange(300), 1, occupied)
    means, shares = [], []
    for epoch in range(400):
        draws = [*tiling.epoch(30, 5, epoch, 0, False)]
        rows, weight = (torch.cat(parts).flatten().numpy() for parts in zip(*((d.rows, d.weight) for d in draws)))
        means.append((value[rows] * weight).mean())
        shares.append(occupied[rows].mean())
    assert abs(np.mean(means) - value.mean()) < 4 * np.std(means) / np.sqrt(400)
    assert np.mean(shares) > 0.4
    assert all(draw.weight is None for draw in Tiling(np.zeros(30, np.int32), np.arange(30)).epoch(8, 5, 0, 0, False))


def test_bins_without_data_have_no_peaks_and_unknown_signals(tiny_dataset: Dataset, tmp_path: Path) -> None:
    """A dataset of peaks alone stores bins with a peak; a batch has the others too, each with zeros."""
    sparse = tiny.dataset(tmp_path / "d", signals=0, holes=True)
    assert sparse.manifest["splits"]["train"]["with_data"] < len(sparse.split("train"))
    data, dense = loaded(sparse), loaded(tiny_dataset)
    rows = torch.arange(len(data))[:, None]
    one, other = data.batch(rows), dense.batch(rows)
    assert torch.equal(one.peaks, other.peaks) and torch.equal(one.codes, other.codes)
    assert one.measured.shape == one.peaks.shape and not one.measured[: len(data) // 2, 0].any()
    holes = replace(data.bins, rows_of_signal=np.zeros((len(data.bins.rows_of_peaks), 1), np.float32))
    assert np.isnan(holes.signal[data.bins.row < 0]).all() and (holes.signal[data.bins.row >= 0] == 0).all()
    few = data.bins.taken(np.array([7, 2, 90]))
    assert (
        np.array_equal(few.peaks, data.bins.peaks[[7, 2, 90]]) and (measured := few.measured(np.arange(8))) is not None
    )
    all_measured = data.bins.measured(np.arange(8))
    assert all_measured is not None and np.array_equal(measured, all_measured[[7, 2, 90]])
