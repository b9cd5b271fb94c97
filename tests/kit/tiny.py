"""A tiny planted world that tests share: a random genome, tracks whose peaks follow a motif, metadata for them."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import numpy as np
import torch

from mfd_cli.core.metadata import fit_metadata
from mfd_cli.core.model import MfdModel
from mfd_cli.dataset.folder import Bins, Dataset, open_dataset, pack_bits, write_genome, write_shard, write_tracks
from mfd_cli.dataset.manifest import SPLITS, write_manifest
from mfd_cli.experiments.track import Track
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
MODEL = {"preset": "small", "width": 8, "window": 384, "latent": 16, "hidden": 8}
MOTIFS = {"CTCF": "CCA" * 10, "GATA1": "GATA" * 8}  # long and plain, so that a tiny model learns them in seconds


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
    (folder / "shards").mkdir(parents=True)
    contigs = list(world.sequences)
    meta = rows(tracks + signals)
    shards, counted = {}, np.zeros(tracks, int)
    for split in SPLITS:
        contig = "chr2" if split == "test" else "chr1"
        peaks = called(
            world, contig, max(tracks, 1)
        )  # the signals follow the first track's, with or without such a track
        cut = len(peaks) * 4 // 5
        chosen = {"train": np.arange(cut), "validation": np.arange(cut, len(peaks)), "test": np.arange(len(peaks))}
        index = chosen[split]
        signal = np.repeat(peaks[index, :1] * 5.0 + 1.0, signals, 1).astype(np.float32)
        measured = None
        if holes:
            known = np.ones((len(index), tracks + signals), bool)
            known[: len(index) // 2, 0] = False
            measured = pack_bits(known)
        bins = Bins(
            np.full(len(index), contigs.index(contig), np.int32),
            (index * 128).astype(np.int64),
            pack_bits(peaks[index, :tracks]),
            signal,
            measured,
        )
        file = folder / "shards" / f"{split}-00000.arrow"
        write_shard(file, bins, contigs)
        shards[split] = [(file, len(index))]
        if split == "train":
            counted = peaks[index, :tracks].sum(0)
    write_genome(folder / "genome.arrow", world)
    made = [Track(f"P{i}", "peaks", meta[i], int(counted[i])) for i in range(tracks)]
    made += [Track(f"S{i}", "signal", meta[tracks + i], mean_signal=1.0) for i in range(signals)]
    write_tracks(folder / "tracks.arrow", made)
    write_manifest(folder, configuration={}, genome=world, shards=shards, inputs=[], summary={})
    return open_dataset(folder)


def project(folder: Path, **sections: object) -> Project:
    """A project around the tiny world's dataset in `folder / dataset`."""
    return Project(config=config(**sections), folder=folder)


def windows(count: int, width: int, seed: int = 0) -> torch.Tensor:
    """Random base codes (count, width) with a few unknown bases."""
    codes = np.random.default_rng(seed).integers(0, 4, (count, width)).astype(np.uint8)
    codes[0, :5] = encode("NNNNN")
    return torch.from_numpy(codes)
