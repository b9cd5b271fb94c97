"""Stranded pairs trade places on the other strand; counts are declared, not guessed."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from kit import tiny
from mfd_cli.base.errors import MetadataError
from mfd_cli.core.losses import SignalScale
from mfd_cli.core.onehot import other_strand
from mfd_cli.core.predictor import Predictor
from mfd_cli.dataset.folder import Dataset
from mfd_cli.dataset.manifest import SPLITS
from mfd_cli.evaluation.evaluate import evaluate
from mfd_cli.experiments.strands import count_tracks, strand_partners, swapped_signs
from mfd_cli.experiments.track import Track
from mfd_cli.genome.grid import BinGrid
from mfd_cli.genome.sequence import Genome
from mfd_cli.runs.at_work import bin_latents
from mfd_cli.runs.batches import GenomeOnDevice, LabelledBins, Partners
from mfd_cli.settings.config import Config
from mfd_cli.settings.project import Project
from mfd_cli.training.train import train

CPU = torch.device("cpu")
STRAND = {"column": "Strand", "group": "technical"}
LEARNT = 0.75
"""Correlation of a track's prediction with its strand. Over ten seeds: 0.940 to 0.993, mean 0.980, sd 0.015."""
APART = 0.25
"""What a track takes from the other strand, relative to its own. Over ten seeds: at most 0.084, mean 0.021, sd 0.017."""


def config(**tracks: Any) -> Config:
    factors = {**tiny.FACTORS, "strand": STRAND}
    return tiny.config(factors=factors, tracks={"strand": "Strand", **tracks})


def tracks(*rows: tuple[str, str, str], mean: float = 1.0) -> list[Track]:
    """(id, experiment, strand) of signal tracks; minus strands are below zero."""
    return [
        Track(
            name,
            "signal",
            {**tiny.rows(1)[0], "Experiment accession": experiment, "Strand": strand},
            mean_signal=-mean if strand == "-" else mean,
        )
        for name, experiment, strand in rows
    ]


def test_partners_are_the_strands_of_one_experiment() -> None:
    found = tracks(("A", "E1", "+"), ("B", "E2", "-"), ("C", "E1", "-"), ("D", "E3", "."), ("E", "E2", "plus"))
    partners = strand_partners(found, config())
    assert partners.tolist() == [2, 4, 0, 3, 1]
    assert swapped_signs(found, partners).tolist() == [-1, -1, -1, 1, -1]
    assert strand_partners(found, tiny.config()).tolist() == [0, 1, 2, 3, 4]


@pytest.mark.parametrize(
    ("rows", "message"),
    [
        ([("A", "E1", "+")], "no partner"),
        ([("A", "E1", "+"), ("B", "E1", "+")], "same strand"),
        ([("A", "E1", "up")], "neither . nor -"),
    ],
)
def test_a_strand_without_its_partner_is_an_error(rows: list[tuple[str, str, str]], message: str) -> None:
    with pytest.raises(MetadataError, match=message):
        strand_partners(tracks(*rows), config())


def test_a_conditioned_model_must_know_the_strand() -> None:
    pair = tracks(("A", "E1", "+"), ("B", "E1", "-"))
    blind = tiny.config(tracks={"strand": "Strand"})
    with pytest.raises(MetadataError, match="predicted alike") as error:
        strand_partners(pair, blind)
    assert "[factors]" in str(error.value.hint)
    assert strand_partners(pair, tiny.config(tracks={"strand": "Strand"}, model={"head": "free"})).tolist() == [1, 0]


def test_counts_are_declared() -> None:
    made = [Track(str(i), "signal", {"Scale": word}) for i, word in enumerate(("counts", "", "log-normal", "Yes"))]
    assert count_tracks(made, tiny.config(tracks={"counts": "Scale"})).tolist() == [True, False, False, True]
    assert not count_tracks(made, tiny.config()).any()
    with pytest.raises(MetadataError, match="neither counts nor log-normal"):
        count_tracks([Track("X", "signal", {"Scale": "maybe"})], tiny.config(tracks={"counts": "Scale"}))


def both_ways(genome: Genome) -> Genome:
    """The same genome with every second CCA repeat turned round, so that each strand has as many of them."""
    repeat = tiny.MOTIFS["CTCF"]
    turned = repeat.translate(str.maketrans("ACGT", "TGCA"))[::-1]
    contigs = {}
    for name, bases in genome.sequences.items():
        pieces = bases.tobytes().decode().split(repeat)
        joined = "".join(piece + (repeat, turned)[i % 2] for i, piece in enumerate(pieces[:-1])) + pieces[-1]
        contigs[name] = np.frombuffer(joined.encode(), np.uint8)
    return Genome(contigs, "both.fa")


def world(folder: Path) -> Dataset:
    """Two contigs; the plus strand counts CCA repeats as they read, the minus strand (below zero) on the other strand."""
    genome, splits = both_ways(tiny.genome()), {}
    offsets = BinGrid(genome.lengths).offsets
    for split in SPLITS:
        name = "chr2" if split == "test" else "chr1"
        text = genome.sequences[name].tobytes().decode()
        bins = len(text) // 128
        turned = text.translate(str.maketrans("ACGT", "TGCA"))[::-1]
        here = [text[b * 128 : b * 128 + 128].count("CCACCA") for b in range(bins)]
        there = [turned[len(text) - (b + 1) * 128 : len(text) - b * 128].count("CCACCA") for b in range(bins)]
        index = np.arange(bins * 4 // 5) if split == "train" else np.arange(bins * 4 // 5, bins)
        signal = np.stack([np.array(here), -2 * np.array(there)], 1)[index]
        splits[split] = offsets[name] + index, np.zeros((len(index), 0), bool), signal
    return tiny.written(folder, genome, tracks(("P", "E1", "+"), ("M", "E1", "-")), splits)


def test_a_window_read_backwards_carries_the_partner_s_signal(tmp_path: Path) -> None:
    dataset = world(tmp_path / "dataset")
    bins, scale = dataset.split("train"), SignalScale.fit(dataset.split("train").signal)
    partners = strand_partners(dataset.signal_tracks, config())
    pairs = Partners(partners, swapped_signs(dataset.signal_tracks, partners))
    data = LabelledBins(GenomeOnDevice(dataset, 128, 0, CPU), bins, dataset, scale, CPU, pairs)
    index, reverse = torch.arange(40), torch.arange(40) % 2 == 1
    plain, turned = data.batch(index[:, None]), data.batch(index[:, None], reverse=reverse)
    raw = torch.from_numpy(np.array(bins.signal[:40]))
    expected = torch.where(reverse[:, None], -raw.flip(1), raw)
    assert torch.allclose(scale.inverse(turned.signal), expected, atol=1e-4)
    assert torch.equal(turned.codes[1], other_strand(plain.codes[1:2])[0])


@pytest.mark.slow
def test_a_stranded_pair_is_learnt_and_told_apart(tmp_path: Path) -> None:
    """The planted repeat reads CCA on one strand only: each track follows its own strand, not the mean of both."""
    dataset = world(tmp_path / "dataset")
    settings: dict[str, Any] = {"epochs": 60, "batch_size": 32, "lr": 0.01, "patience": 100}
    tree = tiny.config(
        factors={**tiny.FACTORS, "strand": STRAND},
        tracks={"strand": "Strand"},
        train=settings,
        model={"window": 128, "width": 16},
        objective={"signal_weight": 1.0},
    )
    run = train(Project(config=tree, folder=tmp_path), gpus=0)
    assert run.model.stranded and Predictor(run.model).strands == "forward"
    plus, _ = evaluate(run, dataset, probes=False).tracks
    bins = dataset.split("test")
    predicted = Predictor(run.model).head.logits(bin_latents(run, dataset, bins))
    assert plus["pearson"] == pytest.approx(
        np.corrcoef(predicted[:, 0], run.signal_scale.forward(torch.from_numpy(np.array(bins.signal)))[:, 0])[0, 1],
        abs=1e-3,
    )
    # What each track's prediction takes from its own and from the other strand, by least squares.
    strands = np.stack([bins.signal[:, 0], -bins.signal[:, 1]], 1)
    (plus_own, plus_other), (minus_other, minus_own) = np.linalg.lstsq(
        strands - strands.mean(0), predicted - predicted.mean(0), rcond=None
    )[0].T
    assert np.corrcoef(predicted[:, 0], strands[:, 0])[0, 1] > LEARNT
    assert np.corrcoef(predicted[:, 1], strands[:, 1])[0, 1] < -LEARNT
    assert abs(plus_other / plus_own) < APART and abs(minus_other / minus_own) < APART


def test_each_strand_of_the_world_has_as_many_repeats() -> None:
    genome = both_ways(tiny.genome())
    assert genome.lengths == tiny.genome().lengths
    for bases in genome.sequences.values():
        text, repeat = bases.tobytes().decode(), tiny.MOTIFS["CTCF"]
        turned = text.translate(str.maketrans("ACGT", "TGCA"))[::-1]
        assert text.count(repeat) - turned.count(repeat) in (0, 1) and turned.count(repeat) > 15
