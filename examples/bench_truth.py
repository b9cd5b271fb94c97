"""How well each way of training tells biology from technique, where the truth is known.

    python examples/bench_truth.py FOLDER            one seed, the methods: under 40 minutes on two cores (make bench-truth)
    python examples/bench_truth.py FOLDER --full     three seeds and the controls, about three hours (make bench-truth-full)

What is finished is not done again: start it again after an interruption. Writes FOLDER/bench_truth.json and prints a table.
"""

from __future__ import annotations

import argparse
import csv
import json
import os
import re
import subprocess
import sys
from collections.abc import Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np

from truth import compare, compare_variants

PENALTY, TWIN = "objective.penalties", "free head (twin)"
METHODS: dict[str, list[str]] = {
    TWIN: ["model.head=free"],
    "no penalty": [f"{PENALTY}={{}}"],
    "default: distance 0.4": [],
    "covariance 0.4": [f"{PENALTY}.covariance.weight=0.4"],
    "covariance-l1 0.4": [f"{PENALTY}.covariance-l1.weight=0.4"],
    "projections 0.4": [f"{PENALTY}.projections.weight=0.4"],
    "discriminator 0.04": [f"{PENALTY}.discriminator.weight=0.04"],
    "predictor 0.4": [f"{PENALTY}.predictor.weight=0.4"],
    "distance 1": [f"{PENALTY}.distance.weight=1"],
    "published": [
        f"{PENALTY}.{name}.{key}"
        for name in ("covariance", "predictor")
        for key in ("weight=0.01", "published=true", "warmup=0")
    ],
}
WORLDS: dict[str, list[str]] = {
    "planted": [],
    "independent causes": ["--correlation", "0", "--overlap", "0"],
    "coinciding causes": ["--correlation", "1", "--overlap", "0"],
    "hidden batch": ["--hidden-batch"],
    "10 % mislabelled": ["--mislabelled", "0.1"],
    "complete confounding": ["--complete-confounding"],
}
"""Options of mfd simulate; all but the first are controls."""
TECHNICAL = ("Assay", "Library lab", "Experiment date released")
BIOLOGICAL = ("Experiment target", "Biosample term name")
RETOLD = (
    "metadata shuffled",
    "technical shuffled",
    "technical shuffled within target",
    "groups swapped",
    "noise factors",
)
"""Controls on the planted world that change what the model is told."""
COLUMNS = {
    "auroc": "AUROC",
    "total_r": "r total",
    "biological_r": "r bio",
    "technical_r": "r tech",
    "leakage_mean": "leak mean",
    "leakage_max": "leak max",
    "variants": "variants",
    "zero_shot": "zero-shot",
    "zero_shot_same_target": "same target",
    "to_twin": "k to twin",
    "minutes": "minutes",
}


@dataclass(frozen=True)
class Job:
    """One training: a world, a method, a seed."""

    world: str
    method: str
    seed: int
    settings: Sequence[str] = field(default_factory=tuple)

    def folder(self, base: Path) -> Path:
        name = f"{self.world}--{self.method}--{self.seed}"
        return base / "runs" / "".join(c if c.isalnum() or c in ".-" else "_" for c in name)


def main() -> None:
    """Make the worlds, run the jobs two at a time, print the table."""
    parser = argparse.ArgumentParser()
    parser.add_argument("folder", type=Path)
    parser.add_argument("--full", action="store_true", help="three seeds and the controls")
    parser.add_argument("--only", nargs="*", help="methods to run [default: all]")
    parser.add_argument(
        "--one", nargs=2, help=argparse.SUPPRESS
    )  # internal: world and run folder, in a process of its own
    options, rest = parser.parse_known_args()
    if options.one:
        one(Path(options.one[0]), Path(options.one[1]), rest)
        return
    base = options.folder.absolute()
    jobs = [
        Job("planted", method, seed, settings)
        for seed in (range(1, 4) if options.full else [1])
        for method, settings in METHODS.items()
        if not options.only or method in options.only
    ]
    make_world(base / "planted", [])
    if options.full:
        for world, words in WORLDS.items():
            make_world(base / world.replace(" ", "_"), words)
        for control in RETOLD:
            retell(base / "planted", base / control.replace(" ", "_"), control)
        jobs += [Job(world, "default: distance 0.4", 1) for world in (*list(WORLDS)[1:], *RETOLD)]
    with ThreadPoolExecutor(os.cpu_count() or 1) as pool:
        results = list(pool.map(lambda job: run_job(base, job), jobs))
    (base / "bench_truth.json").write_text(json.dumps(results, indent=1) + "\n")
    show(results)


def make_world(folder: Path, words: Sequence[str]) -> None:
    """A medium planted project and its dataset."""
    if not (folder / "dataset").exists():
        words = ["mfd", "simulate", str(folder), "--size", "medium", "-q", "--force", *words]
        subprocess.run(words, check=True, stdout=subprocess.DEVNULL)
        subprocess.run(["mfd", "preprocess", "-q"], cwd=folder, check=True, stdout=subprocess.DEVNULL)


def retell(source: Path, folder: Path, control: str) -> None:
    """A project on the same genome, tracks and truth whose metadata say something else."""
    if (folder / "dataset").exists():
        return
    folder.mkdir(parents=True, exist_ok=True)
    for name in ("genome.fa", "tracks", "truth", "input.vcf"):
        if not (folder / name).exists():
            (folder / name).symlink_to(source / name)
    rng = np.random.default_rng(1)
    with (source / "metadata.tsv").open() as file:
        rows = list(csv.DictReader(file, delimiter="\t"))
    settings = (source / "mfd.toml").read_text()
    told = [dict(row) for row in rows]
    if "shuffled" in control:
        columns = TECHNICAL + (BIOLOGICAL if control == "metadata shuffled" else ())
        strata = [row["Experiment target"] if "within" in control else "" for row in rows]
        for stratum in dict.fromkeys(strata):
            places = [i for i, own in enumerate(strata) if own == stratum]
            for place, other in zip(places, rng.permutation(places)):
                told[place] |= {column: rows[other][column] for column in columns}
    elif control == "groups swapped":
        other = {"biological": "technical", "technical": "biological"}
        settings = re.sub('"(biological|technical)"', lambda found: f'"{other[found[1]]}"', settings)
    else:
        for row in told:
            row |= {"Noise": f"{rng.normal():.3f}", "Random lab": str(rng.choice(["X", "Y", "Z"]))}
        settings = settings.replace("[model]", NOISE + "[model]", 1)
    lines = ["\t".join(told[0]), *("\t".join(row.values()) for row in told)]
    (folder / "metadata.tsv").write_text("\n".join(lines) + "\n")
    (folder / "mfd.toml").write_text(settings)
    subprocess.run(["mfd", "preprocess", "-q"], cwd=folder, check=True, stdout=subprocess.DEVNULL)


NOISE = """noise = {column = "Noise", group = "technical", type = "number"}
random_lab = {column = "Random lab", group = "technical"}

"""


def run_job(base: Path, job: Job) -> dict[str, Any]:
    """Train and measure one job in a process with one thread, unless it is done."""
    folder = job.folder(base)
    if not (folder / "truth.json").exists():
        words = [sys.executable, __file__, str(base), "--one", str(base / job.world.replace(" ", "_")), str(folder)]
        environment = {**os.environ, "OMP_NUM_THREADS": "1"}
        subprocess.run([*words, f"train.seed={job.seed}", *job.settings], check=True, env=environment)
        print(f"done: {job.world}, {job.method}, seed {job.seed}", file=sys.stderr, flush=True)
    measured: dict[str, Any] = json.loads((folder / "truth.json").read_text())
    lines = [json.loads(line) for line in (folder / "metrics.jsonl").read_text().splitlines()]
    curve = [[line["windows"], round(line["auroc_mean"], 5)] for line in lines]
    return {"world": job.world, "method": job.method, "seed": job.seed, **measured, "validation_curve": curve}


def one(world: Path, folder: Path, settings: Sequence[str]) -> None:
    """Train one run and compare it with the truth; writes truth.json, last, into its folder."""
    import torch

    from mfd_cli.dataset.folder import open_dataset
    from mfd_cli.runs.choose_genome import choose_genome
    from mfd_cli.settings.project import load_project
    from mfd_cli.training.train import train
    from mfd_cli.variants.options import ScoreOptions
    from mfd_cli.variants.score import score_variants

    torch.set_num_threads(1)
    project = load_project(world / "mfd.toml", ["train.precision=bf16", *settings], {"data.run": folder})
    run = train(project, gpus=0, resume=True, force=True)
    measured = compare(world, run, open_dataset(project.dataset, verify=False))
    if run.config.model.head == "conditioned":
        genome, _ = choose_genome(project, run, None)
        table = folder / "variants.parquet"
        options = ScoreOptions(folder / "variants.vcf.gz", table=table, force=True)
        score_variants(run, genome, str(world / "input.vcf"), options)
        measured |= compare_variants(world, table)
    last = json.loads((folder / "metrics.jsonl").read_text().splitlines()[-1])
    measured |= {"minutes": last["seconds"] / 60, "windows": float(last["windows"])}
    (folder / "truth.json").write_text(json.dumps(measured, indent=1) + "\n")


def add_windows_to_twin(results: Sequence[Any]) -> None:
    """Thousands of windows after which validation comes within 0.003 of the best of the free twin of the same seed."""
    twins = {row["seed"]: row for row in results if row["method"] == TWIN and row["world"] == "planted"}
    for row in results:
        if row["world"] == "planted" and row["seed"] in twins:
            wanted = max(value for _, value in twins[row["seed"]]["validation_curve"]) - 0.003
            reached = [windows / 1000 for windows, value in row["validation_curve"] if value >= wanted]
            row["to_twin"] = reached[0] if reached else float("nan")


def show(results: Sequence[Mapping[str, Any]]) -> None:
    """One row per world and method: means over seeds."""
    add_windows_to_twin(results)
    print(f"{'world':<34}{'method':<24}{'seeds':>5}" + "".join(f"{title:>12}" for title in COLUMNS.values()))
    for world, method in dict.fromkeys((str(row["world"]), str(row["method"])) for row in results):
        rows = [row for row in results if (row["world"], row["method"]) == (world, method)]
        cells = []
        for name in COLUMNS:
            values = [float(row[name]) for row in rows if name in row]
            cells.append(f"{np.mean(values):>12.3f}" if values else f"{'':>12}")
        print(f"{world:<34}{method:<24}{len(rows):>5}" + "".join(cells))
    truth = {row["world"]: (row["auroc_truth"], row.get("zero_shot_truth")) for row in results}
    for world, (seen, unseen) in truth.items():
        told = f", on held-out combinations {unseen:.3f}" if isinstance(unseen, float) else ""
        print(f"true logits, {world}: AUROC {seen:.3f}{told}")


if __name__ == "__main__":
    main()
