"""`mfd init`: from a metadata table to `mfd.toml`: choose files, propose factors, say what was left out and why."""

from __future__ import annotations

import json
import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

from mfd_cli.base.errors import MetadataError, few
from mfd_cli.base.files import check_output, whole_file
from mfd_cli.base.urls import is_url, written
from mfd_cli.core.metadata import ENCODERS, MISSING, level_cell
from mfd_cli.experiments.confounds import describe_factors, worst_confounds
from mfd_cli.experiments.encode_portal import (
    choose_files,
    find_column,
    is_encode,
    read_any_table,
    simplified,
    with_local_files,
)
from mfd_cli.experiments.strands import UNSTRANDED
from mfd_cli.formats.fasta import read_fasta
from mfd_cli.formats.metadata_table import Table
from mfd_cli.formats.tables import write_tsv
from mfd_cli.genome.grid import BinGrid
from mfd_cli.settings.config import FactorConfig
from mfd_cli.settings.names import BIOLOGICAL, TECHNICAL, wrong_factor_name
from mfd_cli.settings.network import ModelConfig, resolve_model
from mfd_cli.settings.project import load_project

KNOWN: dict[str, tuple[str, str, str, tuple[str, ...]]] = {
    "target": (BIOLOGICAL, "category", "interact", ("Experiment target", "Target label", "Target", "Target of assay")),
    "biosample": (BIOLOGICAL, "category", "interact", ("Biosample term name", "Biosample name", "Tissue", "Cell type")),
    "organ": (BIOLOGICAL, "multilabel", "interact", ("Biosample organ slims", "Organ")),
    "system": (BIOLOGICAL, "multilabel", "interact", ("Biosample system slims",)),
    "development": (BIOLOGICAL, "multilabel", "interact", ("Biosample developmental slims",)),
    "life_stage": (BIOLOGICAL, "category", "interact", ("Biosample life stage", "Life stage")),
    "age": (BIOLOGICAL, "number", "interact", ("Biosample age", "Age")),
    "sex": (BIOLOGICAL, "category", "interact", ("Biosample sex", "Sex")),
    "treatment": (BIOLOGICAL, "category", "interact", ("Biosample treatments", "Treatment")),
    "modification": (BIOLOGICAL, "category", "interact", ("Biosample genetic modifications",)),
    "assay": (TECHNICAL, "category", "interact", ("Assay", "Assay title", "Assay term name")),
    "lab": (TECHNICAL, "category", "interact", ("Library lab", "Lab")),
    "year": (TECHNICAL, "year", "interact", ("Experiment date released", "Date released", "Date created", "Year", "Date")),
    "caller": (TECHNICAL, "category", "interact", ("Peak caller", "Pipeline", "Analysis title")),
    "platform": (TECHNICAL, "category", "interact", ("Platform",)),
    "run_type": (TECHNICAL, "category", "interact", ("Run type",)),
    "read_length": (TECHNICAL, "number", "interact", ("Read length", "Mapped read length")),
    "antibody": (TECHNICAL, "category", "interact", ("Antibody", "Experiment antibody")),
    "spot": (TECHNICAL, "number", "interact", ("spot2 score", "SPOT")),
    "frip": (TECHNICAL, "number", "interact", ("frip",)),
}  # fmt: skip
"""Factor: group, type, role and the names that its column goes by. A direct role is proposed where it fits."""
DIRECT = ("assay",)
"""Factors for which a direct role is proposed, where they have few levels."""
DIRECT_SHARE = 4
"""A direct role needs a subspace of so many dimensions per level: each level then has weights of its own."""
NEVER_FACTORS = re.compile(
    r"accession|path|md5|url|doi|pmid|dbxref|size|download|derived|paired with|audit|source|^n_|^id$|title|status|"
    r"file format|output type|assembly|replicate|library sample|kind|strand|experiment|submit|n intervals|alias",
    re.IGNORECASE,
)
CONTROL_TARGETS = re.compile(r"\b(control|input|igg|mock|untagged|wce|background)\b", re.IGNORECASE)
ASSEMBLY_BY_LENGTH = {
    248956422: "GRCh38", 249250621: "hg19", 195471971: "mm10", 197195432: "mm9", 230218: "sacCer3",
}  # fmt: skip
"""The assembly that has a contig (chr1 or chrI) of this length."""
SMALL_GENOME = 200_000_000
"""Bases below which no chr9 and chr10 are proposed for the test."""
WIDE_BINS = 1_000_000
"""Bins of the genome from which on a wide network is proposed, where there is a GPU."""
FEW_TRACKS = 8
"""Up to so many tracks a category may differ on each and still be proposed."""
TEST_SHARE, VALIDATION_SHARE, LARGE_VALIDATION_SHARE = 0.10, 0.08, 0.05
ONE_CONTIG_SHARE = 0.1
YOURS = f'            # "{BIOLOGICAL}" or "{TECHNICAL}"'
"""What stands in place of a group that only the user can know."""
UNKNOWN_COLUMN = "not a column that mfd knows: add it if it matters"

Rows = Sequence[Mapping[str, str]]


@dataclass(frozen=True)
class InitReport:
    """What was proposed, for the terminal: `left_out` has the ids of rows by reason, `columns` why a column is no factor."""

    output: Path
    tracks: int
    assembly: str | None
    left_out: Mapping[str, Sequence[str]]
    factors: Mapping[str, FactorConfig]
    levels: Mapping[str, int]
    columns: Mapping[str, str]
    remarks: Sequence[str]

    def lines(self) -> list[str]:
        """Return the report in words."""
        lines = [f"{self.tracks} tracks{f', assembly {self.assembly}' if self.assembly else ''}"]
        for reason, ids in self.left_out.items():
            lines.append(f"left out: {len(ids)} row{'s' if len(ids) > 1 else ''}, {reason} ({few(ids)})")
        lines.append("factors:")
        for name, factor in self.factors.items():
            lines.append(
                f"  {name:<13} {factor.group:<11} {factor.type:<10} {factor.role:<9} "
                f"{self.levels[name]:>4} levels   column {factor.column!r}"
            )
        lines += [f"not a factor: {column!r} ({reason})" for column, reason in self.columns.items()]
        lines += list(self.remarks)
        lines.append(f"wrote {self.output}: read it, change what you know better, then mfd check-design")
        return lines


@dataclass(frozen=True)
class ChosenTable:
    """The rows that a project is made of, the file that holds them, and what was left out of the table that was given.

    `new` says that the file is still to be written: a choice from ENCODE's table. `id` and `path` are the columns that name
    the tracks and their files.
    """

    rows: Rows
    file: Path
    new: bool
    id: str
    path: str
    left_out: Mapping[str, Sequence[str]]
    assembly: str | None

    @property
    def columns(self) -> list[str]:
        """The names of the columns, in the order of the table."""
        return list(self.rows[0])


def init_project(
    fasta: Path, metadata: Path, output: Path = Path("mfd.toml"), *, assembly: str | None = None, force: bool = False
) -> InitReport:
    """Write `output` (mfd.toml) for a genome and a metadata table; with an ENCODE table also the table of chosen files.

    Raises MetadataError where the table has no header, no usable file, or no column that tells where the files are,
    GenomeError for the FASTA, OutputError where a file is in the way and `force` is not set.
    """
    check_output(output, force)
    table, genome = read_any_table(metadata), read_fasta(fasta)
    beside = output.parent if is_url(metadata) else metadata.parent
    chosen = choose_table(table, assembly or assembly_of(genome.lengths), beside)
    if chosen.new:
        check_output(chosen.file, force)
    factors, others = propose_factors(chosen.rows, chosen.columns)
    preset, why = proposed_preset(BinGrid(genome.lengths).total, gpu_is_here())
    remarks = [*remarks_on(chosen.rows, chosen.columns, factors), f"model: preset {preset}: {why}"]
    text = toml_text(fasta, output, chosen, factors, others, genome.lengths, preset)
    if chosen.new:
        write_tsv(chosen.file, chosen.rows, chosen.columns)
    with whole_file(output) as temporary:
        temporary.write_text(text, "utf-8")
    load_project(output)  # what is proposed must be a project
    levels = {row["factor"]: row["levels"] for row in describe_factors(chosen.rows, factors)}
    return InitReport(output, len(chosen.rows), chosen.assembly, chosen.left_out, factors, levels, others, remarks)


def proposed_preset(bins: int, gpu: bool) -> tuple[str, str]:
    """Return the preset for a genome of so many bins on a machine with or without a GPU, and why.

    A bin costs a network of width 768 144 times the operations that it costs one of width 64: a processor does not get through
    enough of the genome with it, and a small genome has not enough to teach it.

    >>> proposed_preset(94_000, True)
    ('default', '94,000 bins are few for the wider network of preset wide-2176')
    """
    if bins < WIDE_BINS:
        return "default", f"{bins:,} bins are few for the wider network of preset wide-2176"
    if gpu:
        return "wide-2176", f"there is a GPU, and {bins:,} bins to learn from"
    return "default", f"no GPU here; with one, preset wide-2176 has {bins:,} bins to learn from"


def gpu_is_here() -> bool:
    """Return whether this machine has a GPU that training could use."""
    import torch

    return torch.cuda.is_available()


def assembly_of(lengths: Mapping[str, int]) -> str | None:
    """Return the name of the assembly that has contigs of these lengths, if it is one that mfd knows."""
    return next((ASSEMBLY_BY_LENGTH[length] for length in lengths.values() if length in ASSEMBLY_BY_LENGTH), None)


def choose_table(table: Table, assembly: str | None, folder: Path) -> ChosenTable:
    """Return all rows of a table that says where its files are, or a choice from one of ENCODE's that does not.

    The choice is a table of its own in `folder`.

    Raises MetadataError where nothing can be chosen, or a column is missing.
    """
    rows: Rows = table.rows
    file, new, left_out, chosen_assembly = table.path, False, dict[str, list[str]](), None
    if is_encode(table):
        choice = with_local_files(choose_files(table, assembly), table)
        rows, left_out, chosen_assembly = choice.rows, choice.reasons(), choice.assembly
        file, new = folder / "metadata.mfd.tsv", True
    columns = list(rows[0])
    identity, path = find_column("id", columns), find_column("path", columns)
    if identity is None or path is None:
        raise MetadataError(
            f"has no column that {'names the tracks' if identity is None else 'tells where their files are'}",
            path=table.path,
            line=1,
            hint="name the columns File accession and File path",
        )
    return ChosenTable(rows, file, new, identity, path, left_out, chosen_assembly)


# -- factors -----------------------------------------------------------------------------------------------------------


def propose_factors(rows: Rows, columns: Sequence[str]) -> tuple[dict[str, FactorConfig], dict[str, str]]:
    """Return factors by name, biological ones first, and by column why the others are none."""
    factors, others = known_factors(rows, columns)
    used = {factor.column for factor in factors.values()}
    for column in columns:
        if column not in used and column not in others:
            others[column] = why_no_factor(column, [row[column] for row in rows])
    return factors, others


def known_factors(rows: Rows, columns: Sequence[str]) -> tuple[dict[str, FactorConfig], dict[str, str]]:
    """Return the factors of KNOWN that the table has, and by column why one that it has is of no use."""
    by_name = {simplified(column): column for column in columns}
    factors, useless = dict[str, FactorConfig](), dict[str, str]()
    for name, (group, kind, role, spellings) in KNOWN.items():
        column = next((by_name[simplified(s)] for s in spellings if simplified(s) in by_name), None)
        if column is None:
            continue
        values = [row[column] for row in rows]
        kind = kind if readable(values, kind) else "category"
        if reason := unusable(values, kind):
            useless[column] = reason
            continue
        role = "both" if name in DIRECT and few_enough_for_direct(values) else role
        factors[name] = FactorConfig(column=column, group=group, type=kind, role=role)
    return factors, useless


def few_enough_for_direct(values: Sequence[str]) -> bool:
    """Return whether a technical factor has few levels compared with its subspace."""
    return len(set(values)) * DIRECT_SHARE <= resolve_model(ModelConfig()).groups[TECHNICAL]


def why_no_factor(column: str, values: Sequence[str]) -> str:
    """Return why a column that is none of KNOWN is not proposed as a factor."""
    if NEVER_FACTORS.search(column):
        return "names, files and book-keeping"
    return unusable(values, "category") or f"{len(set(values))} levels; {UNKNOWN_COLUMN}"


def unusable(values: Sequence[str], kind: str) -> str | None:
    """Return why a column cannot be a factor: empty, constant, or different on every track; None if it can."""
    levels = {level_cell(ENCODERS[kind], value) for value in values}
    if levels == {MISSING}:
        return "empty"
    if len(levels) == 1:
        return "the same on every track"
    if kind not in ("number", "year") and len(levels) == len(values) and len(values) > FEW_TRACKS:
        return "different on every track"
    return None


def readable(values: Sequence[str], kind: str) -> bool:
    """Return whether all cells of a column are of a factor's type."""
    try:
        for value in values:
            ENCODERS[kind].split(value)
    except MetadataError:
        return False
    return True


# -- remarks -----------------------------------------------------------------------------------------------------------


def remarks_on(rows: Rows, columns: Sequence[str], factors: Mapping[str, FactorConfig]) -> list[str]:
    """Return a sentence on each thing that a user should know before training on these rows."""
    return [
        *single_track_remarks(rows, factors),
        *worst_confounds(rows, factors),
        *empty_group_remarks(factors),
        *control_remarks(rows, columns),
        *strand_remarks(rows, columns),
    ]


def single_track_remarks(rows: Rows, factors: Mapping[str, FactorConfig]) -> list[str]:
    """Return which factors have levels of a single track, of which nothing general can be learnt."""
    return [
        f"{row['factor']}: {row['single']} of {row['levels']} levels have one track only"
        for row in describe_factors(rows, factors)
        if row["single"] and row["type"] != "number"  # whose values are no levels
    ]


def empty_group_remarks(factors: Mapping[str, FactorConfig]) -> list[str]:
    """Return which group has no factor: without one, nothing is set apart from the other."""
    groups = {factor.group for factor in factors.values()}
    return [
        f"no factor is {group}: nothing says what is {group} in these tracks, and nothing can be set apart as such"
        for group in (BIOLOGICAL, TECHNICAL)
        if group not in groups
    ]


def control_remarks(rows: Rows, columns: Sequence[str]) -> list[str]:
    """Return how many tracks look like controls, by their targets."""
    target = find_column("target", columns)
    controls = [row[target] for row in rows if target and CONTROL_TARGETS.search(row[target])]
    if not controls:
        return []
    return [
        f"{len(controls)} tracks look like control experiments ({controls[0][:40]!r}, ...): to leave them out, give the table "
        'a column Control with yes in their rows, and write control = "Control" below [tracks] in mfd.toml'
    ]


def strand_remarks(rows: Rows, columns: Sequence[str]) -> list[str]:
    """Return how many signal tracks have a strand; that of peaks is not used."""
    strand, path = find_column("strand", columns), find_column("path", columns)
    if strand is None or path is None:
        return []
    stranded = [row for row in rows if row[strand].strip().lower() not in UNSTRANDED]
    signals = sum(row[path].lower().endswith((".bw", ".bigwig")) for row in stranded)
    if not signals:
        return []
    return [
        f"{signals} signal tracks have a strand: to pair the two strands of an experiment, write "
        f"strand = {quoted(strand)} below [tracks] in mfd.toml"
    ]


# -- mfd.toml ----------------------------------------------------------------------------------------------------------


def propose_split(lengths: Mapping[str, int]) -> tuple[list[str] | float, list[str] | float]:
    """Return test and validation contigs: chr9 and chr10 of large genomes, otherwise contigs of about 10 % and 8 %.

    Of two contigs (mitochondria not counted) one is the test and a share of the other validation; of one, shares are both.
    """
    usual = [name for name in lengths if name.removeprefix("chr") in ("9", "10")]
    if len(usual) == 2 and sum(lengths.values()) > SMALL_GENOME:
        return usual, LARGE_VALIDATION_SHARE
    main = {n: size for n, size in lengths.items() if n.removeprefix("chr") not in ("M", "MT", "Mito")}
    if len(main) < 3:
        return list(main)[-1:] if len(main) == 2 else ONE_CONTIG_SHARE, ONE_CONTIG_SHARE
    total = sum(main.values())
    test = min(main, key=lambda name: abs(main[name] - TEST_SHARE * total))
    rest = {name: size for name, size in main.items() if name != test}
    return [test], [min(rest, key=lambda name: abs(rest[name] - VALIDATION_SHARE * total))]


def toml_text(
    fasta: Path,
    output: Path,
    chosen: ChosenTable,
    factors: Mapping[str, FactorConfig],
    others: Mapping[str, str],
    lengths: Mapping[str, int],
    preset: str,
) -> str:
    """Return the text of mfd.toml; paths are relative to it where they lie below its folder."""
    folder = output.absolute().parent
    lines = [
        "# Written by mfd init. mfd settings prints every key with its type, default and meaning.",
        "",
        "[data]",
        f"fasta = {quoted(relative_to(folder, fasta))}",
        f"metadata = {quoted(relative_to(folder, chosen.file))}",
        "",
        "[tracks]",
        f"id = {quoted(chosen.id)}",
        f"path = {quoted(chosen.path)}",
        *(['kind = "Kind"'] if "Kind" in chosen.columns else []),
        "",
        "[bins]",
        '# exclude = "blacklist.bed"',
        "",
        "[split]",
        *split_lines(lengths),
        "",
        "[model]",
        f"preset = {quoted(preset)}",
        "",
        *(line for name, factor in factors.items() for line in factor_lines(name, factor)),
        *unknown_column_lines(others),
    ]
    return "\n".join(lines).rstrip() + "\n"


def relative_to(folder: Path, file: Path) -> str:
    """Return a file's path as seen from a folder where it lies below it, else its whole path; a URL as it is."""
    if is_url(file):
        return written(file)
    whole = file.absolute()
    return str(whole.relative_to(folder)) if whole.is_relative_to(folder) else str(whole)


def split_lines(lengths: Mapping[str, int]) -> list[str]:
    """Return the proposed split in TOML."""
    test, validation = propose_split(lengths)
    comment = ["# This genome has one contig: shares of it, in blocks, are kept for the test and for validation."]
    return [
        *(comment if isinstance(test, float) else []),
        f"test = {json.dumps(test)}",
        f"validation = {json.dumps(validation)}",
    ]


def factor_lines(name: str, factor: FactorConfig) -> list[str]:
    """Return a factor in TOML, without what is the default, and an empty line."""
    return [
        f"[factors.{name}]",
        f"column = {quoted(factor.column)}",
        f"group = {quoted(factor.group)}",
        *([f"type = {quoted(factor.type)}"] if factor.type != "category" else []),
        *([f"role = {quoted(factor.role)}"] if factor.role != "interact" else []),
        "",
    ]


def unknown_column_lines(others: Mapping[str, str]) -> list[str]:
    """Return factors of the columns that mfd does not know, as comments. The group has no value: without one, mfd.toml is
    refused, and a wrong one would set biology aside as technique, or keep technique as biology."""
    unknown = [column for column, reason in others.items() if reason.endswith(UNKNOWN_COLUMN)]
    lines = ["# Columns that may be factors too. Nobody but you can say to which group one belongs:"] if unknown else []
    for column in unknown:
        name = re.sub(r"[^a-z0-9]+", "_", column.lower()).strip("_") or "column"
        name = f"my_{name}" if wrong_factor_name(name) else name
        lines += [f"# [factors.{name}]", f"# column = {quoted(column)}", f"# group = {YOURS}"]
    return lines


def quoted(text: str) -> str:
    """Return a text as a TOML string."""
    return json.dumps(text, ensure_ascii=False)
