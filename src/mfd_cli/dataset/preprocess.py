"""`mfd preprocess`: FASTA, BED and bigWig files to the dataset folder.

Shards are cut from intermediate files (`.DATASET.work/`, see parse_tracks.py), so that memory does not grow with the number
of tracks or intervals. The same input gives the same bytes, whatever the number of workers.
"""

from __future__ import annotations

import os
import shutil
from collections.abc import Iterator, Mapping, Sequence, Set
from contextlib import contextmanager
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from mfd_cli.base.arrays import Bools, Doubles, Ints
from mfd_cli.base.errors import MetadataError, MfdError, few
from mfd_cli.base.files import check_output, sha256_of, whole_folder
from mfd_cli.base.progress import Progress
from mfd_cli.core.metadata import fit_metadata
from mfd_cli.dataset.choose_bins import choose_bins, contig_splits, per_contig, usable_bins
from mfd_cli.dataset.folder import Bins, pack_bits, unpack_bits, write_genome, write_shard, write_tracks
from mfd_cli.dataset.manifest import SPLITS, write_manifest
from mfd_cli.dataset.parse_tracks import Mapped, Parsed, parse_tracks
from mfd_cli.experiments.held_out import held_out_tracks
from mfd_cli.experiments.sources import Source, check_sources, not_given, read_sources
from mfd_cli.experiments.track import Track
from mfd_cli.formats.fasta import read_fasta
from mfd_cli.genome.grid import BinGrid, inside_bins
from mfd_cli.genome.sequence import Genome
from mfd_cli.settings.project import Project, errors_name

SHARD = 65_536
"""Bins in a shard."""


@dataclass(frozen=True)
class Summary:
    """What preprocess did, for the terminal (`lines`) and the manifest (`to_json`)."""

    tracks: Mapping[str, int]
    bins: Mapping[str, int]
    dropped: Mapping[str, int]
    positives: Mapping[str, int]
    empty_tracks: Sequence[str]
    contigs: int
    ignored_contigs: Mapping[str, int]
    lost_peaks: int
    peaks: int

    def to_json(self) -> dict[str, Any]:
        return {name: getattr(self, name) for name in self.__dataclass_fields__}

    def lines(self) -> list[str]:
        """A few lines for a person."""
        lines = [
            f"tracks: {self.tracks['peaks']:,} with peaks, {self.tracks['signal']:,} with signal",
            "bins: " + ", ".join(f"{count:,} {split}" for split, count in self.bins.items()),
            "bins left out: " + (", ".join(f"{n:,} {why}" for why, n in self.dropped.items() if n) or "none"),
            f"contigs: {self.contigs:,}",
        ]
        if self.positives:
            lines.append(
                "training bins with a peak, per track: "
                + ", ".join(f"{what} {count:,}" for what, count in self.positives.items())
            )
        if self.empty_tracks:
            lines.append(
                f"tracks without a training bin with a peak: {len(self.empty_tracks)} ({few(self.empty_tracks)})"
            )
        if self.ignored_contigs:
            count, names = sum(self.ignored_contigs.values()), few(self.ignored_contigs)
            lines.append(f"intervals on contigs that the genome lacks: {count:,} ({names})")
        if self.lost_peaks:
            lines.append(f"peaks in the incomplete last bin of a contig: {self.lost_peaks:,} of {self.peaks:,}")
        return lines


def preprocess(
    project: Project,
    *,
    output: Path | None = None,
    force: bool = False,
    threads: int | None = None,
    progress: Progress | None = None,
) -> Summary:
    """Write the dataset folder of a project (or `output`), using `threads` processes (None: all cores).

    Raises InputErrors naming every faulty input, ConfigError for settings that do not fit them, OutputError where a
    dataset is in the way and `force` is not set.
    """
    config, folder = project.config, output or project.dataset
    check_output(folder, force)
    work = folder.with_name(f".{folder.name}.work")
    with errors_name(project):
        inputs = checked(project)
        sources, genome, grid, held = inputs.sources, inputs.genome, inputs.grid, inputs.held_out
        kept, dropped, split_of = inputs.usable, dict(inputs.dropped), inputs.split_of
        with removed_on_errors(work):
            parsed = parse_tracks(sources, genome, config, work, threads or os.cpu_count() or 1, progress)
            voting = [t.file for source, t in zip(sources, parsed) if source.kind == "peaks" and source.id not in held]
            splits, counts = choose_bins(config, genome, grid, voting, kept, split_of)
            dropped |= counts
            with whole_folder(folder) as temporary:
                summary = write_dataset(temporary, project, genome, grid, sources, parsed, splits, dropped, progress)
    shutil.rmtree(work, ignore_errors=True)
    return summary


def plan(project: Project, *, output: Path | None = None, force: bool = False) -> Plan:
    """What `preprocess` would do, as far as it can be known before the tracks are read. Nothing is written; raises the same."""
    folder = output or project.dataset
    check_output(folder, force)
    with errors_name(project):
        return Plan(checked(project), folder)


@contextmanager
def removed_on_errors(work: Path) -> Iterator[None]:
    """All faulty inputs are told at once, and leave nothing; only what is killed goes on from its intermediate files."""
    try:
        yield
    except MfdError:
        shutil.rmtree(work, ignore_errors=True)
        raise


@dataclass(frozen=True)
class Checked:
    """The inputs of a project; the genome is read, the tracks' files are there."""

    sources: Sequence[Source]
    genome: Genome
    grid: BinGrid
    held_out: Set[str]
    split_of: Mapping[str, str]
    usable: Bools
    dropped: Mapping[str, int]


@dataclass(frozen=True)
class Plan:
    """What is about to be made of them."""

    inputs: Checked
    folder: Path

    def lines(self) -> list[str]:
        """A few lines for a person."""
        found, usable = self.inputs, int(self.inputs.usable.sum())
        signals = sum(source.kind == "signal" for source in found.sources)
        peaks, read = len(found.sources) - signals, sum(source.path.stat().st_size for source in found.sources)
        a_bin = 4 + 8 + -(-peaks // 8) + 4 * signals + -(-len(found.sources) // 8)
        most = sum(found.genome.lengths.values()) + usable * a_bin
        splits = [(split, [name for name, own in found.split_of.items() if own == split]) for split in SPLITS]
        left = ", ".join(f"{count:,} {why}" for why, count in found.dropped.items() if count)
        return [
            f"tracks: {peaks:,} with peaks, {signals:,} with signal; {len(found.held_out):,} held out of training",
            f"to read: {read / 1e6:,.1f} MB",
            f"bins that may be used: {usable:,} of {found.grid.total:,}{f' (left out: {left})' if left else ''}",
            "contigs: " + "; ".join(f"{len(names):,} {split} ({few(names)})" for split, names in splits if names),
            f"would write {self.folder}, at most {most / 1e6:,.1f} MB",
        ]


# -- inputs ------------------------------------------------------------------------------------------------------------


def checked(project: Project) -> Checked:
    """Everything that can be found wrong before the tracks are read. Raises as `preprocess` does."""
    sources, genome = read_sources(project), read_genome(project)
    held = held_out_tracks(project.config, {source.id: source.row for source in sources})
    check_factors(project, [source.row for source in sources if source.id not in held])
    check_sources(sources)
    grid, split_of = BinGrid(genome.lengths), contig_splits(project.config, genome)
    usable, dropped = usable_bins(project, genome, grid)
    return Checked(sources, genome, grid, held, split_of, usable, dropped)


def read_genome(project: Project) -> Genome:
    """The project's FASTA."""
    if project.config.data.fasta is None:
        raise not_given(project, "genome", "set data.fasta in mfd.toml, or --fasta FILE")
    return read_fasta(project.path(project.config.data.fasta))


def check_factors(project: Project, rows: Sequence[Mapping[str, str]]) -> None:
    """Encode the factors of the training tracks once: what training would refuse is told before the long work."""
    try:
        fit_metadata(rows, project.config.factors)
    except MetadataError as error:
        error.path = project.path(str(project.config.data.metadata))
        raise


# -- writing -----------------------------------------------------------------------------------------------------------


def write_dataset(
    folder: Path,
    project: Project,
    genome: Genome,
    grid: BinGrid,
    sources: Sequence[Source],
    parsed: Sequence[Parsed],
    splits: Mapping[str, Ints],
    dropped: Mapping[str, int],
    progress: Progress | None,
) -> Summary:
    """Write every file of the dataset into `folder`, the manifest last."""
    (folder / "shards").mkdir()
    masks = {
        index: per_contig(s.assayed, grid, inside_bins) for index, s in enumerate(sources) if s.assayed is not None
    }
    arrays = Mapped([track.file for track in parsed])
    holes = bool(masks) or any(s.kind == "signal" and np.isnan(a).any() for s, a in zip(sources, arrays))
    totals = Totals(len(sources))
    shards: dict[str, list[tuple[Path, int]]] = {name: [] for name in SPLITS}
    plan = [(name, low) for name in SPLITS for low in range(0, len(splits[name]), SHARD)]
    for number, (name, low) in enumerate(plan):
        chosen = splits[name][low : low + SHARD]
        bins = cut_bins(chosen, grid, sources, arrays, masks, holes)
        file = folder / "shards" / f"{name}-{low // SHARD:05d}.arrow"
        write_shard(file, bins, list(grid.lengths))
        shards[name].append((file, len(bins)))
        if name == "train":
            totals.add(bins, sources)
        if progress:
            progress("writing shards", number + 1, len(plan))
    tracks = describe_tracks(sources, arrays, masks, grid, totals)
    write_genome(folder / "genome.arrow", genome)
    write_tracks(folder / "tracks.arrow", tracks)
    summary = summarise(sources, parsed, splits, dropped, tracks, genome)
    config = project.config
    inputs = [{"name": str(config.data.fasta), **digest_of(project.path(str(config.data.fasta)))}]
    inputs += [{"name": str(config.data.metadata), **digest_of(project.path(str(config.data.metadata)))}]
    others = [config.bins.regions, config.bins.exclude, config.bins.mappability]
    inputs += [{"name": name, **digest_of(project.path(name))} for name in others if name]
    inputs += [{"name": s.name, "sha256": p.sha256, "bytes": p.bytes} for s, p in zip(sources, parsed)]
    configuration = config.model_copy(update={"data": type(config.data)()}).model_dump(mode="json")
    write_manifest(
        folder, configuration=configuration, genome=genome, shards=shards, inputs=inputs, summary=summary.to_json()
    )
    return summary


def digest_of(path: Path) -> dict[str, Any]:
    return {"sha256": sha256_of(path), "bytes": path.stat().st_size}


@dataclass
class Totals:
    """What is counted over the training bins."""

    tracks: int
    positives: Ints = field(init=False)
    signal: Doubles = field(init=False)
    measured: Ints = field(init=False)

    def __post_init__(self) -> None:
        self.positives, self.measured = np.zeros(self.tracks, np.int64), np.zeros(self.tracks, np.int64)
        self.signal = np.zeros(self.tracks)

    def add(self, bins: Bins, sources: Sequence[Source]) -> None:
        peaks = sum(source.kind == "peaks" for source in sources)
        self.positives[:peaks] += unpack_bits(bins.peaks, peaks).sum(0)
        known = ~np.isnan(bins.signal)
        self.signal[peaks:] += np.where(known, bins.signal, 0).sum(0, dtype=np.float64)
        self.measured[peaks:] += known.sum(0)


def cut_bins(
    chosen: Ints,
    grid: BinGrid,
    sources: Sequence[Source],
    arrays: Sequence[NDArray[Any]],
    masks: Mapping[int, Bools],
    holes: bool,
) -> Bins:
    """The labels of these bins (sorted global indices) from the intermediate files."""
    peaks = [i for i, s in enumerate(sources) if s.kind == "peaks"]
    signals = [i for i, s in enumerate(sources) if s.kind == "signal"]
    packed = np.zeros((len(chosen), -(-len(peaks) // 8)), np.uint8)
    for column, i in enumerate(peaks):
        labelled = arrays[i]
        low, high = np.searchsorted(labelled, [chosen[0], chosen[-1] + 1])
        here = labelled[low:high]
        rows = np.searchsorted(chosen, here)
        hit = rows[chosen[np.minimum(rows, len(chosen) - 1)] == here]
        packed[hit, column // 8] |= np.uint8(1 << column % 8)
    signal = np.stack([arrays[i][chosen] for i in signals], 1) if signals else np.zeros((len(chosen), 0), np.float32)
    measured = None
    if holes:
        known = np.ones((len(chosen), len(sources)), bool)
        for i, mask in masks.items():
            known[:, i] = mask[chosen]
        for column, i in enumerate(signals):
            known[:, i] &= ~np.isnan(signal[:, column])
            signal[~known[:, i], column] = np.nan
        for column, i in enumerate(peaks):  # not measured is not zero, and not one either
            if i in masks:
                packed[~known[:, i], column // 8] &= np.uint8(255 - (1 << column % 8))
        measured = pack_bits(known)
    contig, start = grid.positions()
    return Bins(contig[chosen], start[chosen], packed, signal, measured)


def describe_tracks(
    sources: Sequence[Source],
    arrays: Sequence[NDArray[Any]],
    masks: Mapping[int, Bools],
    grid: BinGrid,
    totals: Totals,
) -> list[Track]:
    """The rows of tracks.arrow."""
    tracks = []
    for i, source in enumerate(sources):
        track = Track(source.id, source.kind, dict(source.row), int(totals.positives[i]))
        known = masks.get(i)
        if source.kind == "signal":
            mean = totals.signal[i] / totals.measured[i] if totals.measured[i] else 0.0
            track = replace(track, mean_signal=float(mean))
            there = ~np.isnan(arrays[i])
            known = there if known is None else there & known
        if known is not None and not known.all():
            slices = {n: slice(grid.offsets[n], grid.offsets[n] + c) for n, c in grid.counts.items()}
            track = replace(track, assayed=tuple(name for name, here in slices.items() if known[here].any()))
        tracks.append(track)
    return tracks


def summarise(
    sources: Sequence[Source],
    parsed: Sequence[Parsed],
    splits: Mapping[str, Ints],
    dropped: Mapping[str, int],
    tracks: Sequence[Track],
    genome: Genome,
) -> Summary:
    """Counts for the terminal and the manifest."""
    kinds = [source.kind for source in sources]
    positives = sorted(track.positives for track in tracks if track.kind == "peaks")
    ignored: dict[str, int] = {}
    for track in parsed:
        for name, count in track.ignored.items():
            ignored[name] = ignored.get(name, 0) + count
    middle = {"minimum": positives[0], "median": positives[len(positives) // 2], "maximum": positives[-1]}
    return Summary(
        tracks={"peaks": kinds.count("peaks"), "signal": kinds.count("signal")},
        bins={name: len(index) for name, index in splits.items()},
        dropped=dict(dropped),
        positives=middle if positives else {},
        empty_tracks=[track.id for track in tracks if track.kind == "peaks" and not track.positives],
        contigs=len(genome.sequences),
        ignored_contigs=ignored,
        lost_peaks=sum(track.lost for track in parsed),
        peaks=sum(track.peaks for track in parsed),
    )
