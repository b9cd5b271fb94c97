"""The files of a cohort folder, as they are written and read. The one place that knows its layout.

cohort/manifest.json            what it was made of, statistics, and the digest of every file; written last
       persons.arrow            one row per person: id, family, split, how many images, and which modalities there are
       columns.arrow            one row per column of a modality: alleles of variants, the statistics of training persons
       shards/SPLIT-NNNNN.arrow one row per person: images with their pixels, and of each modality the packed dosages, or
                                standardised numbers; nothing where the person lacks it
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal, NamedTuple

import numpy as np
import pyarrow as pa
from pydantic import Field

from mfd_cli.base.arrays import Bools, Bytes, Floats, Ints
from mfd_cli.base.errors import CohortError
from mfd_cli.base.files import sha256_of
from mfd_cli.base.stored_json import Stored, read_stored, write_stored
from mfd_cli.contig.data.modality_columns import ModalityColumns, width_of
from mfd_cli.contig.data.persons import SPLITS, People
from mfd_cli.contig.data.plink import Variants
from mfd_cli.formats.arrow_files import bytes_of, fixed_floats, floats_of, read_arrow, write_arrow

FORMAT, VERSION = "mfd-cohort", 2
AGAIN = "run mfd contig prepare again"
MANIFEST = "manifest.json"
FACTOR = "factor."
"""What the columns of technical factors begin with, whose names are the user's."""
COLUMNS = {
    "modality": pa.string(),
    "name": pa.string(),
    "chromosome": pa.string(),
    "position": pa.int64(),
    "effect_allele": pa.string(),
    "other_allele": pa.string(),
    "mean": pa.float64(),
    "sd": pa.float64(),
    "missing": pa.float64(),
}
"""What columns.arrow has. The mean, the sd and the share of missing values are of training persons. What is no variant has no
alleles, and the position 0."""
HAS = "has."
"""What the columns of persons.arrow begin with that say who has a modality, before its name."""


class StoredCohort(Stored):
    """What manifest.json must hold."""

    configuration: dict[str, Any]
    inputs: list[dict[str, Any]]
    size: int
    pixel_mean: list[float]
    pixel_scale: list[float]
    modalities: dict[str, dict[str, Any]]
    splits: dict[str, dict[str, Any]]
    files: dict[str, dict[str, Any]]
    summary: dict[str, Any]
    factors: dict[str, Literal["category", "year", "number"]] = Field(default_factory=dict)


# -- writing ---------------------------------------------------------------------------------------------------------------


@dataclass(frozen=True)
class PersonRow:
    """What a shard holds of a person: its place, its images as (name, eye, pixels), by modality its packed dosages (bytes) or
    standardised numbers (float32), None where it is absent, and what is known of each image's technical factors."""

    place: int
    images: Sequence[tuple[str, str, bytes]]
    codes: Mapping[str, Bytes | Floats | None]
    factors: Sequence[Mapping[str, str]] = ()


def image_kind(size: int, factors: Iterable[str]) -> pa.StructType:
    """Return the type of an image in a shard: name, eye, what is known of its technical factors, and pixels."""
    texts = ("name", "eye", *(f"{FACTOR}{name}" for name in factors))
    return pa.struct([*((text, pa.string()) for text in texts), ("pixels", pa.binary(3 * size**2))])


def write_shard(
    path: Path,
    rows: Sequence[PersonRow],
    size: int,
    modalities: Mapping[str, ModalityColumns],
    factors: Sequence[str] = (),
) -> None:
    """Write the rows of a shard, which have these modalities; `factors` names those of the images."""
    kind = image_kind(size, factors)
    images = [
        [
            {"name": name, "eye": eye, "pixels": pixels} | {f"{FACTOR}{factor}": known[factor] for factor in factors}
            for (name, eye, pixels), known in zip(row.images, row.factors or [{}] * len(row.images))
        ]
        for row in rows
    ]
    columns = {"person": pa.array([row.place for row in rows], pa.int32()), "images": pa.array(images, pa.list_(kind))}
    for name, those in modalities.items():
        cells = [row.codes[name] for row in rows]
        if those.packed:
            packed_cells = [None if cell is None else cell.tobytes() for cell in cells]
            columns[name] = pa.array(packed_cells, pa.binary(width_of(those)))
        else:
            nothing = np.zeros(width_of(those), np.float32)
            numbers = np.array([nothing if cell is None else cell for cell in cells], np.float32)
            columns[name] = fixed_floats(numbers.reshape(len(rows), -1), np.array([cell is None for cell in cells]))
    write_arrow(path, pa.table(columns))


def write_persons(path: Path, people: People, images: Ints, has: Mapping[str, Bools]) -> None:
    """Write who is in the cohort, with the number of images of each (persons,), and who has each modality (persons,)."""
    splits = pa.array([SPLITS[number] for number in people.split], pa.string())
    columns = {
        "person": pa.array(people.persons, pa.string()),
        "family": pa.array(people.family, pa.int32()),
        "split": splits,
        "images": pa.array(images, pa.int32()),
    } | {f"{HAS}{name}": pa.array(who) for name, who in has.items()}
    write_arrow(path, pa.table(columns))


def write_columns(path: Path, modalities: Mapping[str, ModalityColumns]) -> None:
    """Write the columns of every modality."""
    cells: dict[str, list[Any]] = {name: [] for name in COLUMNS}
    for modality, those in modalities.items():
        cells["modality"] += [modality] * len(those)
        for name in list(COLUMNS)[1:]:
            cells[name] += list(getattr(those if name in ("mean", "sd", "missing") else those.variants, name))
    write_arrow(path, pa.table({name: pa.array(cells[name], kind) for name, kind in COLUMNS.items()}))


def write_manifest(folder: Path, manifest: Mapping[str, Any]) -> None:
    """Write the manifest of a folder whose files are all there, with their sizes and digests, and its own digest."""
    files = {
        str(file.relative_to(folder)): {"bytes": file.stat().st_size, "sha256": sha256_of(file)}
        for file in sorted(folder.rglob("*.arrow"))
    }
    write_stored(folder / MANIFEST, {"format": FORMAT, "version": VERSION, **manifest, "files": files})


# -- reading ---------------------------------------------------------------------------------------------------------------


def read_manifest(path: Path, verify: bool) -> dict[str, Any]:
    """Return the manifest of a cohort folder; with `verify` the digest of every file is compared.

    CohortError where it is missing, incomplete, damaged or of another version.
    """
    if not (path / MANIFEST).exists():
        raise CohortError(f"there is no cohort here (no {MANIFEST})", path=path, hint="run mfd contig prepare first")
    manifest = read_stored(path / MANIFEST, StoredCohort, CohortError, AGAIN, (FORMAT, VERSION))
    for name, expected in manifest["files"].items():
        file = path / name
        if not file.is_file() or file.stat().st_size != expected["bytes"]:
            raise CohortError("is missing or was cut short", path=file, hint=AGAIN)
        if verify and sha256_of(file) != expected["sha256"]:
            raise CohortError(f"is damaged: its sha256 is not the one in {MANIFEST}", path=file, hint=AGAIN)
    return manifest


def read_persons(path: Path) -> People:
    """Return who is in a cohort, of its persons.arrow. CohortError where it holds something else."""
    kinds = {"person": pa.string(), "family": pa.int32(), "split": pa.string(), "images": pa.int32()}
    table = read_arrow(path, kinds, CohortError, AGAIN)
    split = table["split"].to_pylist()
    if set(split) - set(SPLITS):
        raise CohortError("has a split that is none", path=path, hint=AGAIN)
    numbers = np.array([SPLITS.index(name) for name in split], np.int64)
    return People(tuple(table["person"].to_pylist()), table["family"].to_numpy().astype(np.int64), numbers)


def read_columns(path: Path, modalities: Mapping[str, Mapping[str, Any]]) -> dict[str, ModalityColumns]:
    """Return the inputs of each modality, of columns.arrow. CohortError where they are not those that the manifest says."""
    table = read_arrow(path, COLUMNS, CohortError, AGAIN)
    of: dict[str, list[int]] = {}
    for row, modality in enumerate(table["modality"].to_pylist()):
        of.setdefault(modality, []).append(row)
    if {name: len(rows) for name, rows in of.items()} != {name: facts["columns"] for name, facts in modalities.items()}:
        raise CohortError(f"has other columns than {MANIFEST} says", path=path, hint=AGAIN)
    return {name: _columns_of(table.take(of[name]), facts) for name, facts in modalities.items()}


def _columns_of(table: pa.Table, facts: Mapping[str, Any]) -> ModalityColumns:
    """The inputs of a modality, of its rows of columns.arrow."""
    name, chromosome, effect, other = (
        tuple(table[column].to_pylist()) for column in ("name", "chromosome", "effect_allele", "other_allele")
    )
    mean, sd, missing = (table[column].to_numpy() for column in ("mean", "sd", "missing"))
    variants = Variants(chromosome, name, table["position"].to_numpy(), effect, other)
    return ModalityColumns(variants, mean, sd, missing, facts["kind"], facts["packed"])


class Shard(NamedTuple):
    """What a shard holds: places of its `persons`, the number of `images` of each, `names`, `eyes` and `pixels` of all images;
    by modality its `codes`, and who `has` it; by factor the texts of all images."""

    persons: Ints
    images: Ints
    names: list[str]
    eyes: list[str]
    pixels: Bytes
    codes: dict[str, Bytes | Floats]
    has: dict[str, Bools]
    factors: dict[str, list[str]]


def read_shard(
    path: Path,
    expected: int,
    most: int,
    size: int,
    modalities: Mapping[str, ModalityColumns],
    factors: Sequence[str],
) -> Shard:
    """Return a shard, mapped into memory, of pictures of so many px and these modalities and factors. CohortError where it has
    other persons than the `expected` number of them, of whom the cohort has `most`."""
    columns = {"person": pa.int32(), "images": pa.list_(image_kind(size, factors))} | {
        name: pa.binary(width_of(each)) if each.packed else pa.list_(pa.float32(), width_of(each))
        for name, each in modalities.items()
    }
    table = read_arrow(path, columns, CohortError, AGAIN, tuple(modalities)).combine_chunks()
    persons = table["person"].to_numpy().astype(np.int64)
    if len(persons) != expected or (persons >= most).any() or (persons < 0).any():
        raise CohortError(f"has not the {expected:,} persons of {MANIFEST}", path=path, hint=AGAIN)
    images = table["images"].chunk(0)
    flat = images.flatten()
    cells = {name: table[name].chunk(0) for name in modalities}
    return Shard(
        persons,
        np.diff(images.offsets.to_numpy()).astype(np.int64),
        flat.field("name").to_pylist(),
        flat.field("eye").to_pylist(),
        bytes_of(flat.field("pixels"), 3 * size**2),
        {
            name: (bytes_of if modalities[name].packed else floats_of)(c, width_of(modalities[name]))
            for name, c in cells.items()
        },
        {name: cell.is_valid().to_numpy(zero_copy_only=False) for name, cell in cells.items()},
        {name: flat.field(f"{FACTOR}{name}").to_pylist() for name in factors},
    )
