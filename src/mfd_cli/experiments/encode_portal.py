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
from mfd_cli.base.fetched import fetched
from mfd_cli.base.files import check_input
from mfd_cli.base.urls import is_url
from mfd_cli.core.metadata import is_missing
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
    "url": ("File download URL", "Download URL", "URL"),
    "md5": ("md5sum", "MD5"),
    "size": ("Size", "File size"),
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


PORTAL = "https://www.encodeproject.org"
"""What the addresses in ENCODE's reports are relative to."""
Row = Mapping[str, str]


def simplified(name: str) -> str:
    """Return a column name without case, blanks and punctuation."""
    return re.sub(r"[^a-z0-9]", "", name.lower())


def find_column(what: str, columns: Sequence[str]) -> str | None:
    """Return the column that holds a thing of NAMES, or None."""
    known = {simplified(column): column for column in columns}
    return next((known[simplified(name)] for name in NAMES[what] if simplified(name) in known), None)


def read_any_table(path: Path) -> Table:
    """Read a metadata table whose header is on line 1, or on line 2 after ENCODE's timestamp and address.

    Raises MetadataError where the first line does not look like a header.
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

    rows: tuple[Row, ...]
    left_out: tuple[tuple[str, str], ...]
    assembly: str | None

    def reasons(self) -> dict[str, list[str]]:
        """Return the ids of the rows that were left out, by reason, the most frequent reason first."""
        ids: dict[str, list[str]] = {}
        for name, reason in self.left_out:
            ids.setdefault(reason, []).append(name or "no accession")
        return dict(sorted(ids.items(), key=lambda item: -len(item[1])))


def is_encode(table: Table) -> bool:
    """Return whether files have to be chosen: the table lists files by format and output type, but not where they are."""
    return find_column("path", table.columns) is None and find_column("format", table.columns) is not None


@dataclass(frozen=True)
class Columns:
    """The columns of a table that hold the things of NAMES; None for one that it lacks."""

    names: Mapping[str, str | None]

    def cell(self, row: Row, what: str) -> str:
        """Return what a row says of a thing; nothing where there is no such column."""
        column = self.names[what]
        return row[column].strip() if column else ""


def columns_of(table: Table) -> Columns:
    """Return the columns of a table that hold the things of NAMES."""
    return Columns({what: find_column(what, table.columns) for what in NAMES})


def md5_of_row(row: Row, columns: Columns, path: Path, line: int) -> str | None:
    """Return the md5 (hexadecimal) that a row of the table at `path` tells of its file; None where it tells none.

    Raises MetadataError where what it tells is no md5.
    """
    cell = columns.cell(row, "md5").lower()
    if is_missing(cell):
        return None
    if not re.fullmatch("[0-9a-f]{32}", cell):
        raise MetadataError(
            f"{columns.cell(row, 'md5')[:40]!r} is no md5",
            path=path,
            line=line,
            hint="an md5 is 32 hexadecimal digits, or the cell is empty",
        )
    return cell


def url_of_row(row: Row, columns: Columns) -> str:
    """Return the URL that the file of a row is fetched from; nothing where the table tells none."""
    cell = columns.cell(row, "url")
    return f"{PORTAL}{cell}" if cell.startswith("/") else cell


@dataclass(frozen=True)
class Candidate:
    """A row that may be chosen: peaks or signal, and the place of its output type in the order of preference."""

    row: Row
    kind: str
    rank: int


def choose_files(table: Table, assembly: str | None) -> Choice:
    """Choose one peak file and one signal file (or a pair of strands) per experiment, of one assembly, released.

    `assembly` None is that of most files. Raises MetadataError where nothing is left, saying what the table holds.
    """
    columns = columns_of(table)
    left_out: list[tuple[str, str]] = []
    released = list[Row]()
    for row in table.rows:
        if reason := why_not_released(row, columns):
            left_out.append((columns.cell(row, "id"), reason))
        else:
            released.append(row)
    wanted = assembly or most_common_assembly(released, columns)
    experiments: dict[tuple[str, str, str], list[Candidate]] = {}
    for file in released:
        candidate = candidate_of(file, columns, wanted)
        if isinstance(candidate, str):
            left_out.append((columns.cell(file, "id"), candidate))
        else:
            experiments.setdefault(experiment_key(candidate, columns), []).append(candidate)
    chosen = []
    for candidates in experiments.values():
        best = min(candidates, key=lambda candidate: preference(candidate, columns))
        chosen.append(best.row)
        others = [candidate for candidate in candidates if candidate is not best]
        left_out += [(columns.cell(other.row, "id"), "another file of the experiment is preferred") for other in others]
    if not chosen:
        raise nothing_to_choose(table, columns, wanted)
    return Choice(tuple(chosen), tuple(left_out), wanted)


def why_not_released(row: Row, columns: Columns) -> str | None:
    """Return why a row is no released file of peaks or signal; None if it is one. Without a status column all are released."""
    file_format, status = columns.cell(row, "format"), columns.cell(row, "status").lower() or "not given"
    if kind_of_row(file_format, columns.cell(row, "output")) is None:
        return f"format {file_format or 'not given'} is neither peaks (bed) nor signal (bigWig)"
    if columns.names["status"] is not None and status != "released":
        return f"status {status}"
    return None


def most_common_assembly(rows: Sequence[Row], columns: Columns) -> str | None:
    """Return the assembly that most rows name, or None where no row names one."""
    named = Counter(columns.cell(row, "assembly") for row in rows if columns.cell(row, "assembly"))
    return named.most_common(1)[0][0] if named else None


def candidate_of(row: Row, columns: Columns, assembly: str | None) -> Candidate | str:
    """Return a released row as a candidate, or why it is none. A row that names no assembly is taken to be of this one."""
    own, output = columns.cell(row, "assembly"), columns.cell(row, "output").lower()
    if assembly and own not in ("", assembly):
        return f"assembly {own}"
    kind = kind_of_row(columns.cell(row, "format"), output)
    rank = output_rank(output, kind) if kind else None
    return f"output type {output or 'not given'}" if kind is None or rank is None else Candidate(row, kind, rank)


def experiment_key(candidate: Candidate, columns: Columns) -> tuple[str, str, str]:
    """Return what one file is chosen for: an experiment (or a file of none), a kind, a strand."""
    output = columns.cell(candidate.row, "output").lower()
    strand = next((word for word in ("plus", "minus") if word in output), "")
    experiment = columns.cell(candidate.row, "experiment") or columns.cell(candidate.row, "id")
    return experiment, candidate.kind, strand


def preference(candidate: Candidate, columns: Columns) -> tuple[int, int, str]:
    """Return what sorts the files of an experiment: the output type, then how many replicates are pooled, then the name."""
    return candidate.rank, -pooled(columns.cell(candidate.row, "replicates")), columns.cell(candidate.row, "id")


def nothing_to_choose(table: Table, columns: Columns, assembly: str | None) -> MetadataError:
    """Return the error for a table of which no row can be used."""
    formats = Counter(columns.cell(row, "format") or "?" for row in table.rows).most_common(4)
    listed = ", ".join(f"{count} {name}" for name, count in formats)
    return MetadataError(
        f"holds no released peak or signal file{f' of {assembly}' if assembly else ''} (it lists {listed})",
        path=table.path,
        hint="ask the portal for bed narrowPeak and bigWig files",
    )


def kind_of_row(file_format: str, output: str) -> str | None:
    """Return peaks or signal by the file format; None for anything else (bigBed, bam, fastq ...)."""
    text = file_format.lower()
    if text.startswith("bigwig"):
        return "signal"
    if text.startswith("bed") or text in ("narrowpeak", "broadpeak"):
        return "peaks" if "peak" in text or "peak" in output.lower() or "hotspot" in output.lower() else None
    return None


def output_rank(output: str, kind: str) -> int | None:
    """Return the place in the order of preference; None for an output that is not wanted (background, raw strands)."""
    wanted = PEAKS if kind == "peaks" else SIGNALS
    return wanted.index(output) if output in wanted else None


def pooled(replicates: str) -> int:
    """Return how many replicates a file pools."""
    return len([part for part in replicates.split(",") if part.strip()])


def with_local_files(choice: Choice, table: Table) -> Choice:
    """Add a File path to every chosen row: that of the file beside the table or in its sub-folders, or else the URL that it was
    fetched from. Leave out what is not there.

    Raises MetadataError where not one of the chosen files is there.
    """
    column = find_column("id", table.columns) or "File accession"
    columns = columns_of(table)
    base = table.path.parent
    present = {path.name: path for path in sorted(base.rglob("*")) if path.name.endswith(SUFFIXES)}
    rows, missing = list[Row](), list[tuple[str, str]]()
    for row in choice.rows:
        name = next((row[column] + suffix for suffix in SUFFIXES if row[column] + suffix in present), None)
        url = url_of_row(row, columns)
        if name is not None:
            signal = name.endswith((".bw", ".bigWig"))
            path = str(present[name].relative_to(base))
            # The portal's md5 is of the file as it comes: of one that was unpacked it says nothing.
            unpacked = url.endswith(".gz") and not name.endswith(".gz")
            of_another = {columns.names["md5"]: ""} if unpacked and columns.names["md5"] else {}
            rows.append({**row, **of_another, "File path": path, "Kind": "signal" if signal else "peaks"})
        elif is_url(url) and fetched(url) is not None:
            kind = kind_of_row(columns.cell(row, "format"), columns.cell(row, "output"))
            rows.append({**row, "File path": url, "Kind": str(kind)})
        else:
            missing.append((row[column], "its file is not here"))
    if not rows:
        first = few(accession for accession, _ in missing)
        fetching = "xargs -L 1 curl -O -J -L < files.txt downloads them there"
        if any(url_of_row(row, columns) for row in choice.rows):
            fetching = f"mfd fetch-inputs --from-metadata {table.path} fetches them"
        raise MetadataError(
            f"none of the {len(missing)} files that were chosen is beside the table ({first})",
            path=table.path,
            hint=f"{fetching}; then run mfd init again",
        )
    return replace(choice, rows=tuple(rows), left_out=(*choice.left_out, *missing))
