"""`mfd contig gwas`: which variants go with what an image network sees of people.

The features' principal components are the traits: what the covariates leave of each, as normal scores, is regressed on every
variant. The components are one question asked k times, so that a variant's P is k times the least of theirs.
"""

from __future__ import annotations

import dataclasses
import datetime
import math
import time
from collections.abc import Collection, Mapping, Sequence
from pathlib import Path
from typing import Literal

import numpy as np

from mfd_cli.base.arrays import Ints
from mfd_cli.base.errors import OutputError
from mfd_cli.base.files import check_output, whole_folder
from mfd_cli.base.progress import Progress
from mfd_cli.contig.config import GwasSection
from mfd_cli.contig.core import association as core
from mfd_cli.contig.data.plink import PlinkFile
from mfd_cli.contig.data.tables import Table
from mfd_cli.contig.gwas import ssf
from mfd_cli.contig.gwas.chromosomes import AUTOSOMES, codes_of, number_of
from mfd_cli.contig.gwas.clump import clumps
from mfd_cli.contig.gwas.design import Warn, job_of
from mfd_cli.contig.gwas.inputs import Covariates, Features
from mfd_cli.contig.gwas.job import Found, Job, Run
from mfd_cli.contig.gwas.loci import (
    BESIDE,
    FAMILY_WISE,
    LOCI,
    Region,
    beside_row,
    loci_rows,
    regions_of,
    span_of,
    write_skipped,
)
from mfd_cli.contig.gwas.page import write_page
from mfd_cli.contig.gwas.picture import draw_manhattan, draw_qq, layout_of
from mfd_cli.contig.gwas.result import GwasResult, Row
from mfd_cli.contig.gwas.scan import scan
from mfd_cli.contig.gwas.slices import SLICES, column_of, slice_rows, slice_sentence
from mfd_cli.formats.tables import write_tsv


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
    of_images: Covariates | None = None,
    slices: Mapping[str, str] | None = None,
    factors: Sequence[str] = (),
    date: datetime.date | None = None,
    workers: int | None = None,
    progress: Progress | None = None,
    warn: Warn | None = None,
    notes: Sequence[str] = (),
) -> GwasResult:
    """Test every variant with the principal components of features, and write a folder of tables and pictures.

    `beside` holds the features of other runs, tested on the same persons. Their strength is compared at the regions of the BED
    file `regions`, or at the loci of the first. `fitted` names the persons whom the genetic components are fitted on (default:
    all who are genotyped and not tested). `related` tests all members of a family. `of_images` are covariates that persons'
    images make; `slices` names those of the runs that are slices of one network's features, and what these are called, and
    `factors` the technical ones: slices.tsv says which slice found what. `date` is what the metadata say, by default today;
    `workers` as in `scan`; `notes` are told, and stand in the report. Raises InputError where the inputs do not fit each other,
    ConfigError for an unknown covariate, OutputError where the folder may not be written.
    """
    started = time.monotonic()
    _check_folder(output, force, genotypes.path)
    wanted = None if regions is None else regions_of(regions)
    said = list[str]()

    def tell(text: str) -> None:
        said.append(text)
        if warn:
            warn(text)

    for note in notes:
        tell(note)
    job = job_of(
        features, dict(beside or {}), genotypes, covariates, settings, ids, fitted, related, tell, progress, of_images
    )
    if any((number_of(name) or 0) > AUTOSOMES for name in set(genotypes.variants.chromosome)):
        tell("variants of X, Y and MT are tested with the dosages of the file: read them with care")
    study = ssf.Study(
        assembly=assembly,
        persons=len(job.rows),
        ancestry=settings.ancestry,
        technology=settings.technology,
        covariates=job.covariates,
        maf=settings.maf,
        date=(date or datetime.date.today()).isoformat(),
    )
    with whole_folder(output) as folder:
        folder.chmod(0o700)  # it holds the ids of people
        found = scan(folder, job, study, workers, progress)
        result = _conclude(folder, job, found, wanted, said, output, slices or {}, factors)
        write_page(folder / "report.html", result, settings)
        _write_persons(folder / "persons.txt", genotypes, job.rows)
    return dataclasses.replace(result, seconds=time.monotonic() - started)


def _check_folder(output: Path, force: bool, genotypes: Path) -> None:
    """Raise OutputError where the folder may not be written, or where replacing it would remove the genotypes."""
    check_output(output, force)
    if output.exists() and not output.is_dir():
        raise OutputError("is a file; the results are written to a folder", path=output)
    if output.exists() and output.resolve() in genotypes.resolve().parents:
        raise OutputError(f"holds the input {genotypes.name}, which would be replaced", path=output)


def _write_persons(path: Path, genotypes: PlinkFile, rows: Ints) -> None:
    """Write who was tested, as plink2 --keep reads it."""
    lines = [f"{genotypes.families[row]}\t{genotypes.persons[row]}\n" for row in rows.tolist()]
    path.write_text("#FID\tIID\n" + "".join(lines), "utf-8")


def _conclude(
    folder: Path,
    job: Job,
    found: Found,
    wanted: Sequence[Region] | None,
    warnings: Sequence[str],
    output: Path,
    slices: Mapping[str, str],
    factors: Sequence[str],
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
    loci = loci_rows(job, runs[0], found)
    write_tsv(folder / "loci.tsv", loci, LOCI)
    skipped = write_skipped(folder / "skipped.tsv", job, found)
    at = wanted if wanted is not None else [span_of(job, clump) for clump in runs[0].loci]
    beside = [beside_row(job, found, number, run, at, tested) for number, run in enumerate(runs)]
    shown_beside = len(runs) > 1 or wanted is not None
    if shown_beside:
        write_tsv(folder / "beside.tsv", beside, BESIDE)
    of_slices = slice_rows(job, found, runs, slices)
    if slices:
        write_tsv(folder / "slices.tsv", of_slices, (*SLICES, *map(column_of, slices.values())))
    lambdas = core.genomic_control(found.chi_square[:, runs[0].traits].astype(np.float64)).tolist()
    _draw(folder, job, found, runs, loci, lambdas, tested)
    return GwasResult(
        output=output,
        name=runs[0].name,
        loci=loci,
        lambdas=lambdas,
        beside=beside if shown_beside else (),
        persons=len(job.rows),
        tested=tested,
        skipped=skipped,
        warnings=list(warnings),
        slices=of_slices,
        slice_sentence=slice_sentence(of_slices, slices, factors) if slices else "",
    )


def _draw(
    folder: Path,
    job: Job,
    found: Found,
    runs: Sequence[Run],
    loci: Sequence[Row],
    lambdas: Sequence[float],
    tested: int,
) -> None:
    """Draw the pictures: the first run, and the second one, where there is one, mirrored below."""
    variants, settings = job.genotypes.variants, job.settings
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
