"""Labels that a run, or what is done with it, knows already: what a reader must be told."""

from __future__ import annotations

from collections.abc import Sequence

from mfd_cli.contig.config import ContigProject
from mfd_cli.contig.run import ContigRun


def known_labels(project: ContigProject, run: ContigRun, columns: Sequence[str]) -> list[str]:
    """Return a sentence for each of these columns that the run was trained on, has as an input, or that is a covariate."""
    inputs = {variant.split(":")[0]: modality for modality, variants in run.variants.items() for variant in variants}
    taught = {column.name for column in run.labels}
    told = []
    for name in columns:
        if name in inputs:
            told.append(f"the label {name} is an input of the run's modality {inputs[name]}: it was trained with it")
        if name in taught:
            told.append(f"the label {name} is what the run was trained to tell: nothing here is transferred")
        if name in project.config.gwas.covariates:
            told.append(f"the label {name} is a covariate of this project (gwas.covariates)")
    return told
