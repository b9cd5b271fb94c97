"""Speed of the GWAS of `mfd contig` on this machine: ratios measured side by side, medians of several turns.

    python examples/bench_contig_gwas.py [--turns N] [--variants N] [--persons N] [--json FILE]

10 traits and 17 covariates. The first row is arithmetic alone, one thread each: all traits at once against least squares per
variant (normal equations, all traits of a variant at once, which is the fair rival). The others go from the .bed file to tables
on the disk, two workers against plink2 --glm on two threads, without missing calls and with 2 % of them. They are skipped where
there is no plink2. The last one decodes the .bed file, against bed-reader, one thread each.
"""

from __future__ import annotations

import argparse
import json
import os

os.environ["OMP_NUM_THREADS"] = "1"

import shutil
import subprocess
import tempfile
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import torch
from threadpoolctl import threadpool_limits

from bench_speed import Row, machine, measure
from mfd_cli.base.arrays import Int8s
from mfd_cli.contig.config import GwasSection
from mfd_cli.contig.core import association as core
from mfd_cli.contig.data.plink import PlinkFile, Variants, open_plink, write_plink
from mfd_cli.contig.gwas.job import Job, Run
from mfd_cli.contig.gwas.scan import scan
from mfd_cli.contig.gwas.ssf import Study

TRAITS, COVARIATES = 10, 17
PLAIN = 100
"""Variants that are fitted one by one: the others would take as long."""


def main() -> None:
    """Print one table."""
    parser = argparse.ArgumentParser()
    parser.add_argument("--turns", type=int, default=5)
    parser.add_argument("--variants", type=int, default=5_000)
    parser.add_argument("--persons", type=int, default=20_000)
    parser.add_argument("--json", type=Path, help="write the figures here too")
    options = parser.parse_args()
    device = torch.device("cpu")
    print(machine(device))
    print(f"{'what':<84}{'mfd':>12}{'plain':>12}{'ratio':>26}")
    with tempfile.TemporaryDirectory() as folder:
        told = [measure(row, options.turns) for row in rows(Path(folder), options.variants, options.persons)]
    if options.json:
        options.json.write_text(json.dumps({"machine": machine(device), "rows": told}, indent=1) + "\n")


def rows(folder: Path, count: int, persons: int) -> Iterator[Row]:
    """Every comparison."""
    rng = np.random.default_rng(0)
    dosages = rng.binomial(2, rng.uniform(0.05, 0.5, (count, 1)), (count, persons)).astype(np.int8)
    covariates, traits = rng.standard_normal((persons, COVARIATES)), rng.standard_normal((persons, TRAITS))
    regression = core.Regression(core.orthonormal(covariates)[0], traits)
    yield against_least_squares(dosages, covariates, traits, regression)
    write_texts(folder, covariates, traits)
    gaps = dosages.copy()
    gaps[rng.random(dosages.shape) < 0.02] = -1
    for name, some in (("no missing calls", dosages), ("2 % missing calls", gaps)):
        genotypes = written(folder / f"{name[:1]}.bed", some)
        if shutil.which("plink2"):
            yield against_plink(folder, genotypes, regression, name)
    yield from decoding(genotypes)


def against_least_squares(
    dosages: Int8s, covariates: np.ndarray, traits: np.ndarray, regression: core.Regression
) -> Row:
    """All variants in blocks of 64 MiB, beside some of them one by one."""
    count, persons = dosages.shape
    step = max((64 << 20) // persons, 1)
    design = np.concatenate([np.ones((persons, 1)), covariates, np.zeros((persons, 1))], axis=1)

    squares = np.square(traits).sum(axis=0)

    def ours() -> None:
        with threadpool_limits(1):
            for start in range(0, count, step):
                regression.fit(dosages[start : start + step])

    def plain() -> None:
        with threadpool_limits(1):
            for variant in dosages[: min(PLAIN, count)]:
                design[:, -1] = variant
                inverse = np.linalg.inv(design.T @ design)
                products = design.T @ traits
                solved = inverse @ products
                rest = squares - (solved * products).sum(axis=0)
                np.sqrt(rest / (persons - design.shape[1]) * inverse[-1, -1])

    what = f"{count:,} variants x {persons:,} persons x {TRAITS} traits, {COVARIATES} covariates, one thread"
    less = max(count // PLAIN, 1)
    return Row(what, "tests", count * TRAITS, ours, plain, "least squares per variant, all traits at once", less=less)


def written(path: Path, dosages: Int8s) -> PlinkFile:
    """A .bed of these dosages (variants, persons)."""
    count, persons = dosages.shape
    ids = [f"p{number}" for number in range(persons)]
    names = tuple(f"rs{row + 1}" for row in range(count))
    chromosome = tuple(str(1 + 22 * row // count) for row in range(count))
    variants = Variants(chromosome, names, 1000 * np.arange(1, count + 1), ("A",) * count, ("C",) * count)
    write_plink(path, ids, ["0"] * persons, variants, dosages)
    return open_plink(path)


def write_texts(folder: Path, covariates: np.ndarray, traits: np.ndarray) -> None:
    """The same covariates and traits, for plink2."""
    for name, values in (("covariates", covariates), ("traits", traits)):
        head = "\t".join(["#IID", *(f"{name[0].upper()}{index}" for index in range(values.shape[1]))])
        lines = ("\t".join([f"p{row}", *map(repr, numbers)]) for row, numbers in enumerate(values.tolist()))
        (folder / name).write_text("\n".join([head, *lines]) + "\n")


def against_plink(folder: Path, genotypes: PlinkFile, regression: core.Regression, name: str) -> Row:
    """From the .bed to all tables: ours with 10 tables of GWAS-SSF and Parquet, plink2's with 10 of its own."""
    count, persons = len(genotypes.variants), len(genotypes.persons)
    job = Job(genotypes, np.arange(persons), regression, GwasSection(), [Run("model", slice(0, TRAITS))], ())
    study = Study(None, persons, ["NR"], ["NR"], [], 0.01, "2026-11-30")
    output = folder / "ours"
    output.mkdir(exist_ok=True)
    command = (
        f"plink2 --bfile {genotypes.path.with_suffix('')} --pheno {folder / 'traits'} --covar {folder / 'covariates'} "
        f"--glm hide-covar --threads 2 --out {folder / 'theirs'}"
    ).split()
    return Row(
        f"from .bed to tables, {name}, two workers",
        "tests",
        count * TRAITS,
        lambda: scan(output, job, study, 2, None),
        lambda: subprocess.run(command, check=True, capture_output=True),
        "plink2 --glm, two threads",
    )


def decoding(genotypes: PlinkFile) -> Iterator[Row]:
    """The whole .bed as int8."""
    try:
        from bed_reader import open_bed
    except ImportError:
        return

    def plain() -> None:
        with open_bed(genotypes.path) as bed:
            bed.read(dtype="int8", num_threads=1)

    def ours() -> None:
        for _ in genotypes.blocks():
            pass

    amount = len(genotypes.variants) * len(genotypes.persons)
    yield Row(".bed to int8, one thread", "calls", amount, ours, plain, "bed-reader")


if __name__ == "__main__":
    main()
