"""The dataset folder: the one place that knows its Arrow layout.

    dataset/manifest.json           format version, configuration, contigs, splits, sha256 of inputs and files
            genome.arrow            one row per contig: name, length, sequence (one ASCII byte per base)
            tracks.arrow            one row per track: id, kind, positives, measured, mean_signal, assayed, metadata.COLUMN ...
            bins.arrow              one row per run of neighbouring bins: contig, start, end, state, measured
            shards/SPLIT-NNNNN.arrow    one row per bin of a split that has data: contig, start, peaks, signal

Every bin of the genome is in one run of bins.arrow; its state is a split, or why the bin is in none. A bin of a split that has
no row in a shard is one in which no track has a peak and no signal was measured. `peaks` are packed bits, one per peak track
in the order of tracks.arrow, least significant bit first; `signal` is one float32 per signal track, NaN where not measured;
`measured`, present only where some peak track is not measured everywhere, is packed like `peaks`. Windows are not stored: they
are cut from the genome when a batch is made.
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

from mfd_cli.base.arrays import Bytes, Floats, Ints
from mfd_cli.base.errors import DatasetError
from mfd_cli.base.files import sha256_of, sync
from mfd_cli.base.notebook import facts_table, one_line
from mfd_cli.base.stored_json import check_stored
from mfd_cli.dataset.bins import NO_DATA, Bins
from mfd_cli.dataset.manifest import AGAIN, SPLITS, read_manifest
from mfd_cli.dataset.states import STATES, Runs
from mfd_cli.experiments.track import StoredTracks, Track, in_kinds, tracks_of
from mfd_cli.formats.arrow_files import bytes_of, fixed_binary, fixed_floats, read_arrow, write_arrow
from mfd_cli.genome.grid import BIN, BinGrid
from mfd_cli.genome.sequence import Genome
from mfd_cli.settings.project import Project


@dataclass(frozen=True)
class Dataset:
    """An open dataset folder. Arrays are memory-mapped where a split is one shard."""

    path: Path
    manifest: Mapping[str, Any]
    tracks: tuple[Track, ...]
    genome: Genome = field(repr=False)
    runs: Runs = field(repr=False)

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

    def __repr__(self) -> str:
        return one_line(
            self, f"{str(self.path)!r}: " + ", ".join(f"{name} {text}" for name, text in self._facts().items())
        )

    def _repr_html_(self) -> str:
        columns = dict.fromkeys(column for track in self.tracks for column in track.metadata)
        contigs = f"{len(self.contigs):,} contigs, {sum(self.genome.lengths.values()):,} bp"
        return facts_table(f"Dataset {self.path}", self._facts() | {"genome": contigs, "metadata": ", ".join(columns)})

    def _facts(self) -> dict[str, str]:
        """Return what a line has room for."""
        bins = ", ".join(f"{split['bins']:,} {name}" for name, split in self.manifest["splits"].items())
        return {"tracks": in_kinds([track.kind for track in self.tracks]), "bins": bins}

    @cached_property
    def grid(self) -> BinGrid:
        """The bins of the genome."""
        return BinGrid(self.genome.lengths)

    def split(self, name: str) -> Bins:
        """Return the bins of `train`, `validation` or `test`. DatasetError where a shard is not one of this dataset."""
        index, mask = self.runs.of_split(name, self.grid.total)
        described = self.manifest["splits"][name]
        if len(index) != described["bins"]:
            message = f"has {len(index):,} {name} bins, manifest.json {described['bins']:,}"
            raise DatasetError(message, path=self.path / "bins.arrow", hint=AGAIN)
        rows = [_read_shard(self, shard, index) for shard in described["shards"]]
        row = np.full(len(index), NO_DATA, np.int32)
        place = np.concatenate([places for places, _, _ in rows] or [np.zeros(0, np.int64)])
        if (np.diff(place) <= 0).any():
            message = f"have bins of the {name} split twice, or out of order"
            raise DatasetError(message, path=self.path / "shards", hint=AGAIN)
        row[place] = np.arange(len(place))
        peaks, signals = len(self.peak_tracks), len(self.signal_tracks)
        return Bins(
            *self.grid.positions(index),
            row,
            _joined([packed for _, packed, _ in rows], np.zeros((0, -(-peaks // 8)), np.uint8)),
            _joined([values for _, _, values in rows], np.zeros((0, signals), np.float32)),
            mask,
            self.runs.masks,
        )


def _joined(parts: Sequence[NDArray[Any]], nothing: NDArray[Any]) -> NDArray[Any]:
    """The parts of an array as one; a single one stays memory-mapped."""
    return parts[0] if len(parts) == 1 else np.concatenate(parts or [nothing])


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
        if (verify or name in ("tracks.arrow", "bins.arrow")) and sha256_of(file) != expected["sha256"]:
            raise DatasetError("is damaged: its sha256 is not the one in manifest.json", path=file, hint=AGAIN)
    genome = read_genome(path / "genome.arrow")
    if [(contig["name"], contig["length"]) for contig in manifest["contigs"]] != list(genome.lengths.items()):
        raise DatasetError("has other contigs than manifest.json", path=path / "genome.arrow", hint=AGAIN)
    tracks = _read_tracks(path / "tracks.arrow")
    peaks = sum(track.kind == "peaks" for track in tracks)
    return Dataset(path, manifest, tracks, genome, _read_runs(path / "bins.arrow", genome, peaks))


def dataset_of(project: Project) -> Dataset:
    """Open the dataset of a project; raises what `open_dataset` does, and says where there is not even an mfd.toml."""
    try:
        return open_dataset(project.dataset)
    except DatasetError as error:
        if project.file is None and not project.dataset.exists():
            error.hint = (
                "there is no mfd.toml here either: mfd init --fasta genome.fa --metadata metadata.tsv writes one, then run "
                "mfd preprocess; or go to the folder of your project"
            )
        raise


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
    table = _read(path, {"name": pa.string(), "length": pa.int64(), "sequence": pa.large_binary()})
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
        "measured": pa.array([track.measured for track in tracks], pa.int64()),
        "mean_signal": pa.array([track.mean_signal for track in tracks], pa.float64()),
        "assayed": pa.array([track.assayed for track in tracks], pa.list_(pa.string())),
    }
    for column in dict.fromkeys(key for track in tracks for key in track.metadata):
        columns[f"metadata.{column}"] = pa.array([track.metadata.get(column, "") for track in tracks], pa.string())
    write_arrow(path, pa.table(columns))


def _read_tracks(path: Path) -> tuple[Track, ...]:
    fixed = {
        "id": pa.string(),
        "kind": pa.string(),
        "positives": pa.int64(),
        "measured": pa.int64(),
        "mean_signal": pa.float64(),
    }
    table = _read(path, {**fixed, "assayed": pa.list_(pa.string())}, may_miss=("assayed",))
    meta = [name for name in table.column_names if name.startswith("metadata.")]
    rows = [
        {**row, "metadata": {name.removeprefix("metadata."): row[name] for name in meta}} for row in table.to_pylist()
    ]
    check_stored({"tracks": rows}, StoredTracks, path, DatasetError, AGAIN)
    return tracks_of(rows)


def write_runs(path: Path, runs: Runs, grid: BinGrid) -> None:
    """Write bins.arrow: one row per run of neighbouring bins."""
    contig, start = grid.positions(runs.first)
    write_arrow(
        path,
        pa.table(
            {
                "contig": _contigs(contig, grid),
                "start": pa.array(start, pa.int64()),
                "end": pa.array(start + BIN * runs.lengths(grid.total), pa.int64()),
                "state": pa.DictionaryArray.from_arrays(pa.array(runs.state, pa.int8()), pa.array(list(STATES))),
            }
            | (
                {}
                if runs.mask is None or runs.masks is None
                else {"measured": pa.DictionaryArray.from_arrays(pa.array(runs.mask), fixed_binary(runs.masks))}
            )
        ),
    )


def _read_runs(path: Path, genome: Genome, peaks: int) -> Runs:
    """The runs of bins.arrow, after a look at whether they are all bins of the genome, each once."""
    columns = {
        "contig": pa.dictionary(pa.int32(), pa.string()),
        "start": pa.int64(),
        "end": pa.int64(),
        "state": pa.dictionary(pa.int8(), pa.string()),
    }
    table, grid = _read(path, columns), BinGrid(genome.lengths)
    masks = "measured" in table.column_names
    if masks:
        table = _read(path, {**columns, "measured": pa.dictionary(pa.int32(), pa.binary(-(-peaks // 8)))})
    if len(table) == 0:
        if grid.total:
            raise DatasetError("has no bins", path=path, hint=AGAIN)
        return Runs(np.zeros(0, np.int64), np.zeros(0, np.int8))
    cells = {name: table[name].combine_chunks() for name in table.column_names}
    _check_words(cells["contig"], list(grid.lengths), "contigs than the genome", path)
    _check_words(cells["state"], list(STATES), "states than it can have", path)
    offsets = np.array([grid.offsets[name] for name in grid.lengths], np.int64)
    contig, start, end = (cells["contig"].indices.to_numpy(), cells["start"].to_numpy(), cells["end"].to_numpy())
    first, last = (offsets[contig] + place // BIN for place in (start, end))
    contig_ends = np.array(list(grid.counts.values()), np.int64)[contig] * BIN
    wrong = (start % BIN != 0) | (end % BIN != 0) | (start < 0) | (end <= start) | (end > contig_ends)
    wrong |= first != np.concatenate([[0], last[:-1]])
    if wrong.any() or last[-1] != grid.total:
        number = int(wrong.argmax()) if wrong.any() else len(first) - 1
        place = f"{list(grid.lengths)[contig[number]]}:{start[number]}-{end[number]}"
        raise DatasetError(f"does not hold every bin of the genome once, see {place}", path=path, hint=AGAIN)
    if not masks:
        return Runs(first, cells["state"].indices.to_numpy())
    known = cells["measured"]
    return Runs(
        first, cells["state"].indices.to_numpy(), known.indices.to_numpy(), bytes_of(known.dictionary, -(-peaks // 8))
    )


def _check_words(column: pa.DictionaryArray, words: list[str], what: str, path: Path) -> None:
    """Raise DatasetError where a column of words is not numbered like `words`."""
    if column.dictionary.to_pylist() != words:
        raise DatasetError(f"has other {what}", path=path, hint=AGAIN)


def _contigs(numbers: NDArray[np.int32], grid: BinGrid) -> pa.DictionaryArray:
    return pa.DictionaryArray.from_arrays(pa.array(numbers, pa.int32()), pa.array(list(grid.lengths)))


def write_shard(path: Path, index: Ints, peaks: Bytes, signal: Floats, grid: BinGrid) -> None:
    """Write the data of bins (n,), global indices, as one record batch so that it can be memory-mapped without copying.

    `peaks` (n, ceil(peak tracks / 8)) are packed bits, `signal` (n, signal tracks) float32, NaN where not measured.
    """
    contig, start = grid.positions(index)
    columns: dict[str, pa.Array] = {
        "contig": _contigs(contig, grid),
        "start": pa.array(start, pa.int64()),
        "peaks": fixed_binary(peaks),
        "signal": fixed_floats(signal),
    }
    write_arrow(path, pa.table(columns))


def _read(path: Path, columns: Mapping[str, pa.DataType], may_miss: Sequence[str] = ()) -> pa.Table:
    """A table with these columns; DatasetError where it has not."""
    return read_arrow(path, columns, DatasetError, AGAIN, may_miss)


def _read_shard(dataset: Dataset, described: Mapping[str, Any], split: Ints) -> tuple[Ints, Bytes, Floats]:
    """The data of a shard, after a look at whether they are those that the manifest describes.

    Returns the places of its bins in `split`, global indices, then the packed peaks and the signal of each.
    """
    path = dataset.path / "shards" / described["file"]
    peaks, signals = len(dataset.peak_tracks), len(dataset.signal_tracks)
    columns = {
        "contig": pa.dictionary(pa.int32(), pa.string()),
        "start": pa.int64(),
        "peaks": pa.binary(-(-peaks // 8)),
        "signal": pa.list_(pa.float32(), signals),
    }
    table = _read(path, columns)
    if len(table) != described["bins"] or table["start"].num_chunks > 1:
        raise DatasetError(f"has not the {described['bins']:,} bins of manifest.json", path=path, hint=AGAIN)
    if not len(table):
        return np.zeros(0, np.int64), np.zeros((0, -(-peaks // 8)), np.uint8), np.zeros((0, signals), np.float32)
    _check_words(table["contig"].chunk(0), list(dataset.contigs), "contigs than the genome", path)
    contig, start = table["contig"].chunk(0).indices.to_numpy(), table["start"].chunk(0).to_numpy()
    offsets = np.array(list(dataset.grid.offsets.values()), np.int64)
    ends = np.array(list(dataset.grid.counts.values()), np.int64)[contig] * BIN
    index = offsets[contig] + start // BIN
    place = np.minimum(np.searchsorted(split, index), len(split) - 1)
    wrong = (start % BIN != 0) | (start < 0) | (start >= ends)
    wrong |= (split[place] != index) if len(split) else True
    wrong[1:] |= index[1:] <= index[:-1]
    if wrong.any():
        first = int(wrong.argmax())
        where = f"{dataset.contigs[contig[first]]}:{start[first]}"
        raise DatasetError(f"has a bin that is out of order or not of its split: {where}", path=path, hint=AGAIN)
    if signals:
        signal = table["signal"].chunk(0).flatten().to_numpy(zero_copy_only=False).reshape(-1, signals)
    else:
        signal = np.zeros((len(table), 0), np.float32)
    return place, bytes_of(table["peaks"].chunk(0), -(-peaks // 8)), signal
