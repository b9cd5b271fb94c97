"""What a technical slice does to an encoder of `mfd contig`: planted cohorts whose images are of three cameras.

    python examples/bench_contig_slices.py FOLDER [--seeds 1 2] [--size small] [--threads 1]

Every seed is a world of its own, trained without factors and with `[factors.camera]` under several weights of the penalty between
the slices, the same otherwise. Then the worlds with `--confounding` and `--structure`: what their GWAS finds, and lambda without
and with genetic principal components, of the true latents too. What is there already is not made again.
FOLDER/bench_contig_slices.json has every row, and a table is printed.
"""

from __future__ import annotations

import argparse
import json
import os
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np

from bench_contig import inside, write_causal

PENALTIES = (None, 0.0, 0.4, 1.0)
"""Weights of the distance penalty; None is a training without factors."""
CAMERA = ("factors.camera.column=camera",)


def main() -> None:
    """Make every row that is missing, and print the table."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("folder", type=Path)
    parser.add_argument("--seeds", type=int, nargs="+", default=[1, 2])
    parser.add_argument("--size", default="small")
    parser.add_argument("--threads", type=int, default=1)
    arguments = parser.parse_args()
    os.environ.setdefault("OMP_NUM_THREADS", str(arguments.threads))
    arguments.folder.mkdir(parents=True, exist_ok=True)
    rows = list(every_row(arguments.folder, arguments.seeds, arguments.size, arguments.threads))
    (arguments.folder / "bench_contig_slices.json").write_text(json.dumps(rows, indent=1) + "\n", "utf-8")
    table(rows)


def every_row(folder: Path, seeds: list[int], size: str, threads: int) -> Iterator[dict[str, Any]]:
    """Yield every row, of which those that are there already are read."""
    for seed in seeds:
        for penalty in PENALTIES:
            name = f"seed-{seed}-{'none' if penalty is None else penalty}"
            yield kept(folder / f"{name}.json", lambda s=seed, p=penalty: trained_row(folder, s, p, size, threads))


def kept(file: Path, make: Any) -> dict[str, Any]:
    """Return the row of a file, which is made where it is not there."""
    if not file.exists():
        file.write_text(json.dumps(make(), indent=1) + "\n", "utf-8")
    return dict(json.loads(file.read_text("utf-8")))


def trained_row(folder: Path, seed: int, penalty: float | None, size: str, threads: int) -> dict[str, Any]:
    """Return what a training with this penalty comes to: retrieval, probes of the camera, and the GWAS of both slices."""
    import torch

    from mfd_cli.contig.config import load_contig
    from mfd_cli.contig.data.cohort import open_cohort
    from mfd_cli.contig.prepare import prepare
    from mfd_cli.contig.retrieve import retrieve
    from mfd_cli.contig.run import load_run
    from mfd_cli.contig.run_gwas import run_gwas
    from mfd_cli.contig.simulate.simulate import simulate
    from mfd_cli.contig.train import train, trained_to_its_end

    torch.set_num_threads(threads)
    world = folder / f"world-{seed}"
    if not (world / "contig.toml").exists():
        simulate(world, size=size, seed=seed, force=True)
    name = "none" if penalty is None else str(penalty)
    settings = [f"train.seed={seed}", f"data.run=run-{name}", "data.cohort=cohort", *CAMERA]
    # Without a slice the camera is known to the cohort, and can be looked for in the feature.
    settings += ["model.technical=0"] if penalty is None else [f"objective.penalties.distance.weight={penalty}"]
    project = load_contig(world / "contig.toml", settings)
    if not project.cohort.exists():
        prepare(project, force=True)
    if not trained_to_its_end(project, ""):
        train(project, gpus=0, force=True)
    run, cohort = load_run(project.run), open_cohort(project.cohort)
    found = retrieve(run, cohort, world / f"retrieve-{name}", force=True)
    regions = world / "causal.bed"
    causal = write_causal(world, regions)
    tested = run_gwas(project, run, cohort, world / f"gwas-{name}", regions=regions, workers=threads, force=True)
    row: dict[str, Any] = {
        "seed": seed,
        "penalty": penalty,
        "auc": found.value("contig", "auc"),
        "skill": run.about["skill"][0],
    }
    for probe in found.independence:
        if probe["factor"] == "camera":
            row[f"camera from {probe['from']}, {probe['probe']}"] = probe["value"]
        elif probe["measure"] == "r2" and probe["probe"] == "linear":
            row[f"r2 of {probe['to']} from {probe['from']}"] = probe["value"]
    for one in tested.beside:
        slice_name = "technical" if one["run"].endswith("technical") else "biological"
        row[f"chi-square, {slice_name}"], row[f"lambda, {slice_name}"] = one["chi_square"], one["lambda"]
    row["causal loci"] = sum(any(inside(locus, place) for locus in tested.loci) for place in causal)
    row["false loci"] = sum(not any(inside(locus, place) for place in causal) for locus in tested.loci)
    return row


def table(rows: list[dict[str, Any]]) -> None:
    """Print the figures of each penalty: means over seeds, with the least and the largest."""
    columns = list(dict.fromkeys(name for row in rows for name in row if name not in ("seed", "penalty")))
    penalties = list(dict.fromkeys(row["penalty"] for row in rows))
    print("".ljust(40), *(str("no factors" if p is None else f"penalty {p}").rjust(26) for p in penalties))
    for name in columns:
        cells = []
        for penalty in penalties:
            values = [row[name] for row in rows if row["penalty"] == penalty and row.get(name) is not None]
            spread = f"{np.mean(values):.3g} ({min(values):.3g} to {max(values):.3g})" if values else ""
            cells.append(spread.rjust(26))
        print(name.ljust(40), *cells)


if __name__ == "__main__":
    main()
