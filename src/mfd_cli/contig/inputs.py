"""All inputs of a project of `mfd contig`, opened and checked before anything is written."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from mfd_cli.base.arrays import Doubles, Ints
from mfd_cli.base.errors import ConfigError, GenotypeError, InputError, InputErrors, MfdError
from mfd_cli.base.files import check_input
from mfd_cli.contig.config import ContigProject, ModalitySection
from mfd_cli.contig.data.cohort import ModalityColumns
from mfd_cli.contig.data.image_factors import fitted_encoder
from mfd_cli.contig.data.manifest import ImageRow, read_manifest
from mfd_cli.contig.data.persons import People, dealt, read_families, shared_persons
from mfd_cli.contig.data.plink import PlinkFile, open_plink

AUTOSOMES = frozenset(map(str, range(1, 23)))
LEAST_SD = 1e-6
"""Of dosages in training persons: a variant that is the same in all cannot be standardised."""
MOST_FAULTY = 0.05
"""Share of pictures that may be faulty where `images.on_fault` is skip."""


@dataclass(frozen=True)
class Inputs:
    """What a project's files hold. `rows` are the images of persons who have genetic data, in the order of people."""

    manifest: Path
    rows: tuple[tuple[ImageRow, ...], ...]
    people: People
    genotypes: dict[str, PlinkFile]
    """By modality."""
    place: dict[str, Ints]
    """By modality: the place of each of the people in the genotype file."""
    left_out: dict[str, int]
    """Why persons or images are not used, and how many."""


def open_inputs(project: ContigProject) -> Inputs:
    """Open and check the manifest, the genotypes and the families. Several faults are told together."""
    config = project.config
    if not config.modalities:
        raise ConfigError("there is no modality", path=project.file, hint='[modalities.snps] with kind = "snps" is one')
    manifest = project.path(config.data.images)
    faults: list[MfdError] = []
    rows: list[ImageRow] = []
    opened: dict[str, PlinkFile] = {}
    families: dict[str, str] = {}
    try:
        rows = read_manifest(
            check_input(manifest, InputError), config.split.column, config.factors, config.persons.missing
        )
    except MfdError as error:
        faults.append(error)
    for name, modality in config.modalities.items():
        try:
            opened[name] = open_plink(genotypes_of(project, name, modality))
        except MfdError as error:
            faults.append(error)
    if config.persons.families:
        try:
            families = read_families(check_input(project.path(config.persons.families), InputError))
        except MfdError as error:
            faults.append(error)
    if faults:
        raise faults[0] if len(faults) == 1 else InputErrors(faults)
    return _joined(project, manifest, rows, opened, families)


def genotypes_of(project: ContigProject, name: str, modality: ModalitySection) -> Path:
    """Return the path of a modality's genotypes. ConfigError where none is named."""
    file = modality.file or project.config.data.genotypes
    if file is None:
        raise ConfigError(
            f"modalities.{name} has no file, and there is no data.genotypes",
            path=project.file,
            hint='genotypes = "FILE.bed" in [data]',
        )
    return project.path(file)


def _joined(
    project: ContigProject,
    manifest: Path,
    rows: list[ImageRow],
    opened: dict[str, PlinkFile],
    families: dict[str, str],
) -> Inputs:
    """Persons who have an image of a wanted eye and every modality, dealt to splits."""
    config = project.config
    names = {name: file.names(config.persons.id) for name, file in opened.items()}
    wanted = [row for row in rows if config.images.eyes == "both" or row.eye in ("", config.images.eyes)]
    if not wanted:
        raise InputError(f"has no image of a {config.images.eyes} eye", path=manifest, hint="images.eyes chooses them")
    persons: tuple[str, ...] = tuple(sorted({row.person for row in wanted}))
    with_images = len(persons)
    for name, known in names.items():
        ours = set(persons)
        persons = shared_persons([row for row in wanted if row.person in ours], known, manifest, opened[name].path)
    by_person: dict[str, list[ImageRow]] = {person: [] for person in persons}
    for row in wanted:
        if row.person in by_person:
            by_person[row.person].append(row)
    people = dealt(persons, families, config.split, {person: own[0] for person, own in by_person.items()}, manifest)
    for factor, section in config.factors.items():
        training = (row for person in people.of("train").tolist() for row in by_person[people.persons[person]])
        fitted_encoder(factor, section.type, [row.factors[factor] for row in training])
    place = {name: _places(known, people.persons) for name, known in names.items()}
    genotyped = max(len(known) for known in names.values())
    left_out = {
        "images of another eye": len(rows) - len(wanted),
        "persons with images and without genetic data": with_images - len(persons),
        "persons with genetic data and without images": genotyped - len(persons),
    }
    return Inputs(
        manifest,
        tuple(tuple(sorted(own, key=lambda row: row.image)) for own in by_person.values()),
        people,
        opened,
        place,
        {reason: count for reason, count in left_out.items() if count},
    )


def _places(known: tuple[str, ...], wanted: tuple[str, ...]) -> Ints:
    """Where each of the wanted names stands among the known ones."""
    place = {name: number for number, name in enumerate(known)}
    return np.array([place[name] for name in wanted], np.int64)


# -- the variants of a modality ------------------------------------------------------------------------------------------


@dataclass(frozen=True)
class ChosenVariants:
    """The variants that are inputs of a modality: rows of the genotype file, and their statistics; why others are not."""

    rows: Ints
    columns: ModalityColumns
    left_out: dict[str, int]


def choose_variants(inputs: Inputs, name: str, modality: ModalitySection, mib: int = 64) -> ChosenVariants:
    """Choose the variants of a modality by what training persons have; the file is read once, in blocks of `mib` MiB.

    GenotypeError where none is left.
    """
    file = inputs.genotypes[name]
    training = inputs.place[name][inputs.people.of("train")]
    autosomal = np.array([chromosome.removeprefix("chr") in AUTOSOMES for chromosome in file.variants.chromosome], bool)
    mean, sd, missing = _statistics(file, training, mib)
    frequency = mean / 2
    # A variant that no training person was called at has no frequency: NaN compares as false.
    common = np.minimum(frequency, 1 - frequency) >= modality.maf
    called = missing <= modality.max_missing
    varied = sd > LEAST_SD
    kept = np.flatnonzero(autosomal & called & common & varied)
    rows = kept[:: modality.every]
    left_out = {
        "not on chromosomes 1 to 22": int((~autosomal).sum()),
        f"missing in more than {modality.max_missing:.0%} of training persons": int((autosomal & ~called).sum()),
        f"rarer than {modality.maf:g} in training persons": int((autosomal & called & ~(common & varied)).sum()),
        f"passed over by every = {modality.every}": len(kept) - len(rows),
    }
    if not len(rows):
        raise GenotypeError(
            f"modalities.{name}: no variant is left ({'; '.join(f'{n:,} {why}' for why, n in left_out.items() if n)})",
            path=file.path,
        )
    columns = ModalityColumns(file.variants.take(rows), mean[rows], sd[rows], missing[rows])
    return ChosenVariants(rows, columns, {why: count for why, count in left_out.items() if count})


def _statistics(file: PlinkFile, persons: Ints, mib: int) -> tuple[Doubles, Doubles, Doubles]:
    """Mean and sd of the dosages of some persons, and the share of missing calls, of every variant (variants,)."""
    count = len(file.variants)
    mean, sd, missing = np.full(count, np.nan), np.zeros(count), np.ones(count)
    for rows, dosages in file.blocks(None, persons, mib):
        called = dosages >= 0
        known = called.sum(1)
        some = np.maximum(known, 1)
        first = np.where(called, dosages, 0).sum(1, dtype=np.float64) / some
        second = (np.where(called, dosages, 0).astype(np.float64) ** 2).sum(1) / some
        mean[rows] = np.where(known > 0, first, np.nan)
        sd[rows] = np.sqrt(np.maximum(second - first**2, 0))
        missing[rows] = 1 - known / max(len(persons), 1)
    return mean, sd, missing


def copies_of(inputs: Inputs, name: str, rows: Ints, persons: Ints, missing: int) -> Iterator[tuple[slice, Ints]]:
    """Yield, for stretches of the chosen variants, the dosages (persons, variants) of some of the people; `missing` where not
    called."""
    start = 0
    for some, dosages in inputs.genotypes[name].blocks(rows, inputs.place[name][persons]):
        copies = np.where(dosages < 0, missing, dosages).T.astype(np.int64)
        yield slice(start, start + len(some)), copies
        start += len(some)
