"""Which slice of a network's features found which locus: biology, or how pictures were made."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import numpy as np

from mfd_cli.contig.gwas.job import Found, Job, Run
from mfd_cli.contig.gwas.loci import Region, name_of, rows_in, span_of
from mfd_cli.contig.gwas.result import Row

BOTH = "both"
SLICES = ("chromosome", "start", "end", "variant", "found_by")
"""The first columns of slices.tsv; behind them is -log10 P of each slice, the best within the locus."""


def slice_rows(job: Job, found: Found, runs: Sequence[Run], slices: Mapping[str, str]) -> list[Row]:
    """Return a row for each locus of the runs that are slices of one network, which `slices` maps to what they are called.

    Loci of two slices that overlap are one, told with the strongest variant of the first slice.
    """
    own = [(number, slices[run.name]) for number, run in enumerate(runs) if run.name in slices]
    rows = list[Row]()
    for number, name in own:
        for clump in runs[number].loci:
            span = span_of(job, clump)
            same = next((row for row in rows if row["found_by"] != name and _overlap(row, span)), None)
            if same is not None:
                same["found_by"] = BOTH
                continue
            row: Row = {"chromosome": span.chromosome, "start": span.start, "end": span.end}
            row |= {"variant": name_of(job, clump.index), "found_by": name}
            (inside,) = rows_in(job, found, [span])
            for other, label in own:
                row[column_of(label)] = float(np.nanmax(found.least[inside, other]))
            rows.append(row)
    return rows


def column_of(label: str) -> str:
    """Return the column of slices.tsv that has the -log10 P of a slice."""
    return f"neg_log_10_p_{label}"


def _overlap(row: Row, span: Region) -> bool:
    return bool(row["chromosome"] == span.chromosome and row["start"] <= span.end and span.start <= row["end"])


def slice_sentence(rows: Sequence[Row], slices: Mapping[str, str], factors: Sequence[str]) -> str:
    """Return in words which slice found how many loci; `factors` are those of the technical one."""
    if not rows:
        return f"neither the {' nor the '.join(slices.values())} slice found a locus"
    counts = {label: sum(row["found_by"] in (label, BOTH) for row in rows) for label in slices.values()}
    each = " and ".join(f"the {label} slice {count:,}" for label, count in counts.items())
    shared = sum(row["found_by"] == BOTH for row in rows)
    return (
        f"of {len(rows):,} loci, {each} ({shared:,} of them both): a locus that the technical slice alone finds goes with how "
        f"pictures were made ({', '.join(factors)}), and one that both find may be either"
    )
