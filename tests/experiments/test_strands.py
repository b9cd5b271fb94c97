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
from mfd_cli.core.onehot import reverse_complement
from mfd_cli.core.predictor import Predictor
from mfd_cli.dataset.folder import Bins, Dataset, open_dataset, pack_bits, write_genome, write_shard, write_tracks
from mfd_cli.dataset.manifest import SPLITS, write_manifest
from mfd_cli.evaluation.evaluate import evaluate
from mfd_cli.experiments.strands import count_tracks, strand_partners, swapped_signs
from mfd_cli.experiments.track import Track
from mfd_cli.genome.sequence import Genome
from mfd_cli.runs.batches import GenomeOnDevice, LabelledBins, Partners
from mfd_cli.settings.config import Config
from mfd_cli.settings.project import Project
from mfd_cli.training.train import train

CPU = torch.device("cpu")
STRAND = {"column": "Strand", "group": "technical"}


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


def world(folder: Path) -> Dataset:
    """Two contigs; the plus strand counts CCA repeats as they read, the minus strand (below zero) on the other strand."""
    genome, shards = tiny.genome(), {}
    (folder / "shards").mkdir(parents=True)
    contigs = list(genome.sequences)
    for split in SPLITS:
        name = "chr2" if split == "test" else "chr1"
        text = genome.sequences[name].tobytes().decode()
        bins = len(text) // 128
        turned = text.translate(str.maketrans("ACGT", "TGCA"))[::-1]
        here = [text[b * 128 : b * 128 + 128].count("CCACCA") for b in range(bins)]
        there = [turned[len(text) - (b + 1) * 128 : len(text) - b * 128].count("CCACCA") for b in range(bins)]
        index = np.arange(bins * 4 // 5) if split == "train" else np.arange(bins * 4 // 5, bins)
        signal = np.stack([np.array(here), -2 * np.array(there)], 1).astype(np.float32)[index]
        shard = Bins(
            np.full(len(index), contigs.index(name), np.int32),
            (index * 128).astype(np.int64),
            pack_bits(np.zeros((len(index), 0), bool)),
            signal,
        )
        file = folder / "shards" / f"{split}-00000.arrow"
        write_shard(file, shard, contigs)
        shards[split] = [(file, len(index))]
    write_genome(folder / "genome.arrow", genome)
    write_tracks(folder / "tracks.arrow", tracks(("P", "E1", "+"), ("M", "E1", "-")))
    write_manifest(folder, configuration={}, genome=genome, shards=shards, inputs=[], summary={})
    return open_dataset(folder)


def test_a_window_read_backwards_carries_the_partner_s_signal(tmp_path: Path) -> None:
    dataset = world(tmp_path / "dataset")
    bins, scale = dataset.split("train"), SignalScale.fit(dataset.split("train").signal)
    partners = strand_partners(dataset.signal_tracks, config())
    pairs = Partners(partners, swapped_signs(dataset.signal_tracks, partners))
    data = LabelledBins(GenomeOnDevice(dataset, 128, 0, CPU), bins, dataset, scale, CPU, pairs)
    index, reverse = torch.arange(40), torch.arange(40) % 2 == 1
    plain, turned = data.batch(index), data.batch(index, reverse=reverse)
    raw = torch.from_numpy(np.array(bins.signal[:40]))
    expected = torch.where(reverse[:, None], -raw.flip(1), raw)
    assert torch.allclose(scale.inverse(turned.signal), expected, atol=1e-4)
    assert torch.equal(turned.codes[1], reverse_complement(plain.codes[1:2])[0])


def test_a_stranded_pair_is_learnt_and_told_apart(tmp_path: Path) -> None:
    """The planted repeat reads CCA on one strand only: each track follows its own strand, not the mean of both."""
    dataset = world(tmp_path / "dataset")
    settings: dict[str, Any] = {"epochs": 60, "batch_size": 32, "lr": 0.01, "patience": 100}
    tree = tiny.config(
        factors={**tiny.FACTORS, "strand": STRAND},
        tracks={"strand": "Strand"},
        train=settings,
        objective={"signal_weight": 1.0},
    )
    run = train(Project(config=tree, folder=tmp_path), gpus=0)
    assert run.model.stranded and Predictor(run.model).strands == "forward"
    plus, _ = evaluate(run, dataset, probes=False).tracks
    assert plus["pearson"] > 0.8
    predictor, bins = Predictor(run.model), dataset.split("test")
    starts = bins.start - run.model.left
    codes = np.stack([dataset.genome.codes("chr2", int(s), int(s) + run.model.window) for s in starts])
    there = predictor.head.logits(predictor.latents(reverse_complement(torch.from_numpy(codes)).numpy()))
    here = predictor.head.logits(predictor.latents(codes))
    truth = bins.signal[:, 0]
    assert np.corrcoef(-there[:, 1], truth)[0, 1] > 0.6  # the minus track sees on the other strand what plus sees here
    # A model of the mean of both strands would respond alike to the repeat and to its complement: a ratio of 1. A
    # correlation cannot tell, which is as high for a faint response.
    responses = [abs(np.polyfit(truth, values, 1)[0]) for values in (here[:, 0], there[:, 0], there[:, 1], here[:, 1])]
    own, other = responses[0] + responses[2], responses[1] + responses[3]
    assert own > 1.5 * other


def test_genome_is_random_enough_to_be_stranded() -> None:
    text = tiny.genome().sequences["chr1"].tobytes().decode()
    assert isinstance(tiny.genome(), Genome) and text.count("CCACCA") > 3 * text.count("TGGTGG")
