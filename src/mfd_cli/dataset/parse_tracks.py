"""Every track file parsed once, by any number of workers, into a small file of its own, from which shards are cut.

An intermediate (.npy, with a sidecar that says what it was made of) holds the global indices of the bins that a peak file
labels, sorted, or the mean signal of every bin. An interrupted run takes over those whose input and plan are the same.
"""

from __future__ import annotations

import hashlib
import json
import signal
from collections.abc import Callable, Generator, Mapping, Sequence
from concurrent.futures import Future, ProcessPoolExecutor, as_completed
from concurrent.futures.process import BrokenProcessPool
from contextlib import closing
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from mfd_cli.base.arrays import Ints
from mfd_cli.base.errors import InputError, InputErrors, MfdError, OutputError, RegionError, few
from mfd_cli.base.files import digests_of, mark_folder, sha256_of, whole_file, write_json
from mfd_cli.base.os_signals import end_with_parent, stop_signals
from mfd_cli.base.progress import Progress
from mfd_cli.base.urls import is_url
from mfd_cli.engine.local import fork_server
from mfd_cli.experiments.sources import Source
from mfd_cli.formats.bed import read_intervals
from mfd_cli.formats.bin_means import bin_means_and_names
from mfd_cli.genome.grid import BIN, BinGrid, labelled_bins
from mfd_cli.genome.sequence import Genome, first_renamed
from mfd_cli.settings.config import Config

INTERMEDIATES = 4
"""Version of the intermediate files: those of another one are not taken over."""
COUNTS = ("peaks", "lost", "empty", "ignored", "ignored_line", "renamed")
"""What a sidecar keeps of a parsed track, besides digests."""


@dataclass(frozen=True)
class Parsed:
    """One parsed track: its intermediate file, the digest of its input, and the counts that go into the summary.

    `lost` of the `peaks` lie in the incomplete last bin of a contig; `ignored` counts intervals on contigs that the genome
    lacks, by contig, `ignored_line` is the line of the first of these; `empty` counts intervals without bases (start equal to
    end). `renamed` is the first contig that the genome has under another name, with that name.
    """

    file: Path
    sha256: str
    bytes: int
    peaks: int = 0
    lost: int = 0
    ignored: Mapping[str, int] = field(default_factory=dict)
    empty: int = 0
    ignored_line: int = 0
    renamed: Mapping[str, str] = field(default_factory=dict)


@dataclass(frozen=True)
class Parsing:
    """What is the same for every track file: how peaks become labels, and where intermediates lie.

    `plan` is a digest of all but the input that an intermediate depends on. With `gather` files are taken over and none is
    parsed.
    """

    lengths: Mapping[str, int]
    min_overlap: int
    work: Path
    gather: bool = False

    @property
    def plan(self) -> str:
        """Names this way of parsing: an intermediate of the same input and plan is taken over."""
        return hashlib.sha256(json.dumps([self.lengths, self.min_overlap, BIN, INTERMEDIATES]).encode()).hexdigest()

    def stem(self, index: int) -> Path:
        """Return where the intermediate of a track lies, without the ends of its file names."""
        return self.work / f"{index:06d}"


@dataclass
class PoolResults:
    """What a pool has done so far: parsed tracks and errors, by the index of their source."""

    parsed: dict[int, Parsed] = field(default_factory=dict)
    errors: dict[int, MfdError] = field(default_factory=dict)

    def take(self, index: int, job: Future[Parsed]) -> None:
        """Keep the result of a finished job, or its error."""
        try:
            self.parsed[index] = job.result()
        except MfdError as error:
            self.errors[index] = error


class NotParsed(MfdError):
    """A track file that another command was to parse."""


def parse_tracks(
    sources: Mapping[int, Source],
    genome: Genome,
    config: Config,
    work: Path,
    threads: int,
    progress: Progress | None,
    gather: bool = False,
) -> dict[int, Parsed]:
    """Parse track files, given by their numbers, with a pool of processes, taking over what an earlier run left in `work`.

    With `gather` all must have been parsed; OutputError names those that were not. Raises InputErrors naming every faulty file,
    or the one error; MfdError where a process was killed.
    """
    mark_folder(work)
    parsing, done = Parsing(genome.lengths, config.bins.min_overlap, work, gather), PoolResults()
    # Signals wait for the file that is being read: a process that is half started would outlive us and complain.
    with stop_signals() as stopped:
        try:
            with closing(parsed_in_pool(sources, parsing, threads, stopped)) as jobs:
                for index, job in jobs:
                    done.take(index, job)
                    if progress:
                        progress("reading tracks", len(done.parsed) + len(done.errors), len(sources))
        except (EOFError, OSError, BrokenProcessPool):
            if not stopped():  # signals from a terminal or a scheduler reach the workers too
                left = [source.path.name for i, source in sources.items() if i not in done.parsed]
                raise MfdError(
                    f"a process that read tracks was killed, perhaps for want of memory; not read: {few(left)}",
                    hint="--threads 1 takes less memory",
                ) from None
    if stopped():
        signal.raise_signal(stopped())
    if done.errors:
        ordered = [done.errors[index] for index in sorted(done.errors)]
        if missing := [str(error.path) for error in ordered if isinstance(error, NotParsed)]:
            raise OutputError(
                f"{len(missing):,} tracks have not been read: {few(missing)}",
                path=work,
                hint="run the --shard commands that have not finished, then mfd gather again",
            )
        raise ordered[0] if len(ordered) == 1 else InputErrors(ordered)
    return {index: done.parsed[index] for index in sources}


def parsed_in_pool(
    sources: Mapping[int, Source], parsing: Parsing, threads: int, stopped: Callable[[], int]
) -> Generator[tuple[int, Future[Parsed]]]:
    """Yield the index of each source with its finished job, as they finish, until all are read or a signal has come."""
    context = fork_server("mfd_cli.dataset.parse_tracks")
    with ProcessPoolExecutor(min(threads, len(sources)), context, end_with_parent) as pool:
        jobs = {pool.submit(parse_track, source, parsing, index): index for index, source in sources.items()}
        for job in as_completed(jobs):
            if stopped():
                pool.shutdown(wait=False, cancel_futures=True)
                return
            yield jobs[job], job


def parse_track(source: Source, parsing: Parsing, index: int) -> Parsed:
    """Parse one file to its intermediate: global indices of labelled bins, or the mean of every bin. Runs in a worker.

    An intermediate of the same input and plan is taken over. Raises RegionError or SignalError where the file is wrong, and
    InputError where it has another md5 than the table tells.
    """
    path, stem, digest = source.path, parsing.stem(index), checked_digest(source)
    sidecar, file = stem.with_suffix(".json"), stem.with_suffix(".npy")
    key = {"input": digest, "plan": parsing.plan}
    if sidecar.is_file() and file.is_file():
        stored = json.loads(sidecar.read_text())
        if key.items() <= stored.items() and stored["output"] == sha256_of(file):
            return Parsed(file, digest, path.stat().st_size, **{name: stored[name] for name in COUNTS})
    if parsing.gather:
        raise NotParsed("has not been read", path=path.name)
    if source.kind == "signal":
        values: NDArray[Any]
        values, names = bin_means_and_names(path, parsing.lengths)
        parsed = Parsed(file, digest, path.stat().st_size, renamed=first_renamed(names.values(), parsing.lengths))
    else:
        values, parsed = parse_peaks(path, parsing, file, digest)
    with whole_file(file) as temporary, temporary.open("wb") as out:
        np.save(out, values)
    counts = {name: getattr(parsed, name) for name in COUNTS}
    write_json(
        sidecar,
        {**key, "output": sha256_of(file), **counts, "ignored": dict(parsed.ignored), "renamed": dict(parsed.renamed)},
    )
    return parsed


def checked_digest(source: Source) -> str:
    """Return the sha256 of a track's file; InputError where the table tells an md5, and the file has another one.

    Both are made of one reading of the file, which preprocessing needs for the sha256 in any case.
    """
    if source.md5 is None:
        return sha256_of(source.path)
    digest, md5 = digests_of(source.path)
    if md5 != source.md5:
        raise InputError(
            f"its md5 is {md5}, and line {source.line} of the metadata table tells {source.md5}",
            path=source.name if is_url(source.name) else source.path,
            hint="fetch the file again; if it was changed on purpose, such as unpacked, empty the cell with its md5",
        )
    return digest


def parse_peaks(path: Path, parsing: Parsing, file: Path, digest: str) -> tuple[Ints, Parsed]:
    """Return the global indices of the bins that a peak file labels, sorted, and the counts; RegionError for no interval.

    `file` is the intermediate that will hold the indices, `digest` the sha256 of the peak file.
    """
    grid, intervals = BinGrid(parsing.lengths), read_intervals(path)
    if not len(intervals):
        raise RegionError(
            "holds no interval", path=path, hint="a track without any peak cannot be learnt: leave it out"
        )
    labelled, lost = [np.zeros(0, np.int64)], 0
    for contig, (start, end) in intervals.on(parsing.lengths).items():
        bins, missed = labelled_bins(start, end, grid.counts[contig], parsing.min_overlap)
        labelled.append(bins + grid.offsets[contig])
        lost += missed
    parsed = Parsed(
        file,
        digest,
        path.stat().st_size,
        peaks=len(intervals),
        lost=lost,
        ignored=intervals.elsewhere(parsing.lengths),
        empty=intervals.empty,
        ignored_line=intervals.first_elsewhere(parsing.lengths),
        renamed=first_renamed(intervals.names, parsing.lengths),
    )
    return np.sort(np.concatenate(labelled)), parsed


class Mapped(Sequence[NDArray[Any]]):
    """The arrays of some .npy files, each mapped anew whenever it is asked for.

    Pages that were read are given back with it, so that memory does not grow with the number of tracks.
    """

    def __init__(self, files: Sequence[Path]) -> None:
        self.files = files

    def __len__(self) -> int:
        return len(self.files)

    def __getitem__(self, index: Any) -> Any:
        return np.load(self.files[index], mmap_mode="r")
