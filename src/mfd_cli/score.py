"""`mfd score-variants`: what each alternate allele changes, told apart by group, for every record of a VCF.

Scores are alternate minus reference on the logit scale, both strands averaged, in float32. The head is linear, so the
difference is taken in the latent and every score is a product with it:

    MFD_MAX_DLOGIT, MFD_TRACK   signed change of the most affected track, and its id
    MFD_SHARED                  signed change of what all tracks have in common
    MFD_BIO, MFD_TECH, ...      root mean square over tracks of a group's change, every level weighing the same
    MFD_DEBIASED                the same for everything but the technical part
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
from numpy.typing import NDArray

from mfd_cli import __version__
from mfd_cli.config import Project
from mfd_cli.core.decompose import Decomposition, decompose
from mfd_cli.core.head import ConditionedHead
from mfd_cli.core.predict import Predictor
from mfd_cli.data.dataset import read_genome, read_manifest
from mfd_cli.data.fasta import read_fasta
from mfd_cli.data.sequence import Genome, match_contigs
from mfd_cli.data.variants import Record, Variant, VariantFile, allele_windows, contig_of, open_variants, why_not
from mfd_cli.errors import DatasetError, GenomeError, MfdError, OutputError, VariantError
from mfd_cli.export import ParquetRows, TsvRows, VcfWriter
from mfd_cli.files import check_output, sha256_of, whole_files
from mfd_cli.run_folder import Run

Progress = Callable[[str, int, int], None]
Floats = NDArray[np.float32]
CHUNK = 2000
"""Records that are scored together; memory does not depend on the length of the file."""
MOST_MISMATCHES, FEWEST_CHECKED = 0.05, 20
PLAINLY_WRONG, EARLY = 0.5, 10_000
"""Above this share of mismatches within the first records there is no need to read on."""
SKIP_COLUMNS = ("line", "contig", "position", "id", "ref", "alt", "reason")
TECHNICAL = "technical"
_SHORT = {"biological": "BIO", "technical": "TECH"}


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


class Scorer:
    """A model's weights arranged so that scores are products with the change of the latent."""

    def __init__(self, run: Run, device: torch.device | str = "cpu", batch_size: int = 256) -> None:
        self.run, self.predictor = run, Predictor(run.model, device, batch_size)
        head, model = self.predictor.head, run.model
        self.centre = self.predictor.left + 64  # the variant lies in the middle of the bin
        self.matrix = head.matrix()
        self.conditioned = isinstance(model.head, ConditionedHead)
        self.decomposition: Decomposition | None = decompose(model) if self.conditioned else None
        self.top = slice(0, run.peak_tracks) if run.peak_tracks else slice(0, len(run.tracks))
        self.groups = list(head.groups) if self.conditioned else []
        self.level_names, self.level_matrix = self._levels()

    def field_of(self, group: str) -> str:
        """The INFO field of a group."""
        name = _SHORT.get(group, re.sub("[^A-Z0-9]", "_", group.upper()))
        return f"MFD_GROUP_{name}" if name in ("MAX_DLOGIT", "TRACK", "SHARED", "DEBIASED") else f"MFD_{name}"

    @property
    def fields(self) -> list[str]:
        """The numeric fields, in order."""
        parts = ["MFD_SHARED", *(self.field_of(g) for g in self.groups), "MFD_DEBIASED"] if self.conditioned else []
        return ["MFD_MAX_DLOGIT", *parts]

    def _levels(self) -> tuple[list[str], Floats]:
        """Name `level.FACTOR=LEVEL` and direction over the whole latent of every level that a training track has."""
        latent = self.run.model.settings.latent
        names, rows = list[str](), list[Floats]()
        if self.decomposition is not None:
            for factor, levels in self.decomposition.levels.items():
                place = self.predictor.slices[self.decomposition.group_of[factor]]
                for level in levels:
                    if self.decomposition.tracks_of(factor, level).any():
                        wide = np.zeros(latent, np.float32)
                        wide[place] = self.decomposition.direction(factor, level)
                        names.append(f"level.{factor}={level}")
                        rows.append(wide)
        return names, np.stack(rows) if rows else np.zeros((0, latent), np.float32)

    def changes(self, windows: Sequence[tuple[NDArray[np.uint8], list[NDArray[np.uint8]]]]) -> tuple[Floats, Floats]:
        """Latent of the reference and change of the latent, (alleles, latent) each, from pairs of windows.

        The reference windows of the alleles of one record are often the same array: each goes through the model once.
        """
        unique: dict[bytes, int] = {}
        codes: list[NDArray[np.uint8]] = []

        def place(window: NDArray[np.uint8]) -> int:
            key = window.tobytes()
            if key not in unique:
                unique[key] = len(codes)
                codes.append(window)
            return unique[key]

        refs = [place(ref) for ref, _ in windows]
        alts = [[place(alt) for alt in alternatives] for _, alternatives in windows]
        latents = self.predictor.latents(np.stack(codes))
        reference = latents[refs]
        alternate = np.stack([latents[index].mean(0, dtype=np.float32) for index in alts])
        return reference, alternate - reference

    def scores(self, change: Floats) -> dict[str, Floats]:
        """The numeric fields for changes of the latent (alleles, latent), each (alleles,) float32."""
        head, model = self.predictor.head, self.run.model
        deltas = change @ self.matrix.T  # (alleles, tracks)
        most = np.abs(deltas[:, self.top]).argmax(1)
        result = {"MFD_MAX_DLOGIT": deltas[np.arange(len(change)), most], "track": most}
        if not self.conditioned:
            return result
        shared = head.shared_part(change)
        parts = {group: head.group_part(group, change) for group in self.groups}
        result["MFD_SHARED"] = shared
        for group in self.groups:
            result[self.field_of(group)] = _rms(parts[group], model.track_weights([group]))
        kept = [group for group in self.groups if group != TECHNICAL]
        rest = shared[:, None] + sum(parts[group] for group in kept)
        result["MFD_DEBIASED"] = _rms(rest, model.track_weights(kept))
        return result


def _rms(values: Floats, weights: NDArray[np.float64]) -> Floats:
    """Root of the weighted mean square over tracks, (alleles, tracks) to (alleles,)."""
    result: Floats = np.sqrt(np.square(values, dtype=np.float64) @ weights).astype(np.float32)
    return result


def score_variants(
    run: Run, genome: Genome, source: str | Path, output: Path | str | None = None, *, table: Path | None = None,
    per_track: bool = False, genome_note: str = "", device: torch.device | str = "cpu", batch_size: int = 256,
    force: bool = False, progress: Progress | None = None,
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
    scorer, summary = Scorer(run, device, batch_size), ScoreSummary()
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
    """Score and write chunk by chunk. Raises where no record is on the genome, or too many REF alleles are not."""
    contigs: dict[str, None] = {}
    mismatch = ""
    for records in chunks(variants.records):
        alleles = [allele for record in records for allele in alleles_of(record, genome)]
        scored = [allele for allele in alleles if allele.reason is None]
        rows = score_chunk(scored, scorer, genome, per_track) if scored else []
        by_allele = {(a.record.line, a.number): row for a, row in zip(scored, rows)}
        for record in records:
            found = [by_allele.get((record.line, number)) for number in range(len(record.alts))]
            writer.write(record, info_of(found, scorer) if any(found) else {})
        parquet.write(rows)
        for allele in alleles:
            if allele.reason is not None:
                wrong = allele.reason.startswith("REF is")
                kind = "reference mismatch" if wrong else allele.reason
                summary.skipped[kind] = summary.skipped.get(kind, 0) + 1
                mismatch = mismatch or (f"line {allele.record.line}: {allele.reason}" if wrong else "")
        skips.write(skip_row(allele) for allele in alleles if allele.reason is not None)
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


def check_assembly(variants: VariantFile, summary: ScoreSummary, most: float, example: str) -> None:
    """VariantError where more than this share of the reference alleles seen so far disagrees with the genome."""
    mismatches = summary.skipped.get("reference mismatch", 0)
    checked = summary.scored + mismatches
    if checked >= FEWEST_CHECKED and mismatches > most * checked:
        raise VariantError(
            f"{mismatches:,} of {checked:,} reference alleles are not in the genome ({example})",
            path=variants.name, hint="the file belongs to another assembly; give its genome with --fasta",
        )  # fmt: skip


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


def score_chunk(alleles: Sequence[Allele], scorer: Scorer, genome: Genome, per_track: bool) -> list[dict[str, Any]]:
    """One row of the table per scored allele, in order."""
    windows = [
        allele_windows(allele.variant, genome, scorer.predictor.window, scorer.centre)
        for allele in alleles
        if allele.variant is not None
    ]
    reference, change = scorer.changes(windows)
    scores, head = scorer.scores(change), scorer.predictor.head
    top = scores.pop("track")
    logits = head.logits(reference)[np.arange(len(top)), top]
    if not scorer.run.peak_tracks:
        logits = np.full_like(logits, np.nan)  # a signal has no probability
    levels = change @ scorer.level_matrix.T
    tracks = change @ scorer.matrix.T if per_track else None
    rows = []
    for i, allele in enumerate(alleles):
        record = allele.record
        row: dict[str, Any] = {
            "line": record.line, "contig": record.contig, "position": record.position,
            "id": record.cells[2].decode("utf-8", "replace"), "ref": record.ref, "alt": record.alts[allele.number],
            "key": str(allele.variant), "MFD_TRACK": scorer.run.tracks[top[i]].id,
            **{name: np.float32(values[i]) for name, values in scores.items()},
            "ref_probability": np.float32(_sigmoid(logits[i])),
            "alt_probability": np.float32(_sigmoid(logits[i] + scores["MFD_MAX_DLOGIT"][i])),
        }  # fmt: skip
        row |= dict(zip(scorer.level_names, levels[i]))
        if tracks is not None:
            row |= {f"track.{track.id}": value for track, value in zip(scorer.run.tracks, tracks[i])}
        rows.append(row)
    return rows


def _sigmoid(x: float) -> float:
    return float(1 / (1 + np.exp(-np.float64(x))))


def info_of(found: Sequence[Mapping[str, Any] | None], scorer: Scorer) -> dict[str, str]:
    """INFO entries of one record: one value per alternate allele, a dot where an allele was not scored."""
    entries = {name: ",".join("." if row is None else f"{row[name]:.6g}" for row in found) for name in scorer.fields}
    entries["MFD_TRACK"] = ",".join("." if row is None else percent_encoded(row["MFD_TRACK"]) for row in found)
    return entries


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
    columns += [(name, number) for name in (*scorer.fields, "ref_probability", "alt_probability", *scorer.level_names)]
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
        f'##mfd_scoring=<scale=logit,strands={scorer.predictor.strands},placement="variant in the middle of its bin",'
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
