"""A tiny planted world that tests share: a random genome, tracks whose peaks follow a motif, metadata for them."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import torch

from mfd_cli.core.metadata import fit_metadata
from mfd_cli.core.model import MfdModel
from mfd_cli.dataset.bins import pack_bits
from mfd_cli.dataset.folder import Dataset, open_dataset, write_genome, write_runs, write_shard, write_tracks
from mfd_cli.dataset.manifest import SPLITS, write_manifest
from mfd_cli.dataset.states import STATES, runs_of
from mfd_cli.experiments.track import Track
from mfd_cli.genome.grid import BinGrid
from mfd_cli.genome.sequence import Genome, encode
from mfd_cli.settings.config import Config, FactorConfig
from mfd_cli.settings.parse import parse_config
from mfd_cli.settings.project import Project

FACTORS = {
    "target": {"column": "Target", "group": "biological"},
    "tissue": {"column": "Tissue", "group": "biological"},
    "assay": {"column": "Assay", "group": "technical", "role": "both"},
    "lab": {"column": "Lab", "group": "technical"},
}
MODEL = {"preset": "small", "head": "conditioned", "width": 8, "window": 384, "latent": 16, "filters": 4, "hidden": 8}
MOTIFS = {"CTCF": "CCA" * 10, "GATA1": "GATA" * 8}  # long and plain, so that a tiny model learns them in seconds
TOML = """[factors.target]
column = "Target"
group = "biological"

[factors.assay]
column = "Assay"
group = "technical"

[model]
preset = "small"
width = 8
filters = 4
window = 384
latent = 16
hidden = 8

[train]
epochs = 2
batch_size = 32
"""
"""An mfd.toml of the tiny world."""


def rows(count: int = 8) -> list[dict[str, str]]:
    """Metadata of `count` tracks; targets, tissues, assays and labs cross."""
    return [
        {
            "Target": ("CTCF", "GATA1")[i % 2],
            "Tissue": ("liver", "brain")[i // 2 % 2],
            "Assay": ("ChIP-seq", "CUT&RUN")[i // 4 % 2],
            "Lab": ("A", "B", "")[i % 3],
        }
        for i in range(count)
    ]


def config(**sections: object) -> Config:
    """A configuration for the tiny world; sections are merged over its own."""
    tree: dict[str, object] = {
        "factors": FACTORS,
        "model": MODEL,
        "train": {"epochs": 2, "batch_size": 32, "lr": 0.005, "patience": 50},
    }
    for name, section in sections.items():
        own = tree.get(name, {})
        assert isinstance(own, dict) and isinstance(section, dict)
        tree[name] = section if name == "factors" else {**own, **section}
    return parse_config(tree)


def model(tracks: int = 8, trained: list[bool] | None = None, seed: int = 0, **sections: object) -> MfdModel:
    """A randomly initialised model of the tiny world."""
    settings, metadata_rows = config(**sections), rows(tracks)
    used = np.array(trained or [True] * tracks)
    factors: dict[str, FactorConfig] = settings.factors
    metadata = fit_metadata(metadata_rows, factors, used.tolist())
    torch.manual_seed(seed)
    return MfdModel(
        settings.resolved_model(), metadata, factors, metadata_rows, used, np.full(tracks, -2.0, np.float32)
    )


def genome(length: int = 60_000, seed: int = 1) -> Genome:
    """Two contigs of random bases with motifs planted about every 300 bp."""
    rng = np.random.default_rng(seed)
    contigs = {}
    for name, size in (("chr1", length), ("chr2", length // 2)):
        bases = rng.choice(np.frombuffer(b"ACGT", np.uint8), size)
        for at in range(100, size - 100, 300):
            motif = list(MOTIFS.values())[rng.integers(2)]
            start = at + int(rng.integers(200))
            if start + len(motif) < size:
                bases[start : start + len(motif)] = np.frombuffer(motif.encode(), np.uint8)
        contigs[name] = bases
    return Genome(contigs, "tiny.fa")


def labels(world: Genome, contig: str, tracks: int) -> np.ndarray:
    """(bins, tracks) a track has a peak in a bin that holds its target's motif, on the forward strand."""
    bins = len(world.sequences[contig]) // 128
    text = world.sequences[contig].tobytes().decode()
    result = np.zeros((bins, tracks), bool)
    for i, row in enumerate(rows(tracks)):
        motif = MOTIFS[row["Target"]]
        result[:, i] = [motif in text[b * 128 : b * 128 + 128] for b in range(bins)]
    return result


Called = Callable[[Genome, str, int], np.ndarray]


def dataset(
    folder: Path,
    tracks: int = 8,
    signals: int = 1,
    holes: bool = False,
    world: Genome | None = None,
    called: Called = labels,
) -> Dataset:
    """A dataset folder of the tiny world: chr1 trains and validates (its last fifth), chr2 is the test. `called` says which
    bins are peaks."""
    world = world or genome()
    meta, grid = rows(tracks + signals), BinGrid(world.lengths)
    splits: dict[str, Labelled] = {}
    measured = np.ones(grid.total, bool)
    for split in SPLITS:
        contig = "chr2" if split == "test" else "chr1"
        called_bins = called(world, contig, max(tracks, 1))  # signals follow the peaks of the first track, also alone
        cut = len(called_bins) * 4 // 5
        chosen = {"train": slice(0, cut), "validation": slice(cut, None), "test": slice(0, None)}[split]
        index = grid.offsets[contig] + np.arange(len(called_bins))[chosen]
        signal = np.repeat(called_bins[chosen, :1] * 5.0 + 1.0, signals, 1)
        splits[split] = index, called_bins[chosen, :tracks], signal
        measured[index[: len(index) // 2]] = False
    train, peaks, _ = splits["train"]
    counted = [int(column.sum()) for column in peaks.T]
    bins = [int(measured[train].sum()) if holes and i == 0 else len(train) for i in range(tracks)]
    made = [Track(f"P{i}", "peaks", meta[i], counted[i], bins[i]) for i in range(tracks)]
    made += [Track(f"S{i}", "signal", meta[tracks + i], measured=len(train), mean_signal=1.0) for i in range(signals)]
    return written(folder, world, made, splits, {0: measured} if holes else {})


Labelled = tuple[np.ndarray, np.ndarray, np.ndarray]
"""Bins as global indices (n,), whether each peak track has a peak (n, peak tracks), the signals (n, signal tracks)."""


def written(
    folder: Path,
    world: Genome,
    tracks: Sequence[Track],
    splits: Mapping[str, Labelled],
    assayed: Mapping[int, np.ndarray] | None = None,
) -> Dataset:
    """A dataset folder of these bins; all others are excluded. `assayed` (bins,) says where a peak track was measured."""
    grid = BinGrid(world.lengths)
    (folder / "shards").mkdir(parents=True)
    states = np.full(grid.total, STATES.index("excluded"), np.int8)
    shards = {}
    for split, (index, peaks, signal) in splits.items():
        states[index] = STATES.index(split)
        with_data = peaks.any(1) | ~np.isnan(signal).all(1)
        file = folder / "shards" / f"{split}-00000.arrow"
        data = pack_bits(peaks[with_data]), signal[with_data].astype(np.float32)
        write_shard(file, index[with_data], *data, grid)
        shards[split] = [(file, int(with_data.sum()))]
    write_genome(folder / "genome.arrow", world)
    write_runs(folder / "bins.arrow", runs_of(states, grid, peaks.shape[1], assayed or {}), grid)
    write_tracks(folder / "tracks.arrow", tracks)
    bins = {split: len(index) for split, (index, _, _) in splits.items()}
    write_manifest(folder, configuration={}, genome=world, bins=bins, shards=shards, inputs=[], summary={})
    return open_dataset(folder)


def project(folder: Path, **sections: object) -> Project:
    """A project around the tiny world's dataset in `folder / dataset`."""
    return Project(config=config(**sections), folder=folder)


def written_project(folder: Path, toml: str = TOML, **of_dataset: Any) -> Path:
    """The folder, with an mfd.toml and the tiny world's dataset (`of_dataset` goes to `dataset`), for real commands."""
    dataset(folder / "dataset", **of_dataset)
    (folder / "mfd.toml").write_text(toml, "utf-8")
    return folder


def windows(count: int, width: int, seed: int = 0) -> torch.Tensor:
    """Random base codes (count, width) with a few unknown bases."""
    codes = np.random.default_rng(seed).integers(0, 4, (count, width)).astype(np.uint8)
    codes[0, :5] = encode("NNNNN")
    return torch.from_numpy(codes)
