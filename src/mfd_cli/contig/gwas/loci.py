"""The tables of what was found: loci, what stands beside, and what could not be tested."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from mfd_cli.base.arrays import Ints
from mfd_cli.contig.core import association as core
from mfd_cli.contig.data.plink import LARGEST
from mfd_cli.contig.gwas.chromosomes import plain_name
from mfd_cli.contig.gwas.clump import Clump
from mfd_cli.contig.gwas.job import Found, Job, Run
from mfd_cli.contig.gwas.result import Row
from mfd_cli.contig.gwas.ssf import trait_names
from mfd_cli.formats.bed import read_intervals
from mfd_cli.formats.tables import write_tsv

LOCI = (
    "locus", "chromosome", "start", "end", "variant", "effect_allele", "other_allele", "frequency", "pc", "beta",
    "standard_error", "neg_log_10_p", "members", "n", "gene",
)  # fmt: skip
BESIDE = ("run", "pcs", "loci", "lambda", "lambda_least", "lambda_most", "below_bonferroni", "chi_square", "regions")
FAMILY_WISE = 0.05
"""Divided by the variants tested: the second threshold."""


@dataclass(frozen=True)
class Region:
    """A stretch of a chromosome, 1-based, both ends included."""

    chromosome: str
    start: int
    end: int


def regions_of(path: Path) -> list[Region]:
    """Return the regions of a BED file. Raises RegionError where it is none."""
    read = read_intervals(path)
    columns = zip(read.contig.tolist(), read.start.tolist(), read.end.tolist())
    return [Region(plain_name(read.names[contig]), start + 1, end) for contig, start, end in columns]


def name_of(job: Job, row: int) -> str:
    """Return the name of a variant; where it has none, its place and alleles."""
    variants = job.genotypes.variants
    if variants.name[row] not in (".", "0"):
        return variants.name[row]
    place = f"{variants.chromosome[row]}:{variants.position[row]}"
    return f"{place}:{variants.effect_allele[row]}:{variants.other_allele[row]}"


def span_of(job: Job, clump: Clump) -> Region:
    """Return the stretch from the first to the last member of a locus."""
    positions = job.genotypes.variants.position[clump.members]
    chromosome = plain_name(job.genotypes.variants.chromosome[clump.index])
    return Region(chromosome, int(positions.min()), int(positions.max()))


def loci_rows(job: Job, run: Run, found: Found) -> list[Row]:
    """Return a row for each locus; beta and standard error are those of the component with the least P."""
    if not run.loci:
        return []
    variants, pcs = job.genotypes.variants, trait_names(run.traits.stop)
    fits = job.regression.fit(job.load(np.array([clump.index for clump in run.loci])))
    least, which = core.least_p(fits.neg_log_10_p[:, run.traits])
    rows = []
    for number, clump in enumerate(run.loci):
        span, pc = span_of(job, clump), int(which[number])
        rows.append(
            {
                "locus": number + 1,
                "chromosome": variants.chromosome[clump.index],
                "start": span.start,
                "end": span.end,
                "variant": name_of(job, clump.index),
                "effect_allele": variants.effect_allele[clump.index],
                "other_allele": variants.other_allele[clump.index],
                "frequency": float(fits.frequency[number]),
                "pc": pcs[pc],
                "beta": float(fits.beta[number, pc]),
                "standard_error": float(fits.standard_error[number, pc]),
                "neg_log_10_p": float(least[number]),
                "members": len(clump.members),
                "n": int(fits.calls[number]),
                "gene": None,
            }
        )
    return rows


def beside_row(job: Job, found: Found, number: int, run: Run, at: Sequence[Region], tested: int) -> Row:
    """Return what one run shows: its loci, lambda, and the mean over regions of the best chi-square there."""
    chi_square = found.chi_square[:, run.traits].astype(np.float64)
    lambdas = core.genomic_control(chi_square)
    best = np.nan_to_num(chi_square, nan=0.0).max(axis=1)
    there = [float(best[rows].max()) for rows in rows_in(job, found, at) if len(rows)]
    with np.errstate(invalid="ignore"):
        below = int((found.least[:, number] > -math.log10(FAMILY_WISE / max(tested, 1))).sum())
    return {
        "run": run.name,
        "pcs": len(lambdas),
        "loci": len(run.loci),
        "lambda": float(lambdas.mean()),
        "lambda_least": float(lambdas.min()),
        "lambda_most": float(lambdas.max()),
        "below_bonferroni": below,
        "chi_square": float(np.mean(there)) if there else None,
        "regions": len(there),
    }


def rows_in(job: Job, found: Found, regions: Sequence[Region]) -> list[Ints]:
    """Return the tested variants (rows of the file) of each region."""
    variants = job.genotypes.variants
    plain = {name: plain_name(name) for name in set(variants.chromosome)}
    code = {name: index for index, name in enumerate(sorted(set(plain.values())))}
    chromosome = np.array([code[plain[name]] for name in variants.chromosome])
    tested = np.flatnonzero(found.reason == core.TESTED)
    order = tested[np.lexsort((variants.position[tested], chromosome[tested]))]
    place = chromosome[order] * (LARGEST + 1) + variants.position[order]
    rows = []
    for region in regions:
        first = code.get(region.chromosome, len(code)) * (LARGEST + 1)
        low, high = np.searchsorted(place, [first + region.start, first + region.end + 1])
        rows.append(order[low:high])
    return rows


def write_skipped(path: Path, job: Job, found: Found) -> dict[str, int]:
    """Write the variants that were not tested, and those that GWAS-SSF cannot hold; return {reason: variants not tested}."""
    variants, rows, counts = job.genotypes.variants, list[Row](), dict[str, int]()
    for row in np.flatnonzero((found.reason != core.TESTED) | np.array([bool(why) for why in found.unfit])).tolist():
        untested = core.REASONS[found.reason[row]]
        if untested:
            counts[untested] = counts.get(untested, 0) + 1
        rows.append(
            {
                "variant": name_of(job, row),
                "reason": untested or f"tested, but not in GWAS-SSF: {found.unfit[row]}",
                "chromosome": variants.chromosome[row],
                "position": int(variants.position[row]),
            }
        )
    write_tsv(path, rows, ("variant", "reason", "chromosome", "position"))
    return dict(sorted(counts.items()))
