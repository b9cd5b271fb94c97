"""What lies in a folder that mfd wrote: numbers of some regions from its bigWigs."""

from __future__ import annotations

from collections.abc import Sequence
from contextlib import closing
from pathlib import Path

from mfd_cli.formats.bigwig_reader import open_bigwig
from mfd_cli.genome.intervals import Interval
from mfd_cli.view.shown import Runs, cut


def read_runs(path: Path, regions: Sequence[Interval]) -> list[Runs]:
    """Return the values of a bigWig in regions, as they stand in the file; none for contigs that it lacks.

    Raises SignalError where the file is damaged.
    """
    bigwig = open_bigwig(path)
    with closing(bigwig.file):
        pieces = [
            cut(Runs(region.contig, *values), region)
            for region in regions
            if region.contig in bigwig.contigs
            for values in bigwig.values(region.contig, region.start, region.end)
        ]
    return [runs for runs in pieces if len(runs.start)]
