"""Speed on this machine: ratios measured side by side, medians of several turns. `make bench` runs it in a few minutes.

Each row compares what mfd does with a plain implementation of the same thing, which stands in this file.
"""

from __future__ import annotations

import platform
import statistics
import tempfile
import time
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pysam
import torch
from sklearn.metrics import roc_auc_score
from torch import nn

from mfd_cli.core.backbones import DilatedBackbone
from mfd_cli.core.losses import SignalScale
from mfd_cli.core.metrics import auroc_auprc
from mfd_cli.data.batches import GenomeOnDevice, LabelledBins
from mfd_cli.data.dataset import Bins, Dataset, pack_bits, unpack_bits
from mfd_cli.data.sequence import LETTERS, Genome

TRACKS, WINDOW, BATCH = 2000, 2176, 256


def main() -> None:
    """Print one table."""
    print(f"{platform.processor() or platform.machine()}, {torch.get_num_threads()} threads, torch {torch.__version__}")
    print(f"{'what':<58}{'mfd':>12}{'plain':>12}{'ratio':>8}")
    for name, unit, ours, plain, amount, turns in (loader(), training_step(), exact_auroc()):
        mine, theirs = [], []
        ours()
        for _ in range(turns):  # in turns, so that a drift of the machine's speed hits both
            mine.append(seconds(ours))
            theirs.append(seconds(plain))
        ratio = statistics.median(b / a for a, b in zip(mine, theirs))
        a, b = (amount / statistics.median(times) for times in (mine, theirs))
        print(f"{name + ', ' + unit + '/s':<58}{a:>12,.0f}{b:>12,.0f}{ratio:>7.1f}x", flush=True)


Row = tuple[str, str, Callable[[], object], Callable[[], object], int, int]


def seconds(work: Callable[[], object]) -> float:
    started = time.perf_counter()
    work()
    return time.perf_counter() - started


def loader() -> Row:
    """Windows and packed labels as index gathers, against pysam and numpy per sample; both as bytes and packed bits."""
    rng = np.random.default_rng(0)
    length, count = 20_000_000, 50_000
    genome = Genome({"chr1": LETTERS[rng.integers(0, 4, length)]})
    packed = rng.integers(0, 256, (count, TRACKS // 8), dtype=np.uint8)
    starts = np.sort(rng.choice(length // 128 - 40, count, False) + 20) * 128
    bins = Bins(np.zeros(count, np.int32), starts, packed, np.zeros((count, 0), np.float32))
    tracks = tuple(_track(i) for i in range(TRACKS))
    dataset = Dataset(Path(), {}, tracks, genome)
    cpu, left = torch.device("cpu"), (WINDOW - 128) // 2
    flat = GenomeOnDevice(dataset, WINDOW, left, cpu)
    data = LabelledBins(flat, bins, dataset, SignalScale.fit(bins.signal), cpu)
    folder = Path(tempfile.mkdtemp())
    (folder / "g.fa").write_text(">chr1\n" + genome.sequences["chr1"].tobytes().decode() + "\n")
    fasta = pysam.FastaFile(str(folder / "g.fa"))
    table = np.zeros((256, 4), np.float32)
    table[np.frombuffer(b"ACGT", np.uint8)] = np.eye(4, dtype=np.float32)
    index = torch.from_numpy(rng.integers(0, count, 20 * BATCH))

    def ours() -> None:
        for chunk in index.split(BATCH):
            starts_of = data.positions[chunk]
            flat.windows[starts_of], data.peaks[chunk]

    def plain() -> None:
        for i in index[:BATCH].tolist() * 20:
            text = fasta.fetch("chr1", int(starts[i]) - left, int(starts[i]) - left + WINDOW)
            table[np.frombuffer(text.encode(), np.uint8)].T.copy()
            np.unpackbits(packed[i], bitorder="little").astype(np.float32)

    return "loader, 2,176 bp and 2,000 tracks, one core", "samples", ours, plain, 20 * BATCH, 5


def _track(number: int):
    from mfd_cli.data.dataset import Track

    return Track(f"T{number}", "peaks", {})


def training_step() -> Row:
    """Forward and backward of the backbone in bf16, against the same layers written plainly in float32."""
    torch.manual_seed(0)
    codes = torch.nn.functional.one_hot(torch.randint(0, 4, (BATCH, 1152)), 4).float().transpose(1, 2).contiguous()
    model, simple = DilatedBackbone(64, 1152, 1, 128), DilatedBackbone(64, 1152, 1, 128)

    def pooled(x: torch.Tensor) -> torch.Tensor:
        return nn.functional.max_pool1d(x, 2)

    def plain() -> None:
        x = simple.stem(codes)
        x = pooled(x + simple.stem_residual(x))
        for block, residual in zip(simple.tower, simple.tower_residual):
            x = block(x)
            x = pooled(x + residual(x))
        for wide, pointwise in zip(simple.dilated, simple.dilated_pointwise):
            x = x + pointwise(wide(x))
        simple.pointwise(x[..., simple.crop : x.shape[-1] - simple.crop]).pow(2).mean().backward()

    def ours() -> None:
        with torch.autocast("cpu", torch.bfloat16):
            loss = model(codes).float().pow(2).mean()
        loss.backward()

    return "training step, C = 64, 1,152 bp, bf16 against float32", "windows", ours, plain, BATCH, 5


def exact_auroc() -> Row:
    """Exact AUROC (and AUPRC) of all tracks at once, against scikit-learn's AUROC track by track."""
    rng = np.random.default_rng(0)
    scores, labels = rng.normal(size=(10_000, 200)).astype(np.float32), rng.random((10_000, 200)) < 0.05
    labels = unpack_bits(pack_bits(labels), 200)
    x, y = torch.from_numpy(scores), torch.from_numpy(labels)

    def plain() -> None:
        for i in range(200):
            roc_auc_score(labels[:, i], scores[:, i])

    return "exact AUROC and AUPRC, 200 tracks", "bins", lambda: auroc_auprc(x, y), plain, 10_000, 5


if __name__ == "__main__":
    main()
