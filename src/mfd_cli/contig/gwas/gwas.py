"""`mfd contig gwas`: which variants go with what an image network sees of people.

The features' principal components are the traits: what the covariates leave of each, as normal scores, is regressed on every
variant. The components are one question asked k times, so that a variant's P is k times the least of theirs.
"""

from __future__ import annotations

import datetime
import math
import time
from collections.abc import Callable, Collection, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

import numpy as np
import pyarrow as pa

from mfd_cli.base.arrays import Doubles, Floats, Int8s, Ints
from mfd_cli.base.errors import InputError, OutputError
from mfd_cli.base.files import check_output, whole_folder
from mfd_cli.base.progress import Progress
from mfd_cli.contig.config import GwasSection
from mfd_cli.contig.core import association as core
from mfd_cli.contig.data.plink import PlinkFile
from mfd_cli.contig.data.tables import Table
from mfd_cli.contig.gwas import ssf
from mfd_cli.contig.gwas.ancestry import genetic_pcs
from mfd_cli.contig.gwas.chromosomes import codes_of, number_of, plain_name
from mfd_cli.contig.gwas.clump import Clump, clumps
from mfd_cli.contig.gwas.inputs import Features, choose_persons, covariates_of, matched_to
from mfd_cli.contig.gwas.page import write_page
from mfd_cli.contig.gwas.picture import draw_manhattan, draw_qq, layout_of
from mfd_cli.formats.bed import read_intervals
from mfd_cli.formats.tables import ParquetRows, write_tsv

Row = dict[str, Any]
Warn = Callable[[str], None]
LOCI = (
    "locus", "chromosome", "start", "end", "variant", "effect_allele", "other_allele", "frequency", "pc", "beta",
    "standard_error", "neg_log_10_p", "members", "n", "gene",
)  # fmt: skip
BESIDE = ("run", "pcs", "loci", "lambda", "lambda_least", "lambda_most", "below_bonferroni", "chi_square", "regions")
FAMILY_WISE = 0.05
"""Divided by the variants tested: the second threshold."""
FEW_VARIANTS = 1000
"""Genetic components of fewer variants take the effects of those out of the traits."""
LEAST_FITTED = 10
"""Persons per genetic component, without whom they are fitted on the tested persons."""
LEAST_FREEDOM = 10
HEADLINES = 5


@dataclass(frozen=True)
class Region:
    """A stretch of a chromosome, 1-based, both ends included."""

    chromosome: str
    start: int
    end: int


@dataclass(frozen=True)
class Run:
    """Which of all traits are of one run's features, and where its loci are."""

    name: str
    traits: slice
    loci: Sequence[Clump] = ()


@dataclass(frozen=True)
class GwasResult:
    """The loci, lambda of each component, what stands beside, and what was counted."""

    output: Path
    loci: Sequence[Row]
    lambdas: Sequence[float]
    beside: Sequence[Row]
    persons: int
    tested: int
    skipped: Mapping[str, int]
    warnings: Sequence[str]
    seconds: float

    def lines(self) -> list[str]:
        """Return what was tested and found, in words."""
        skipped = ", ".join(f"{count:,} {reason}" for reason, count in self.skipped.items())
        return [
            f"{self.tested:,} variants tested on {self.persons:,} persons and {len(self.lambdas)} components"
            f"{f'; not tested: {skipped}' if skipped else ''} ({self.seconds:.1f} s)",
            f"lambda {min(self.lambdas):.2f} to {max(self.lambdas):.2f}"
            if self.tested
            else "no variant could be tested",
            f"{len(self.loci):,} {'locus' if len(self.loci) == 1 else 'loci'}",
            *(
                f"{row['chromosome']}:{row['start']}-{row['end']}: {row['variant']}, {row['pc']}, "
                f"-log10 P {row['neg_log_10_p']:.1f}"
                for row in self.loci[:HEADLINES]
            ),
            *(
                f"beside {row['run']}: {row['loci']} loci, mean chi-square {row['chi_square']:.0f} at {row['regions']} regions"
                for row in self.beside
                if row["regions"]
            ),
            f"wrote {self.output}",
        ]


def gwas(
    features: Features,
    genotypes: PlinkFile,
    covariates: Table | None,
    settings: GwasSection,
    output: Path,
    *,
    force: bool = False,
    beside: Mapping[str, Features] | None = None,
    regions: Path | None = None,
    assembly: str | None = None,
    ids: Literal["iid", "fid_iid"] = "iid",
    fitted: Collection[str] | None = None,
    related: bool = False,
    date: datetime.date | None = None,
    progress: Progress | None = None,
    warn: Warn | None = None,
) -> GwasResult:
    """Test every variant with the principal components of features, and write a folder of tables and pictures.

    `beside` holds the features of other runs, tested on the same persons. Their strength is compared at the regions of the BED
    file `regions`, or at the loci of the first. `fitted` names the persons whom the genetic components are fitted on (default:
    all who are genotyped and not tested). `related` tests all members of a family. `date` is what the metadata say, by default
    today. Raises InputError where the inputs do not fit each other, ConfigError for an unknown covariate, OutputError where
    the folder may not be written.
    """
    started = time.monotonic()
    _check_folder(output, force, genotypes.path)
    said = list[str]()

    def tell(text: str) -> None:
        said.append(text)
        if warn:
            warn(text)

    names = genotypes.names(ids)
    chosen_columns = () if covariates is None else settings.covariates
    known = covariates_of(covariates, chosen_columns) if covariates is not None and chosen_columns else None
    chosen = choose_persons(features, names, known, settings, related)
    others = dict(beside or {})
    if features.name in others:
        raise InputError(f"two runs are called {features.name}")
    everyone = {features.name: features.matrix[chosen.places]}
    everyone |= {name: one.matrix[matched_to(one, features.name, chosen.persons)] for name, one in others.items()}
    wanted = None if regions is None else regions_of(regions)
    for reason, count in chosen.left_out.items():
        if count:
            tell(f"{count:,} persons are left out: {reason}")
    if related:
        tell("related persons are tested together: standard errors are too small where relatives share a trait")
    if covariates is None and settings.covariates:
        tell(f"no covariates are given: not adjusted for {', '.join(settings.covariates)}")
    of_person = known.of(chosen.persons) if known else np.zeros((len(chosen.persons), 0))
    ancestry, ancestry_names = _ancestry(genotypes, names, chosen.rows, fitted, settings, tell, progress)
    columns = [*(known.names if known else ()), *ancestry_names]
    basis, idle = core.orthonormal(np.concatenate([of_person, ancestry], axis=1))
    if len(idle):
        tell(f"covariates that add nothing to those before them: {', '.join(columns[index] for index in idle)}")
    if len(basis) - basis.shape[1] - 1 < LEAST_FREEDOM:
        raise InputError(f"{len(basis):,} persons are too few for {basis.shape[1]:,} covariates")
    runs, traits = _traits(everyone, basis, settings.pcs)
    regression = core.Regression(basis, traits, settings.maf, settings.max_missing)
    job = _Job(genotypes, chosen.rows, regression, settings, runs)
    if any((number_of(name) or 0) > 22 for name in set(genotypes.variants.chromosome)):
        tell("variants of X, Y and MT are tested with the dosages of the file: read them with care")
    study = ssf.Study(
        assembly,
        len(basis),
        settings.ancestry,
        settings.technology,
        [column for index, column in enumerate(columns) if index not in idle],
        settings.maf,
        (date or datetime.date.today()).isoformat(),
    )
    with whole_folder(output) as folder:
        folder.chmod(0o700)  # it holds the ids of people
        found = _test(folder, job, study, progress)
        result = _conclude(folder, job, found, wanted, said, output, started)
        _write_persons(folder / "persons.txt", genotypes, chosen.rows)
    return result


def _check_folder(output: Path, force: bool, genotypes: Path) -> None:
    """Raise OutputError where the folder may not be written, or where replacing it would remove the genotypes."""
    check_output(output, force)
    if output.exists() and not output.is_dir():
        raise OutputError("is a file; the results are written to a folder", path=output)
    if output.exists() and output.resolve() in genotypes.resolve().parents:
        raise OutputError(f"holds the input {genotypes.name}, which would be replaced", path=output)


def _ancestry(
    genotypes: PlinkFile,
    names: Sequence[str],
    tested: Ints,
    fitted: Collection[str] | None,
    settings: GwasSection,
    tell: Warn,
    progress: Progress | None,
) -> tuple[Doubles, list[str]]:
    """The genetic components (tested persons, genetic_pcs) and their names."""
    count = settings.genetic_pcs
    if not count:
        return np.zeros((len(tested), 0)), []
    if fitted is None:
        rows = np.setdiff1d(np.arange(len(names)), tested)
    else:
        rows = np.flatnonzero([name in fitted for name in names])
    if len(rows) < LEAST_FITTED * count:
        tell(f"the genetic components are fitted on the tested persons: there are {len(rows):,} others")
        rows = tested
    components, variants = genetic_pcs(genotypes, tested, rows, count, settings.memory, progress)
    if variants < FEW_VARIANTS:
        tell(
            f"the genetic components are of {variants:,} variants only, whose effects they take out of the traits "
            "(gwas.genetic_pcs = 0 does without)"
        )
    return components, [f"genetic PC {number}" for number in range(1, count + 1)]


def _traits(everyone: Mapping[str, Doubles], basis: Doubles, count: int) -> tuple[list[Run], Doubles]:
    """The traits of all runs side by side (persons, sum of k), and which are whose."""
    runs, traits, place = list[Run](), list[Doubles](), 0
    for name, matrix in everyone.items():
        components = core.principal_components(matrix, count)
        if not components.shape[1]:
            raise InputError(f"features {name} are the same for all persons")
        runs.append(Run(name, slice(place, place + components.shape[1])))
        traits.append(core.traits_of(components, basis))
        place += components.shape[1]
    return runs, np.concatenate(traits, axis=1)


def regions_of(path: Path) -> list[Region]:
    """Return the regions of a BED file. Raises RegionError where it is none."""
    read = read_intervals(path)
    columns = zip(read.contig.tolist(), read.start.tolist(), read.end.tolist())
    return [Region(plain_name(read.names[contig]), start + 1, end) for contig, start, end in columns]


# -- the work ----------------------------------------------------------------------------------------------------------


@dataclass(frozen=True)
class _Job:
    """What is tested on whom."""

    genotypes: PlinkFile
    rows: Ints
    regression: core.Regression
    settings: GwasSection
    runs: Sequence[Run]

    def load(self, variants: Ints) -> Int8s:
        """The dosages (variants, tested persons) of some rows of the file."""
        blocks = self.genotypes.blocks(variants, self.rows, self.settings.memory)
        return np.concatenate([dosages for _, dosages in blocks])


@dataclass(frozen=True)
class _Found:
    """All variants of the file: reason (variants,), P and chi-square of each trait, least P of each run (variants, runs)."""

    reason: Ints
    unfit: Sequence[str]
    neg_log_10_p: Floats
    chi_square: Floats
    least: Doubles


MINP = pa.schema(
    {
        "chromosome": pa.string(), "position": pa.int64(), "variant": pa.string(), "effect_allele": pa.string(),
        "other_allele": pa.string(), "frequency": pa.float64(), "n": pa.int64(), "pc": pa.string(),
        "neg_log_10_p": pa.float64(),
    }
)  # fmt: skip


def _test(folder: Path, job: _Job, study: ssf.Study, progress: Progress | None) -> _Found:
    """Test all variants, block by block, and write those of the first run as they come."""
    variants, first = job.genotypes.variants, job.runs[0].traits
    count, traits = len(variants), job.regression.traits.shape[1]
    pcs = ssf.trait_names(first.stop)
    unfit = ssf.unfit(variants)
    fits_in = np.array([not why for why in unfit])
    reason = np.zeros(count, np.int64)
    chance, chi_square = (np.full((count, traits), np.nan, np.float32) for _ in range(2))
    least = np.full((count, len(job.runs)), np.nan)
    tables = [folder / f"{name}{ssf.SUFFIX}" for name in pcs]
    each = pa.list_(pa.float32(), len(pcs))
    per_pc = pa.schema(dict.fromkeys(("beta", "standard_error", "neg_log_10_p"), each))
    with (
        ssf.SsfTables(tables) as summaries,
        ParquetRows(folder / "minp.parquet", MINP) as minp,
        ParquetRows(folder / "per-pc.parquet", per_pc, indexed=0) as by_pc,
    ):
        for rows, dosages in job.genotypes.blocks(None, job.rows, job.settings.memory):
            fits = job.regression.fit(dosages)
            reason[rows], chance[rows], chi_square[rows] = fits.reason, fits.neg_log_10_p, fits.chi_square
            for number, run in enumerate(job.runs):
                least[rows, number] = core.least_p(fits.neg_log_10_p[:, run.traits])[0]
            good = np.flatnonzero(fits.reason == core.TESTED)
            best, which = core.least_p(fits.neg_log_10_p[good, first])
            tested = variants.take(rows[good])
            minp.write(
                {
                    "chromosome": tested.chromosome,
                    "position": tested.position,
                    "variant": tested.name,
                    "effect_allele": tested.effect_allele,
                    "other_allele": tested.other_allele,
                    "frequency": fits.frequency[good],
                    "n": fits.calls[good],
                    "pc": [pcs[index] for index in which],
                    "neg_log_10_p": best,
                }
            )
            columns = fits.beta[good, first], fits.standard_error[good, first], fits.neg_log_10_p[good, first]
            by_pc.write({name: _lists(values, each) for name, values in zip(per_pc.names, columns)})
            whole = fits_in[rows[good]]
            beta, error, p = (values[whole] for values in columns)
            kept = good[whole]
            summaries.write(variants.take(rows[kept]), beta, error, fits.frequency[kept], p, fits.calls[kept])
            if progress:
                progress("testing variants", int(rows[-1]) + 1, count)
    for name, path in zip(pcs, tables):
        trait = f"{name} of the image features {job.runs[0].name}, residuals as normal scores"
        ssf.write_metadata(path, trait, study, summaries.sorted)
    return _Found(reason, unfit, chance, chi_square, least)


def _lists(values: Doubles, kind: pa.DataType) -> pa.Array:
    """Rows of numbers (variants, k) as an Arrow column of lists."""
    return pa.FixedSizeListArray.from_arrays(pa.array(values.astype(np.float32).reshape(-1)), type=kind)


def _conclude(
    folder: Path,
    job: _Job,
    found: _Found,
    wanted: Sequence[Region] | None,
    warnings: Sequence[str],
    output: Path,
    started: float,
) -> GwasResult:
    """Find the loci, compare the runs, and write the tables, pictures and the page of both."""
    variants, settings = job.genotypes.variants, job.settings
    code = codes_of(variants.chromosome)
    limits = {"p1": settings.p1, "p2": settings.p2, "r2": settings.r2, "kb": settings.kb}
    runs = [
        Run(run.name, run.traits, clumps(found.least[:, number], code, variants.position, job.load, **limits))
        for number, run in enumerate(job.runs)
    ]
    tested = int((found.reason == core.TESTED).sum())
    loci = _loci_rows(job, runs[0], found)
    write_tsv(folder / "loci.tsv", loci, LOCI)
    skipped = _write_skipped(folder / "skipped.tsv", job, found)
    at = wanted if wanted is not None else [_span(job, clump) for clump in runs[0].loci]
    beside = [_beside_row(job, found, number, run, at, tested) for number, run in enumerate(runs)]
    if len(runs) > 1 or wanted is not None:
        write_tsv(folder / "beside.tsv", beside, BESIDE)
    lambdas = core.genomic_control(found.chi_square[:, runs[0].traits].astype(np.float64)).tolist()
    thresholds = {f"P = {settings.p1:g}, of a locus": -math.log10(settings.p1)}
    if tested:
        thresholds[f"{FAMILY_WISE} / {tested:,} variants"] = -math.log10(FAMILY_WISE / tested)
    below = (f"{runs[1].name}: {len(runs[1].loci)} loci", found.least[:, 1]) if len(runs) > 1 else None
    named = {clump.index: row["variant"] for clump, row in zip(runs[0].loci, loci)}
    title = f"{runs[0].name}: {len(loci)} {'locus' if len(loci) == 1 else 'loci'}"
    draw_manhattan(
        folder / "manhattan", layout_of(variants.chromosome, variants.position), found.least[:, 0], thresholds, named,
        title, below,
    )  # fmt: skip
    draw_qq(folder / "qq", found.neg_log_10_p[:, runs[0].traits].astype(np.float64), found.least[:, 0], lambdas)
    result = GwasResult(
        output,
        loci,
        lambdas,
        beside if len(runs) > 1 or wanted is not None else (),
        len(job.rows),
        tested,
        skipped,
        list(warnings),
        time.monotonic() - started,
    )
    write_page(folder / "report.html", result, runs[0].name, settings)
    return result


def _name_of(job: _Job, row: int) -> str:
    """The name of a variant; where it has none, its place and alleles."""
    variants = job.genotypes.variants
    if variants.name[row] not in (".", "0"):
        return variants.name[row]
    place = f"{variants.chromosome[row]}:{variants.position[row]}"
    return f"{place}:{variants.effect_allele[row]}:{variants.other_allele[row]}"


def _span(job: _Job, clump: Clump) -> Region:
    """From the first to the last member of a locus."""
    positions = job.genotypes.variants.position[clump.members]
    chromosome = plain_name(job.genotypes.variants.chromosome[clump.index])
    return Region(chromosome, int(positions.min()), int(positions.max()))


def _loci_rows(job: _Job, run: Run, found: _Found) -> list[Row]:
    """A row for each locus; beta and standard error are those of the component with the least P."""
    if not run.loci:
        return []
    variants, pcs = job.genotypes.variants, ssf.trait_names(run.traits.stop)
    fits = job.regression.fit(job.load(np.array([clump.index for clump in run.loci])))
    least, which = core.least_p(fits.neg_log_10_p[:, run.traits])
    rows = []
    for number, clump in enumerate(run.loci):
        span, pc = _span(job, clump), int(which[number])
        rows.append(
            {
                "locus": number + 1,
                "chromosome": variants.chromosome[clump.index],
                "start": span.start,
                "end": span.end,
                "variant": _name_of(job, clump.index),
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


def _beside_row(job: _Job, found: _Found, number: int, run: Run, at: Sequence[Region], tested: int) -> Row:
    """What one run shows: its loci, lambda, and the mean over regions of the best chi-square there."""
    chi_square = found.chi_square[:, run.traits].astype(np.float64)
    lambdas = core.genomic_control(chi_square)
    best = np.nan_to_num(chi_square, nan=0.0).max(axis=1)
    plain = np.array([plain_name(name) for name in job.genotypes.variants.chromosome])
    position = job.genotypes.variants.position
    there = []
    for region in at:
        inside = (plain == region.chromosome) & (position >= region.start) & (position <= region.end)
        inside &= found.reason == core.TESTED
        if inside.any():
            there.append(float(best[inside].max()))
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


def _write_skipped(path: Path, job: _Job, found: _Found) -> dict[str, int]:
    """Write the variants that were not tested, and those that GWAS-SSF cannot hold; return {reason: variants not tested}."""
    variants, rows, counts = job.genotypes.variants, list[Row](), dict[str, int]()
    for row in np.flatnonzero((found.reason != core.TESTED) | np.array([bool(why) for why in found.unfit])).tolist():
        untested = core.REASONS[found.reason[row]]
        if untested:
            counts[untested] = counts.get(untested, 0) + 1
        rows.append(
            {
                "variant": _name_of(job, row),
                "reason": untested or f"tested, but not in GWAS-SSF: {found.unfit[row]}",
                "chromosome": variants.chromosome[row],
                "position": int(variants.position[row]),
            }
        )
    write_tsv(path, rows, ("variant", "reason", "chromosome", "position"))
    return dict(sorted(counts.items()))


def _write_persons(path: Path, genotypes: PlinkFile, rows: Ints) -> None:
    """Write who was tested, as plink2 --keep reads it."""
    lines = [f"{genotypes.families[row]}\t{genotypes.persons[row]}\n" for row in rows.tolist()]
    path.write_text("#FID\tIID\n" + "".join(lines), "utf-8")
