"""Blocks of the genome: variants of one block may depend on each other, those of different blocks are taken to be independent.

Neighbours share haplotypes, genes and the model's windows, so their labels and scores go together. Standard errors therefore
leave out a block at a time (see statistics.jackknife) where a variant at a time would claim too much.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from mfd_cli.base.arrays import Ints
from mfd_cli.base.errors import ConfigError, RegionError
from mfd_cli.enrichment.score_table import Places
from mfd_cli.genome.intervals import Intervals
from mfd_cli.genome.sequence import aliases

BLOCK_SIZE = 1_000_000
"""Bases of a block where no file has blocks: longer than most linkage disequilibrium in people."""
FEW_BLOCKS = 20
"""With fewer blocks a standard error over blocks is itself uncertain by a sixth or more."""


@dataclass(frozen=True)
class Blocks:
    """Which block each variant lies in: `number` (n,) from 0 on in the order of the genome; every one of `count` has a variant.

    `made_of` says in words how they were made; `outside` is how many variants lie in no interval of a file of blocks.
    """

    number: Ints
    count: int
    made_of: str
    outside: int = 0


def blocks_by_distance(places: Places, size: int = BLOCK_SIZE) -> Blocks:
    """Return blocks of `size` bases, counted from the beginning of each contig. ConfigError for a size below 1."""
    if size < 1:
        raise ConfigError(f"the size of a block is {size} bp; it is 1 or more")
    number, count = numbered(places.contig, places.start // size)
    return Blocks(number, count, f"{size:,} bp of a contig")


def blocks_of_intervals(places: Places, intervals: Intervals) -> Blocks:
    """Return the blocks of a BED file, such as blocks of linkage disequilibrium.

    Variants between two neighbouring intervals, or beyond the last, are a block of their own and count as outside. Raises
    RegionError where intervals overlap, and where no variant lies in any.
    """
    own_contig = [min(aliases(name)) for name in intervals.names]
    within, outside = np.zeros(len(places.start), np.int64), np.ones(len(places.start), bool)
    for index, name in enumerate(places.names):
        of_contig = np.isin(intervals.contig, [i for i, own in enumerate(own_contig) if own == name])
        order = np.argsort(intervals.start[of_contig], kind="stable")
        start, end, line = (values[of_contig][order] for values in (intervals.start, intervals.end, intervals.line))
        overlapping = np.flatnonzero(start[1:] < end[:-1])
        if len(overlapping):
            raise RegionError(
                f"this block overlaps the one of line {line[overlapping[0]]}",
                path=intervals.path,
                line=int(line[overlapping[0] + 1]),
                hint="every variant lies in one block: merge those that overlap",
            )
        here = np.flatnonzero(places.contig == index)
        last = np.searchsorted(start, places.start[here], "right")  # how many blocks begin at the variant or before it
        inside = (last > 0) & (places.start[here] < np.append(0, end)[last])
        within[here], outside[here] = 2 * last - inside, ~inside
    if outside.all():
        raise RegionError(
            "none of the labelled variants lies in a block",
            path=intervals.path,
            hint="is it the same assembly? BED begins at 0",
        )
    number, count = numbered(places.contig, within)
    return Blocks(number, count, f"blocks of {intervals.path.name}", int(outside.sum()))


def numbered(contig: Ints, within: Ints) -> tuple[Ints, int]:
    """Return (n,) one number per pair of a contig and a block within it, from 0 on in order, and how many there are."""
    pairs = contig * (int(within.max(initial=0)) + 1) + within
    known, number = np.unique(pairs, return_inverse=True)
    return number.astype(np.int64), len(known)


def remarks(blocks: Blocks) -> list[str]:
    """Return what a reader of standard errors over these blocks should know, in sentences."""
    found = []
    if blocks.count < FEW_BLOCKS:
        found.append(
            f"the variants lie in {blocks.count} blocks only ({blocks.made_of}): standard errors and p over so few are rough"
            + ("" if blocks.count > 1 else ", and of one block there are none")
        )
    if blocks.outside:
        found.append(f"{blocks.outside:,} variants lie between the blocks of the file; each gap is a block")
    return found
