"""`mfd contig gwas`: the features of a run and of what stands beside it, tested against the genotypes of the same persons."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path

import torch

from mfd_cli.base.errors import ConfigError
from mfd_cli.base.progress import Progress
from mfd_cli.contig.config import ContigProject
from mfd_cli.contig.data.cohort import Cohort
from mfd_cli.contig.data.tables import read_table
from mfd_cli.contig.data.vcf_genotypes import open_genotypes
from mfd_cli.contig.gwas.design import Warn
from mfd_cli.contig.gwas.gwas import gwas
from mfd_cli.contig.gwas.image_covariates import image_covariates
from mfd_cli.contig.gwas.inputs import Covariates, Features
from mfd_cli.contig.gwas.result import GwasResult
from mfd_cli.contig.run import ContigRun
from mfd_cli.contig.seen import SeenSplit, as_features, part_of, see_new
from mfd_cli.settings.names import BIOLOGICAL, TECHNICAL


def run_gwas(
    project: ContigProject,
    run: ContigRun,
    cohort: Cohort,
    output: Path,
    *,
    split: str = "test",
    part: str = BIOLOGICAL,
    beside: Mapping[str, ContigRun] | None = None,
    regions: Path | None = None,
    related: bool = False,
    allow_trained: bool = False,
    device: torch.device | str = "cpu",
    workers: int | None = None,
    force: bool = False,
    progress: Progress | None = None,
    warn: Warn | None = None,
) -> GwasResult:
    """Test every variant of the project's genotypes with what a run sees of a split's persons; see `gwas.gwas.gwas`.

    `part` is the slice of the features, or all of them; the run's other slices are put beside. ConfigError where
    the run has no such slice, or was trained on these persons, unless `allow_trained`.
    """
    config, device = project.config, torch.device(device)
    if config.data.genotypes is None:
        raise ConfigError("there is no data.genotypes to test", path=project.file, hint="--genotypes FILE.bed names it")
    genotypes = open_genotypes(project.path(config.data.genotypes), config.data.dosage)
    if not genotypes.called:
        raise ConfigError(
            "a GWAS tests calls, and data.dosage is DS",
            path=project.file,
            hint=f"--set data.dosage=GT, or plink2 --vcf {config.data.genotypes} dosage=DS --make-bed --out NAME",
        )
    table = config.data.covariates
    covariates = None if table is None else read_table(project.path(table), config.persons.missing)
    of: dict[str, Features] = {}
    part_of(run, part)
    seen = see_new(run, cohort, split, allow_trained, device, progress)
    sliced = TECHNICAL in run.model.slices
    for each in (part, *(run.model.slices if sliced else ())):
        features = as_features(run, seen, each)
        of.setdefault(features.name, features)
    first, *_ = of
    slices = {as_features(run, seen, each).name: each for each in run.model.slices} if sliced else {}
    for name, one in (beside or {}).items():
        of[name] = as_features(one, see_new(one, cohort, split, allow_trained, device, progress), part)
    people = cohort.people
    return gwas(
        of.pop(first),
        genotypes,
        covariates,
        config.gwas,
        output,
        force=force,
        beside=of,
        regions=regions,
        assembly=config.data.assembly,
        ids=config.persons.id,
        fitted=frozenset(people.persons[place] for place in people.of("train").tolist()),
        related=related,
        of_images=_of_images(project, cohort, seen),
        slices=slices,
        factors=tuple(run.factors),
        workers=workers,
        progress=progress,
        warn=warn,
        notes=shared_columns(project, run),
    )


def shared_columns(project: ContigProject, run: ContigRun) -> list[str]:
    """Return a sentence for each modality of a run that has covariates of the GWAS among its columns: what an encoder learnt
    from is taken out of what it sees."""
    sentences = []
    for name, modality in run.config.modalities.items():
        both = [column for column in project.config.gwas.covariates if column in run.variants.get(name, ())]
        if modality.kind != "snps" and both:
            sentences.append(
                f"{', '.join(both)}: covariates here, and what {run.name} was trained with (modality {name})"
            )
    return sentences


def _of_images(project: ContigProject, cohort: Cohort, seen: SeenSplit) -> Covariates | None:
    """The covariates that the images of a split's persons make. ConfigError for a factor that the cohort has not."""
    chosen = project.config.gwas.factors
    for name in chosen:
        if name not in cohort.factors:
            raise ConfigError(
                f"gwas.factors names {name!r}, which the cohort {cohort.path} does not have",
                hint="run mfd contig prepare again",
            )
    images = seen.share.images
    factors = {name: images.factors[name] for name in chosen}
    return image_covariates(seen.persons(), images.owner, factors, cohort.factors) if chosen else None
