"""What `mfd contig` finds on planted cohorts, beside its controls and rivals, over several seeds.

    python examples/bench_contig.py FOLDER [--seeds 1 2 3 4 5] [--size small] [--threads 1]

Every seed is a world of its own: simulated, prepared, trained (model, shuffled pairs, untrained network, SimCLR on two changes
of an image and on the two eyes of a person, a network that is told the true latents), retrieved, explained, tested, and probed:
the latents with all labels, the grade with some. What is there already is not made again; FOLDER/seed-N/rows.json has what was
found, and is to be removed where it should be found anew. FOLDER/bench_contig.json has every figure, and tables are printed.
"""

from __future__ import annotations

import argparse
import csv
import json
import os
from pathlib import Path
from typing import Any

import numpy as np

BLOCK = 20_000
"""Base pairs from the first to the last SNP of a planted block."""
LATENTS = ("disc_radius", "disc_angle", "vessel_curvature")
SHARES = (0.01, 0.05, 0.2, 1.0)
"""Of the training persons, whose grades are known."""
CONTROLS = ("", "random", "shuffled", "simclr", "simclr-eyes")
FIRST = 12
"""Blocks that are looked at for the causal ones, the strongest by attribution first."""


def main() -> None:
    """Run every seed and print the table."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("folder", type=Path)
    parser.add_argument("--seeds", type=int, nargs="+", default=[1, 2, 3, 4, 5])
    parser.add_argument("--size", default="small")
    parser.add_argument("--threads", type=int, default=1)
    parser.add_argument("--null", action="store_true", help="worlds without any genetic effect")
    arguments = parser.parse_args()
    os.environ.setdefault("OMP_NUM_THREADS", str(arguments.threads))
    rows: list[dict[str, Any]] = []
    for seed in arguments.seeds:
        folder = arguments.folder / f"seed-{seed}"
        if not (folder / "rows.json").exists():
            found = one_seed(folder, seed, arguments.size, arguments.threads, arguments.null)
            (folder / "rows.json").write_text(json.dumps(found, indent=1) + "\n", "utf-8")
        rows += json.loads((folder / "rows.json").read_text("utf-8"))
        (arguments.folder / "bench_contig.json").write_text(json.dumps(rows, indent=1) + "\n", "utf-8")
    table(rows, COLUMNS)
    print(
        "\nquadratic kappa of the grade, by the share of the training persons whose grade is known; means of three draws"
    )
    table(rows, tuple(f"kappa, {share:.0%}" for share in SHARES))


def one_seed(folder: Path, seed: int, size: str, threads: int, null: bool) -> list[dict[str, Any]]:
    """Return the figures of a seed's world: a row for the model and each control."""
    import torch

    from mfd_cli.contig.config import load_contig
    from mfd_cli.contig.data.cohort import open_cohort
    from mfd_cli.contig.explain import explain
    from mfd_cli.contig.finetune.finetune import finetune
    from mfd_cli.contig.prepare import prepare
    from mfd_cli.contig.retrieve import retrieve
    from mfd_cli.contig.run import load_run
    from mfd_cli.contig.run_gwas import run_gwas
    from mfd_cli.contig.seen import controls_of
    from mfd_cli.contig.simulate.options import CohortOptions
    from mfd_cli.contig.simulate.simulate import simulate
    from mfd_cli.contig.train import train, trained_to_its_end

    torch.set_num_threads(threads)
    if not (folder / "contig.toml").exists():
        simulate(folder, size=size, seed=seed, options=CohortOptions(null=null), force=True)
    project = load_contig(folder / "contig.toml", [f"train.seed={seed}"])
    if not project.cohort.exists():
        prepare(project, force=True)
    labels = [f"objective.label_columns={json.dumps(LATENTS)}", 'objective.labels="labels.tsv"']
    told = [f"train.seed={seed}", "objective.kind=supervised", "data.run=supervised", *labels]
    ceiling = load_contig(folder / "contig.toml", told)
    for of, control in [*((project, control) for control in CONTROLS), (ceiling, "")]:
        if not trained_to_its_end(of, control):
            train(of, control=control, gpus=0, force=True)
    run, cohort = load_run(project.run), open_cohort(project.cohort)
    beside = {**controls_of(run), "supervised": load_run(ceiling.run)}
    regions = folder / "causal.bed"
    causal = write_causal(folder, regions)
    found = retrieve(run, cohort, folder / "retrieve", beside=beside, force=True)
    tested = run_gwas(
        project, run, cohort, folder / "gwas", beside=beside, regions=regions, workers=threads, force=True
    )
    explained = explain(run, cohort, folder / "explained", beside=beside, force=True)
    given: dict[str, Any] = {"labels": folder / "labels.tsv", "beside": beside, "force": True}
    latents = finetune(project, run, cohort, output=folder / "latents", task="regression", columns=LATENTS, **given)
    grade = finetune(
        project, run, cohort, output=folder / "grade", task="ordinal", columns=["grade"], fractions=SHARES, **given
    )
    rows = []
    for name in (run.name, *beside):
        one = run if name == run.name else beside[name]
        loci = loci_of(folder / f"gwas-{name}", project, one, cohort, threads)
        row = next(row for row in tested.beside if row["run"] == name)
        rows.append(
            {
                "seed": seed,
                "run": name,
                "causal loci": sum(any(inside(locus, place) for locus in loci) for place in causal),
                "false loci": sum(not any(inside(locus, place) for place in causal) for locus in loci),
                "chi-square": row["chi_square"],
                "probe R2": [latents.value(name, "r2", label) for label in LATENTS],
                **{f"kappa, {share:.0%}": grade.value(name, "quadratic kappa", fraction=share) for share in SHARES},
            }
        )
        if name not in found.without:
            rows[-1] |= {measure: found.value(name, measure) for measure in ("auc", "median rank", "skill")}
    rows[0]["causal blocks among the first 12"] = blocks_found(explained.rows, causal, "rank", "mean_abs")
    shuffled = sorted(explained.rows, key=lambda row: -(row["control"] or 0.0))
    for rank, row in enumerate(shuffled, start=1):
        row["rank of control"] = rank
    by_name = {row["run"]: row for row in rows}
    by_name["shuffled"]["causal blocks among the first 12"] = blocks_found(
        explained.rows, causal, "rank of control", "control"
    )
    return rows


def write_causal(folder: Path, path: Path) -> list[tuple[str, int]]:
    """Return the places of the causal SNPs, and write their blocks as BED."""
    with (folder / "truth" / "causal.tsv").open() as file:
        causal = [(row["chromosome"], int(row["position"])) for row in csv.DictReader(file, delimiter="\t")]
    lines = [f"{chromosome}\t{position - BLOCK // 2 - 1}\t{position + BLOCK // 2}\n" for chromosome, position in causal]
    path.write_text("".join(lines), "utf-8")
    return causal


def loci_of(output: Path, project: Any, run: Any, cohort: Any, threads: int) -> list[dict[str, Any]]:
    """Return the loci of one run alone."""
    from mfd_cli.contig.run_gwas import run_gwas

    return list(run_gwas(project, run, cohort, output, workers=threads, force=True).loci)


def inside(locus: dict[str, Any], place: tuple[str, int]) -> bool:
    """Return whether the strongest variant of a locus lies in the block of a causal SNP, or the locus holds it."""
    chromosome, position = place
    return str(locus["chromosome"]) == chromosome and locus["start"] - BLOCK <= position <= locus["end"] + BLOCK


def blocks_found(rows: list[dict[str, Any]], causal: list[tuple[str, int]], rank: str, value: str) -> int:
    """Return how many causal blocks are among the FIRST planted blocks, the strongest first."""
    blocks = list(
        dict.fromkeys((row["chromosome"], row["position"] // 100_000) for row in sorted(rows, key=lambda r: r[rank]))
    )
    return sum((chromosome, position // 100_000) in blocks[:FIRST] for chromosome, position in causal)


COLUMNS = (
    "causal loci",
    "false loci",
    "chi-square",
    "auc",
    "median rank",
    "skill",
    "causal blocks among the first 12",
    "probe R2",
)


def table(rows: list[dict[str, Any]], columns: tuple[str, ...]) -> None:
    """Print means over seeds, with the least and the largest; of several numbers the means alone."""
    print("run".ljust(12), *(name.rjust(22) for name in columns))
    for run in dict.fromkeys(row["run"] for row in rows):
        cells = []
        for name in columns:
            values = [row[name] for row in rows if row["run"] == run and name in row]
            if values and isinstance(values[0], list):
                cells.append(" ".join(f"{value:.2f}" for value in np.mean(values, 0)).rjust(22))
                continue
            spread = f"{np.mean(values):.3g} ({min(values):.3g} to {max(values):.3g})" if values else ""
            cells.append(spread.rjust(22))
        print(run.ljust(12), *cells)


if __name__ == "__main__":
    main()
