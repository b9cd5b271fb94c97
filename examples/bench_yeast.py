"""Quality on real data: MFD beside its free-head twin and two baselines, on yeast, several chromosomes held out in turn.

    python examples/bench_yeast.py DATA FOLDER [--windows N] [--folds N]

DATA holds genome.fa.gz, metadata.tsv, tracks/ and rossi_excluded_regions.bed (536 yeast tracks); FOLDER is made, with a
project per fold. The results are in docs/measured-quality.md. The test is one chromosome, all bins that are not masked; another
is the validation. Rated are the peak tracks with at least 100 intervals and at least 5 positive bins on the test chromosome. As
many trainings as there are cores run at a time, one thread each. A run that is there already is not made again. Writes
FOLDER/bench_yeast.json.
"""

from __future__ import annotations

import argparse
import json
import os
import subprocess
import sys
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import torch
from numpy.typing import NDArray
from sklearn.linear_model import Ridge

from mfd_cli.core.metrics import auroc_auprc
from mfd_cli.dataset.bins import Bins, unpack_bits
from mfd_cli.dataset.folder import Dataset, open_dataset

FOLDS = (("chrIV", "chrXIII"), ("chrVII", "chrXV"), ("chrXII", "chrXIV"))
"""Test and validation of each fold."""
RUNS = {
    "run": [],
    "conditioned": ["--head", "conditioned"],
    "no-penalty": ["--head", "conditioned", "--set", "objective.penalties={}"],
    "twin": ["--head", "free"],
}
FIRST_FOLD_ONLY = "no-penalty"
NAMES = {
    "run": "mixed head",
    "conditioned": "conditioned head",
    "no-penalty": "conditioned head, no penalty",
    "twin": "free-head twin",
}
K, WINDOW = 6, 512
RIDGE, SHARED_RIDGE = 30_000.0, 3_000.0
"""Window and penalties are the best of a small grid on the first fold's test itself, to the baselines' favour."""
METRICS = {"median_auroc": "median AUROC", "auroc": "mean AUROC", "occupied": "AUROC occupied", "auprc": "mean AUPRC"}


def main() -> None:
    """Make what is missing, then print one table per fold."""
    parser = argparse.ArgumentParser()
    parser.add_argument("data", type=Path)
    parser.add_argument("folder", type=Path)
    parser.add_argument("--windows", type=int, default=500_000)
    parser.add_argument("--folds", type=int, default=len(FOLDS), help="how many of the folds")
    options = parser.parse_args()
    folds = FOLDS[: options.folds]
    for test, validation in folds:
        make_project(options.data.absolute(), options.folder / test, options.windows, test, validation)
    jobs = [
        (options.folder / test, run)
        for test, _ in folds
        for run in RUNS
        if run != FIRST_FOLD_ONLY or test == folds[0][0]
    ]
    with ThreadPoolExecutor(os.cpu_count() or 1) as pool:
        list(pool.map(lambda job: train_and_evaluate(*job), jobs))
    results = [result for test, _ in folds for result in measure(options.folder / test, test)]
    (options.folder / "bench_yeast.json").write_text(json.dumps(results, indent=1) + "\n")
    show(results)


def train_and_evaluate(project: Path, run: str) -> None:
    """One run of a project, one thread; what was finished is left as it is."""
    environment, quiet = {**os.environ, "OMP_NUM_THREADS": "1"}, subprocess.DEVNULL
    if not (project / run / "finished").exists():
        words = ["mfd", "train", "--gpus", "0", "--threads", "1", "--run", run, "--force", "--resume", *RUNS[run]]
        subprocess.run(words, cwd=project, check=True, env=environment, stdout=quiet, stderr=quiet)
        (project / run / "finished").touch()
        print(f"trained: {project.name}, {run}", file=sys.stderr, flush=True)
    words = ["mfd", "evaluate", "-q", "--force", "--threads", "1", "--no-probes", "--run", run]
    subprocess.run(words, cwd=project, check=True, env=environment, stdout=quiet)


def measure(project: Path, test: str) -> list[dict[str, Any]]:
    """What each run and baseline of one fold reaches on its test chromosome."""
    dataset = open_dataset(project / "dataset")
    labels = unpack_bits(dataset.split("test").peaks, len(dataset.peak_tracks))
    intervals = np.array([int(track.metadata["n_intervals"]) for track in dataset.peak_tracks])
    rated = (intervals >= 100) & (labels.sum(0) >= 5)
    about = {"fold": test, "bins": len(labels), "rated": int(rated.sum())}
    results = []
    for run, name in NAMES.items():
        if not (project / run).exists():
            continue
        table = pd.read_parquet(project / run / "evaluation-test" / "tracks.parquet").iloc[: len(rated)][rated]
        lines = [json.loads(line) for line in (project / run / "metrics.jsonl").open()]
        results.append(
            {
                **about,
                "model": name,
                **averages(*(table[key].to_numpy() for key in ("auroc", "auroc_occupied", "auprc"))),
                "minutes": lines[-1]["seconds"] / 60,
                "validation": {x["windows"]: round(x["auroc_median"], 4) for x in lines},
            }
        )
    occupied = labels.any(1)
    for name, scores in zip(("one shared ridge prediction", f"ridge on {K}-mers, per track"), baselines(dataset)):
        guess, truth = torch.from_numpy(scores[:, rated]), torch.from_numpy(labels[:, rated])
        auroc, auprc = auroc_auprc(guess, truth)
        within, _ = auroc_auprc(guess[occupied], truth[occupied])
        results.append({**about, "model": name, **averages(auroc.numpy(), within.numpy(), auprc.numpy())})
    return results


def averages(auroc: NDArray[Any], occupied: NDArray[Any], auprc: NDArray[Any]) -> dict[str, float]:
    values = {"median_auroc": np.median(auroc), "auroc": auroc.mean(), "occupied": np.nanmean(occupied)}
    return {name: float(value) for name, value in values.items()} | {"auprc": float(auprc.mean())}


def show(results: list[dict[str, Any]]) -> None:
    """A row per fold and model, then the means over folds, then validation by windows."""
    head = f"{'fold':<8}{'model':<30}" + "".join(f"{title:>16}" for title in METRICS.values())
    print(head)
    folds = {row["fold"] for row in results}
    models = [
        m
        for m in dict.fromkeys(row["model"] for row in results)
        if sum(row["model"] == m for row in results) == len(folds)
    ]
    means = [
        {"fold": "mean", "model": model}
        | {key: float(np.mean([row[key] for row in results if row["model"] == model])) for key in METRICS}
        for model in models
    ]
    for row in results + means:
        print(f"{row['fold']:<8}{row['model']:<30}" + "".join(f"{row[key]:>16.3f}" for key in METRICS))
    for fold, bins, rated in dict.fromkeys((row["fold"], row["bins"], row["rated"]) for row in results):
        print(f"{fold}: {bins:,} bins, {rated} rated tracks; validation, median AUROC by thousand windows:")
        for row in results:
            if row["fold"] == fold and "validation" in row:
                curve = ", ".join(
                    f"{int(windows) // 1000}: {value:.3f}" for windows, value in row["validation"].items()
                )
                print(f"  {row['model']:<18}{curve}   ({row['minutes']:.0f} minutes)")


def make_project(data: Path, folder: Path, windows: int, test: str, validation: str) -> None:
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
        line = {"test": f'test = ["{test}"]', "validation": f'validation = ["{validation}"]'}.get(key, line)
        mask = data / "rossi_excluded_regions.bed"
        lines.append(f'exclude = "{mask}"' if key == "# exclude" else line)
    lines += ["", "[train]", "epochs = 50", 'precision = "bf16"', "patience = 20", "windows_per_validation = 100000"]
    lines.append(f"max_windows = {windows}")
    (folder / "mfd.toml").write_text("\n".join(lines) + "\n")
    subprocess.run(["mfd", "preprocess", "-q"], cwd=folder, check=True, stdout=subprocess.DEVNULL)


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
