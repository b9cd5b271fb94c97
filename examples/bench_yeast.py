"""Quality on real data: MFD beside its free-head twin and two baselines, on yeast chromosome IV.

    python examples/bench_yeast.py DATA FOLDER [--windows N] [--threads N]

DATA holds genome.fa.gz, metadata.tsv, tracks/ and rossi_excluded_regions.bed (536 yeast tracks, see the README); FOLDER
is made. The test is chrIV, all bins that are not masked; validation chrXIII. Rated are the peak tracks with at least 100
intervals and at least 5 positive bins on chrIV. A run that is there already is not made again.
"""

from __future__ import annotations

import argparse
import json
import subprocess
from pathlib import Path

import numpy as np
import pandas as pd
import torch
from sklearn.linear_model import Ridge

from mfd_cli.core.metrics import auroc_auprc
from mfd_cli.data.dataset import Bins, Dataset, open_dataset, unpack_bits

K, WINDOW = 6, 512
RIDGE, SHARED_RIDGE = 30_000.0, 3_000.0
"""Window and penalties are the best of a small grid on the test itself, to the baselines' favour."""


def main() -> None:
    """Make what is missing, then print one table."""
    parser = argparse.ArgumentParser()
    parser.add_argument("data", type=Path)
    parser.add_argument("folder", type=Path)
    parser.add_argument("--windows", type=int, default=512_000)
    parser.add_argument("--threads", type=int, default=2)
    options = parser.parse_args()
    make_project(options.data.absolute(), options.folder, options.windows)
    train = ["mfd", "train", "--gpus", "0", "--threads", str(options.threads)]
    for run, extra in (("run", []), ("twin", ["--head", "free"])):
        if not (options.folder / run / "last").exists():
            subprocess.run([*train, "--run", run, *extra], cwd=options.folder, check=True)
        subprocess.run(
            ["mfd", "evaluate", "-q", "--run", run], cwd=options.folder, check=True, stdout=subprocess.DEVNULL
        )
    dataset = open_dataset(options.folder / "dataset")
    labels = unpack_bits(dataset.split("test").peaks, len(dataset.peak_tracks))
    intervals = np.array([int(track.metadata["n_intervals"]) for track in dataset.peak_tracks])
    rated = (intervals >= 100) & (labels.sum(0) >= 5)
    print(f"{len(labels):,} bins of chrIV, {int(rated.sum())} rated tracks")
    print(f"{'model':<34}{'median AUROC':>14}{'mean AUROC':>12}{'mean AUPRC':>12}")
    for run, name in (("run", "MFD (conditioned head)"), ("twin", "free-head twin")):
        table = pd.read_parquet(options.folder / run / "evaluation-test" / "tracks.parquet").iloc[: len(rated)][rated]
        show(name, table["auroc"].to_numpy(), table["auprc"].to_numpy())
    shared, ridge = baselines(dataset)
    for name, scores in ((f"ridge on {K}-mer counts, per track", ridge), ("one shared ridge prediction", shared)):
        auroc, auprc = auroc_auprc(torch.from_numpy(scores[:, rated]), torch.from_numpy(labels[:, rated]))
        show(name, auroc.numpy(), auprc.numpy())
    print("validation (chrXIII, median AUROC of all rated tracks there) by training windows")
    for run in ("run", "twin"):
        lines = [json.loads(line) for line in (options.folder / run / "metrics.jsonl").open()]
        print(f"  {run:<5}", ", ".join(f"{x['windows'] // 1000}k {x['auroc_median']:.3f}" for x in lines))
        print(f"  {run:<5} {lines[-1]['seconds'] / 60:.0f} minutes")


def show(name: str, auroc: np.ndarray, auprc: np.ndarray) -> None:
    print(f"{name:<34}{np.median(auroc):>14.3f}{auroc.mean():>12.3f}{auprc.mean():>12.3f}")


def make_project(data: Path, folder: Path, windows: int) -> None:
    """mfd.toml from mfd init, with the split and the mask of this benchmark; the dataset."""
    if (folder / "dataset").exists():
        return
    folder.mkdir(parents=True, exist_ok=True)
    words = ["mfd", "init", "--fasta", str(data / "genome.fa.gz"), "--metadata", str(data / "metadata.tsv"), "--force"]
    subprocess.run(words, cwd=folder, check=True, stdout=subprocess.DEVNULL)
    text = (folder / "mfd.toml").read_text()
    lines = []
    for line in text.splitlines():
        key = line.split(" = ")[0]
        line = {"test": 'test = ["chrIV"]', "validation": 'validation = ["chrXIII"]'}.get(key, line)
        mask = data / "rossi_excluded_regions.bed"
        lines.append(f'exclude = "{mask}"' if key == "# exclude" else line)
    lines += ["", "[train]", "epochs = 50", 'precision = "bf16"', "patience = 20", "windows_per_validation = 64000"]
    lines.append(f"max_windows = {windows}")
    (folder / "mfd.toml").write_text("\n".join(lines) + "\n")
    subprocess.run(["mfd", "preprocess"], cwd=folder, check=True)


def baselines(dataset: Dataset) -> tuple[np.ndarray, np.ndarray]:
    """Ridge regression on log counts of canonical 6-mers in 512 bp: of the number of tracks with a peak, and of each."""
    train, test = dataset.split("train"), dataset.split("test")
    x, z = counts(dataset, train), counts(dataset, test)
    labels = unpack_bits(train.peaks, len(dataset.peak_tracks)).astype(np.float32)
    ridge = Ridge(alpha=RIDGE).fit(x, labels).predict(z).astype(np.float32)
    shared = Ridge(alpha=SHARED_RIDGE).fit(x, labels.sum(1)).predict(z).astype(np.float32)
    return np.repeat(shared[:, None], labels.shape[1], 1), ridge


def counts(dataset: Dataset, bins: Bins) -> np.ndarray:
    """log(1 + count) of every canonical 6-mer in the window around each bin, (bins, 2080) float32."""
    digits = (np.arange(4**K)[:, None] // 4 ** np.arange(K)[::-1]) % 4
    reverse = ((3 - digits)[:, ::-1] * 4 ** np.arange(K)[::-1]).sum(1)
    canonical, column = np.unique(np.minimum(np.arange(4**K), reverse), return_inverse=True)
    pieces = []
    for contig, start in zip(bins.contig, bins.start):
        left = int(start) - (WINDOW - 128) // 2
        codes = dataset.genome.codes(dataset.contigs[contig], left, left + WINDOW).astype(np.int64)
        words = sum(codes[i : len(codes) - K + 1 + i] * 4 ** (K - 1 - i) for i in range(K))
        known = np.convolve(codes > 3, np.ones(K), "valid") == 0
        pieces.append(np.bincount(column[words[known]], minlength=len(canonical)).astype(np.uint16))
    return np.log1p(np.stack(pieces).astype(np.float32))


if __name__ == "__main__":
    main()
