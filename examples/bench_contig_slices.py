"""What a technical slice does to an encoder of `mfd contig`: planted cohorts whose images are of three cameras.

    python examples/bench_contig_slices.py FOLDER [--seeds 1 2] [--size small] [--threads 1]

Every seed is a world of its own, trained without a technical slice and with `[factors.camera]` under several weights of the
penalty between the slices, the same otherwise. Then two harder worlds of each seed, where cameras go with the size of a disc
(`--confounding`) and with ancestry (`--structure`): what the GWAS of both slices finds there without and with genetic principal
components, beside the true latents. What is there already is not made again. FOLDER/bench_contig_slices.json has every row, and
tables are printed.
"""

from __future__ import annotations

import argparse
import csv
import json
import os
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np

from bench_contig import BLOCK, inside, write_causal

PENALTIES = (None, 0.0, 0.4, 1.0)
"""Weights of the distance penalty; None is a training without factors."""
CAMERA = ("factors.camera.column=camera",)
WORLDS = {"confounding": {"confounding": 0.8}, "structure": {"structure": 0.1}}
"""Worlds with centres, and the options that make them."""
GENETIC_PCS = (0, 2, 15)


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
    for seed in seeds:
        for world in WORLDS:
            yield kept(
                folder / f"seed-{seed}-{world}.json", lambda s=seed, w=world: world_row(folder, s, w, size, threads)
            )


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
        row[f"chi-square, {slice_of(one)}"], row[f"lambda, {slice_of(one)}"] = one["chi_square"], one["lambda"]
    row["causal loci"] = sum(any(inside(locus, place) for locus in tested.loci) for place in causal)
    row["false loci"] = sum(not any(inside(locus, place) for place in causal) for locus in tested.loci)
    return row


def world_row(folder: Path, seed: int, world: str, size: str, threads: int) -> dict[str, Any]:
    """Return what a GWAS finds in a world with centres: lambda of both slices and of the true latents, without and with genetic
    components, and the mean chi-square of both slices at the causal SNPs of each latent."""
    import torch

    from mfd_cli.contig.config import load_contig
    from mfd_cli.contig.data.cohort import open_cohort
    from mfd_cli.contig.data.plink import open_plink
    from mfd_cli.contig.data.tables import read_table
    from mfd_cli.contig.gwas.gwas import gwas
    from mfd_cli.contig.gwas.inputs import Features
    from mfd_cli.contig.prepare import prepare
    from mfd_cli.contig.retrieve import retrieve
    from mfd_cli.contig.run import load_run
    from mfd_cli.contig.run_gwas import run_gwas
    from mfd_cli.contig.seen import as_features, see
    from mfd_cli.contig.simulate.options import CohortOptions
    from mfd_cli.contig.simulate.simulate import simulate
    from mfd_cli.contig.train import train, trained_to_its_end

    place = folder / f"{world}-{seed}"
    if not (place / "contig.toml").exists():
        simulate(place, size=size, seed=seed, options=CohortOptions(**WORLDS[world]), force=True)
    project = load_contig(place / "contig.toml", [f"train.seed={seed}"])
    if not project.cohort.exists():
        prepare(project, force=True)
    if not trained_to_its_end(project, ""):
        train(project, gpus=0, force=True)
    run, cohort = load_run(project.run), open_cohort(project.cohort)
    found = retrieve(run, cohort, place / "retrieve", force=True)
    row: dict[str, Any] = {"seed": seed, "world": world, "auc": found.value("contig", "auc")}
    for probe in found.independence:
        if probe["factor"] == "camera" and probe["probe"] == "linear":
            row[f"camera from {probe['from']}"] = probe["value"]
    for latent, lines in causal_regions(place).items():
        (place / "latent.bed").write_text(lines, "utf-8")
        tested = run_gwas(
            project, run, cohort, place / "gwas", regions=place / "latent.bed", workers=threads, force=True
        )
        for one in tested.beside:
            row[f"chi-square at {latent}, {slice_of(one)}"] = one["chi_square"]
    row["slices"] = tested.slice_sentence
    latents = {line["person"]: line for line in rows_of(place / "truth" / "latents.tsv")}
    features = as_features(run, see(run, cohort, "test", torch.device("cpu")))
    names = [name for name in next(iter(latents.values())) if name != "person"]
    matrix = np.array([[float(latents[person][name]) for name in names] for person in features.persons])
    true = Features("true latents", features.persons, matrix, features.families, features.images)
    fitted = frozenset(cohort.people.persons[number] for number in cohort.people.of("train").tolist())
    for count in GENETIC_PCS:
        more = load_contig(place / "contig.toml", [f"train.seed={seed}", f"gwas.genetic_pcs={count}"])
        tested = run_gwas(more, run, cohort, place / "gwas", workers=threads, force=True)
        for one in tested.beside:
            row[f"lambda, {count} genetic PCs, {slice_of(one)}"] = one["lambda"]
            row[f"loci, {count} genetic PCs, {slice_of(one)}"] = one["loci"]
        genotypes, table = open_plink(place / "genotypes.bed"), read_table(place / "covariates.tsv")
        of_latents = gwas(
            true, genotypes, table, more.config.gwas, place / "gwas", fitted=fitted, workers=threads, force=True
        )
        row[f"lambda, {count} genetic PCs, true latents"] = float(np.mean(of_latents.lambdas))
        row[f"largest lambda, {count} genetic PCs, true latents"] = float(np.max(of_latents.lambdas))
    return row


def slice_of(row: dict[str, Any]) -> str:
    """Return which slice a row of beside.tsv is about."""
    return "technical" if row["run"].endswith("technical") else "biological"


def rows_of(path: Path) -> list[dict[str, str]]:
    """Return the rows of a table."""
    with path.open() as file:
        return list(csv.DictReader(file, delimiter="\t"))


def causal_regions(world: Path) -> dict[str, str]:
    """Return the blocks of the causal SNPs of each latent, as lines of BED."""
    lines: dict[str, str] = {}
    for row in rows_of(world / "truth" / "causal.tsv"):
        position = int(row["position"])
        line = f"{row['chromosome']}\t{position - BLOCK // 2 - 1}\t{position + BLOCK // 2}\n"
        lines[row["latent"]] = lines.get(row["latent"], "") + line
    return lines


def table(rows: list[dict[str, Any]]) -> None:
    """Print the figures of each penalty, and of each world with centres: means over seeds, with the least and the largest."""
    sorts = {"penalty": [], "world": []}  # type: dict[str, list[dict[str, Any]]]
    for row in rows:
        sorts["penalty" if "penalty" in row else "world"].append(row)
    for key, own in sorts.items():
        columns = list(dict.fromkeys(name for row in own for name in row if name not in ("seed", key, "slices")))
        kinds = list(dict.fromkeys(row[key] for row in own))
        print("".ljust(48), *(f"{key} {kind}".rjust(26) for kind in kinds))
        for name in columns:
            cells = []
            for kind in kinds:
                values = [row[name] for row in own if row[key] == kind and row.get(name) is not None]
                spread = f"{np.mean(values):.3g} ({min(values):.3g} to {max(values):.3g})" if values else ""
                cells.append(spread.rjust(26))
            print(name.ljust(48), *cells)


if __name__ == "__main__":
    main()
