"""Batches: windows centred on their bins, shift and strand per example, the same order whatever the memory."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import torch

from kit import tiny
from mfd_cli.core.losses import SignalScale
from mfd_cli.dataset.folder import Dataset, pack_bits, unpack_bits
from mfd_cli.genome.sequence import reverse_complement
from mfd_cli.runs.batches import GenomeOnDevice, LabelledBins, bits, draw_epoch, home_of

CPU = torch.device("cpu")
WINDOW, LEFT = 384, 128


def loaded(dataset: Dataset, split: str = "train", shift: int = 5) -> LabelledBins:
    bins = dataset.split(split)
    genome = GenomeOnDevice(dataset, WINDOW, LEFT, CPU, shift)
    return LabelledBins(genome, bins, dataset, SignalScale.fit(bins.signal), CPU)


def test_windows_are_what_the_genome_has_there(tiny_dataset: Dataset) -> None:
    data = loaded(tiny_dataset)
    index = torch.tensor([0, 1, 7, len(data) - 1])
    codes = data.batch(index).codes.numpy()
    for row, i in zip(codes, index.tolist()):
        start = int(data.bins.start[i])
        assert np.array_equal(row, tiny_dataset.genome.codes("chr1", start - LEFT, start - LEFT + WINDOW))
        assert np.array_equal(row[LEFT : LEFT + 128], tiny_dataset.genome.codes("chr1", start, start + 128))
    assert (codes[0][:LEFT] == 4).all()  # nothing lies before the first bin


def test_shift_and_strand_are_per_example(tiny_dataset: Dataset) -> None:
    data = loaded(tiny_dataset)
    index, shift = torch.tensor([5, 5, 5]), torch.tensor([0, 3, -3])
    codes = data.batch(index, shift, torch.tensor([False, False, True])).codes.numpy()
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
    measured = data.batch(torch.arange(len(data))).measured
    assert measured.shape == (len(data), 9)
    assert measured[:, 0].sum() == len(data) - len(data) // 2 and measured[:, 1:].all()


def test_bits_are_the_inverse_of_packing() -> None:
    labels = np.random.default_rng(0).random((20, 13)) < 0.5
    assert np.array_equal(bits(torch.from_numpy(pack_bits(labels)), 13).numpy().astype(bool), labels)


def test_an_epoch_is_a_function_of_seed_and_number() -> None:
    one, two = draw_epoch(100, 32, 7, 0, 3, True), draw_epoch(100, 32, 7, 0, 3, True)
    assert len(one) == 3
    assert all(torch.equal(a, b) for x, y in zip(one, two) for a, b in zip(x, y))
    other = draw_epoch(100, 32, 7, 1, 3, True)
    assert not torch.equal(one[0].bins, other[0].bins)
    seen = torch.cat([draw.bins for draw in one])
    assert len(seen.unique()) == 96
    shifts = torch.cat([draw.shift for draw in one])
    assert shifts.min() == -3 and shifts.max() == 3
    assert 0 < torch.cat([draw.reverse for draw in one]).float().mean() < 1
    assert not torch.cat([draw.reverse for draw in draw_epoch(100, 32, 7, 0, 3, False)]).any()


def test_the_same_batches_read_ahead_and_at_once(tiny_dataset: Dataset) -> None:
    data = loaded(tiny_dataset)
    draws = draw_epoch(len(data), 16, 3, 0, 4, True)
    for one, other in zip(data.stream(draws, False), data.stream(draws, True), strict=True):
        for a, b in zip(one, other):
            assert torch.equal(torch.nan_to_num(a, -1.0), torch.nan_to_num(b, -1.0))


def test_where_genome_and_labels_are_kept(tiny_dataset: Dataset) -> None:
    bins = tiny_dataset.split("train")
    assert all(home_of(tiny_dataset, bins, CPU, memory) == CPU for memory in ("auto", "device", "host"))  # type: ignore[arg-type]
    gpu = torch.device("cuda", 0)
    assert home_of(tiny_dataset, bins, gpu, "device") == gpu and home_of(tiny_dataset, bins, gpu, "host") == CPU
