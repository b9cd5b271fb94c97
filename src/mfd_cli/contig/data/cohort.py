"""An opened cohort folder: persons, their pictures and their genetic data, ready for a network."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from itertools import pairwise
from pathlib import Path
from typing import Any

import numpy as np

from mfd_cli.base.arrays import Bools, Bytes, Floats, Ints
from mfd_cli.base.errors import ConfigError
from mfd_cli.base.stored_json import digest_of
from mfd_cli.contig.data.cohort_files import Shard, read_columns, read_manifest, read_persons, read_shard
from mfd_cli.contig.data.modality_columns import ModalityColumns, width_of
from mfd_cli.contig.data.packed_calls import MISSING, unpacked
from mfd_cli.contig.data.persons import People


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
        parts = [self._shard(shard["file"], shard["persons"]) for shard in self.manifest["splits"][split]["shards"]]
        persons = np.concatenate([part.persons for part in parts])
        names = tuple(name for part in parts for name in part.names)
        eyes = tuple(eye for part in parts for eye in part.eyes)
        owner = np.repeat(np.arange(len(persons)), np.concatenate([part.images for part in parts]))
        pixels = Stack([part.pixels for part in parts], 3 * self.size**2)
        codes = {
            name: Stack(
                [part.codes[name] for part in parts], width_of(columns), np.uint8 if columns.packed else np.float32
            )
            for name, columns in self.columns.items()
        }
        has = {name: np.concatenate([part.has[name] for part in parts]) for name in self.columns}
        factors = {name: tuple(text for part in parts for text in part.factors[name]) for name in self.factors}
        images = Images(names, eyes, owner, factors)
        return Share(persons, self.people.family[persons], images, pixels, codes, self.size, has)

    def _shard(self, file: str, persons: int) -> Shard:
        """A shard of so many persons."""
        path, everybody = self.path / "shards" / file, len(self.people.persons)
        return read_shard(path, persons, everybody, self.size, self.columns, list(self.factors))

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


def open_cohort(path: Path, verify: bool = True) -> Cohort:
    """Open a cohort folder; with `verify` the digest of every file is compared.

    CohortError where it is missing, incomplete, damaged or of another version.
    """
    manifest = read_manifest(path, verify)
    columns = read_columns(path / "columns.arrow", manifest["modalities"])
    return Cohort(path, manifest, read_persons(path / "persons.arrow"), columns)
