"""What lies in a folder that mfd wrote: rows of its tables, and numbers of some regions from its bigWigs."""

from __future__ import annotations

import csv
from collections.abc import Sequence
from contextlib import closing
from pathlib import Path

from mfd_cli.base.errors import InputError
from mfd_cli.base.files import check_input
from mfd_cli.formats.bigwig_reader import open_bigwig
from mfd_cli.genome.intervals import Interval
from mfd_cli.view.shown import Runs, cut


def rows_of(path: Path, columns: Sequence[str]) -> list[dict[str, str]]:
    """Return the rows of a table of text that mfd wrote, column to text, without the apostrophe before what a spreadsheet would
    take for a formula. InputError where the file is missing or empty, or a row lacks one of these columns."""
    check_input(path)
    with path.open(encoding="utf-8", newline="") as file:
        rows = csv.reader(file, delimiter="\t", quoting=csv.QUOTE_NONE)
        header = next(rows, [])
        read = [dict(zip(header, (cell.removeprefix("'") for cell in row))) for row in rows]
    for number, row in enumerate(read, start=2):
        if missing := [name for name in columns if name not in row]:
            raise InputError(f"has no {missing[0]}", path=path, line=number, hint="it is not as mfd wrote it")
    return read


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
