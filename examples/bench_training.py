"""How far a training gets in a given processor time: settings side by side, seeds, a schedule of the right length for each.

    python examples/bench_training.py PROJECT --seconds 100 --seeds 1,2 'train.stretch=1' 'train.stretch=16 train.lr=0.008'

PROJECT has an mfd.toml and a dataset; each argument after it is one training's settings, as for --set, separated by spaces.
The time is the processor time of this process (one thread), so that a busy machine stretches it less than the clock. The steps
that fit into it are planned from the first ones; the validation at the end is not counted. Figures are of the validation bins,
never of the test. With `--windows N` every training sees N bins instead. Prints a line per training and means over the seeds;
writes PROJECT/bench_training.json, to which later calls add.
"""

from __future__ import annotations

import argparse
import json
import time
from itertools import islice
from pathlib import Path
from typing import Any

import numpy as np
import torch

from mfd_cli.settings.project import load_project
from mfd_cli.training.prepare import Ready, prepare
from mfd_cli.training.step import draws, learn
from mfd_cli.training.validate import figures, predict_bins

TIMED = 12
"""Steps that are timed to plan the others; the first two of them are not counted."""
CPU = torch.device("cpu")
SHOWN = ("auroc_median", "auroc_mean", "auprc_mean", "loss")


def main() -> None:
    """Train with every setting and seed, and print what each reaches."""
    parser = argparse.ArgumentParser()
    parser.add_argument("project", type=Path)
    parser.add_argument("settings", nargs="+")
    parser.add_argument("--seconds", type=float, default=120)
    parser.add_argument("--windows", type=int)
    parser.add_argument("--seeds", default="1")
    options = parser.parse_args()
    torch.set_num_threads(1)
    results = []
    for settings in options.settings:
        for seed in options.seeds.split(","):
            words = [*settings.split(), f"train.seed={seed}"]
            results.append({"settings": settings, "seed": int(seed), **trained(options, words)})
            add(options.project / "bench_training.json", results[-1])
            print(line(f"{settings}, seed {seed}", results[-1]), flush=True)
    for settings in options.settings:
        rows = [row for row in results if row["settings"] == settings]
        means = {key: float(np.mean([row[key] for row in rows])) for key in (*SHOWN, "windows", "seconds")}
        print(line(f"mean of {len(rows)}: {settings}", means))


def trained(options: argparse.Namespace, words: list[str]) -> dict[str, float]:
    """The figures of one training, in validation."""
    file = options.project / "mfd.toml"
    limit = ["train.max_windows=1000000000", "train.epochs=1000000"]
    windows = options.windows or planned(prepare(load_project(file, [*words, *limit]), CPU), options.seconds)
    ready = prepare(load_project(file, [*words, f"train.max_windows={windows}", "train.epochs=1000000"]), CPU)
    trainer, data = ready.trainer, ready.training_bins()
    started = time.process_time()
    for draw in draws(trainer, data.tiling):
        learn(trainer, data.batch(*draw), data.counts)
    seconds = time.process_time() - started
    predicted = predict_bins(trainer.average, ready.validation_bins(), 0.1, trainer.used)
    return {"windows": trainer.step * trainer.pace.bins, "seconds": seconds, **figures(predicted)}


def planned(ready: Ready, seconds: float) -> int:
    """How many bins fit into the time."""
    trainer, data, times = ready.trainer, ready.training_bins(), []
    for draw in islice(draws(trainer, data.tiling), TIMED):
        started = time.process_time()
        learn(trainer, data.batch(*draw), data.counts)
        times.append(time.process_time() - started)
    return int(seconds / float(np.median(times[2:]))) * trainer.pace.bins


def line(name: str, row: dict[str, Any]) -> str:
    measured = ", ".join(f"{key} {row[key]:.4f}" for key in SHOWN if key in row)
    return f"{name}: {row['windows']:,.0f} bins, {row['seconds']:.0f} s, {measured}"


def add(file: Path, row: dict[str, Any]) -> None:
    earlier = json.loads(file.read_text()) if file.exists() else []
    file.write_text(json.dumps([*earlier, row], indent=1) + "\n")


if __name__ == "__main__":
    main()
