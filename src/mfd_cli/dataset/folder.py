"""The dataset folder: the one place that knows its Arrow layout.

    dataset/manifest.json           format version, configuration, contigs, splits, sha256 of inputs and files
            genome.arrow            one row per contig: name, length, sequence (one ASCII byte per base)
            tracks.arrow            one row per track: id, kind, positives, mean_signal, assayed, metadata.COLUMN ...
            shards/SPLIT-NNNNN.arrow    one row per bin: contig, start, peaks, signal, measured

`peaks` are packed bits, one per peak track in the order of tracks.arrow, least significant bit first; `signal` is one
float32 per signal track; `measured`, present only where some track is not measured everywhere, has one bit per track
(peak tracks first, then signal tracks). Windows are not stored: they are cut from the genome when a batch is made.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from functools import cached_property
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
from numpy.typing import NDArray

from mfd_cli.base.arrays import Bools, Bytes, Floats, Ints
from mfd_cli.base.errors import DatasetError
from mfd_cli.base.files import sha256_of, sync
from mfd_cli.base.stored_json import check_stored
from mfd_cli.dataset.manifest import AGAIN, SPLITS, read_manifest
from mfd_cli.experiments.track import StoredTracks, Track, tracks_of
from mfd_cli.genome.grid import BIN, evenly
from mfd_cli.genome.sequence import Genome


@dataclass(frozen=True)
class Bins:
    """Labelled bins of one split, in genome order.

    `contig` (n,) int32 is an index into the genome's contigs, `start` (n,) int64 is 0-based, `peaks`
    (n, ceil(peak tracks / 8)) uint8 packed bits, `signal` (n, signal tracks) float32 (NaN where not measured),
    `measured` (n, ceil(tracks / 8)) uint8 packed bits, or None where every track is measured everywhere.
    """

    contig: NDArray[np.int32]
    start: Ints
    peaks: Bytes
    signal: Floats
    measured: Bytes | None = None

    def __len__(self) -> int:
        return len(self.start)

    def thinned(self, most: int) -> Bins:
        """Return at most this many of the bins, evenly spaced."""
        return self if len(self) <= most else self.taken(evenly(len(self), most))

    def taken(self, index: Ints) -> Bins:
        """Return the bins of an index."""
        measured = None if self.measured is None else self.measured[index]
        return Bins(self.contig[index], self.start[index], self.peaks[index], self.signal[index], measured)


def pack_bits(labels: Bools) -> Bytes:
    """Return (bins, tracks) booleans as (bins, ceil(tracks / 8)) bytes, least significant bit first."""
    return np.packbits(labels, axis=1, bitorder="little")


def unpack_bits(packed: Bytes, tracks: int) -> Bools:
    """Return the (bins, tracks) booleans that `pack_bits` packed."""
    return np.unpackbits(packed, axis=1, count=tracks, bitorder="little").astype(bool)


@dataclass(frozen=True)
class Dataset:
    """An open dataset folder. Arrays are memory-mapped where a split is one shard."""

    path: Path
    manifest: Mapping[str, Any]
    tracks: tuple[Track, ...]
    genome: Genome = field(repr=False)

    @cached_property
    def peak_tracks(self) -> tuple[Track, ...]:
        """The peak tracks, in the order of their bits."""
        return tuple(track for track in self.tracks if track.kind == "peaks")

    @cached_property
    def signal_tracks(self) -> tuple[Track, ...]:
        """The signal tracks, in the order of their columns."""
        return tuple(track for track in self.tracks if track.kind == "signal")

    @cached_property
    def contigs(self) -> tuple[str, ...]:
        """The names of the genome's contigs, of which `Bins.contig` is an index."""
        return tuple(self.genome.sequences)

    @property
    def digest(self) -> str:
        """Names this dataset: sha256 of its manifest file."""
        return sha256_of(self.path / "manifest.json")

    def split(self, name: str) -> Bins:
        """Return the bins of `train`, `validation` or `test`. DatasetError where a shard is not one of this dataset."""
        return concatenate([_read_shard(self, shard) for shard in self.manifest["splits"][name]["shards"]], self)


def concatenate(parts: Sequence[Bins], dataset: Dataset) -> Bins:
    """Return several runs of bins as one; an empty one of the right widths if there is none."""
    if len(parts) == 1:
        return parts[0]
    peaks, signals = len(dataset.peak_tracks), len(dataset.signal_tracks)
    if not parts:
        empty = np.zeros
        return Bins(
            empty(0, np.int32),
            empty(0, np.int64),
            empty((0, -(-peaks // 8)), np.uint8),
            empty((0, signals), np.float32),
        )
    measured: Bytes | None = None
    if any(part.measured is not None for part in parts):
        everything = pack_bits(np.ones((1, peaks + signals), bool))
        measured = np.concatenate(
            [np.repeat(everything, len(part), 0) if part.measured is None else part.measured for part in parts]
        )
    return Bins(
        np.concatenate([part.contig for part in parts]),
        np.concatenate([part.start for part in parts]),
        np.concatenate([part.peaks for part in parts]),
        np.concatenate([part.signal for part in parts]),
        measured,
    )


def open_dataset(path: str | Path, verify: bool = True) -> Dataset:
    """Open a dataset folder; with `verify` every file's sha256 is compared with the manifest (about 1 s per 2 GB).

    Raises DatasetError where the folder is missing, incomplete, damaged or of another version.
    """
    path = Path(path)
    manifest = read_manifest(path)
    files = dict(manifest["files"])
    for split in SPLITS:
        files |= {f"shards/{shard['file']}": shard for shard in manifest["splits"][split]["shards"]}
    for name, expected in files.items():
        file = path / name
        if not file.is_file() or file.stat().st_size != expected["bytes"]:
            raise DatasetError("is missing or was cut short", path=file, hint=AGAIN)
        if (verify or name == "tracks.arrow") and sha256_of(file) != expected["sha256"]:
            raise DatasetError("is damaged: its sha256 is not the one in manifest.json", path=file, hint=AGAIN)
    genome = read_genome(path / "genome.arrow")
    if [(contig["name"], contig["length"]) for contig in manifest["contigs"]] != list(genome.lengths.items()):
        raise DatasetError("has other contigs than manifest.json", path=path / "genome.arrow", hint=AGAIN)
    return Dataset(path, manifest, _read_tracks(path / "tracks.arrow"), genome)


# -- writing ---------------------------------------------------------------------------------------------------------


def write_genome(path: Path, genome: Genome) -> None:
    """Write genome.arrow: one row per contig."""
    names, lengths = list(genome.sequences), list(genome.lengths.values())
    schema = pa.schema([("name", pa.string()), ("length", pa.int64()), ("sequence", pa.large_binary())])
    with pa.OSFile(str(path), "wb") as sink, pa.ipc.new_file(sink, schema) as writer:
        for name, length in zip(names, lengths):  # one batch per contig: memory stays at one contig
            offsets = np.array([0, length], np.int64)
            bases = pa.py_buffer(np.ascontiguousarray(genome.sequences[name]))
            sequence = pa.Array.from_buffers(pa.large_binary(), 1, [None, pa.py_buffer(offsets), bases])
            writer.write_batch(pa.record_batch([pa.array([name]), pa.array([length]), sequence], schema=schema))
    sync(path)


def read_genome(path: Path) -> Genome:
    """Return the genome of a dataset, memory-mapped. DatasetError where the file is none."""
    table = _read_arrow(path, {"name": pa.string(), "length": pa.int64(), "sequence": pa.large_binary()})
    names = table["name"].to_pylist()
    sequences = {
        name: np.frombuffer(sequence.as_buffer(), np.uint8) for name, sequence in zip(names, table["sequence"])
    }
    lengths = [len(bases) for bases in sequences.values()]
    if len(sequences) < len(names) or table["length"].to_pylist() != lengths:
        raise DatasetError("is damaged: names or lengths of contigs do not agree", path=path, hint=AGAIN)
    return Genome(sequences, source=str(path))


def write_tracks(path: Path, tracks: Sequence[Track]) -> None:
    """Write tracks.arrow: one row per track, in the order of the label bits (peak tracks and signal tracks each in order)."""
    columns: dict[str, Any] = {
        "id": [track.id for track in tracks],
        "kind": [track.kind for track in tracks],
        "positives": pa.array([track.positives for track in tracks], pa.int64()),
        "mean_signal": pa.array([track.mean_signal for track in tracks], pa.float64()),
        "assayed": pa.array([track.assayed for track in tracks], pa.list_(pa.string())),
    }
    for column in dict.fromkeys(key for track in tracks for key in track.metadata):
        columns[f"metadata.{column}"] = pa.array([track.metadata.get(column, "") for track in tracks], pa.string())
    _write_table(path, pa.table(columns))


def _read_tracks(path: Path) -> tuple[Track, ...]:
    fixed = {"id": pa.string(), "kind": pa.string(), "positives": pa.int64(), "mean_signal": pa.float64()}
    table = _read_arrow(path, {**fixed, "assayed": pa.list_(pa.string())}, may_miss=("assayed",))
    meta = [name for name in table.column_names if name.startswith("metadata.")]
    rows = [
        {**row, "metadata": {name.removeprefix("metadata."): row[name] for name in meta}} for row in table.to_pylist()
    ]
    check_stored({"tracks": rows}, StoredTracks, path, DatasetError, AGAIN)
    return tracks_of(rows)


def write_shard(path: Path, bins: Bins, contigs: Sequence[str]) -> None:
    """Write one shard, as one record batch so that it can be memory-mapped without copying."""
    columns: dict[str, pa.Array] = {
        "contig": pa.DictionaryArray.from_arrays(pa.array(bins.contig, pa.int32()), pa.array(list(contigs))),
        "start": pa.array(bins.start, pa.int64()),
        "peaks": _fixed_binary(bins.peaks),
        "signal": _fixed_floats(bins.signal),
    }
    if bins.measured is not None:
        columns["measured"] = _fixed_binary(bins.measured)
    _write_table(path, pa.table(columns))


def _write_table(path: Path, table: pa.Table) -> None:
    table = table.combine_chunks()
    with pa.OSFile(str(path), "wb") as sink, pa.ipc.new_file(sink, table.schema) as writer:
        writer.write_table(table)
    sync(path)


def _read_arrow(path: Path, columns: Mapping[str, pa.DataType], may_miss: Sequence[str] = ()) -> pa.Table:
    """A table that has these columns, of these types, without missing values. DatasetError otherwise."""
    try:
        with pa.memory_map(str(path)) as source:
            table = pa.ipc.open_file(source).read_all()
        table.validate(full=True)  # offsets and indices: what is read without a look at the bounds
    except (pa.ArrowException, OSError, ValueError) as error:
        raise DatasetError("is not an Arrow file, or is damaged", path=path, hint=AGAIN) from error
    for name, kind in columns.items():
        if name not in table.column_names or table.schema.field(name).type != kind:
            raise DatasetError(f"has no column {name!r} of type {kind}", path=path, hint=AGAIN)
        if name not in may_miss and table[name].null_count:
            raise DatasetError(f"has missing values in column {name!r}", path=path, hint=AGAIN)
    return table


def _fixed_binary(values: Bytes) -> pa.Array:
    values = np.ascontiguousarray(values)
    return pa.Array.from_buffers(pa.binary(values.shape[1]), len(values), [None, pa.py_buffer(values)])


def _fixed_floats(values: Floats) -> pa.Array:
    flat = pa.array(np.ascontiguousarray(values, np.float32).reshape(-1))
    kind = pa.list_(pa.float32(), values.shape[1])
    return pa.Array.from_buffers(kind, len(values), [None], children=[flat])


def _read_shard(dataset: Dataset, described: Mapping[str, Any]) -> Bins:
    """The bins of a shard, after a look at whether they are those that the manifest describes."""
    path = dataset.path / "shards" / described["file"]
    peaks, signals = len(dataset.peak_tracks), len(dataset.signal_tracks)
    columns = {
        "contig": pa.dictionary(pa.int32(), pa.string()),
        "start": pa.int64(),
        "peaks": pa.binary(-(-peaks // 8)),
        "signal": pa.list_(pa.float32(), signals),
    }
    table = _read_arrow(path, columns)
    if "measured" in table.column_names:
        table = _read_arrow(path, {**columns, "measured": pa.binary(-(-(peaks + signals) // 8))})
    if len(table) != described["bins"] or table["start"].num_chunks > 1:
        raise DatasetError(f"has not the {described['bins']:,} bins of manifest.json", path=path, hint=AGAIN)
    bins = _bins_from_table(table)
    if len(bins) and table["contig"].chunk(0).dictionary.to_pylist() != list(dataset.contigs):
        raise DatasetError("has other contigs than the genome", path=path, hint=AGAIN)
    lengths = np.array(list(dataset.genome.lengths.values()), np.int64)
    ends = lengths[bins.contig] if len(bins) else lengths[:0]
    wrong = (bins.start % BIN != 0) | (bins.start < 0) | (bins.start > ends - BIN)
    wrong[1:] |= (bins.contig[1:] < bins.contig[:-1]) | (
        (bins.contig[1:] == bins.contig[:-1]) & (bins.start[1:] <= bins.start[:-1])
    )
    if wrong.any():
        first = int(wrong.argmax())
        place = f"{dataset.contigs[bins.contig[first]]}:{bins.start[first]}"
        raise DatasetError(f"has a bin that is out of order or not on the genome: {place}", path=path, hint=AGAIN)
    return bins


def _bins_from_table(table: pa.Table) -> Bins:
    rows = len(table)

    def bits(name: str) -> Bytes:
        column = table[name].chunk(0) if rows else None
        width = table.schema.field(name).type.byte_width
        if column is None or width == 0:
            return np.zeros((rows, width), np.uint8)
        raw = np.frombuffer(column.buffers()[1], np.uint8)[column.offset * width :]
        return raw[: rows * width].reshape(rows, width)

    size = table.schema.field("signal").type.list_size
    if rows and size:
        signal = table["signal"].chunk(0).flatten().to_numpy(zero_copy_only=False).reshape(rows, size)
    else:
        signal = np.zeros((rows, size), np.float32)
    contig = table["contig"].chunk(0).indices.to_numpy() if rows else np.zeros(0, np.int32)
    start = table["start"].chunk(0).to_numpy() if rows else np.zeros(0, np.int64)
    measured = bits("measured") if "measured" in table.column_names else None
    return Bins(contig, start, bits("peaks"), signal, measured)
