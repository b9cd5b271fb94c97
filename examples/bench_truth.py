"""How well each way of training tells biology from technique, where the truth is known.

    python examples/bench_truth.py FOLDER            three worlds, four methods, seeds 1 and 2 (make bench-truth)
    python examples/bench_truth.py FOLDER --full     all worlds, methods and controls, seeds 1 to 5 (make bench-truth-full)

A seed is that of the world and of the training. What is finished is not done again: start it again after an interruption.
Writes FOLDER/bench_truth.json and prints a table: means over seeds, and the largest distance of a seed from its mean.
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
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from truth import compare, compare_variants, of_true_logits, regressed

PENALTY, TWIN = "objective.penalties", "free head (twin)"
REGRESSED = {"regressed": "twin + regression", "regressed along axes": "twin + regression along axes"}
CEILING = {"of true logits": "true logits along axes"}
CONDITIONED, MIXED = "conditioned", "mixed, joint"
METHODS: dict[str, list[str]] = {
    TWIN: ["model.head=free"],
    f"{CONDITIONED}, no penalty": ["model.head=conditioned", f"{PENALTY}={{}}"],
    f"{CONDITIONED}, distance 0.4": ["model.head=conditioned"],
    MIXED: ["model.head=mixed", "model.subspaces=joint"],
    "mixed, disjoint": ["model.head=mixed", "model.subspaces=disjoint"],
    "mixed, disjoint, no penalty": ["model.head=mixed", "model.subspaces=disjoint", f"{PENALTY}={{}}"],
    f"{CONDITIONED}, covariance 0.4": ["model.head=conditioned", f"{PENALTY}.covariance.weight=0.4"],
    f"{CONDITIONED}, projections 0.4": ["model.head=conditioned", f"{PENALTY}.projections.weight=0.4"],
    f"{CONDITIONED}, discriminator 0.04": ["model.head=conditioned", f"{PENALTY}.discriminator.weight=0.04"],
    f"{CONDITIONED}, predictor 0.4": ["model.head=conditioned", f"{PENALTY}.predictor.weight=0.4"],
    "our re-implementation of the published objective": [
        "model.head=conditioned",
        *(
            f"{PENALTY}.{name}.{key}"
            for name in ("covariance", "predictor")
            for key in ("weight=0.01", "published=true", "warmup=0")
        ),
    ],
}
"""Settings by method. The twin makes four rows: its own, with the parts that the textbook's regression finds in its weights,
with those that are found along independent axes, as a mixed head finds its own, and those that are found so in the true
logits: what could be found at most."""
MAIN_METHODS = (TWIN, f"{CONDITIONED}, no penalty", f"{CONDITIONED}, distance 0.4", MIXED)
WORLDS: dict[str, list[str]] = {
    "independent": [],
    "target x tissue": ["--interaction", "1"],
    "nested batch": ["--batch", "nested", "--batch-dose", "0.5"],
    "coinciding 0.3": ["--correlation", "0.3"],
    "coinciding 1": ["--correlation", "1"],
    "biology x technique": ["--technique-interaction", "0.5"],
    "residual": ["--residual", "1"],
    "partly confounded batch": ["--batch", "confounded", "--batch-dose", "0.5"],
    "complete confounding": ["--complete-confounding"],
    "apart": ["--world", "apart"],
}
"""Options of mfd simulate. All have the size `small` and what is benchmarked is the preset `default`."""
MAIN_WORLDS = ("independent", "target x tissue", "nested batch")
TECHNICAL = ("Assay", "Library lab", "Experiment date released")
BIOLOGICAL = ("Experiment target", "Biosample term name")
RETOLD = (
    "metadata shuffled",
    "technical shuffled",
    "technical shuffled within target",
    "groups swapped",
    "noise factors",
)
"""Controls on the independent world that change what the model is told."""
COLUMNS = {
    "auroc": "AUROC",
    "auprc": "AUPRC",
    "total_r": "r total",
    "biological_r": "r bio",
    "technical_r": "r tech",
    "leakage_mean": "leak mean",
    "leakage_max": "leak max",
    "coverage_biological": "bio in 90%",
    "coverage_technical": "tech in 90%",
    "said_biological": "bio r said",
    "said_technical": "tech r said",
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

    def project(self, base: Path) -> Path:
        return base / file_name(f"{self.world}--{self.seed}")

    def folder(self, base: Path) -> Path:
        return base / "runs" / file_name(f"{self.world}--{self.method}--{self.seed}")


def file_name(text: str) -> str:
    return "".join(c if c.isalnum() or c in ".-" else "_" for c in text)


def main() -> None:
    """Make the worlds, run the jobs two at a time, print the table."""
    parser = argparse.ArgumentParser()
    parser.add_argument("folder", type=Path)
    parser.add_argument("--full", action="store_true", help="all worlds, methods and controls, five seeds")
    parser.add_argument("--worlds", nargs="*", help="worlds [default: the main ones]")
    parser.add_argument("--methods", nargs="*", help="methods [default: the main ones]")
    parser.add_argument("--seeds", nargs="*", type=int, help="seeds [default: 1 2, or 1 to 5]")
    parser.add_argument("--windows", type=int, help="training windows [default: as many as mfd train proposes]")
    # Internal: world, run folder and settings, in a process of its own.
    parser.add_argument("--one", nargs="*", help=argparse.SUPPRESS)
    options = parser.parse_args()
    if options.one:
        one(Path(options.one[0]), Path(options.one[1]), options.one[2:])
        return
    base = options.folder.absolute()
    worlds = options.worlds or list(WORLDS if options.full else MAIN_WORLDS)
    methods = options.methods or list(METHODS if options.full else MAIN_METHODS)
    seeds = options.seeds or list(range(1, 6 if options.full else 3))
    jobs = [Job(world, method, seed) for seed in seeds for world in worlds for method in methods]
    for job in jobs:
        make_world(job.project(base), WORLDS[job.world], job.seed)
    if options.full:
        for control in RETOLD:
            retell(Job("independent", TWIN, 1).project(base), Job(control, TWIN, 1).project(base), control)
            jobs.append(Job(control, f"{CONDITIONED}, distance 0.4", 1))
            jobs.append(Job(control, MIXED, 1))
    length = [f"train.max_windows={options.windows}"] if options.windows else []
    with ThreadPoolExecutor(os.cpu_count() or 1) as pool:
        rows = [row for made in pool.map(lambda job: run_job(base, job, length), jobs) for row in made]
    (base / "bench_truth.json").write_text(json.dumps(rows, indent=1) + "\n")
    show(rows)


def make_world(folder: Path, words: Sequence[str], seed: int) -> None:
    """A small planted project that is read with the default preset, and its dataset."""
    if (folder / "dataset").exists():
        return
    size = [] if "--world" in words else ["--size", "small"]
    simulate = ["mfd", "simulate", str(folder), *size, "--seed", str(seed), "-q", "--force", *words]
    subprocess.run(simulate, check=True, stdout=subprocess.DEVNULL)
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


def run_job(base: Path, job: Job, length: Sequence[str]) -> list[dict[str, Any]]:
    """Train and measure one job in a process with one thread, unless it is done; return its rows of the table."""
    folder = job.folder(base)
    if not (folder / "truth.json").exists():
        settings = [f"train.seed={job.seed}", *length, *METHODS[job.method]]
        words = [sys.executable, __file__, str(base), "--one", str(job.project(base)), str(folder), *settings]
        subprocess.run(words, check=True, env={**os.environ, "OMP_NUM_THREADS": "1"})
        print(f"done: {job.world}, {job.method}, seed {job.seed}", file=sys.stderr, flush=True)
    measured: dict[str, dict[str, Any]] = json.loads((folder / "truth.json").read_text())
    lines = [json.loads(line) for line in (folder / "metrics.jsonl").read_text().splitlines()]
    curve = [[line["windows"], round(line["auroc_mean"], 5)] for line in lines]
    names = {"itself": job.method, **REGRESSED, **CEILING}
    rows = [{"world": job.world, "method": names[name], "seed": job.seed, **row} for name, row in measured.items()]
    rows[0]["validation_curve"] = curve
    return rows


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
    dataset = open_dataset(project.dataset, verify=False)
    measured = {"itself": compare(world, run, dataset)}
    last = json.loads((folder / "metrics.jsonl").read_text().splitlines()[-1])
    measured["itself"] |= {"minutes": last["seconds"] / 60, "windows": float(last["windows"])}
    if run.model.has_parts:
        genome, _ = choose_genome(project, run, None)
        table = folder / "variants.parquet"
        options = ScoreOptions(folder / "variants.vcf.gz", table=table, force=True)
        score_variants(run, genome, str(world / "input.vcf"), options)
        measured["itself"] |= compare_variants(world, table)
    else:
        for name in REGRESSED:
            measured[name] = compare(world, regressed(run, dataset, axes="axes" in name), dataset)
        measured["of true logits"] = of_true_logits(world, run, dataset)
    (folder / "truth.json").write_text(json.dumps(measured, indent=1) + "\n")


def add_windows_to_twin(rows: Sequence[Any]) -> None:
    """Thousands of windows after which validation comes within 0.003 of the best of the free twin of the same seed."""
    twins = {(row["world"], row["seed"]): row for row in rows if row["method"] == TWIN}
    for row in rows:
        twin = twins.get((row["world"], row["seed"]))
        if twin and "validation_curve" in row:
            wanted = max(value for _, value in twin["validation_curve"]) - 0.003
            reached = [windows / 1000 for windows, value in row["validation_curve"] if value >= wanted]
            row["to_twin"] = reached[0] if reached else float("nan")


def show(rows: Sequence[Mapping[str, Any]]) -> None:
    """One row per world and method: means over seeds, and below them how far a seed is from its mean at most."""
    add_windows_to_twin(rows)
    print(f"{'world':<26}{'method':<30}{'seeds':>5}" + "".join(f"{title:>12}" for title in COLUMNS.values()))
    for world, method in dict.fromkeys((str(row["world"]), str(row["method"])) for row in rows):
        own = [row for row in rows if (row["world"], row["method"]) == (world, method)]
        means, spans = [], []
        for name in COLUMNS:
            values = np.array([float(row[name]) for row in own if name in row])
            means.append(f"{values.mean():>12.3f}" if len(values) else f"{'':>12}")
            spans.append(f"{abs(values - values.mean()).max():>12.3f}" if len(values) > 1 else f"{'':>12}")
        print(f"{world:<26}{method[:28]:<30}{len(own):>5}" + "".join(means))
        if len(own) > 1:
            print(f"{'':<56}{'+-':>5}" + "".join(spans))
    for world in dict.fromkeys(str(row["world"]) for row in rows):
        known = [row for row in rows if row["world"] == world and "auroc_truth" in row]
        unseen = [row["zero_shot_truth"] for row in known if "zero_shot_truth" in row]
        told = f", on held-out combinations {np.mean(unseen):.3f}" if unseen else ""
        print(f"true logits, {world}: AUROC {np.mean([row['auroc_truth'] for row in known]):.3f}{told}")


if __name__ == "__main__":
    main()
