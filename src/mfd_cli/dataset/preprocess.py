"""`mfd preprocess`: FASTA, BED and bigWig files to the dataset folder.

Shards are cut from intermediate files (`.DATASET.parts/`, see parse_tracks.py), so that memory does not grow with the number
of tracks or intervals. The same input gives the same bytes, whatever the number of workers.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any

from mfd_cli import __version__
from mfd_cli.base.errors import MfdError, few
from mfd_cli.base.files import check_output, sha256_of, whole_folder
from mfd_cli.base.progress import Progress
from mfd_cli.base.threads import usable_cores
from mfd_cli.base.urls import is_url, shown, without_secrets
from mfd_cli.dataset.choose_bins import ChosenBins, choose_bins
from mfd_cli.dataset.folder import write_genome, write_runs, write_shard, write_tracks
from mfd_cli.dataset.inputs import Inputs, check_inputs
from mfd_cli.dataset.manifest import SPLITS, write_manifest
from mfd_cli.dataset.parse_tracks import Mapped, Parsed, parse_tracks
from mfd_cli.dataset.shards import TrainingTotals, labels_from
from mfd_cli.dataset.states import runs_of
from mfd_cli.dataset.summary import PreprocessSummary, summarise, unknown_contig_sentences
from mfd_cli.engine.jobs import HERE, ShardMade, ShardSummary, Workplace
from mfd_cli.engine.parts import Parts, parts_folder
from mfd_cli.experiments.sources import controls_sentence
from mfd_cli.settings.project import Project, errors_name

SHARD = 65_536
"""Bins with data in a shard."""


def preprocess(
    project: Project,
    *,
    output: Path | None = None,
    force: bool = False,
    threads: int | None = None,
    workplace: Workplace = HERE,
    progress: Progress | None = None,
    warn: Callable[[str], None] | None = None,
) -> PreprocessSummary:
    """Write the dataset folder of a project (or `output`), using `threads` processes (None: all usable cores).

    `warn` is told, before the long work, what of train.held_out this table lacks, which is an error without it.
    A shard of the work is every n-th track file; its `workplace` starts no workers. Raises InputErrors naming every faulty
    input, ConfigError for settings that do not fit them, OutputError where a dataset is in the way and `force` is not set.
    """
    started, folder = time.monotonic(), output or project.dataset
    workplace.check_result(folder, force)
    with errors_name(project):
        inputs = check_inputs(project, warn)
        config, every = project.config, dict(enumerate(inputs.sources))
        parts = Parts(parts_folder(folder), plan_of(inputs) if workplace != HERE else {})
        with removed_on_errors(parts, workplace):
            parse = partial(parse_tracks, genome=inputs.genome, config=config, work=parts.folder)
            workers = threads or usable_cores()
            if workplace.shard is not None:
                parts.begin(workplace.command)
                number, shards = workplace.shard
                own = {index: source for index, source in every.items() if index % shards == number - 1}
                made = parse(own, threads=workers, progress=progress)
                parts.finish_shard(workplace.shard, {parsed.file.name: parsed.sha256 for parsed in made.values()})
                seconds = round(time.monotonic() - started, 3)
                raise ShardMade(ShardSummary(folder, workplace.shard, len(made), 0, len(every), seconds))
            if workplace.gather:
                parts.check_plan()
            parsed = list(parse(every, threads=workers, progress=progress, gather=workplace.gather).values())
            chosen = choose_bins(config, inputs.grid, inputs.usable, inputs.split_of)
            with whole_folder(folder) as temporary:
                summary = write_dataset(temporary, inputs, parsed, chosen, progress)
    parts.remove()
    return summary


def plan_of(inputs: Inputs) -> dict[str, Any]:
    """Return what parsed tracks depend on besides their files, and which files those are."""
    return {
        "version of mfd": __version__,
        "genome": inputs.genome.digest(),
        "bins.min_overlap": inputs.project.config.bins.min_overlap,
        "tracks": [source.name for source in inputs.sources],
    }


@contextmanager
def removed_on_errors(parts: Parts, workplace: Workplace) -> Iterator[None]:
    """Remove the intermediate files where an input is faulty; after a kill they stay, and the next run takes them over. Those
    of shards stay."""
    try:
        yield
    except MfdError:
        if workplace == HERE:
            parts.remove()
        raise


# -- the plan ----------------------------------------------------------------------------------------------------------


@dataclass(frozen=True)
class PreprocessPlan:
    """What is about to be made of a project's inputs, and where."""

    inputs: Inputs
    folder: Path

    def lines(self) -> list[str]:
        """Return a few lines for a person."""
        inputs, usable = self.inputs, self.inputs.usable
        project, bins = inputs.project, int(usable.mask.sum())
        left_out = ", ".join(f"{count:,} {why}" for why, count in usable.dropped.items() if count)
        splits = [(split, [name for name, own in inputs.split_of.items() if own == split]) for split in SPLITS]
        to_read = sum(source.path.stat().st_size for source in inputs.sources)
        return [
            f"tracks: {len(inputs.of_kind('peaks')):,} with peaks, {len(inputs.of_kind('signal')):,} with signal; "
            f"{len(inputs.held_out):,} held out of training",
            *controls_sentence(inputs.controls, project.config.tracks.control),
            f"to read: {to_read / 1e6:,.1f} MB",
            *self.sums(),
            f"bins that may be used: {bins:,} of {inputs.grid.total:,}{f' (left out: {left_out})' if left_out else ''}",
            *unknown_contig_sentences(usable.unknown_contigs),
            "contigs: " + "; ".join(f"{len(names):,} {split} ({few(names)})" for split, names in splits if names),
            *self.shares(),
            f"would write {self.folder}, at most {self.largest_size() / 1e6:,.1f} MB",
        ]

    def to_json(self) -> dict[str, Any]:
        """Return what is said of the plan as plain values."""
        inputs, splits = self.inputs, self.inputs.split_of
        return {
            "folder": str(self.folder),
            "tracks": {kind: len(inputs.of_kind(kind)) for kind in ("peaks", "signal")},
            "held_out": sorted(inputs.held_out),
            "controls": list(inputs.controls),
            "bytes_to_read": sum(source.path.stat().st_size for source in inputs.sources),
            "bins": {"usable": int(inputs.usable.mask.sum()), "all": inputs.grid.total},
            "dropped": inputs.usable.dropped,
            "contigs": {split: [name for name, own in splits.items() if own == split] for split in SPLITS},
            "most_bytes": self.largest_size(),
        }

    def shares(self) -> list[str]:
        """Return a sentence on the shares of the training contigs that are kept for another split, if any are."""
        settings = self.inputs.project.config.split
        kept = {"test": settings.test, "validation": settings.validation}
        parts = [f"{share:.0%} {split}" for split, share in kept.items() if isinstance(share, float)]
        return [f"of the contigs for training, in blocks: {', '.join(parts)}"] if parts else []

    def sums(self) -> list[str]:
        """Return a sentence on the files whose md5 will be compared with what the table tells, if there are any."""
        told = sum(source.md5 is not None for source in self.inputs.sources)
        return [f"md5 sums to compare with those in the table: {told:,}"] if told else []

    def largest_size(self) -> int:
        """Return the bytes of the dataset if every usable bin had data: the genome, and four columns of each bin."""
        contig, start, signal = 4, 8, 4  # int32, int64, float32
        peaks, signals = len(self.inputs.of_kind("peaks")), len(self.inputs.of_kind("signal"))
        a_bin = contig + start + -(-peaks // 8) + signal * signals
        return sum(self.inputs.genome.lengths.values()) + int(self.inputs.usable.mask.sum()) * a_bin


def plan_preprocess(
    project: Project, *, output: Path | None = None, force: bool = False, warn: Callable[[str], None] | None = None
) -> PreprocessPlan:
    """Return what `preprocess` would do, as far as it can be known before the tracks are read.

    Nothing is written; raises what `preprocess` raises, and tells `warn` what it tells.
    """
    folder = output or project.dataset
    with errors_name(project):
        plan = PreprocessPlan(check_inputs(project, warn), folder)
    check_output(folder, force)  # last: who asks about the inputs hears of them first
    return plan


# -- the work ----------------------------------------------------------------------------------------------------------


def write_dataset(
    folder: Path, inputs: Inputs, parsed: Sequence[Parsed], chosen: ChosenBins, progress: Progress | None
) -> PreprocessSummary:
    """Write every file of the dataset into `folder`, the manifest last."""
    labels = labels_from(inputs, Mapped([track.file for track in parsed]))
    totals = TrainingTotals(labels, chosen.of("train"))
    shards = write_shards(folder / "shards", totals, chosen, progress)
    tracks = totals.tracks()
    runs = runs_of(chosen.states, inputs.grid, len(inputs.of_kind("peaks")), labels.assayed_peaks())
    write_runs(folder / "bins.arrow", runs, inputs.grid)
    write_genome(folder / "genome.arrow", inputs.genome)
    write_tracks(folder / "tracks.arrow", tracks)
    with_data = {name: sum(held for _, held in files) for name, files in shards.items()}
    summary = summarise(inputs, parsed, chosen, with_data, tracks)
    config = inputs.project.config
    write_manifest(
        folder,
        # Where the files were is of no use to another reader, and would make the bytes differ from place to place.
        configuration=without_secrets(config.model_copy(update={"data": type(config.data)()}).model_dump(mode="json")),
        genome=inputs.genome,
        bins=summary.bins,
        shards=shards,
        inputs=digests(inputs, parsed),
        summary=summary.to_json(),
    )
    return summary


def write_shards(
    folder: Path, totals: TrainingTotals, chosen: ChosenBins, progress: Progress | None
) -> dict[str, list[tuple[Path, int]]]:
    """Write the shards of every split, adding the training bins to `totals`; return (file, bins) of each, by split.

    A bin without data, such as one in which no track has a peak, takes no room.
    """
    folder.mkdir()
    labels, with_data = totals.labels, totals.labels.with_data()
    grid = labels.inputs.grid
    shards: dict[str, list[tuple[Path, int]]] = {name: [] for name in SPLITS}
    held = {name: index[with_data[index]] for name in SPLITS for index in (chosen.of(name),)}
    steps = [(name, low) for name in SPLITS for low in range(0, len(held[name]), SHARD)]
    for number, (name, low) in enumerate(steps):
        index = held[name][low : low + SHARD]
        peaks, signal = labels.cut(index)
        file = folder / f"{name}-{low // SHARD:05d}.arrow"
        write_shard(file, index, peaks, signal, grid)
        shards[name].append((file, len(index)))
        if name == "train":
            totals.add(peaks, signal)
        if progress:
            progress("writing shards", number + 1, len(steps))
    return shards


def digests(inputs: Inputs, parsed: Sequence[Parsed]) -> list[dict[str, Any]]:
    """Return the name, sha256 and size of every input, as the manifest lists them."""
    rows = []
    for name in inputs.files():
        path = inputs.project.path(name)
        rows.append(
            {"name": shown(name) if is_url(name) else name, "sha256": sha256_of(path), "bytes": path.stat().st_size}
        )
    tracks = zip(inputs.sources, parsed)
    return rows + [{"name": source.name, "sha256": track.sha256, "bytes": track.bytes} for source, track in tracks]
