"""What becomes of every bin of the genome: which may be used, in which split, with a guard band between splits."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from mfd_cli.base.arrays import Bools, Doubles, Ints
from mfd_cli.base.errors import ConfigError, MfdError, SignalError, nearest
from mfd_cli.base.files import check_input
from mfd_cli.dataset.manifest import SPLITS
from mfd_cli.dataset.states import LEFT_OUT, STATES
from mfd_cli.formats.bed import read_known_intervals
from mfd_cli.formats.bin_means import bin_means
from mfd_cli.genome.grid import BIN, BinGrid, inside_bins, touched_bins
from mfd_cli.genome.sequence import CODES, UNKNOWN, Genome, match_contigs
from mfd_cli.settings.config import Config
from mfd_cli.settings.project import Project

BLOCKS = 10
"""Stretches of the genome, of as many bins each, of which each gives its part to validation and test that are shares."""
EXTRA_GUARD = 16
"""Bases beyond the model's window that stay free between splits by default: room for the random shifts of training."""
SHARE_HINT = "of few contigs, shares can be kept, in blocks: split.test = 0.1, split.validation = 0.1"

FOLD_HINT = "a share goes with every fold: split.validation = 0.1"


USABLE = -1
"""In place of a reason why a bin cannot be used."""


@dataclass(frozen=True)
class UsableBins:
    """Which bins may be used: `why_not` (bins,) int8 is USABLE or the number of a state that says why a bin may not.

    `unknown_contigs` counts, for each BED that a setting names, its lines on contigs that the genome lacks, by contig.
    """

    why_not: NDArray[np.int8]
    unknown_contigs: Mapping[str, UnknownContigs]

    @property
    def mask(self) -> Bools:
        """The bins that may be used, (bins,)."""
        return self.why_not == USABLE

    @property
    def dropped(self) -> dict[str, int]:
        """How many may not, by reason."""
        return counted(self.why_not)


@dataclass(frozen=True)
class UnknownContigs:
    """Lines of a BED file that are on contigs which the genome lacks, by contig, of how many lines of the file of this name.

    `first` is the number of the first of these lines, 0 where there is none.
    """

    lines: Mapping[str, int]
    of: int
    file: str
    first: int


@dataclass(frozen=True)
class ChosenBins:
    """The state of every bin of the genome, (bins,) int8: a place in STATES."""

    states: NDArray[np.int8]

    def of(self, split: str) -> Ints:
        """Return the bins of a split: global indices in genome order."""
        return np.flatnonzero(self.states == STATES.index(split))

    @property
    def dropped(self) -> dict[str, int]:
        """How many bins are in no split, by reason."""
        return counted(self.states)


def counted(states: NDArray[np.int8]) -> dict[str, int]:
    """Return how many of the bins (bins,) are left out, by reason, in words."""
    return {words: int((states == STATES.index(name)).sum()) for name, words in LEFT_OUT.items()}


def usable_bins(project: Project, genome: Genome, grid: BinGrid) -> UsableBins:
    """Return which bins the settings under [bins] let a dataset use.

    Raises RegionError or SignalError where a file that they name cannot be read or is of another genome.
    """
    config, why_not = project.config.bins, np.full(grid.total, USABLE, np.int8)
    unknown_contigs = dict[str, UnknownContigs]()

    def drop(reason: str, bad: Bools) -> None:
        why_not[bad & (why_not == USABLE)] = STATES.index(reason)

    def covered(setting: str, file: str, rule: Callable[..., Bools]) -> Bools:
        bins, unknown_contigs[setting] = bins_of_bed(project.path(file), grid, rule)
        return bins

    if config.exclude:
        drop("excluded", covered("bins.exclude", config.exclude, touched_bins))
    if config.regions:
        drop("outside", ~covered("bins.regions", config.regions, inside_bins))
    unknown = np.concatenate(
        [bin_shares(CODES[genome.sequences[name]] == UNKNOWN, n) for name, n in grid.counts.items()] or [np.zeros(0)]
    )
    drop("unknown", unknown > config.max_unknown)
    if config.mappability:
        means = bin_means(check_input(project.path(config.mappability), SignalError), grid.lengths)
        drop("unmappable", ~(means >= config.min_mappability))  # so written, NaN (the file is silent) is dropped too
    return UsableBins(why_not, unknown_contigs)


def bins_of_bed(path: Path, grid: BinGrid, rule: Callable[..., Bools]) -> tuple[Bools, UnknownContigs]:
    """Return (bins,) a rule of genome.grid applied to the intervals of a BED file, and its lines that are on no contig.

    Raises RegionError where the genome has none of the file's contigs.
    """
    intervals, elsewhere, first = read_known_intervals(path, grid.lengths)
    nothing = (np.zeros(0, np.int64), np.zeros(0, np.int64))
    bins = np.concatenate([rule(*intervals.get(name, nothing), count) for name, count in grid.counts.items()])
    lines = sum(len(start) for start, _ in intervals.values()) + sum(elsewhere.values())
    return bins, UnknownContigs(elsewhere, lines, path.name, first)


def bin_shares(flags: Bools, bins: int) -> Doubles:
    """Return (bins,) the share of the bases of each bin where a flag is set; `flags` are those of a whole contig."""
    shares: Doubles = flags[: bins * BIN].reshape(bins, BIN).mean(1)
    return shares


def choose_bins(config: Config, grid: BinGrid, usable: UsableBins, split_of: Mapping[str, str]) -> ChosenBins:
    """Put every usable bin into a split, with a guard band of training bins that are left out beside the others.

    No track has a say: what is validated and tested on is the genome as it is. Raises ConfigError where no bin is left for
    training or for the test split.
    """
    split = assign_splits(config, grid, split_of)
    states = np.where(usable.mask, split, usable.why_not)
    guard = config.split.guard
    guard = config.resolved_model().window + EXTRA_GUARD if guard is None else guard
    states[usable.mask & guarded(usable.mask, split, grid, guard)] = STATES.index("guard")
    chosen = ChosenBins(states)
    check_splits(config, chosen, split_of)
    return chosen


def check_splits(config: Config, chosen: ChosenBins, split_of: Mapping[str, str]) -> None:
    """Raise ConfigError where no bin is left to train on, or for a test that the settings ask for."""
    if not len(chosen.of("train")):
        if "train" not in split_of.values():
            raise ConfigError(
                "no bin is left for training: [split] gives all contigs of the genome to test and validation",
                hint=SHARE_HINT,
            )
        raise ConfigError(
            "no bin is left for training", hint="look at [split] (with its guard), bins.regions and bins.exclude"
        )
    if (config.split.folds or config.split.test) and not len(chosen.of("test")):
        raise ConfigError("no bin is left for the test split", hint="look at [split], bins.regions, bins.exclude")


def contig_splits(config: Config, genome: Genome) -> dict[str, str]:
    """Return the split of every contig: test, validation, or train. ConfigError for a name that the genome lacks."""
    result = dict.fromkeys(genome.sequences, "train")
    named = {"test": config.split.test, "validation": config.split.validation}
    folds = config.split.folds
    if folds is not None:
        if folds > len(result) and isinstance(named["validation"], tuple) and named["validation"]:
            raise ConfigError(
                f"split.folds is {folds}, more than the {len(result)} contigs of the genome: each fold is a stretch of it, "
                "beside which split.validation must be a share",
                hint=FOLD_HINT,
            )
        result |= dict.fromkeys(fold_of(genome.lengths, folds, config.split.fold), "test")
    for split, names in named.items():
        for name in names if isinstance(names, tuple) else ():
            try:
                contig = match_contigs([name], genome.sequences, "[split]")[name]
            except MfdError:
                near = nearest(name, list(genome.sequences))
                raise ConfigError(
                    f"split.{split} names {name!r}, which the genome lacks{near}",
                    hint=SHARE_HINT if len(genome.sequences) < len(SPLITS) else None,
                ) from None
            if result[contig] not in ("train", split):
                raise ConfigError(
                    f"split: {contig} is in {result[contig]} and in {split}",
                    hint=FOLD_HINT if folds else None,
                )
            result[contig] = split
    return result


def fold_of(lengths: Mapping[str, int], folds: int, fold: int) -> list[str]:
    """Return the contigs of a fold, counted from 1.

    Each contig goes to the fold that is shortest so far, the longest contig first; none goes anywhere where they are fewer than
    the folds, see `stretch_of`.

    >>> [fold_of({"I": 5, "II": 9, "III": 3, "IV": 6}, 2, fold) for fold in (1, 2)]
    [['II', 'III'], ['I', 'IV']]
    """
    if folds > len(lengths):
        return []
    dealt, sizes = [set[str]() for _ in range(folds)], [0] * folds
    for name in sorted(lengths, key=lambda name: -lengths[name]):
        shortest = sizes.index(min(sizes))
        dealt[shortest].add(name)
        sizes[shortest] += lengths[name]
    return [name for name in lengths if name in dealt[fold - 1]]


def stretch_of(grid: BinGrid, folds: int, fold: int) -> Ints:
    """Return the bins of a fold, counted from 1, where the genome has fewer contigs than there are folds: a stretch of it."""
    return np.array_split(np.arange(grid.total), folds)[fold - 1]


def assign_splits(config: Config, grid: BinGrid, split_of: Mapping[str, str]) -> NDArray[np.int8]:
    """Return (bins,) the number of the split of every bin: that of its contig, then the shares of what is left for training."""
    numbers = {name: number for number, name in enumerate(SPLITS)}
    split = np.concatenate([np.full(n, numbers[split_of[name]], np.int8) for name, n in grid.counts.items()])
    if config.split.folds is not None and config.split.folds > len(grid.counts):
        split[stretch_of(grid, config.split.folds, config.split.fold)] = numbers["test"]
    shares = {"test": config.split.test, "validation": config.split.validation}
    # A part inside each block: the split then sees all of the genome, and few bins fall to the guard band.
    for block in np.array_split(np.flatnonzero(split == numbers["train"]), BLOCKS):
        sizes = {name: round(len(block) * share) for name, share in shares.items() if isinstance(share, float)}
        between = (len(block) - sum(sizes.values())) // (len(sizes) + 1)
        start = between
        for name, size in sizes.items():
            split[block[start : start + size]] = numbers[name]
            start += size + between
    return split


def guarded(chosen: Bools, split: NDArray[np.int8], grid: BinGrid, guard: int) -> Bools:
    """Return (bins,) the training bins within `guard` bp (start to start) of a bin of another split on their contig."""
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
