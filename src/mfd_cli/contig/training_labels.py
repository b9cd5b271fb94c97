"""The labels of a supervised training, read once for its images."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from mfd_cli.base.arrays import Floats, Ints
from mfd_cli.base.errors import ConfigError, InputError
from mfd_cli.base.files import check_input, sha256_of
from mfd_cli.contig.batches import SHUFFLE
from mfd_cli.contig.config import ContigProject
from mfd_cli.contig.data.cohort import Cohort
from mfd_cli.contig.data.labels import LabelColumn, as_numbers, check_shared, fit_column, read_labels, rows_of_images
from mfd_cli.contig.data.tables import PERSON


@dataclass(frozen=True)
class TrainingLabels:
    """Labels as numbers, of each image of two splits (images, columns), NaN where unknown; how they became so; and the sha256
    of their table."""

    columns: tuple[LabelColumn, ...]
    training: Floats
    validation: Floats
    digest: str


def training_labels(project: ContigProject, cohort: Cohort, control: str) -> TrainingLabels | None:
    """Return the labels that a project's objective needs; None where it needs none. In the control `shuffled` they are permuted
    among persons, or images, of a split.

    ConfigError where no table is named, TableError where it is none or has nothing to learn.
    """
    config = project.config
    if config.objective.kind != "supervised":
        return None
    if config.objective.labels is None:
        raise ConfigError(
            'objective.kind is "supervised", and no labels are named',
            path=project.file,
            hint='labels = "labels.tsv" in [objective], and label_columns where not all of its columns are meant',
        )
    path = check_input(project.path(config.objective.labels), InputError)
    table = read_labels(path, config.objective.label_columns, config.persons.missing)
    rows: dict[str, Ints] = {}
    columns: tuple[LabelColumn, ...] = ()
    for split in ("train", "validation"):
        share = cohort.share(split)
        rows[split] = rows_of_images(table, share, cohort.people)
        check_shared(table, rows[split], share, cohort.people, split)
        columns = columns or tuple(fit_column(table, name, rows["train"]) for name in table.names)
        if control == "shuffled":
            rng = np.random.default_rng([config.train.seed, SHUFFLE])
            owner = share.images.owner if table.key == PERSON else np.arange(len(rows[split]))
            first = np.searchsorted(owner, np.arange(owner[-1] + 1))
            rows[split] = rng.permutation(rows[split][first])[owner]
    training, validation = (as_numbers(table, columns, rows[split]).astype(np.float32) for split in rows)
    return TrainingLabels(columns, training, validation, sha256_of(path))
