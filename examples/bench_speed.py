"""Speed on this machine: ratios measured side by side, medians of several turns. `make bench` runs it (under 15 minutes).

    python examples/bench_speed.py [--only WORDS ...] [--turns N]
    python examples/bench_speed.py --gpu

Each row compares what mfd does with a plain implementation of the same thing, which stands in this file. The two take
turns, so that a drift of the machine's speed hits both; the ratio is the median over turns, with the smallest and the largest
in brackets. With --gpu the rows that run on a CUDA device do so.
"""

from __future__ import annotations

import argparse
import json
import os
import platform
import shutil
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import pysam
import torch
from sklearn.metrics import roc_auc_score
from torch import nn
from torch.utils.data import DataLoader
from torch.utils.data import Dataset as TorchDataset

from mfd_cli.core.backbones import DilatedBackbone
from mfd_cli.core.incremental import CentrePass
from mfd_cli.core.losses import SignalScale
from mfd_cli.core.metadata import fit_metadata
from mfd_cli.core.metrics import auroc_auprc
from mfd_cli.core.model import MfdModel
from mfd_cli.core.onehot import kmers, one_hot, other_strand
from mfd_cli.core.predictor import Predictor
from mfd_cli.core.stretches import STRETCH
from mfd_cli.dataset.bins import Bins, pack_bits, unpack_bits
from mfd_cli.dataset.folder import Dataset
from mfd_cli.dataset.states import Runs
from mfd_cli.experiments.track import Track
from mfd_cli.formats.bed import read_intervals
from mfd_cli.formats.bin_means import bin_means
from mfd_cli.genome.alleles import Variant
from mfd_cli.genome.grid import labelled_bins
from mfd_cli.genome.sequence import BASES, Genome
from mfd_cli.runs.batches import GenomeOnDevice, LabelledBins
from mfd_cli.settings.parse import parse_config
from mfd_cli.variants.changes import LatentChanges

TRACKS, WINDOW, BATCH = 2000, 2176, 256
BIN = 128


@dataclass(frozen=True)
class Row:
    """One comparison: `ours` and `plain` do `amount` of `unit`."""

    name: str
    unit: str
    amount: int
    ours: Callable[[], object]
    plain: Callable[[], object]
    against: str
    less: int = 1  # how many times less `plain` does, where it is slow
    wait: Callable[[], object] = lambda: None


def main() -> None:
    """Print one table."""
    parser = argparse.ArgumentParser()
    parser.add_argument("--only", nargs="*", help="rows whose name holds one of these words")
    parser.add_argument("--turns", type=int, default=7)
    parser.add_argument("--gpu", action="store_true")
    parser.add_argument("--json", type=Path, help="write the figures here too")
    options = parser.parse_args()
    device = torch.device("cuda" if options.gpu else "cpu")
    torch.backends.cudnn.allow_tf32 = False  # float32 is float32
    print(machine(device))
    print(f"{'what':<84}{'mfd':>12}{'plain':>12}{'ratio':>26}")
    told = []
    with tempfile.TemporaryDirectory() as folder:
        for make in ROWS:
            if options.only and not any(word in make.__name__ for word in options.only):
                continue
            for row in make(Path(folder), device):
                told.append(measure(row, options.turns))
    if options.json:
        options.json.write_text(json.dumps({"machine": machine(device), "rows": told}, indent=1) + "\n")


def machine(device: torch.device) -> str:
    """What everything was measured on."""
    names = [line for line in Path("/proc/cpuinfo").read_text().splitlines() if line.startswith("model name")]
    name = names[0].partition(":")[2].strip() if names else platform.machine()
    gpu = f", {torch.cuda.get_device_name(device)}" if device.type == "cuda" else ""
    cores = f"{os.cpu_count()} cores, {torch.get_num_threads()} threads"
    return f"{name}, {cores}{gpu}; torch {torch.__version__}, Python {platform.python_version()}"


def short(value: float) -> str:
    """At least three digits."""
    return f"{value:,.0f}" if value >= 100 else f"{value:.3g}"


def measure(row: Row, turns: int, clock: Callable[[], float] = time.perf_counter) -> dict[str, Any]:
    """Both in turns, and a line of the table."""
    mine, theirs = [], []
    seconds(row.ours, row.wait, clock)
    seconds(row.plain, row.wait, clock)
    for _ in range(turns):
        mine.append(seconds(row.ours, row.wait, clock))
        theirs.append(seconds(row.plain, row.wait, clock))
    ratios = [b * row.less / a for a, b in zip(mine, theirs)]
    ratio = statistics.median(ratios)
    a, b = row.amount / statistics.median(mine), row.amount / row.less / statistics.median(theirs)
    spread = f"{ratio:.1f}x ({min(ratios):.1f}-{max(ratios):.1f})"
    print(
        f"{row.name + ', ' + row.unit + '/s':<84}{short(a):>12}{short(b):>12}{spread:>26}   {row.against}", flush=True
    )
    return {
        "name": row.name,
        "unit": row.unit,
        "mfd": a,
        "plain": b,
        "ratio": ratio,
        "ratios": ratios,
        "against": row.against,
    }


def seconds(work: Callable[[], object], wait: Callable[[], object], clock: Callable[[], float]) -> float:
    """How long it takes by this clock."""
    started = clock()
    work()
    wait()
    return clock() - started


# -- the data path -----------------------------------------------------------------------------------------------------


class PlainDataset(TorchDataset[tuple[np.ndarray, np.ndarray]]):
    """A sample at a time: pysam fetch, one-hot by a table, float labels."""

    def __init__(self, fasta: str, starts: np.ndarray, packed: np.ndarray) -> None:
        self.fasta, self.starts, self.packed = pysam.FastaFile(fasta), starts, packed
        self.table = np.zeros((256, 4), np.float32)
        self.table[np.frombuffer(b"ACGT", np.uint8)] = np.eye(4, dtype=np.float32)

    def __len__(self) -> int:
        return len(self.starts)

    def __getitem__(self, index: int) -> tuple[np.ndarray, np.ndarray]:
        left = int(self.starts[index]) - (WINDOW - BIN) // 2
        text = self.fasta.fetch("chr1", left, left + WINDOW)
        x = self.table[np.frombuffer(text.encode(), np.uint8)].T
        return x.copy(), np.unpackbits(self.packed[index], bitorder="little").astype(np.float32)


def loader(folder: Path, device: torch.device) -> Iterator[Row]:
    """Random batches: bytes and packed bits by index, against a torch DataLoader in this process."""
    rng = np.random.default_rng(0)
    length, count = 50_000_000, 200_000
    genome = Genome({"chr1": BASES[rng.integers(0, 4, length)]})
    packed = rng.integers(0, 256, (count, TRACKS // 8), dtype=np.uint8)
    starts = np.sort(rng.choice(length // BIN - 40, count, False) + 20) * BIN
    bins = Bins(
        np.zeros(count, np.int32), starts, np.arange(count, dtype=np.int32), packed, np.zeros((count, 0), np.float32)
    )
    everywhere = Runs(np.zeros(1, np.int64), np.zeros(1, np.int8))
    dataset = Dataset(Path(), {}, tuple(Track(f"T{i}", "peaks", {}) for i in range(TRACKS)), genome, everywhere)
    flat = GenomeOnDevice(dataset, WINDOW, (WINDOW - BIN) // 2, torch.device("cpu"))
    data = LabelledBins(flat, bins, dataset, SignalScale.fit(bins.signal), torch.device("cpu"))
    (folder / "g.fa").write_text(">chr1\n" + genome.sequences["chr1"].tobytes().decode() + "\n")
    plain = PlainDataset(str(folder / "g.fa"), starts, packed)
    many = torch.from_numpy(rng.integers(0, count, 40 * BATCH))
    few = many[: 2 * BATCH].tolist()

    def ours() -> None:
        for chunk in many.split(BATCH):
            data.rows(chunk[:, None])

    def theirs() -> None:
        for _ in DataLoader(plain, BATCH, sampler=few):
            pass

    yield Row(
        "loader, 2,176 bp, 2,000 packed tracks, one core",
        "samples",
        len(many),
        ours,
        theirs,
        "pysam + numpy per sample, DataLoader, float32",
        len(many) // len(few),
    )
    model = DilatedBackbone(64, 1152, 1, 128)
    codes = torch.randint(0, 4, (BATCH, 1152), dtype=torch.uint8)

    def step() -> None:
        with torch.autocast("cpu", torch.bfloat16):
            loss = model(kmers(one_hot(codes), 1)).float().pow(2).mean()
        loss.backward()

    # Per sample, so that the ratio says how often the data path could feed the step.
    def feed() -> None:
        data.rows(many[:BATCH, None])

    yield Row(
        "the same against what a training step consumes (C = 64, 1,152 bp)",
        "samples",
        BATCH,
        feed,
        step,
        "forward and backward, bf16",
    )


def peaks(folder: Path, device: torch.device) -> Iterator[Row]:
    """One narrowPeak file of 100,000 peaks to the bins of 200 Mb that it labels, parsing included."""
    rng = np.random.default_rng(0)
    names, length, count = [f"chr{i}" for i in range(1, 5)], 50_000_000, 100_000
    lengths = dict.fromkeys(names, length)
    contig, start = rng.integers(0, 4, count), rng.integers(0, length - 2000, count)
    order = np.lexsort([start, contig])
    lines = [
        f"{names[contig[i]]}\t{start[i]}\t{start[i] + 150 + i % 500}\tp{i}\t500\t.\t3.1\t9.0\t7.1\t75\n" for i in order
    ]
    file = folder / "p.narrowPeak"
    file.write_text("".join(lines))

    def ours() -> int:
        found = read_intervals(file).on(lengths)
        return sum(len(labelled_bins(*found[name], length // BIN, 64)[0]) for name in names)

    try:
        import pandas as pd
        import pyranges as pr
    except ImportError:
        print("peaks against pyranges: not measured, pyranges is not installed")
    else:
        grid = np.arange(0, length // BIN * BIN, BIN)
        bins = pr.PyRanges(
            pd.DataFrame(
                {"Chromosome": np.repeat(names, len(grid)), "Start": np.tile(grid, 4), "End": np.tile(grid + BIN, 4)}
            )
        )

        def ranges() -> int:
            table = pd.read_csv(file, sep="\t", header=None, usecols=[0, 1, 2], names=["Chromosome", "Start", "End"])
            joined = bins.join(pr.PyRanges(table), report_overlap=True).df
            return len(joined.loc[joined.Overlap >= 64, ["Chromosome", "Start"]].drop_duplicates())

        assert ranges() == ours()
        yield Row(
            "peaks to labels, 100,000 narrowPeak rows on 200 Mb", "peaks", count, ours, ranges, "pandas + pyranges"
        )
    if not shutil.which("bedtools"):
        print("peaks against bedtools: not measured, bedtools is not installed")
        return
    with (folder / "bins.bed").open("w") as out:
        for name in names:
            out.writelines(f"{name}\t{low}\t{low + BIN}\n" for low in range(0, length // BIN * BIN, BIN))
    words = ["bedtools", "intersect", "-sorted", "-u", "-f", "0.5", "-a", str(folder / "bins.bed"), "-b", str(file)]

    def bedtools() -> int:
        return subprocess.run(words, capture_output=True, check=True).stdout.count(b"\n")

    assert bedtools() == ours()
    yield Row("the same", "peaks", count, ours, bedtools, "bedtools intersect -sorted")


def dense_bigwig(path: Path, length: int = 20_000_000) -> Path:
    """Write a bigWig of one contig: runs of 1 to 40 bp with values of two decimals."""
    import pyBigWig

    rng = np.random.default_rng(0)
    edges = np.unique(rng.integers(0, length, length // 20))
    file = pyBigWig.open(str(path), "w")
    file.addHeader([("chr1", length)])
    values = rng.gamma(1, 2, len(edges) - 1).round(2)
    file.addEntries(["chr1"] * len(values), edges[:-1].tolist(), ends=edges[1:].tolist(), values=values.tolist())
    file.close()
    return path


def signals(folder: Path, device: torch.device) -> Iterator[Row]:
    """A dense bigWig of 20 Mb to the means of its 128-bp bins."""
    import pyBigWig

    length = 20_000_000
    path = dense_bigwig(folder / "s.bw", length)
    bins = length // BIN

    def chunked() -> np.ndarray:
        with pyBigWig.open(str(path)) as opened:
            pieces = []
            for low in range(0, bins * BIN, 2**13 * BIN):
                values = opened.values("chr1", low, min(low + 2**13 * BIN, bins * BIN), numpy=True)
                pieces.append(np.nan_to_num(values).reshape(-1, BIN).mean(1))
        return np.concatenate(pieces)

    assert np.allclose(chunked(), bin_means(path, {"chr1": length}), rtol=1e-4)
    yield Row(
        "bigWig to bins, one core",
        "bins",
        bins,
        lambda: bin_means(path, {"chr1": length}),
        chunked,
        "pyBigWig values in 1-Mb chunks",
    )


# -- the model ---------------------------------------------------------------------------------------------------------


class Plain(nn.Module):
    """The network as one would write it down: float32, MaxPool1d, one layer after the other."""

    def __init__(self, network: DilatedBackbone) -> None:
        super().__init__()
        self.network = network

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        net = self.network
        x = net.stem(x)
        x = nn.functional.max_pool1d(x + net.stem_residual(x), 2)
        for block, residual in zip(net.tower, net.tower_residual):
            x = block(x)
            x = nn.functional.max_pool1d(x + residual(x), 2)
        for wide, pointwise in zip(net.dilated, net.dilated_pointwise):
            x = x + pointwise(wide(x))
        return net.pointwise(x[..., net.margin : x.shape[-1] - net.margin]).flatten(1)  # type: ignore[no-any-return]


def waiter(device: torch.device) -> Callable[[], object]:
    return torch.cuda.synchronize if device.type == "cuda" else lambda: None


def training(folder: Path, device: torch.device) -> Iterator[Row]:
    """Forward and backward of the backbone from base codes in bf16, against the same layers in float32."""
    width, window = (768, 2176) if device.type == "cuda" else (64, 1152)
    torch.manual_seed(0)
    codes = torch.randint(0, 4, (BATCH, window), dtype=torch.uint8, device=device)
    ready = one_hot(codes)
    model = DilatedBackbone(width, window, 1, 2 * width).to(device)
    plain = Plain(DilatedBackbone(width, window, 1, 2 * width).to(device))

    def theirs() -> None:
        plain(ready).pow(2).mean().backward()

    def ours() -> None:
        with torch.autocast(device.type, torch.bfloat16):
            loss = model(one_hot(codes)).float().pow(2).mean()
        loss.backward()

    yield Row(
        f"training step, C = {width}, {window:,} bp, bf16",
        "windows",
        BATCH,
        ours,
        theirs,
        "the same layers, plainly, float32",
        wait=waiter(device),
    )


def variants(folder: Path, device: torch.device) -> Iterator[Row]:
    """Reference and alternate on both strands: only what matters, against full windows; differences within 1e-4."""
    shapes = [(768, 2176, 1, 8, 1), (64, 1152, 1, 64, 16)] if device.type == "cpu" else [(768, 2176, 1, 256, 1)]
    for width, window, order, count, repeat in shapes:
        yield from variants_of(width, window, order, count, repeat, device)


@torch.inference_mode()
def variants_of(width: int, window: int, order: int, count: int, repeat: int, device: torch.device) -> Iterator[Row]:
    torch.manual_seed(0)
    network = DilatedBackbone(width, window, order, 2 * width).to(device).eval()
    norm = nn.BatchNorm1d(2 * width, affine=False).to(device).eval()
    plain, fast = Plain(network).eval(), CentrePass(network, norm, window, order, torch.float32)
    codes = torch.randint(0, 4, (count, window), dtype=torch.uint8, device=device)
    centre, end = window // 2, window - 1
    changed = codes.clone()
    changed[:, centre] = (changed[:, centre] + 1) % 4
    rows = torch.arange(count, device=device)
    at = torch.full((count,), centre, device=device)

    @torch.inference_mode()
    def theirs() -> torch.Tensor:
        both = [plain(kmers(one_hot(torch.cat([c, other_strand(c)])), order)) for c in (codes, changed)]
        return norm(both[1]) - norm(both[0])

    @torch.inference_mode()
    def ours() -> torch.Tensor:
        reference = fast.reference(torch.cat([codes, other_strand(codes)]), min(centre, end - centre), centre)
        base = changed[:, centre].long()
        row, position = torch.cat([rows, rows + count]), torch.cat([at, end - at])
        return fast.alternates(reference, row, position, torch.cat([base, 3 - base])) - reference.latents

    assert (ours() - theirs()).abs().max() < 1e-4
    yield Row(
        f"isolated substitutions, C = {width}, {window:,} bp, float32",
        "variants",
        count,
        ours,
        theirs,
        "full windows, both alleles and strands",
        wait=waiter(device),
    )
    # Every substitution of one bin (grid placement): one reference pass for 384 variants.
    one = codes[:1]
    left = (window - BIN) // 2
    position = torch.arange(left, left + BIN, device=device).repeat_interleave(3)
    base = (one[0][position].long() + torch.arange(1, 4, device=device).repeat(BIN)) % 4

    @torch.inference_mode()
    def grid() -> torch.Tensor:
        low, high = min(left, end - left - BIN + 1), max(left + BIN - 1, end - left)
        reference = fast.reference(torch.cat([one, other_strand(one)]), low, high)
        strand = torch.zeros_like(position)
        row = torch.cat([strand, strand + 1])
        latents = fast.alternates(reference, row, torch.cat([position, end - position]), torch.cat([base, 3 - base]))
        return latents - reference.latents[row]

    some = 384 // 48

    @torch.inference_mode()
    def full() -> torch.Tensor:
        where, which = position[::48], base[::48]
        windows = one.repeat(some, 1).scatter(1, where[:, None], which[:, None].to(torch.uint8))
        both = [plain(kmers(one_hot(torch.cat([c, other_strand(c)])), order)) for c in (one.repeat(some, 1), windows)]
        return norm(both[1]) - norm(both[0])

    found, expected = grid(), full()
    assert (torch.cat([found[:384:48], found[384::48]]) - expected).abs().max() < 1e-4
    yield Row(
        f"all 384 substitutions of a bin, C = {width}, {window:,} bp, float32",
        "variants",
        384,
        grid,
        full,
        "full windows, both alleles and strands",
        48,
        waiter(device),
    )


def stretches(folder: Path, device: torch.device) -> Iterator[Row]:
    """Neighbouring bins in one pass, against the same network with a window for each of them; the same numbers to 1e-5."""
    for width, bins in ((64, 16), (64, STRETCH), (768, STRETCH)):
        yield from stretches_of(width, 2176, bins, device)


def stretches_of(width: int, window: int, bins: int, device: torch.device) -> Iterator[Row]:
    torch.manual_seed(0)
    network = DilatedBackbone(width, window, 1, 2 * width).to(device)
    norm = nn.BatchNorm1d(2 * width, affine=False).to(device)
    fast = CentrePass(network, norm.eval(), window, 1, torch.float32)
    stretch = torch.randint(0, 4, (1, window + (bins - 1) * BIN), dtype=torch.uint8, device=device)
    windows = stretch[0].unfold(0, window, BIN).contiguous()

    @torch.inference_mode()
    def read(codes: torch.Tensor) -> torch.Tensor:
        return torch.cat([fast.latents(part) for part in codes.split(8)])

    def learn(codes: torch.Tensor) -> None:
        network(one_hot(codes)).pow(2).mean().backward()

    alone = read(windows)
    assert (read(stretch) - alone).abs().max() < 1e-5 * alone.abs().max()
    name = f"C = {width}, {window:,} bp, stretches of {bins}, float32"
    for verb, work in (("reading bins", read), ("training on bins", learn)):
        yield Row(
            f"{verb}, {name}",
            "bins",
            bins,
            lambda work=work: work(stretch),  # type: ignore[misc]
            lambda work=work: work(windows),  # type: ignore[misc]
            "the same pass, one window a bin",
            wait=waiter(device),
        )


def grid(folder: Path, device: torch.device) -> Iterator[Row]:
    """Substitutions in grid placement, whose bins share stretches, against a window for every bin; the same to 1e-4 logit."""
    for width, count, every in ((64, 2000, 100), (64, 6144, 0), (768, 48, 100)):
        yield grid_of(width, count, every, device)


def grid_of(width: int, count: int, every: int, device: torch.device) -> Row:
    """A substitution about every `every` bp (0: all three of each base)."""
    rng, start = np.random.default_rng(0), 16 * BIN
    genome = Genome({"1": rng.choice(BASES[:4], count * max(every, 1) + 2 * start)})
    places = rng.choice(count * every, count, replace=False) if every else np.arange(count) // 3
    step = rng.integers(1, 4, count) if every else np.arange(count) % 3 + 1
    chosen = []
    for place, further in zip((np.sort(places) + start).tolist(), step.tolist()):
        base = genome.bases("1", place, place + 1)
        chosen.append(Variant("1", place + 1, base, "ACGT"["ACGT".index(base) - further]))
    shared, alone = (LatentChanges(Predictor(random_model(width), device), "grid") for _ in range(2))
    alone.predictor.most_bins = 1  # a window for every bin, and for each substitution in it
    found, expected = (one.of(chosen, genome)[1] for one in (shared, alone))
    head = shared.predictor.head.matrix().T
    assert np.abs(found @ head - expected @ head).max() < 1e-4 and np.abs(expected @ head).max() > 1e-2
    what = f"a substitution every {every} bp" if every else f"all substitutions of {count // 3 // BIN} bins"
    return Row(
        f"{what}, grid placement, C = {width}, 2,176 bp, float32",
        "variants",
        count,
        lambda: shared.of(chosen, genome),
        lambda: alone.of(chosen, genome),
        "the same, a window for every bin",
        wait=waiter(device),
    )


def random_model(width: int) -> MfdModel:
    """A model of a few tracks with random weights, 2,176-bp windows, and latents of the size that norms give them."""
    rows = [{"Target": target} for target in "ABCD"]
    factors = {"target": {"column": "Target", "group": "biological"}}
    config = parse_config({"factors": factors, "model": {"width": width, "window": 2176, "latent": 2 * width}})
    used = np.ones(len(rows), bool)
    metadata = fit_metadata(rows, config.factors, used.tolist())
    torch.manual_seed(0)
    model = MfdModel(config.resolved_model(), metadata, config.factors, rows, used, np.zeros(len(rows), np.float32))
    for module in model.modules():
        if isinstance(module, nn.BatchNorm1d):
            module.momentum = 1.0  # the norms keep what they see in one batch
    with torch.no_grad():
        model.train()(torch.randint(0, 4, (8, model.length(16)), dtype=torch.uint8))
    return model.eval()


def metrics(folder: Path, device: torch.device) -> Iterator[Row]:
    """Exact AUROC (and AUPRC) of all tracks at once, against scikit-learn's AUROC track by track."""
    rng = np.random.default_rng(0)
    scores, labels = rng.normal(size=(10_000, 200)).astype(np.float32), rng.random((10_000, 200)) < 0.05
    labels = unpack_bits(pack_bits(labels), 200)
    x, y = torch.from_numpy(scores).to(device), torch.from_numpy(labels).to(device)

    def plain() -> None:
        for i in range(200):
            roc_auc_score(labels[:, i], scores[:, i])

    yield Row(
        "exact AUROC and AUPRC, 200 tracks",
        "bins",
        10_000,
        lambda: auroc_auprc(x, y),
        plain,
        "scikit-learn's AUROC, track by track",
        wait=waiter(device),
    )


def start(folder: Path, device: torch.device) -> Iterator[Row]:
    """How long the help takes, against importing torch."""
    python = [sys.executable, "-c"]

    def helped() -> None:
        subprocess.run(
            [*python, "import sys; sys.argv = ['mfd', '--help']; from mfd_cli.cli.app import main; main()"],
            check=True,
            stdout=subprocess.DEVNULL,
        )

    yield Row(
        "mfd --help",
        "starts",
        1,
        helped,
        lambda: subprocess.run([*python, "import torch"], check=True),
        "python -c 'import torch'",
    )


ROWS = (loader, peaks, signals, training, variants, stretches, grid, metrics, start)


if __name__ == "__main__":
    main()
