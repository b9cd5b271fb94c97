"""The cohort folder: persons, their pictures and their genetic data, ready for a network. The one place that knows its layout.

cohort/manifest.json            what it was made of, statistics, and the digest of every file; written last
       persons.arrow            one row per person: id, family, split, how many images, and which modalities there are
       columns.arrow            one row per column of a modality: alleles of variants, the statistics of training persons
       shards/SPLIT-NNNNN.arrow one row per person: images with their pixels, and of each modality the packed dosages, or
                                standardised numbers; nothing where the person lacks it
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from itertools import pairwise
from pathlib import Path
from typing import Any, Literal

import numpy as np
import pyarrow as pa
from pydantic import Field

from mfd_cli.base.arrays import Bools, Bytes, Doubles, Floats, Ints
from mfd_cli.base.errors import CohortError, ConfigError
from mfd_cli.base.files import sha256_of
from mfd_cli.base.stored_json import Stored, digest_of, read_stored, write_stored
from mfd_cli.contig.data.persons import SPLITS, People
from mfd_cli.contig.data.plink import Variants
from mfd_cli.formats.arrow_files import bytes_of, fixed_floats, floats_of, read_arrow, write_arrow

FORMAT, VERSION = "mfd-cohort", 2
AGAIN = "run mfd contig prepare again"
MANIFEST = "manifest.json"
FACTOR = "factor."
"""What the columns of technical factors begin with, whose names are the user's."""
MISSING = 3
"""The packed code of a call that is not there; 0, 1 and 2 are copies of the effect allele."""
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


@dataclass(frozen=True)
class ModalityColumns:
    """The inputs of a modality of this kind, in their order: variants, or columns that have a name alone. Statistics are of
    training persons. Calls are stored `packed`, other numbers standardised."""

    variants: Variants
    mean: Doubles
    sd: Doubles
    missing: Doubles
    kind: str = "snps"
    packed: bool = True

    def __len__(self) -> int:
        return len(self.variants)

    def labels(self) -> list[str]:
        """Return what names each input: NAME:CHROMOSOME:POSITION:EFFECT:OTHER of a variant, or the name of a column."""
        those = self.variants
        if self.kind != "snps":
            return list(those.name)
        columns = (those.name, those.chromosome, those.position.tolist(), those.effect_allele, those.other_allele)
        return [":".join(map(str, row)) for row in zip(*columns)]


def named_columns(names: Sequence[str], chromosome: Sequence[str] = (), position: Sequence[int] = ()) -> Variants:
    """Return columns that are no variants, such as scores; of a gene it is known where it lies."""
    count = len(names)
    empty = ("",) * count
    places = np.array(position or [0] * count, np.int64)
    return Variants(tuple(chromosome) or empty, tuple(names), places, empty, empty)


@dataclass(frozen=True)
class Images:
    """What is known of a split's images: `owner` (images,) is the row of the person among those of the split, `factors` has of
    each technical factor a text for every image."""

    name: tuple[str, ...]
    eye: tuple[str, ...]
    owner: Ints
    factors: Mapping[str, tuple[str, ...]] = field(default_factory=dict)


class Stack:
    """Rows of bytes, or of float32, in several files, mapped into memory, read where looked at; `rows` chooses some."""

    def __init__(self, parts: Sequence[Any], width: int, kind: Any = np.uint8, rows: Ints | None = None) -> None:
        self.parts, self.width, self.kind, self.rows = list(parts), width, kind, rows
        self.starts = np.cumsum([0, *(len(part) for part in parts)])

    def __len__(self) -> int:
        return int(self.starts[-1]) if self.rows is None else len(self.rows)

    def only(self, rows: Ints) -> Stack:
        """Return these rows of it, in this order, without reading them."""
        return Stack(self.parts, self.width, self.kind, rows if self.rows is None else self.rows[rows])

    def take(self, rows: Ints) -> Any:
        """Return these rows (rows, width), in this order."""
        if self.rows is not None:
            rows = self.rows[rows]
        out = np.empty((len(rows), self.width), self.kind)
        which = np.searchsorted(self.starts, rows, side="right") - 1
        for number in np.unique(which):
            here = which == number
            out[here] = self.parts[number][rows[here] - self.starts[number]]
        return out


@dataclass(frozen=True)
class Share:
    """One split: `persons` are places among the cohort's people, in the order of the rows here.

    `codes` are the packed dosages, or the standardised numbers, of each modality, and `has` (persons,) says who has it.
    """

    persons: Ints
    family: Ints
    images: Images
    pixels: Stack
    codes: Mapping[str, Stack]
    size: int
    has: Mapping[str, Bools]

    def pictures(self, rows: Ints) -> Bytes:
        """Return the pictures of these images, bytes (images, 3, size, size)."""
        pixels: Bytes = self.pixels.take(rows).reshape(len(rows), 3, self.size, self.size)
        return pixels

    def only(self, keep: Bools) -> Share:
        """Return these persons (persons,) of the split with their images; itself where that is everybody."""
        if keep.all():
            return self
        rows = np.flatnonzero(keep)
        images = np.flatnonzero(keep[self.images.owner])
        new = np.cumsum(keep) - 1
        names, eyes = ([column[row] for row in images.tolist()] for column in (self.images.name, self.images.eye))
        return replace(
            self,
            persons=self.persons[rows],
            family=self.family[rows],
            images=Images(tuple(names), tuple(eyes), new[self.images.owner[images]]),
            pixels=self.pixels.only(images),
            codes={name: stack.only(rows) for name, stack in self.codes.items()},
            has={name: each[rows] for name, each in self.has.items()},
        )

    def joined(self, names: Sequence[str], join: str) -> Bools:
        """Return who (persons,) has all of these modalities (`inner`), or any of them (`outer`)."""
        of_each = np.stack([self.has[name] for name in names])
        return np.asarray(of_each.all(0) if join == "inner" else of_each.any(0), bool)

    def images_of(self) -> list[Ints]:
        """Return for each person the rows of its images."""
        bounds = np.searchsorted(self.images.owner, np.arange(len(self.persons) + 1))
        return [np.arange(low, high) for low, high in pairwise(bounds)]


@dataclass(frozen=True)
class Cohort:
    """An opened cohort folder."""

    path: Path
    manifest: Mapping[str, Any]
    people: People
    columns: Mapping[str, ModalityColumns]

    @property
    def digest(self) -> str:
        """Names the cohort: sha256 of its manifest."""
        return digest_of(self.manifest)

    @property
    def size(self) -> int:
        """Side of the pictures, px."""
        return int(self.manifest["size"])

    @property
    def factors(self) -> dict[str, str]:
        """The technical factors of the images, with their types."""
        return dict(self.manifest.get("factors", {}))

    def share(self, split: str) -> Share:
        """Map the shards of a split. CohortError where one is not what the manifest says."""
        parts = [_read_shard(self, shard) for shard in self.manifest["splits"][split]["shards"]]
        persons = np.concatenate([part[0] for part in parts])
        counts = np.concatenate([part[1] for part in parts])
        names = tuple(name for part in parts for name in part[2])
        eyes = tuple(eye for part in parts for eye in part[3])
        owner = np.repeat(np.arange(len(persons)), counts)
        pixels = Stack([part[4] for part in parts], 3 * self.size**2)
        codes = {
            name: Stack(
                [part[5][name] for part in parts], width_of(columns), np.uint8 if columns.packed else np.float32
            )
            for name, columns in self.columns.items()
        }
        has = {name: np.concatenate([part[6][name] for part in parts]) for name in self.columns}
        factors = {name: tuple(text for part in parts for text in part[7][name]) for name in self.factors}
        images = Images(names, eyes, owner, factors)
        return Share(persons, self.people.family[persons], images, pixels, codes, self.size, has)

    def only(self, names: Sequence[str]) -> Cohort:
        """Return the cohort as if it had these modalities alone. ConfigError where it lacks one."""
        if set(names) - set(self.columns):
            raise ConfigError(
                f"the cohort has the modalities {', '.join(self.columns)}, not {', '.join(names)}",
                hint="run mfd contig prepare again",
            )
        return replace(self, columns={name: self.columns[name] for name in names})

    def inputs(self, share: Share, name: str, rows: Ints) -> Floats:
        """Return the standardised inputs (persons, inputs) of a modality; what is missing is 0, the mean in training.

        Those of a person who lacks the modality mean nothing: `share.has` says who has it.
        """
        if self.columns[name].packed:
            return self.dosages(share, name, rows)
        numbers: Floats = share.codes[name].take(rows)
        return numbers

    def dosages(self, share: Share, name: str, rows: Ints) -> Floats:
        """Return the standardised dosages (persons, variants) of packed calls; a missing one is 0, the mean in training."""
        variants = self.columns[name]
        copies = unpacked(share.codes[name].take(rows), len(variants))
        standardised = (copies - variants.mean) / variants.sd
        return np.where(copies == MISSING, 0.0, standardised).astype(np.float32)


# -- dosages as bits -----------------------------------------------------------------------------------------------------


def packed_width(variants: int) -> int:
    """Return how many bytes the packed dosages of a person have."""
    return -(-variants // 4)


def packed(copies: Bytes) -> Bytes:
    """Return dosages (persons, variants), 0 to 3, as (persons, bytes): four in each, the first in its lowest bits."""
    filled = np.zeros((len(copies), 4 * packed_width(copies.shape[1])), np.uint8)
    filled[:, : copies.shape[1]] = copies
    four = filled.reshape(len(copies), packed_width(copies.shape[1]), 4)
    return (four << np.array([0, 2, 4, 6], np.uint8)).sum(2, dtype=np.uint8)


_FOUR = ((np.arange(256)[:, None] >> np.array([0, 2, 4, 6])) & 3).astype(np.uint8)
"""(256, 4) The dosages in each byte."""


def unpacked(codes: Bytes, variants: int) -> Bytes:
    """Return the dosages (persons, variants) of packed ones."""
    return _FOUR[codes].reshape(len(codes), 4 * codes.shape[1])[:, :variants]


# -- writing ---------------------------------------------------------------------------------------------------------------


@dataclass(frozen=True)
class PersonRow:
    """What a shard holds of a person: its place, its images as (name, eye, pixels), by modality its packed dosages (bytes) or
    standardised numbers (float32), None where it is absent, and what is known of each image's technical factors."""

    place: int
    images: Sequence[tuple[str, str, bytes]]
    codes: Mapping[str, Bytes | Floats | None]
    factors: Sequence[Mapping[str, str]] = ()


def width_of(columns: ModalityColumns) -> int:
    """Return how many bytes, or numbers, a person has in the shards."""
    return packed_width(len(columns)) if columns.packed else len(columns)


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


def open_cohort(path: Path, verify: bool = True) -> Cohort:
    """Open a cohort folder; with `verify` the digest of every file is compared.

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
    columns = _read_columns(path / "columns.arrow", manifest["modalities"])
    return Cohort(path, manifest, _read_persons(path / "persons.arrow"), columns)


def _read_persons(path: Path) -> People:
    kinds = {"person": pa.string(), "family": pa.int32(), "split": pa.string(), "images": pa.int32()}
    table = read_arrow(path, kinds, CohortError, AGAIN)
    split = table["split"].to_pylist()
    if set(split) - set(SPLITS):
        raise CohortError("has a split that is none", path=path, hint=AGAIN)
    numbers = np.array([SPLITS.index(name) for name in split], np.int64)
    return People(tuple(table["person"].to_pylist()), table["family"].to_numpy().astype(np.int64), numbers)


def _read_columns(path: Path, modalities: Mapping[str, Mapping[str, Any]]) -> dict[str, ModalityColumns]:
    table = read_arrow(path, COLUMNS, CohortError, AGAIN)
    of: dict[str, list[int]] = {}
    for row, modality in enumerate(table["modality"].to_pylist()):
        of.setdefault(modality, []).append(row)
    if {name: len(rows) for name, rows in of.items()} != {name: facts["columns"] for name, facts in modalities.items()}:
        raise CohortError(f"has other columns than {MANIFEST} says", path=path, hint=AGAIN)
    return {name: _columns_of(table.take(of[name]), facts) for name, facts in modalities.items()}


def _columns_of(table: pa.Table, facts: Mapping[str, Any]) -> ModalityColumns:
    name, chromosome, effect, other = (
        tuple(table[column].to_pylist()) for column in ("name", "chromosome", "effect_allele", "other_allele")
    )
    mean, sd, missing = (table[column].to_numpy() for column in ("mean", "sd", "missing"))
    variants = Variants(chromosome, name, table["position"].to_numpy(), effect, other)
    return ModalityColumns(variants, mean, sd, missing, facts["kind"], facts["packed"])


_Shard = tuple[
    Ints, Ints, list[str], list[str], Bytes, dict[str, Bytes | Floats], dict[str, Bools], dict[str, list[str]]
]


def _read_shard(cohort: Cohort, shard: Mapping[str, Any]) -> _Shard:
    """Places of the persons, images of each, names and eyes of all images, their pixels; by modality its codes, and who has
    it; by factor the texts of all images."""
    path, pixels = cohort.path / "shards" / shard["file"], 3 * cohort.size**2
    kind = image_kind(cohort.size, cohort.factors)
    columns = {"person": pa.int32(), "images": pa.list_(kind)} | {
        name: pa.binary(width_of(each)) if each.packed else pa.list_(pa.float32(), width_of(each))
        for name, each in cohort.columns.items()
    }
    table = read_arrow(path, columns, CohortError, AGAIN, tuple(cohort.columns)).combine_chunks()
    persons = table["person"].to_numpy().astype(np.int64)
    if len(persons) != shard["persons"] or (persons >= len(cohort.people.persons)).any() or (persons < 0).any():
        raise CohortError(f"has not the {shard['persons']:,} persons of {MANIFEST}", path=path, hint=AGAIN)
    images = table["images"].chunk(0)
    flat = images.flatten()
    counts = np.diff(images.offsets.to_numpy()).astype(np.int64)
    codes = {
        name: (bytes_of if each.packed else floats_of)(table[name].chunk(0), width_of(each))
        for name, each in cohort.columns.items()
    }
    has = {name: table[name].chunk(0).is_valid().to_numpy(zero_copy_only=False) for name in cohort.columns}
    return (
        persons,
        counts,
        flat.field("name").to_pylist(),
        flat.field("eye").to_pylist(),
        bytes_of(flat.field("pixels"), pixels),
        codes,
        has,
        {name: flat.field(f"{FACTOR}{name}").to_pylist() for name in cohort.factors},
    )


def shards_of(rows: Iterator[PersonRow], most: int) -> Iterator[list[PersonRow]]:
    """Yield rows in lists of at most `most` persons."""
    batch: list[PersonRow] = []
    for row in rows:
        batch.append(row)
        if len(batch) == most:
            yield batch
            batch = []
    if batch:
        yield batch
