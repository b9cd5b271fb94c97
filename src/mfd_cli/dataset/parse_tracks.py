"""Every track file parsed once, by any number of workers, into a small file of its own, from which shards are cut.

An intermediate (.npy, with a sidecar that says what it was made of) holds the global indices of the bins that a peak file
labels, sorted, or the mean signal of every bin. An interrupted run takes over those whose input and plan are the same.
"""

from __future__ import annotations

import hashlib
import json
import signal
from collections.abc import Callable, Mapping, Sequence
from concurrent.futures import ProcessPoolExecutor, as_completed
from concurrent.futures.process import BrokenProcessPool
from dataclasses import dataclass, field
from multiprocessing import forkserver, get_context, resource_tracker
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from mfd_cli.base.arrays import Ints
from mfd_cli.base.errors import InputErrors, MfdError, RegionError, few
from mfd_cli.base.files import sha256_of, whole_file, write_json
from mfd_cli.base.os_signals import end_with_parent, stop_signals, without_interrupts
from mfd_cli.base.progress import Progress
from mfd_cli.experiments.sources import Source
from mfd_cli.experiments.track import Kind
from mfd_cli.formats.bed import read_intervals
from mfd_cli.formats.bin_means import bin_means
from mfd_cli.genome.grid import BIN, BinGrid, labelled_bins
from mfd_cli.genome.sequence import Genome
from mfd_cli.settings.config import Config

INTERMEDIATES = 3
"""Version of the intermediate files: those of another one are not taken over."""


@dataclass(frozen=True)
class Parsed:
    """One parsed track: its intermediate file, the digest of its input, and the counts that go into the summary.

    `lost` of the `peaks` lie in the incomplete last bin of a contig; `ignored` counts intervals on contigs that the genome
    lacks, by contig; `empty` counts intervals without bases (start equal to end).
    """

    file: Path
    sha256: str
    bytes: int
    peaks: int = 0
    lost: int = 0
    ignored: Mapping[str, int] = field(default_factory=dict)
    empty: int = 0


def parse_tracks(
    sources: Sequence[Source], genome: Genome, config: Config, work: Path, threads: int, progress: Progress | None
) -> list[Parsed]:
    """Parse every track file with a pool of processes, taking over what an earlier run left in `work`.

    Raises InputErrors naming every faulty file, or the one error; MfdError where a process was killed.
    """
    work.mkdir(parents=True, exist_ok=True)
    lengths = genome.lengths
    plan = hashlib.sha256(json.dumps([lengths, config.bins.min_overlap, BIN, INTERMEDIATES]).encode()).hexdigest()
    done: dict[int, Parsed] = {}
    errors: list[tuple[int, MfdError]] = []
    # Signals wait for the file that is being read: a process that is half started would outlive us and complain.
    with stop_signals() as stopped:
        try:
            _parse_all(sources, lengths, config, work, threads, plan, done, errors, progress, stopped)
        except (EOFError, OSError, BrokenProcessPool):
            if not stopped():  # signals from a terminal or a scheduler reach the workers too
                left = [source.path.name for i, source in enumerate(sources) if i not in done]
                raise MfdError(
                    f"a process that read tracks was killed, perhaps for want of memory; not read: {few(left)}",
                    hint="--threads 1 takes less memory",
                ) from None
    if stopped():
        signal.raise_signal(stopped())
    if errors:
        ordered = [error for _, error in sorted(errors, key=lambda pair: pair[0])]
        raise ordered[0] if len(ordered) == 1 else InputErrors(ordered)
    return [done[index] for index in range(len(sources))]


def _parse_all(
    sources: Sequence[Source],
    lengths: Mapping[str, int],
    config: Config,
    work: Path,
    threads: int,
    plan: str,
    done: dict[int, Parsed],
    errors: list[tuple[int, MfdError]],
    progress: Progress | None,
    stopped: Callable[[], int],
) -> None:
    """Fill `done` and `errors` with a pool of processes, until all are read or a signal has come."""
    context = get_context("forkserver")
    context.set_forkserver_preload(["mfd_cli.dataset.parse_tracks"])  # workers are then there at once
    resource_tracker.ensure_running()  # first: starting it lets interrupts through again
    with without_interrupts():
        forkserver.ensure_running()
    with ProcessPoolExecutor(min(threads, len(sources)), context, end_with_parent) as pool:
        jobs = {
            pool.submit(parse_track, s.path, s.kind, lengths, config.bins.min_overlap, work / f"{i:06d}", plan): i
            for i, s in enumerate(sources)
        }
        for job in as_completed(jobs):
            if stopped():
                pool.shutdown(wait=False, cancel_futures=True)
                return
            index = jobs[job]
            try:
                done[index] = job.result()
            except MfdError as error:
                errors.append((index, error))
            if progress:
                progress("reading tracks", len(done) + len(errors), len(sources))


def parse_track(path: Path, kind: Kind, lengths: Mapping[str, int], min_overlap: int, stem: Path, plan: str) -> Parsed:
    """Parse one file to its intermediate: global indices of labelled bins, or the mean of every bin. Runs in a worker.

    Raises RegionError or SignalError where the file is wrong. `plan` is a digest of all else that the result depends on: an
    intermediate of the same input and plan is taken over.
    """
    digest, sidecar, file = sha256_of(path), stem.with_suffix(".json"), stem.with_suffix(".npy")
    if sidecar.is_file() and file.is_file():
        before = json.loads(sidecar.read_text())
        if before["input"] == digest and before["plan"] == plan and before["output"] == sha256_of(file):
            counts = {name: before[name] for name in ("peaks", "lost", "ignored", "empty")}
            return Parsed(file, digest, path.stat().st_size, **counts)
    if kind == "signal":
        values: NDArray[Any] = bin_means(path, lengths)
        result = Parsed(file, digest, path.stat().st_size)
    else:
        values, result = parse_peaks(path, lengths, min_overlap, file, digest)
    with whole_file(file) as temporary, temporary.open("wb") as out:
        np.save(out, values)
    made = {
        "input": digest,
        "plan": plan,
        "output": sha256_of(file),
        "peaks": result.peaks,
        "lost": result.lost,
        "empty": result.empty,
        "ignored": dict(result.ignored),
    }
    write_json(sidecar, made)
    return result


def parse_peaks(
    path: Path, lengths: Mapping[str, int], min_overlap: int, file: Path, digest: str
) -> tuple[Ints, Parsed]:
    """Return the global indices of the bins that a peak file labels, sorted, and the counts; RegionError for no interval."""
    grid, intervals = BinGrid(lengths), read_intervals(path)
    if not len(intervals):
        raise RegionError(
            "holds no interval", path=path, hint="a track without any peak cannot be learnt: leave it out"
        )
    labelled, lost = [np.zeros(0, np.int64)], 0
    for contig, (start, end) in intervals.on(lengths).items():
        bins, missed = labelled_bins(start, end, grid.counts[contig], min_overlap)
        labelled.append(bins + grid.offsets[contig])
        lost += missed
    parsed = Parsed(
        file, digest, path.stat().st_size, len(intervals), lost, intervals.elsewhere(lengths), intervals.empty
    )
    return np.sort(np.concatenate(labelled)), parsed


class Mapped(Sequence[NDArray[Any]]):
    """The arrays of some .npy files, each mapped anew whenever it is asked for: pages that were read are given back with
    it, so that memory does not grow with the number of tracks."""

    def __init__(self, files: Sequence[Path]) -> None:
        self.files = files

    def __len__(self) -> int:
        return len(self.files)

    def __getitem__(self, index: Any) -> Any:
        return np.load(self.files[index], mmap_mode="r")
