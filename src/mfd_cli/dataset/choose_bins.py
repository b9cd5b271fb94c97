"""Which bins a dataset holds: what may be used, peak bins and their background, splits with a guard band between them."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from mfd_cli.base.arrays import Bools, Doubles, Ints
from mfd_cli.base.errors import ConfigError, MfdError, SignalError, nearest
from mfd_cli.base.files import check_input
from mfd_cli.dataset.manifest import SPLITS
from mfd_cli.formats.bed import read_known_intervals
from mfd_cli.formats.bin_means import bin_means
from mfd_cli.genome.grid import BIN, BinGrid, inside_bins, touched_bins
from mfd_cli.genome.sequence import CODES, UNKNOWN, Genome, match_contigs
from mfd_cli.settings.config import Config
from mfd_cli.settings.project import Project

_GC_STRATA = 20
_BLOCKS = 10


def usable_bins(project: Project, genome: Genome, grid: BinGrid) -> tuple[Bools, dict[str, int]]:
    """(bins,) which bins may be used at all, and how many are not, by reason."""
    config, kept, dropped = project.config.bins, np.ones(grid.total, bool), dict[str, int]()

    def drop(reason: str, bad: Bools) -> None:
        dropped[reason] = int((bad & kept).sum())
        kept[bad] = False

    if config.exclude:
        drop("excluded", per_contig(project.path(config.exclude), grid, touched_bins))
    if config.regions:
        drop("outside the regions", ~per_contig(project.path(config.regions), grid, inside_bins))
    unknown = np.concatenate(
        [bin_shares(CODES[genome.sequences[name]] == UNKNOWN, n) for name, n in grid.counts.items()] or [np.zeros(0)]
    )
    drop("unknown sequence", unknown > config.max_unknown)
    if config.mappability:
        means = bin_means(check_input(project.path(config.mappability), SignalError), grid.lengths)
        drop("hardly mappable", ~(means >= config.min_mappability))
    return kept, dropped


def per_contig(path: Path, grid: BinGrid, rule: Callable[..., Bools]) -> Bools:
    """(bins,) a rule of data.tracks applied to the intervals of a BED file, contig by contig."""
    found = read_known_intervals(path, grid.lengths)
    empty = np.zeros(0, np.int64)
    return np.concatenate([rule(*found.get(name, (empty, empty)), count) for name, count in grid.counts.items()])


def bin_shares(flags: Bools, bins: int) -> Doubles:
    """Share of the bases of each bin where a flag is set."""
    shares: Doubles = flags[: bins * BIN].reshape(bins, BIN).mean(1)
    return shares


def choose_bins(
    config: Config,
    genome: Genome,
    grid: BinGrid,
    peak_files: Sequence[Path],
    kept: Bools,
    split_of: Mapping[str, str],
) -> tuple[dict[str, Ints], dict[str, int]]:
    """Global indices of the bins of each split, in genome order, and how many bins were left out, by reason.

    `peak_files` hold the labelled bins of the peak tracks that have a say (not of held-out ones), as .npy.
    """
    counts = np.zeros(grid.total, np.int32)
    for file in peak_files:
        counts[np.load(file, mmap_mode="r")] += 1
    split = assign_splits(config, grid, split_of)
    dropped: dict[str, int] = {}
    if config.bins.background == "all":
        chosen = kept
    else:
        if not peak_files:
            raise ConfigError("there is no peak track to choose bins by", hint='set bins.background = "all"')
        chosen = kept & (counts >= config.bins.min_tracks)
        gc = gc_of_bins(genome, grid)
        rng = np.random.default_rng([config.train.seed, 0])
        for number in range(len(SPLITS)):
            peaks, empty = chosen & (split == number), kept & (counts == 0) & (split == number)
            chosen = chosen | matched_background(gc, peaks, empty, config.bins.background, rng)
        dropped["background not asked for"] = int((kept & ~chosen).sum())
    guard = config.split.guard if config.split.guard is not None else config.resolved_model().window + 16
    near = guarded(chosen, split, grid, guard)
    dropped["in the guard band"] = int((chosen & near).sum())
    chosen = chosen & ~near
    splits = {name: np.flatnonzero(chosen & (split == number)) for number, name in enumerate(SPLITS)}
    if not len(splits["train"]):
        raise ConfigError("no bin is left for training", hint="look at [split], bins.regions and bins.exclude")
    if "test" in split_of.values() and not len(splits["test"]):
        raise ConfigError("no bin is left for the test split", hint="look at [split], bins.regions, bins.exclude")
    return splits, dropped


def contig_splits(config: Config, genome: Genome) -> dict[str, str]:
    """Split of every contig: test, validation, or train. ConfigError for a name that the genome lacks."""
    result = dict.fromkeys(genome.sequences, "train")
    if config.split.folds is not None:
        result |= dict.fromkeys(fold_of(genome.lengths, config.split.folds, config.split.fold), "test")
    named = {"test": config.split.test, "validation": config.split.validation}
    for split, names in named.items():
        for name in names if isinstance(names, tuple) else ():
            try:
                contig = match_contigs([name], genome.sequences, "[split]")[name]
            except MfdError:
                near = nearest(name, list(genome.sequences))
                raise ConfigError(f"split.{split} names {name!r}, which the genome lacks{near}") from None
            if result[contig] not in ("train", split):
                raise ConfigError(f"split: {contig} is in {result[contig]} and in {split}")
            result[contig] = split
    return result


def fold_of(lengths: Mapping[str, int], folds: int, fold: int) -> list[str]:
    """The contigs of a fold, counted from 1. Each contig goes to the fold that is shortest so far, the longest contig first.

    >>> [fold_of({"I": 5, "II": 9, "III": 3, "IV": 6}, 2, fold) for fold in (1, 2)]
    [['II', 'III'], ['I', 'IV']]
    """
    if folds > len(lengths):
        raise ConfigError(f"split.folds is {folds}, but the genome has {len(lengths)} contigs")
    dealt, sizes = [set[str]() for _ in range(folds)], [0] * folds
    for name in sorted(lengths, key=lambda name: -lengths[name]):
        shortest = sizes.index(min(sizes))
        dealt[shortest].add(name)
        sizes[shortest] += lengths[name]
    return [name for name in lengths if name in dealt[fold - 1]]


def assign_splits(config: Config, grid: BinGrid, split_of: Mapping[str, str]) -> NDArray[np.int8]:
    """(bins,) number of the split of every bin; a validation share becomes blocks spread over what is not test."""
    numbers = {name: number for number, name in enumerate(SPLITS)}
    split = np.concatenate([np.full(n, numbers[split_of[name]], np.int8) for name, n in grid.counts.items()])
    share = config.split.validation
    if isinstance(share, float):
        rest = np.flatnonzero(split == numbers["train"])
        blocks = np.array_split(rest, _BLOCKS)
        for block in blocks:
            size = round(len(block) * share)
            middle = (len(block) - size) // 2
            split[block[middle : middle + size]] = numbers["validation"]
    return split


def guarded(chosen: Bools, split: NDArray[np.int8], grid: BinGrid, guard: int) -> Bools:
    """(bins,) training bins that lie within `guard` bp (start to start) of a bin of another split on their contig."""
    near = np.zeros(len(split), bool)
    reach = -(-guard // BIN) - 1 if guard else 0  # bins whose starts are less than `guard` apart
    for name, count in grid.counts.items():
        here = slice(grid.offsets[name], grid.offsets[name] + count)
        other = np.flatnonzero(chosen[here] & (split[here] > 0))
        mine = np.flatnonzero(chosen[here] & (split[here] == 0))
        if not len(other) or not len(mine):
            continue
        after = np.searchsorted(other, mine)
        right = other[np.minimum(after, len(other) - 1)]
        left = other[np.maximum(after - 1, 0)]
        distance = np.minimum(np.abs(right - mine), np.abs(left - mine))
        near[mine[distance <= reach] + here.start] = True
    return near


def gc_of_bins(genome: Genome, grid: BinGrid) -> Doubles:
    """(bins,) share of G and C in every bin."""
    return np.concatenate(
        [
            bin_shares((CODES[genome.sequences[name]] == 1) | (CODES[genome.sequences[name]] == 2), count)
            for name, count in grid.counts.items()
        ]
    )


def matched_background(gc: Doubles, peaks: Bools, empty: Bools, ratio: float, rng: np.random.Generator) -> Bools:
    """(bins,) a draw of empty bins, `ratio` per peak bin, with the GC content of the peak bins (in strata of 5 %).

    Where a stratum runs out of empty bins, the rest is drawn from all that are left.
    """
    chosen = np.zeros(len(gc), bool)
    wanted = min(round(ratio * peaks.sum()), int(empty.sum()))
    if not wanted:
        return chosen
    strata = np.minimum((gc * _GC_STRATA).astype(int), _GC_STRATA - 1)
    share = np.bincount(strata[peaks], minlength=_GC_STRATA) / peaks.sum()
    for stratum in range(_GC_STRATA):
        pool = np.flatnonzero(empty & (strata == stratum))
        take = min(int(share[stratum] * wanted), len(pool))
        chosen[rng.choice(pool, take, replace=False)] = True
    rest = np.flatnonzero(empty & ~chosen)
    chosen[rng.choice(rest, wanted - int(chosen.sum()), replace=False)] = True
    return chosen
