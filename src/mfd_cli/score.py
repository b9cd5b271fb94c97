"""`mfd score-variants`: what each alternate allele changes, told apart by group, for every record of a VCF.

Records are read, scored and written at the same time, in chunks, so that memory does not depend on the length of the file.
What the scores are stands in effects.py.
"""

from __future__ import annotations

import json
import re
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import torch

from mfd_cli import __version__
from mfd_cli.config import Project
from mfd_cli.core.predict import Precision
from mfd_cli.data.dataset import read_genome, read_manifest
from mfd_cli.data.fasta import read_fasta
from mfd_cli.data.sequence import Genome, match_contigs
from mfd_cli.data.variants import Record, Variant, VariantFile, contig_of, open_variants, why_not
from mfd_cli.effects import Placement, Scorer
from mfd_cli.errors import DatasetError, GenomeError, MfdError, OutputError, VariantError
from mfd_cli.export import ParquetRows, TsvRows, VcfWriter
from mfd_cli.files import check_output, sha256_of, whole_files
from mfd_cli.pipeline import ahead, in_background
from mfd_cli.run_folder import Run

Progress = Callable[[str, int, int], None]
CHUNK = 2000
"""Records that are scored together; memory does not depend on the length of the file."""
MOST_MISMATCHES, FEWEST_CHECKED = 0.05, 20
PLAINLY_WRONG, EARLY = 0.5, 10_000
"""Above this share of mismatches within the first records there is no need to read on."""
SKIP_COLUMNS = ("line", "contig", "position", "id", "ref", "alt", "reason")
COMPARED = 256
"""Alleles that are scored in float32 too where another precision is asked for, to say how far the scores agree."""


@dataclass
class ScoreSummary:
    """What was scored and what was not."""

    outputs: list[Path] = field(default_factory=list)
    records: int = 0
    alleles: int = 0
    scored: int = 0
    skipped: dict[str, int] = field(default_factory=dict)
    warnings: list[str] = field(default_factory=list)
    seconds: float = 0.0

    def lines(self) -> list[str]:
        reasons = ", ".join(
            f"{count:,} {why}" for why, count in sorted(self.skipped.items(), key=lambda pair: -pair[1])
        )
        rate = self.scored / self.seconds if self.seconds else 0
        return [
            f"{self.records:,} records, {self.alleles:,} alternate alleles: {self.scored:,} scored "
            f"({rate:,.0f}/s), {self.alleles - self.scored:,} not scored{f' ({reasons})' if reasons else ''}",
            *(f"wrote {path}" for path in self.outputs),
        ]


@dataclass(frozen=True)
class Allele:
    """One alternate allele on its way through the model: its record, its number, and the variant or a reason."""

    record: Record
    number: int
    variant: Variant | None
    reason: str | None


def score_variants(
    run: Run, genome: Genome, source: str | Path, output: Path | str | None = None, *, table: Path | None = None,
    per_track: bool = False, placement: Placement = "centred", precision: Precision = "float32", genome_note: str = "",
    device: torch.device | str = "cpu", batch_size: int = 256, force: bool = False, progress: Progress | None = None,
) -> ScoreSummary:  # fmt: skip
    """Score every record of a VCF or BCF and write it back, annotated, with a Parquet table and the skipped alleles.

    `output` is a .vcf or .vcf.gz file (default: IN.mfd.vcf.gz in the current folder), or `-`. Raises VariantError for a
    broken record or when more than 5 % of the reference alleles disagree with the genome; then nothing is written.
    """
    started = time.monotonic()
    vcf, rows, skipped = output_paths(source, output, table)
    index = [Path(f"{vcf}.{kind}") for kind in ("tbi", "csi")] if vcf is not None else []
    files = [path for path in (vcf, rows, skipped, *index) if path is not None]
    for path in files:
        check_output(path, force)
        if path.exists() and Path(source).exists() and path.samefile(source):
            raise OutputError("is the input itself", path=path, hint="-o FILE writes to another file")
    scorer, summary = Scorer(run, device, batch_size, placement, precision), ScoreSummary()
    schema = table_schema(scorer, per_track)
    with open_variants(source) as variants, whole_files(*files) as places:
        place = dict(zip(files, places))
        writer = VcfWriter(place[vcf] if vcf is not None else None)
        table_rows = ParquetRows(place[rows] if rows is not None else None, schema)
        with writer, table_rows, TsvRows(place[skipped], SKIP_COLUMNS) as skips:
            writer.write_header(header_of(variants, scorer, genome, genome_note))
            score_all(variants, scorer, genome, writer, table_rows, skips, per_track, summary, progress)
        if vcf is not None and vcf.suffix == ".gz":
            index_of(writer, place, vcf, genome, summary)
        summary.outputs = [path for path in files if place[path].exists()]
        for path in index:
            path.unlink(missing_ok=True)  # an older output's index must never lie beside the new output
    summary.seconds = time.monotonic() - started
    return summary


def output_paths(
    source: str | Path, output: Path | str | None, table: Path | None
) -> tuple[Path | None, Path | None, Path]:
    """Where the VCF (None: standard output), the table (None: not written) and the list of skipped alleles go."""
    piped = str(output) == "-" or (output is None and str(source) == "-")
    name = "stdin" if str(source) == "-" else Path(source).name
    vcf = Path(f"{_stem(name)}.mfd.vcf.gz") if output is None or piped else Path(output)
    if not vcf.name.endswith((".vcf", ".vcf.gz")):
        raise VariantError(f"the output is {str(vcf)!r}; its name must end in .vcf or .vcf.gz")
    skipped, rows = vcf.with_name(f"{_stem(vcf.name)}.skipped.tsv"), vcf.with_name(f"{_stem(vcf.name)}.parquet")
    return (None, table, skipped) if piped else (vcf, table or rows, skipped)


def _stem(name: str) -> str:
    for suffix in (".gz", ".bgz", ".vcf", ".bcf"):
        name = name.removesuffix(suffix)
    return name


def score_all(
    variants: VariantFile, scorer: Scorer, genome: Genome, writer: VcfWriter, parquet: ParquetRows, skips: TsvRows,
    per_track: bool, summary: ScoreSummary, progress: Progress | None,
) -> None:  # fmt: skip
    """Score chunk by chunk while others are read and written. Raises where no record is on the genome, or too many REF
    alleles are not."""
    contigs: dict[str, None] = {}
    mismatch = ""

    def write(alleles: Sequence[Allele], records: Sequence[Record], columns: dict[str, Any]) -> None:
        place = {(a.record.line, a.number): i for i, a in enumerate(a for a in alleles if a.reason is None)}
        infos = info_columns(columns, scorer)
        for record in records:
            found = [place.get((record.line, number)) for number in range(len(record.alts))]
            writer.write(record, info_of(found, infos) if any(row is not None for row in found) else {})
        parquet.write(columns)
        skips.write(skip_row(allele) for allele in alleles if allele.reason is not None)

    with in_background() as later:
        for records, alleles in ahead(with_alleles(variants.records, genome)):
            scored = [allele for allele in alleles if allele.reason is None]
            columns = columns_of(scored, scorer, genome, per_track)
            if scored and not summary.scored:
                summary.warnings += agreement(scored, columns, scorer, genome)
            later(write, alleles, records, columns)
            for allele in alleles:
                if allele.reason is not None:
                    wrong = allele.reason.startswith("REF is")
                    kind = "reference mismatch" if wrong else allele.reason
                    summary.skipped[kind] = summary.skipped.get(kind, 0) + 1
                    mismatch = mismatch or (f"line {allele.record.line}: {allele.reason}" if wrong else "")
            contigs |= dict.fromkeys(record.contig for record in records)
            summary.records += len(records)
            summary.alleles += len(alleles)
            summary.scored += len(scored)
            if summary.records <= EARLY:
                check_assembly(variants, summary, PLAINLY_WRONG, mismatch)
            if progress:
                progress("scoring records", summary.records, summary.records)
    check_assembly(variants, summary, MOST_MISMATCHES, mismatch)
    if summary.records and not summary.scored:
        match_contigs(contigs, genome.sequences, variants.name)  # GenomeError with both vocabularies


def agreement(alleles: Sequence[Allele], columns: Mapping[str, Any], scorer: Scorer, genome: Genome) -> list[str]:
    """How far scores in less than float32 agree with those in float32 on the first alleles, in a sentence; none for float32."""
    precision = scorer.predictor.precision
    if precision == "float32":
        return []
    some = [allele.variant for allele in alleles if allele.variant is not None][:COMPARED]
    exact = Scorer(scorer.run, scorer.predictor.device, scorer.predictor.batch_size, scorer.placement)
    _, change = exact.changes(some, genome)
    one, other = columns["MFD_MAX_DLOGIT"][: len(some)], exact.scores(change)["MFD_MAX_DLOGIT"]
    told = f", r = {np.corrcoef(one, other)[0, 1]:.4f}" if len(some) > 2 and one.std() * other.std() > 0 else ""
    return [
        f"scored in {precision}; on the first {len(some)} alleles MFD_MAX_DLOGIT differs from float32 by at most "
        f"{np.abs(one - other).max():.2g}{told}"
    ]


def check_assembly(variants: VariantFile, summary: ScoreSummary, most: float, example: str) -> None:
    """VariantError where more than this share of the reference alleles seen so far disagrees with the genome."""
    mismatches = summary.skipped.get("reference mismatch", 0)
    checked = summary.scored + mismatches
    if checked >= FEWEST_CHECKED and mismatches > most * checked:
        raise VariantError(
            f"{mismatches:,} of {checked:,} reference alleles are not in the genome ({example})",
            path=variants.name, hint="the file belongs to another assembly; give its genome with --fasta",
        )  # fmt: skip


def with_alleles(records: Iterator[Record], genome: Genome) -> Iterator[tuple[list[Record], list[Allele]]]:
    """Chunks of records, and the alleles of each chunk."""
    for chunk in chunks(records):
        yield chunk, [allele for record in chunk for allele in alleles_of(record, genome)]


def chunks(records: Iterator[Record]) -> Iterator[list[Record]]:
    """Runs of at most CHUNK records."""
    batch: list[Record] = []
    for record in records:
        batch.append(record)
        if len(batch) == CHUNK:
            yield batch
            batch = []
    if batch:
        yield batch


def alleles_of(record: Record, genome: Genome) -> list[Allele]:
    """The alternate alleles of a record, each trimmed or with the reason why it is not scored."""
    contig, result = contig_of(record.contig, genome), []
    for number, alt in enumerate(record.alts):
        reason = why_not(record, alt, genome, contig)
        variant = None
        if reason is None and contig is not None:
            variant = Variant(contig, record.position, record.ref, alt).trimmed()
        result.append(Allele(record, number, variant, reason))
    return result


def columns_of(alleles: Sequence[Allele], scorer: Scorer, genome: Genome, per_track: bool) -> dict[str, Any]:
    """The table's columns for scored alleles, in order."""
    variants = [allele.variant for allele in alleles if allele.variant is not None]
    records = [allele.record for allele in alleles]
    return {
        "line": [record.line for record in records], "contig": [record.contig for record in records],
        "position": [record.position for record in records],
        "id": [record.cells[2].decode("utf-8", "replace") for record in records],
        "ref": [record.ref for record in records], "alt": [a.record.alts[a.number] for a in alleles],
        "key": [str(variant) for variant in variants], **scorer.columns(variants, genome, per_track),
    }  # fmt: skip


def info_columns(columns: Mapping[str, Any], scorer: Scorer) -> dict[str, list[str]]:
    """The texts of the INFO fields, one per scored allele."""
    texts = {name: [f"{value:.6g}" for value in columns[name].tolist()] for name in scorer.fields}
    return texts | {"MFD_TRACK": [percent_encoded(name) for name in columns["MFD_TRACK"]]}


def info_of(found: Sequence[int | None], infos: Mapping[str, Sequence[str]]) -> dict[str, str]:
    """INFO entries of one record: one value per alternate allele, a dot where an allele was not scored."""
    return {name: ",".join("." if row is None else texts[row] for row in found) for name, texts in infos.items()}


def percent_encoded(text: str) -> str:
    """A value as it may stand in INFO (VCF 4.3, section 1.2)."""
    return "".join(f"%{ord(c):02X}" if c in " %;=,\t\n\r" else c for c in text)


def skip_row(allele: Allele) -> dict[str, Any]:
    record = allele.record
    return {
        "line": record.line, "contig": record.contig, "position": record.position,
        "id": record.cells[2].decode("utf-8", "replace"), "ref": record.ref[:200],
        "alt": record.alts[allele.number][:200], "reason": allele.reason,
    }  # fmt: skip


def index_of(writer: VcfWriter, place: Mapping[Path, Path], vcf: Path, genome: Genome, summary: ScoreSummary) -> None:
    """Index the compressed output beside it, or say why not."""
    if not writer.sorted:
        summary.warnings.append(
            "the input is not sorted by position: the output has no index (bcftools sort makes one)"
        )
        return
    kinds = ["csi"] if max(genome.lengths.values(), default=0) >= 1 << 29 else ["tbi", "csi"]
    if not any(writer.index(place[vcf], place[Path(f"{vcf}.{kind}")]) for kind in kinds):
        summary.warnings.append("the output could not be indexed: a record lies beyond what an index can hold")


def table_schema(scorer: Scorer, per_track: bool) -> pa.Schema:
    """Columns of the Parquet table, one row per scored allele."""
    text, number = pa.string(), pa.float32()
    columns: list[tuple[str, pa.DataType]] = [("line", pa.int64()), ("contig", text), ("position", pa.int64())]
    columns += [(name, text) for name in ("id", "ref", "alt", "key", "MFD_TRACK")]
    columns += [(name, number) for name in scorer.column_names]
    columns += [(f"track.{track.id}", number) for track in scorer.run.tracks if per_track]
    return pa.schema(columns, metadata=table_metadata(scorer))


def table_metadata(scorer: Scorer) -> dict[str, str]:
    """What the Parquet file says of itself."""
    counts = {}
    if scorer.decomposition is not None:
        for name in scorer.level_names:
            factor, _, level = name.removeprefix("level.").partition("=")
            counts[name] = int(scorer.decomposition.tracks_of(factor, level).sum())
    return {
        "mfd_version": __version__, "mfd_model": scorer.run.digest,
        "mfd_genome": str(scorer.run.about["genome_digest"]), "mfd_tracks_per_level": json.dumps(counts),
    }  # fmt: skip


PLACEMENTS = {
    "centred": "variant in the middle of its bin",
    "grid": "bins of the genome's grid, mean of two near an edge",
}
DESCRIPTIONS = {
    "MFD_MAX_DLOGIT": "Change of the most affected track's logit, alternate minus reference",
    "MFD_SHARED": "Change of the part of the logit that all tracks share, alternate minus reference",
    "MFD_DEBIASED": "Root mean square over tracks of the change of the logit without its technical part",
}


def header_of(variants: VariantFile, scorer: Scorer, genome: Genome, note: str) -> list[bytes]:
    """The header of the output: the input's, our fields in place of older ones, the model and the genome."""
    about = scorer.run.about
    kept = [line for line in variants.header[:-1] if not line.startswith((b"##INFO=<ID=MFD_", b"##mfd_"))]
    ours = []
    for name in scorer.fields:
        text = DESCRIPTIONS.get(name)
        if text is None:
            group = next(group for group in scorer.groups if scorer.field_of(group) == name)
            text = f"Root mean square over tracks of the change of the {group} part of the logit"
        ours.append(_info(name, "Float", f"{text}; not a measure of pathogenicity"))
        if name == "MFD_MAX_DLOGIT":
            ours.append(_info("MFD_TRACK", "String", "Track of MFD_MAX_DLOGIT"))
    digests = f"model={scorer.run.digest},genome={about['genome_digest']}"
    trained = " ".join(about["trained_on"])
    ours += [
        f"##mfd_model=<version={__version__},{digests},head={'conditioned' if scorer.conditioned else 'free'},"
        f'trained_on="{_plain(trained)}">',
        f'##mfd_scoring=<scale=logit,strands={scorer.predictor.strands},placement="{PLACEMENTS[scorer.placement]}",precision={scorer.predictor.precision},'
        'indels="mean of left- and right-anchored windows",background=none>',
    ]
    if note:
        ours.append(f'##mfd_genome="{_plain(note)}"')
    if not variants.contigs:
        ours += [f"##contig=<ID={name},length={length}>" for name, length in genome.lengths.items()]
    return [*kept, *(line.encode() for line in ours), variants.header[-1]]


def _info(name: str, kind: str, text: str) -> str:
    return f'##INFO=<ID={name},Number=A,Type={kind},Description="{_plain(text)}">'


def _plain(text: str) -> str:
    """Text that may stand between the quotes of a header line, whatever a file or a group is called."""
    return re.sub(r'[\x00-\x1f\x7f"\\]', "_", text)


def choose_genome(project: Project, run: Run, fasta: Path | None) -> tuple[Genome, str]:
    """The genome to score on, and a remark for the header: --fasta, else the dataset's, else the project's FASTA.

    Only --fasta may be another genome than the model's: GenomeError otherwise.
    """
    expected = run.about["genome_digest"]
    if fasta is not None:
        genome = read_fasta(fasta)
        found = genome.digest()
        return genome, "" if found == expected else f"another genome than the model's: {fasta.name}, sha256 {found}"
    try:
        manifest = read_manifest(project.dataset)
    except MfdError:
        manifest = {"genome_digest": None}  # no dataset here: the FASTA will do
    if manifest["genome_digest"] == expected:
        file = project.dataset / "genome.arrow"
        if not file.is_file() or sha256_of(file) != manifest["files"][file.name]["sha256"]:
            raise DatasetError("is missing or damaged: its sha256 is not the one in manifest.json", path=file,
                               hint="mfd preprocess --force makes the dataset again, --fasta FILE does without it")  # fmt: skip
        return read_genome(file), ""
    if project.config.data.fasta is None:
        raise GenomeError("there is no dataset here to take the genome from", hint="--fasta FILE")
    path = project.path(project.config.data.fasta)
    genome = read_fasta(path)
    if genome.digest() != expected:
        raise GenomeError(
            "is not the genome that the model was trained on", path=path, hint="--fasta FILE uses it anyway"
        )
    return genome, ""
