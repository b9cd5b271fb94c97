"""All inputs of a project of `mfd contig`, opened and checked before anything is written."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from mfd_cli.base.arrays import Ints
from mfd_cli.base.errors import ConfigError, InputError, InputErrors, MfdError
from mfd_cli.base.files import check_input
from mfd_cli.contig.config import ContigProject, ModalitySection
from mfd_cli.contig.data.image_factors import fitted_encoder
from mfd_cli.contig.data.manifest import ImageRow, read_manifest
from mfd_cli.contig.data.persons import People, dealt, read_families, shared_persons
from mfd_cli.contig.modalities.burden import open_burden
from mfd_cli.contig.modalities.pgs import open_pgs
from mfd_cli.contig.modalities.snps import open_snps
from mfd_cli.contig.modalities.source import Chosen, Opening, Source
from mfd_cli.contig.modalities.tables import open_table

KINDS: dict[str, Callable[[Opening, str, ModalitySection], Source]] = {
    "snps": open_snps,
    "pgs": open_pgs,
    "burden": open_burden,
    "table": open_table,
}
"""What opens a modality of each kind."""
MOST_FAULTY = 0.05
"""Share of pictures that may be faulty where `images.on_fault` is skip."""


@dataclass(frozen=True)
class Inputs:
    """What a project's files hold. `rows` are the images of persons who have genetic data, in the order of people."""

    manifest: Path
    rows: tuple[tuple[ImageRow, ...], ...]
    people: People
    sources: dict[str, Source]
    """By modality."""
    place: dict[str, Ints]
    """By modality: the row of each of the people in its file, -1 where they have none, or one that is mostly missing."""
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
    opened: dict[str, Source] = {}
    opening = Opening(project)
    families: dict[str, str] = {}
    try:
        rows = read_manifest(
            check_input(manifest, InputError), config.split.column, config.factors, config.persons.missing
        )
    except MfdError as error:
        faults.append(error)
    for name, modality in config.modalities.items():
        try:
            opened[name] = KINDS[modality.kind](opening, name, modality)
        except MfdError as error:
            faults.append(error)
    if config.persons.families:
        try:
            families = read_families(check_input(project.path(config.persons.families), InputError))
        except MfdError as error:
            faults.append(error)
    faults = list({str(fault): fault for fault in faults}.values())  # one file may be that of several modalities
    if faults:
        raise faults[0] if len(faults) == 1 else InputErrors(faults)
    return _joined(project, manifest, rows, opened, families)


def _joined(
    project: ContigProject,
    manifest: Path,
    rows: list[ImageRow],
    opened: dict[str, Source],
    families: dict[str, str],
) -> Inputs:
    """Persons who have an image of a wanted eye and a row of any modality, dealt to splits."""
    config = project.config
    wanted = [row for row in rows if config.images.eyes == "both" or row.eye in ("", config.images.eyes)]
    if not wanted:
        raise InputError(f"has no image of a {config.images.eyes} eye", path=manifest, hint="images.eyes chooses them")
    with_images = len({row.person for row in wanted})
    having: set[str] = set()
    known: set[str] = set()
    for source in opened.values():
        # Also those whose row is mostly missing: who is dealt to which split must not depend on what a test person has there.
        having |= set(shared_persons(wanted, source.persons, manifest, source.path))
        known |= set(source.persons)
    persons = tuple(sorted(having))
    by_person: dict[str, list[ImageRow]] = {person: [] for person in persons}
    for row in wanted:
        if row.person in by_person:
            by_person[row.person].append(row)
    people = dealt(persons, families, config.split, {person: own[0] for person, own in by_person.items()}, manifest)
    for factor, section in config.factors.items():
        training = (row for person in people.of("train").tolist() for row in by_person[people.persons[person]])
        fitted_encoder(factor, section.type, [row.factors[factor] for row in training])
    left_out = {
        "images of another eye": len(rows) - len(wanted),
        "persons with images and without genetic data": with_images - len(persons),
        "persons with genetic data and without images": len(known - {row.person for row in wanted}),
        **{f"rows of {name} with more than half missing": int(source.absent.sum()) for name, source in opened.items()},
    }
    return Inputs(
        manifest,
        tuple(tuple(sorted(own, key=lambda row: row.image)) for own in by_person.values()),
        people,
        opened,
        {name: _places(source, people.persons) for name, source in opened.items()},
        {reason: count for reason, count in left_out.items() if count},
    )


def _places(source: Source, wanted: tuple[str, ...]) -> Ints:
    """In which row of a source each of the wanted persons stands, -1 where in none that counts."""
    place = {name: row for row, name in enumerate(source.persons) if not source.absent[row]}
    return np.array([place.get(name, -1) for name in wanted], np.int64)


def choose_inputs(inputs: Inputs) -> dict[str, Chosen]:
    """Return the inputs of every modality, by what training persons have. Several faults are told together."""
    training, chosen, faults = inputs.people.of("train"), dict[str, Chosen](), list[MfdError]()
    for name, source in inputs.sources.items():
        rows = inputs.place[name][training]
        try:
            chosen[name] = source.choose(rows[rows >= 0])
        except MfdError as error:
            faults.append(error)
    if faults:
        raise faults[0] if len(faults) == 1 else InputErrors(faults)
    return chosen


def rows_having(inputs: Inputs, name: str, chosen: Chosen) -> Ints:
    """Return in which row of a modality's source each of the people stands, -1 where they lack it."""
    place = inputs.place[name]
    return np.where((place >= 0) & ~chosen.absent[place], place, -1)
