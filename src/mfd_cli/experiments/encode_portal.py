"""Choosing files from ENCODE's tables: one assembly, released files, one peak and one signal file per experiment.

Column names differ between the portal's metadata.tsv, its report format and a user's own table; `find_column` knows the
names of each thing, whatever their case and punctuation.
"""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path

from mfd_cli.base.errors import MetadataError, few
from mfd_cli.base.files import check_input
from mfd_cli.formats.metadata_table import Table, read_table
from mfd_cli.formats.text import read_lines

NAMES: dict[str, tuple[str, ...]] = {
    "id": ("File accession", "Accession", "track", "track id", "id", "name", "sample"),
    "path": ("File path", "path", "file", "filename", "local path"),
    "format": ("File format", "File type", "format"),
    "output": ("Output type",),
    "assembly": ("File assembly", "Assembly", "Genome assembly"),
    "status": ("File Status", "Status"),
    "experiment": ("Experiment accession", "Dataset", "experiment"),
    "target": ("Experiment target", "Target label", "Target", "Target of assay"),
    "replicates": ("Biological replicate(s)", "Biological replicates"),
    "strand": ("Strand",),
}
PEAKS = (
    "optimal idr thresholded peaks", "idr thresholded peaks", "conservative idr thresholded peaks", "replicated peaks",
    "pseudoreplicated peaks", "stable peaks", "peaks", "hotspots", "filtered peaks",
)  # fmt: skip
SIGNALS = (
    "fold change over control", "signal p-value", "read-depth normalized signal", "signal of unique reads",
    "plus strand signal of unique reads", "minus strand signal of unique reads", "signal",
)  # fmt: skip
SUFFIXES = (".bed.gz", ".bed", ".narrowPeak.gz", ".narrowPeak", ".broadPeak.gz", ".broadPeak", ".bigWig", ".bw")


def simplified(name: str) -> str:
    """A column name without case, blanks and punctuation."""
    return re.sub(r"[^a-z0-9]", "", name.lower())


def find_column(what: str, columns: Sequence[str]) -> str | None:
    """The column that holds a thing of NAMES, or None."""
    known = {simplified(column): column for column in columns}
    return next((known[simplified(name)] for name in NAMES[what] if simplified(name) in known), None)


def read_any_table(path: Path) -> Table:
    """A metadata table whose header is on line 1, or on line 2 after ENCODE's timestamp and address.

    MetadataError where the first line does not look like a header.
    """
    _, first = next(read_lines(check_input(path, MetadataError), MetadataError), (1, b""))
    report = re.match(rb"\d{4}-\d\d-\d\d[ T].*\thttps?://", first) is not None
    if not report:
        cells = [cell.strip('" ') for cell in first.decode("utf-8", "replace").split("\t")]
        if not any(find_column(what, cells) for what in NAMES):
            raise MetadataError(
                f"the first line does not look like a header ({cells[0][:40]!r}, ...)",
                path=path,
                line=1,
                hint="a header line must name the columns, such as File accession, File path, Assay",
            )
    return read_table(path, header_line=2 if report else 1)


@dataclass(frozen=True)
class Choice:
    """Which rows of a table are used: `rows` with their local files in the column `path`, and why others are not."""

    rows: tuple[Mapping[str, str], ...]
    left_out: tuple[tuple[str, str], ...]
    assembly: str | None

    def reasons(self) -> dict[str, list[str]]:
        """Return the ids of the rows that were left out, by reason, the most frequent reason first."""
        ids: dict[str, list[str]] = {}
        for name, reason in self.left_out:
            ids.setdefault(reason, []).append(name or "no accession")
        return dict(sorted(ids.items(), key=lambda item: -len(item[1])))


def is_encode(table: Table) -> bool:
    """Whether files have to be chosen: the table lists files by format and output type, without saying where they are."""
    return find_column("path", table.columns) is None and find_column("format", table.columns) is not None


def choose_files(table: Table, assembly: str | None) -> Choice:
    """One peak file and one signal file (or a pair of strands) per experiment, of one assembly, released.

    MetadataError where nothing is left, saying what the table holds.
    """
    names = {what: find_column(what, table.columns) for what in NAMES}
    left: list[tuple[str, str]] = []
    rows = list(table.rows)

    def value(row: Mapping[str, str], what: str) -> str:
        column = names[what]
        return row[column] if column else ""

    def drop(row: Mapping[str, str], reason: str) -> None:
        left.append((value(row, "id"), reason))

    usable = []
    for row in rows:
        kind = kind_of_row(value(row, "format"), value(row, "output"))
        status = value(row, "status").strip().lower() or "not given"
        if kind is None:
            drop(row, f"format {value(row, 'format') or 'not given'} is neither peaks (bed) nor signal (bigWig)")
        elif names["status"] is not None and status != "released":
            drop(row, f"status {status}")
        else:
            usable.append((row, kind))
    assemblies = Counter(value(row, "assembly") for row, _ in usable if value(row, "assembly"))
    wanted = assembly or (assemblies.most_common(1)[0][0] if assemblies else None)
    groups: dict[tuple[str, str, str], list[tuple[int, Mapping[str, str]]]] = {}
    for row, kind in usable:
        if wanted and value(row, "assembly") not in ("", wanted):
            drop(row, f"assembly {value(row, 'assembly')}")
            continue
        output = value(row, "output").lower()
        rank = output_rank(output, kind)
        if rank is None:
            drop(row, f"output type {output or 'not given'}")
            continue
        strand = next((word for word in ("plus", "minus") if word in output), "")
        groups.setdefault((value(row, "experiment") or value(row, "id"), kind, strand), []).append((rank, row))
    chosen = []
    for candidates in groups.values():
        best = min(candidates, key=lambda pair: (pair[0], -pooled(value(pair[1], "replicates")), value(pair[1], "id")))
        chosen.append(best[1])
        for _, other in candidates:
            if other is not best[1]:
                drop(other, "another file of the experiment is preferred")
    if not chosen:
        formats = Counter(value(row, "format") or "?" for row in rows).most_common(4)
        held = ", ".join(f"{count} {name}" for name, count in formats)
        raise MetadataError(
            f"holds no released peak or signal file{f' of {wanted}' if wanted else ''} (it lists {held})",
            path=table.path,
            hint="ask the portal for bed narrowPeak and bigWig files",
        )
    return Choice(tuple(chosen), tuple(left), wanted)


def kind_of_row(file_format: str, output: str) -> str | None:
    """peaks or signal by the file format; None for anything else (bigBed, bam, fastq ...)."""
    text = file_format.lower()
    if text.startswith("bigwig"):
        return "signal"
    if text.startswith("bed") or text in ("narrowpeak", "broadpeak"):
        return "peaks" if "peak" in text or "peak" in output.lower() or "hotspot" in output.lower() else None
    return None


def output_rank(output: str, kind: str) -> int | None:
    """Place in the order of preference; None for an output that is not wanted (background, raw strands of all reads)."""
    wanted = PEAKS if kind == "peaks" else SIGNALS
    return wanted.index(output) if output in wanted else None


def pooled(replicates: str) -> int:
    """How many replicates a file pools."""
    return len([part for part in replicates.split(",") if part.strip()])


def with_local_files(choice: Choice, table: Table) -> Choice:
    """The choice with a File path for every row, looked for beside the table and in its sub-folders.

    MetadataError where not one of the chosen files is there.
    """
    column = find_column("id", table.columns) or "File accession"
    base = table.path.parent
    present = {path.name: path for path in sorted(base.rglob("*")) if path.name.endswith(SUFFIXES)}
    found: list[Mapping[str, str]] = []
    missing = list[tuple[str, str]]()
    for row in choice.rows:
        name = next((row[column] + suffix for suffix in SUFFIXES if row[column] + suffix in present), None)
        if name is None:
            missing.append((row[column], "its file is not here"))
        else:
            signal = name.endswith((".bw", ".bigWig"))
            path = str(present[name].relative_to(base))
            found.append({**row, "File path": path, "Kind": "signal" if signal else "peaks"})
    if not found:
        first = few(accession for accession, _ in missing)
        raise MetadataError(
            f"none of the {len(missing)} files that were chosen is beside the table ({first})",
            path=table.path,
            hint="download them there (xargs -L 1 curl -O -J -L < files.txt), then run mfd init again",
        )
    return replace(choice, rows=tuple(found), left_out=(*choice.left_out, *missing))
