"""The design of a GWAS: who is tested, with which covariates, and for which traits."""

from __future__ import annotations

from collections.abc import Callable, Collection, Mapping, Sequence
from typing import Literal

import numpy as np

from mfd_cli.base.arrays import Doubles, Ints
from mfd_cli.base.errors import InputError
from mfd_cli.base.progress import Progress
from mfd_cli.contig.config import GwasSection
from mfd_cli.contig.core import association as core
from mfd_cli.contig.data.plink import PlinkFile
from mfd_cli.contig.data.tables import Table
from mfd_cli.contig.gwas.ancestry import genetic_pcs
from mfd_cli.contig.gwas.image_covariates import both
from mfd_cli.contig.gwas.inputs import Covariates, Features, choose_persons, covariates_of, matched_to
from mfd_cli.contig.gwas.job import Job, Run

Warn = Callable[[str], None]
"""Who is told what a reader of the results should know."""
FEW_VARIANTS = 1000
"""Genetic components of fewer variants take the effects of those out of the traits."""
LEAST_FITTED = 10
"""Persons per genetic component, without whom they are fitted on the tested persons."""
LEAST_FREEDOM = 10
"""Degrees of freedom that must be left."""


def job_of(
    features: Features,
    others: Mapping[str, Features],
    genotypes: PlinkFile,
    covariates: Table | None,
    settings: GwasSection,
    ids: Literal["iid", "fid_iid"],
    fitted: Collection[str] | None,
    related: bool,
    tell: Warn,
    progress: Progress | None = None,
    of_images: Covariates | None = None,
) -> Job:
    """Return what is tested on whom, and tell what a reader should know of it; see `gwas` for what is what.

    Raises InputError where the inputs do not fit each other, ConfigError for an unknown covariate.
    """
    if features.name in others:
        raise InputError(f"two runs are called {features.name}")
    names = genotypes.names(ids)
    wanted = settings.covariates if covariates is not None else ()
    known = both(covariates_of(covariates, wanted) if covariates is not None and wanted else None, of_images)
    chosen = choose_persons(features, names, known, settings, related)
    everyone = {features.name: features.matrix[chosen.places]}
    everyone |= {name: one.matrix[matched_to(one, name, features.name, chosen.persons)] for name, one in others.items()}
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
        raise InputError(f"{len(basis):,} persons are too few for {basis.shape[1] - 1:,} covariates")
    runs, traits = _traits(everyone, basis, settings.pcs)
    regression = core.Regression(basis, traits, settings.maf, settings.max_missing)
    used = tuple(column for index, column in enumerate(columns) if index not in idle)
    return Job(genotypes, chosen.rows, regression, settings, runs, used)


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
