"""manifest.json of a dataset folder: what it must hold, and the digests of every other file."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Annotated, Any, Self

from pydantic import Field, model_validator

from mfd_cli.base.errors import DatasetError
from mfd_cli.base.files import sha256_of
from mfd_cli.base.stored_json import Natural, Sha256, Stored, read_stored, write_stored
from mfd_cli.genome.sequence import Genome

FORMAT, VERSION = "mfd-dataset", 2
SPLITS = ("train", "validation", "test")
FILES = ("genome.arrow", "tracks.arrow", "bins.arrow")
"""The files of a dataset beside its shards."""
AGAIN = "run mfd preprocess --force to make the dataset again"


class StoredFile(Stored):
    """What is known of a file: whether it is whole can be checked."""

    bytes: Natural
    sha256: Sha256


class StoredShard(StoredFile):
    """A shard of a split, and how many bins have data in it."""

    file: Annotated[str, Field(pattern=r"^[A-Za-z0-9][A-Za-z0-9._-]{0,99}$")]  # a name, not a path to elsewhere
    bins: Natural


class StoredSplit(Stored):
    """A split: how many bins it has, how many of them have data, and its shards in order, whose bins add up to those."""

    bins: Natural
    with_data: Natural
    shards: list[StoredShard]

    @model_validator(mode="after")
    def _adds_up(self) -> Self:
        held = sum(shard.bins for shard in self.shards)
        if held != self.with_data or held > self.bins:
            raise ValueError(f"has {self.bins:,} bins, {self.with_data:,} of them with data, its shards {held:,}")
        return self


class StoredContig(Stored):
    """A contig of the genome; its length is in bases."""

    name: str
    length: Natural


class StoredSplits(Stored):
    """The three splits; no shard is in two of them."""

    train: StoredSplit
    validation: StoredSplit
    test: StoredSplit

    @model_validator(mode="after")
    def _once(self) -> Self:
        names = [shard.file for split in (self.train, self.validation, self.test) for shard in split.shards]
        if len(set(names)) < len(names):
            raise ValueError("a shard is listed twice")
        return self


class StoredFiles(Stored):
    """What is known of each of FILES."""

    genome: Annotated[StoredFile, Field(alias="genome.arrow")]
    tracks: Annotated[StoredFile, Field(alias="tracks.arrow")]
    bins: Annotated[StoredFile, Field(alias="bins.arrow")]


class Manifest(Stored):
    """What manifest.json must hold."""

    genome_digest: Sha256
    contigs: Annotated[list[StoredContig], Field(min_length=1)]
    splits: StoredSplits
    files: StoredFiles
    inputs: list[dict[str, Any]]
    summary: dict[str, Any]


def read_manifest(path: Path) -> dict[str, Any]:
    """Return the manifest of a dataset folder; DatasetError where there is none, it is damaged or of another version."""
    file = path / "manifest.json"
    if not file.exists():
        raise DatasetError("there is no dataset here (no manifest.json)", path=path, hint="run mfd preprocess first")
    manifest = read_stored(file, Manifest, DatasetError, AGAIN, (FORMAT, VERSION))
    return {**manifest, "files": {name: manifest["files"][name] for name in FILES}}


def write_manifest(
    path: Path,
    *,
    configuration: Mapping[str, Any],
    genome: Genome,
    bins: Mapping[str, int],
    shards: Mapping[str, Sequence[tuple[Path, int]]],
    inputs: Sequence[Mapping[str, Any]],
    summary: Mapping[str, Any],
) -> None:
    """Write manifest.json, the last file: a folder without it is not a dataset.

    `bins` counts those of each split; `shards` maps a split to (file, bins with data) of each.
    """

    def described(file: Path) -> dict[str, Any]:
        return {"bytes": file.stat().st_size, "sha256": sha256_of(file)}

    splits = {
        split: {
            "bins": bins[split],
            "with_data": sum(held for _, held in shards[split]),
            "shards": [{"file": file.name, "bins": held, **described(file)} for file, held in shards[split]],
        }
        for split in SPLITS
    }
    manifest = {
        "format": FORMAT,
        "version": VERSION,
        "configuration": configuration,
        "genome_digest": genome.digest(),
        "contigs": [{"name": name, "length": length} for name, length in genome.lengths.items()],
        "splits": splits,
        "files": {name: described(path / name) for name in FILES},
        "inputs": list(inputs),
        "summary": summary,
    }
    write_stored(path / "manifest.json", manifest)
