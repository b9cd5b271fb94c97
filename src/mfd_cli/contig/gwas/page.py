"""The page of a GWAS: loci, pictures, what stands beside, and what not to read into it."""

from __future__ import annotations

from pathlib import Path

from mfd_cli.contig.config import GwasSection
from mfd_cli.contig.gwas.result import GwasResult
from mfd_cli.contig.gwas.ssf import trait_names
from mfd_cli.report.page import pictures_in, publish

PICTURES = (
    (
        "manhattan",
        "P of every variant: the least of its components, times their number. A run below is mirrored, at the same scale. "
        "Where values are large the scale is logarithmic above 20.",
    ),
    (
        "qq",
        "P beside what chance gives. The least P of all components is multiplied by their number and at most 1, so that "
        "most of it lies below the line.",
    ),
)


def write_page(path: Path, result: GwasResult, settings: GwasSection) -> None:
    """Write report.html from the result and the pictures that lie beside it."""
    publish(
        path,
        "mfd_cli.contig",
        "gwas.html.j2",
        title=f"Variants that go with {result.name}",
        footer=f"{result.persons:,} persons, {result.tested:,} variants",
        sentence=f"{len(result.loci):,} {'locus' if len(result.loci) == 1 else 'loci'} (P of at most {settings.p1:g}) among "
        f"{result.tested:,} variants, tested on {result.persons:,} persons with {len(result.lambdas)} principal components "
        "of their image features.",
        result=result,
        settings=settings,
        lambdas=[
            {"component": pc, "lambda": size} for pc, size in zip(trait_names(len(result.lambdas)), result.lambdas)
        ],
        pictures=pictures_in(path.parent, PICTURES),
    )
