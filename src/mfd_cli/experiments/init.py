"""`mfd init`: from a metadata table to `mfd.toml`: choose files, propose factors, say what was left out and why."""

from __future__ import annotations

import json
import re
from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

from mfd_cli.base.errors import MetadataError, few
from mfd_cli.base.files import check_input, check_output, whole_file
from mfd_cli.experiments.confounds import worst_confounds
from mfd_cli.experiments.encode_portal import (
    choose_files,
    find_column,
    is_encode,
    read_any_table,
    simplified,
    with_local_files,
)
from mfd_cli.formats.fasta import read_fasta
from mfd_cli.formats.tables import write_tsv
from mfd_cli.settings.config import BIOLOGICAL, TECHNICAL, FactorConfig, ModelConfig, resolve_model
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
_NEVER = re.compile(
    r"accession|path|md5|url|doi|pmid|dbxref|size|download|derived|paired with|audit|source|^n_|^id$|title|status|"
    r"file format|output type|assembly|replicate|library sample|kind|strand|experiment|submit|n intervals|alias",
    re.IGNORECASE,
)
_CONTROL = re.compile(r"\b(control|input|igg|mock|untagged|wce|background)\b", re.IGNORECASE)
_KNOWN_CONTIGS = {
    248956422: "GRCh38", 249250621: "hg19", 195471971: "mm10", 197195432: "mm9", 230218: "sacCer3",
}  # fmt: skip
_SMALL_GENOME = 200_000_000


@dataclass(frozen=True)
class InitReport:
    """What was proposed, for the terminal."""

    output: Path
    tracks: int
    assembly: str | None
    left_out: Mapping[str, Sequence[str]]
    factors: Mapping[str, FactorConfig]
    levels: Mapping[str, int]
    columns: Mapping[str, str]
    remarks: Sequence[str]

    def lines(self) -> list[str]:
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


def init_project(
    fasta: Path, metadata: Path, output: Path = Path("mfd.toml"), *, assembly: str | None = None, force: bool = False
) -> InitReport:
    """Write `output` (mfd.toml) for a genome and a metadata table; with an ENCODE table also the table of chosen files.

    Raises MetadataError where the table has no header, no usable file, or no column that tells where the files are.
    """
    check_output(output, force)
    check_input(metadata, MetadataError)
    table = read_any_table(metadata)
    genome = read_fasta(fasta)
    left_out: dict[str, list[str]] = {}
    rows, chosen_table = list(table.rows), metadata
    if is_encode(table):
        told = assembly or next((_KNOWN_CONTIGS[n] for n in genome.lengths.values() if n in _KNOWN_CONTIGS), None)
        choice = with_local_files(choose_files(table, told), table)
        rows, left_out, assembly = [dict(row) for row in choice.rows], choice.reasons(), choice.assembly
        chosen_table = metadata.parent / "metadata.mfd.tsv"
        check_output(chosen_table, force)
    columns = list(rows[0])
    identity, path = find_column("id", columns), find_column("path", columns)
    if identity is None or path is None:
        raise MetadataError(
            f"has no column that {'names the tracks' if identity is None else 'tells where their files are'}",
            path=metadata,
            line=1,
            hint="name the columns File accession and File path",
        )
    factors, others = propose_factors(rows, columns)
    remarks = remarks_on(rows, columns, factors)
    text = write_toml(fasta, chosen_table, output, identity, path, columns, factors, others, genome.lengths)
    if is_encode(table):
        write_tsv(chosen_table, rows, columns)
    with whole_file(output) as temporary:
        temporary.write_text(text, "utf-8")
    load_project(output)
    levels = {name: len({row[factor.column] for row in rows}) for name, factor in factors.items()}
    return InitReport(output, len(rows), assembly, left_out, factors, levels, others, remarks)


def propose_factors(
    rows: Sequence[Mapping[str, str]], columns: Sequence[str]
) -> tuple[dict[str, FactorConfig], dict[str, str]]:
    """Factors by name, biological ones first, and why the other columns are none."""
    by_name = {simplified(column): column for column in columns}
    factors: dict[str, FactorConfig] = {}
    others: dict[str, str] = {}
    technical = resolve_model(ModelConfig()).groups[TECHNICAL]
    for name, (group, kind, role, spellings) in KNOWN.items():
        column = next((by_name[simplified(s)] for s in spellings if simplified(s) in by_name), None)
        if column is None:
            continue
        values = [row[column] for row in rows]
        if reason := unusable(values, kind):
            others[column] = reason
            continue
        few = len(set(values)) * 4 <= technical
        kind = kind if kind != "number" or all(is_number(value) for value in values if value) else "category"
        factors[name] = FactorConfig(
            column=column, group=group, type=kind, role="both" if name in DIRECT and few else role
        )
    used = {factor.column for factor in factors.values()}
    for column in columns:
        if column in used or column in others:
            continue
        values = [row[column] for row in rows]
        reason = "names, files and book-keeping" if _NEVER.search(column) else unusable(values, "category")
        others[column] = reason or f"{len(set(values))} levels; not a column that mfd knows: add it if it matters"
    return factors, others


def unusable(values: Sequence[str], kind: str) -> str | None:
    """Why a column cannot be a factor: empty, constant, or different on every track."""
    levels = set(values)
    if levels == {""}:
        return "empty"
    if len(levels) == 1:
        return "the same on every track"
    if kind not in ("number", "year") and len(levels) == len(values) and len(values) > 8:
        return "different on every track"
    return None


def is_number(text: str) -> bool:
    try:
        float(text)
    except ValueError:
        return False
    return True


def remarks_on(
    rows: Sequence[Mapping[str, str]], columns: Sequence[str], factors: Mapping[str, FactorConfig]
) -> list[str]:
    """Levels with one track, confounds, controls, strand pairs."""
    remarks = []
    for name, factor in factors.items():
        if factor.type == "number":
            continue  # its values are no levels
        counts = Counter(row[factor.column] for row in rows)
        single = sum(count == 1 for count in counts.values())
        if single:
            remarks.append(f"{name}: {single} of {len(counts)} levels have one track only")
    remarks += worst_confounds(rows, factors)
    target = find_column("target", columns)
    controls = [row for row in rows if target and _CONTROL.search(row[target])]
    if controls:
        remarks.append(
            f"{len(controls)} tracks look like control experiments ({controls[0][target or ''][:40]!r}, ...)"
        )
    strand = find_column("strand", columns)
    stranded = sum(bool(row[strand]) and row[strand] not in (".", "*") for row in rows) if strand else 0
    if stranded:
        remarks.append(f"{stranded} tracks have a strand (column {strand!r}): see tracks.strand")
    return remarks


def propose_split(lengths: Mapping[str, int]) -> tuple[list[str], list[str] | float]:
    """Test and validation contigs: chr9 and chr10 of large genomes, otherwise contigs of about 10 % and 8 %."""
    usual = [name for name in lengths if name.removeprefix("chr") in ("9", "10")]
    if len(usual) == 2 and sum(lengths.values()) > _SMALL_GENOME:
        return usual, 0.05
    main = {n: size for n, size in lengths.items() if n.removeprefix("chr") not in ("M", "MT", "Mito")}
    if len(main) < 3:
        return (list(main)[-1:], 0.1) if len(main) == 2 else ([], 0.1)
    total = sum(main.values())
    test = min(main, key=lambda name: abs(main[name] - 0.10 * total))
    rest = {name: size for name, size in main.items() if name != test}
    return [test], [min(rest, key=lambda name: abs(rest[name] - 0.08 * total))]


def write_toml(
    fasta: Path,
    metadata: Path,
    output: Path,
    identity: str,
    path: str,
    columns: Sequence[str],
    factors: Mapping[str, FactorConfig],
    others: Mapping[str, str],
    lengths: Mapping[str, int],
) -> str:
    """The text of mfd.toml; paths are relative to it where they lie below its folder."""
    base = output.absolute().parent

    def relative(file: Path) -> str:
        whole = file.absolute()
        return str(whole.relative_to(base)) if whole.is_relative_to(base) else str(whole)

    test, validation = propose_split(lengths)
    background = '"all"' if sum(lengths.values()) < _SMALL_GENOME else "1.0"
    lines = [
        "# Written by mfd init. Every key is explained by: mfd --help, and the README.",
        "",
        "[data]",
        f"fasta = {quoted(relative(fasta))}",
        f"metadata = {quoted(relative(metadata))}",
        "",
        "[tracks]",
        f"id = {quoted(identity)}",
        f"path = {quoted(path)}",
    ]
    if "Kind" in columns:
        lines.append('kind = "Kind"')
    lines += ["", "[bins]", f"background = {background}", '# exclude = "blacklist.bed"', "", "[split]"]
    if not test:
        lines.append("# This genome has one contig: give regions to train on with bins.regions, and test elsewhere.")
    lines += [f"test = {json.dumps(test)}", f"validation = {json.dumps(validation)}", ""]
    for name, factor in factors.items():
        lines += [f"[factors.{name}]", f"column = {quoted(factor.column)}", f"group = {quoted(factor.group)}"]
        lines += [f"type = {quoted(factor.type)}"] if factor.type != "category" else []
        lines += [f"role = {quoted(factor.role)}"] if factor.role != "interact" else []
        lines.append("")
    unknown = [column for column, reason in others.items() if "add it" in reason]
    if unknown:
        lines.append("# Columns that may be factors too; say which group they belong to:")
        for column in unknown:
            name = re.sub(r"[^a-z0-9]+", "_", column.lower()).strip("_") or "column"
            lines += [f"# [factors.{name}]", f"# column = {quoted(column)}", '# group = "technical"']
    return "\n".join(lines).rstrip() + "\n"


def quoted(text: str) -> str:
    """A TOML string."""
    return json.dumps(text, ensure_ascii=False)
