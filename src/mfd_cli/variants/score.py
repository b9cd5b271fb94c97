"""`mfd score-variants`: what each alternate allele changes, told apart by group, for every record of a VCF.

Records are read, scored and written at the same time, in chunks, so that memory does not depend on the length of the file.
What the scores are stands in effects.py, what the VCF says of them in vcf_fields.py.
"""

from __future__ import annotations

import os
import time
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import torch

from mfd_cli.base.errors import MfdError, OutputError, VariantError
from mfd_cli.base.files import check_output, whole_files
from mfd_cli.base.progress import Progress
from mfd_cli.base.threads import ahead, in_background
from mfd_cli.formats.tables import ParquetRows, TsvRows
from mfd_cli.formats.vcf_reader import Record, VariantFile, open_variants
from mfd_cli.formats.vcf_writer import VcfWriter
from mfd_cli.genome.alleles import BEYOND, LONGEST, MISMATCH, Variant
from mfd_cli.genome.sequence import Genome, match_contigs
from mfd_cli.runs.folder import Run
from mfd_cli.variants.background import Background, find_background
from mfd_cli.variants.effects import Scorer, ScoreSettings
from mfd_cli.variants.options import ScoreFiles, ScoreOptions, output_places
from mfd_cli.variants.parts import ScoreParts, parts_key
from mfd_cli.variants.phasing import FIRST_SAMPLE, Group, carried_by, groups_of, neighbours, sample_column, together
from mfd_cli.variants.records import (
    MOST_MISMATCHES,
    SKIP_COLUMNS,
    Allele,
    alleles_of,
    check_lengths,
    chunks,
    naming,
    peeked,
    skip_row,
    within,
)
from mfd_cli.variants.table import table_metadata
from mfd_cli.variants.vcf_fields import OTHER_FIELDS, header_of, info_columns, info_of

FEWEST_CHECKED = 20
PLAINLY_WRONG, EARLY = 0.5, 10_000
"""Above this share of mismatches within the first records there is no need to read on."""
COMPARED = 256
"""Alleles that are scored in float32 too where another precision is asked for, to say how far the scores agree."""
FEW_SAMPLES = 8
"""Samples whose haplotypes are looked at for variants that lie close together."""


@dataclass
class ScoreSummary:
    """What was scored and what was not."""

    outputs: list[Path] = field(default_factory=list)
    records: int = 0
    alleles: int = 0
    scored: int = 0
    skipped: dict[str, int] = field(default_factory=dict)
    warnings: list[str] = field(default_factory=list)
    background: str = ""
    flagged: dict[str, int] = field(default_factory=dict)
    phased: int = 0
    close: int = 0
    taken: int = 0
    seconds: float = 0.0

    def told_skipped(self) -> str:
        """How many alleles are not scored, and why."""
        reasons = ", ".join(
            f"{count:,} {why}" for why, count in sorted(self.skipped.items(), key=lambda pair: -pair[1])
        )
        return f"{self.alleles - self.scored:,} not scored{f' ({reasons})' if reasons else ''}"

    def lines(self) -> list[str]:
        rate = self.scored / self.seconds if self.seconds else 0
        told = [f"{count:,} {name}" for name, count in sorted(self.flagged.items())]
        told += [f"{self.phased:,} scored together with others of their haplotype"] if self.phased else []
        told += [f"{self.taken:,} taken over from a run that was interrupted"] if self.taken else []
        return [
            f"{self.records:,} records, {self.alleles:,} alternate alleles: {self.scored:,} scored "
            f"({rate:,.0f}/s), {self.told_skipped()}",
            *([f"of the scored: {', '.join(told)}"] if told else []),
            *([self.background] if self.background else []),
            *(f"wrote {path}" for path in self.outputs),
        ]


def score_variants(
    runs: Run | Sequence[Run],
    genome: Genome,
    source: str | Path,
    options: ScoreOptions | None = None,
    *,
    settings: ScoreSettings | None = None,
    device: torch.device | str = "cpu",
    batch_size: int = 256,
    progress: Progress | None = None,
) -> ScoreSummary:
    """Score every record of a VCF or BCF and write it back, annotated, with a Parquet table and the skipped alleles.

    Several runs of the same tracks are averaged. Raises VariantError for a broken record or when more than 5 % of the
    reference alleles disagree with the genome (unless `check_ref` is `warn`); then nothing is written.
    """
    started, options = time.monotonic(), options or ScoreOptions()
    places = free_places(source, options)
    scorer, summary = Scorer(runs, device, batch_size, settings), ScoreSummary()
    folder = scorer.run.path if len(scorer.runs) == 1 else scorer.run.path.parent
    found, remark = find_background(folder, scorer, genome.digest())
    summary.warnings += [remark] if remark else []
    summary.background = "" if remark else "no background, so no quantiles (mfd background makes one)"
    if found is not None:
        summary.background = (
            f"quantiles against {found.count:,} background variants ({found.source}); smallest p {found.smallest_p:.2g}"
        )
    with open_variants(source) as variants:
        summary.warnings += check_lengths(variants, genome, options.check_ref)
        column = sample_column(variants.header[-1], options.sample, variants.name) if options.phased else None
        parts = ScoreParts(places.vcf, parts_key(scorer, genome.digest(), options.per_track))
        work = Work(scorer, genome, options, found, column, summary, parts, progress)
        try:
            work.run(variants, places)
        except MfdError:
            parts.remove()  # the same run would end in the same way
            raise
        parts.remove()
        summary.taken = parts.taken
    summary.seconds = time.monotonic() - started
    return summary


def free_places(source: str | Path, options: ScoreOptions) -> ScoreFiles:
    """Where the outputs go. OutputError where something is in the way, or it is the input."""
    places = output_places(source, options)
    for path in places.files():
        check_output(path, options.force)
        if path.exists() and Path(source).exists() and path.samefile(source):
            raise OutputError("is the input itself", path=path, hint="-o FILE writes to another file")
    return places


# -- the work ----------------------------------------------------------------------------------------------------------


@dataclass
class Work:
    """One file on its way through: chunk by chunk, reading, scoring and writing side by side."""

    scorer: Scorer
    genome: Genome
    options: ScoreOptions
    background: Background | None
    sample: int | None
    summary: ScoreSummary
    parts: ScoreParts
    progress: Progress | None
    doing: str = "scoring records"
    mismatch: str = ""

    def run(self, variants: VariantFile, places: ScoreFiles) -> None:
        """Score all records and publish the results together."""
        files = places.files()
        with whole_files(*files) as temporary:
            place = dict(zip(files, temporary))
            vcf = place[places.vcf] if places.vcf is not None else None
            writer = VcfWriter(vcf, places.kind, (*self.scorer.fields, *OTHER_FIELDS))
            table = ParquetRows(place[places.table] if places.table is not None else None, self.schema())
            skipped = place[places.skipped] if places.skipped is not None else Path(os.devnull)
            with writer, table, TsvRows(skipped, SKIP_COLUMNS) as skips:
                phased = (
                    variants.header[-1].split(b"\t")[self.sample].decode("utf-8", "replace") if self.sample else None
                )
                first, variants = peeked(variants)
                told = naming(first.contig if first else "", self.genome)
                writer.write_header(
                    header_of(
                        variants, self.scorer, self.genome, self.options.genome_note, self.background, phased, told
                    )
                )
                self.score_all(variants, writer, table, skips)
            if vcf is not None and places.kind in ("z", "b"):
                self.index(writer, vcf, places, place)
            self.summary.outputs = [path for path in files if place[path].exists()]
            for path in places.indexes:
                path.unlink(missing_ok=True)  # an older output's index must never lie beside the new output

    def score_all(self, variants: VariantFile, writer: VcfWriter, table: ParquetRows, skips: TsvRows) -> None:
        """Raises as `checked_chunks` does."""
        summary = self.summary

        def write(alleles: Sequence[Allele], records: Sequence[Record], columns: dict[str, Any]) -> None:
            place = {(a.record.line, a.number): i for i, a in enumerate(a for a in alleles if a.reason is None)}
            infos = info_columns(columns, self.scorer)
            for record in records:
                found = [place.get((record.line, number)) for number in range(len(record.alts))]
                writer.write(record, info_of(found, infos) if any(row is not None for row in found) else {})
            table.write(columns)
            skips.write(skip_row(allele) for allele in alleles if allele.reason is not None)

        with in_background() as later:
            for records, alleles in self.checked_chunks(variants):
                scored = [allele for allele in alleles if allele.reason is None]
                columns = self.columns(scored, records)
                if scored and not summary.scored:
                    summary.warnings += self.agreement(scored, columns)
                later(write, alleles, records, columns)
                for flag in (flag for cell in columns["MFD_FLAGS"] if cell != "." for flag in cell.split("&")):
                    summary.flagged[flag] = summary.flagged.get(flag, 0) + 1
        if summary.close and not self.options.phased:
            summary.warnings.append(
                f"{summary.close:,} alleles have another of their haplotype within a window; each was scored on the reference "
                "(--phased scores close neighbours together)"
            )

    def checked_chunks(self, variants: VariantFile) -> Iterator[tuple[list[Record], list[Allele]]]:
        """Chunks of records, read ahead, and their alleles, which are counted when the next chunk is asked for. Raises where no
        record is on the genome, or too many REF alleles are not."""
        contigs: dict[str, None] = {}
        summary = self.summary
        for records, alleles in ahead(self.chunks(variants)):
            yield records, alleles
            self.count(alleles, variants)
            contigs |= dict.fromkeys(record.contig for record in records)
            summary.records += len(records)
            if summary.records <= EARLY:
                self.check_assembly(variants, finished=False)
            if self.progress:
                self.progress(self.doing, summary.records, summary.records)
        self.check_assembly(variants, finished=True)
        if summary.records and not summary.scored:
            match_contigs(contigs, self.genome.sequences, variants.name)  # GenomeError with both vocabularies

    def chunks(self, variants: VariantFile) -> Iterator[tuple[list[Record], list[Allele]]]:
        """Chunks of records, and the alleles of each chunk."""
        records = variants.records
        if self.options.regions:
            records = within(records, self.options.regions, self.genome)
        for chunk in chunks(records, LONGEST if self.options.phased else 0):
            yield chunk, [allele for record in chunk for allele in alleles_of(record, self.genome)]

    def columns(self, alleles: Sequence[Allele], records: Sequence[Record]) -> dict[str, Any]:
        """The table's columns for scored alleles, in order."""
        own = [allele.variant for allele in alleles if allele.variant is not None]
        written = [allele.written for allele in alleles if allele.written is not None]
        variants, groups = together(written, own, self.groups(alleles, written), self.genome)
        self.summary.phased += len(groups)
        told = [allele.record for allele in alleles]
        keys = [variant.key(self.genome) for variant in own]
        columns: dict[str, Any] = {
            "line": [record.line for record in told],
            "contig": [record.contig for record in told],
            "position": [record.position for record in told],
            "id": [record.cells[2].decode("utf-8", "replace") for record in told],
            "ref": [record.ref for record in told],
            "alt": [a.record.alts[a.number] for a in alleles],
            "key": keys,
            **self.parts.columns(variants, lambda: self.scores(variants)),
        }
        if self.background is not None:
            columns |= self.background.columns(columns)
        if self.options.phased:
            columns["phased_with"] = [_company(i, groups, keys) for i in range(len(own))]
            columns["haplotype"] = [groups[i].haplotype if i in groups else None for i in range(len(own))]
        return columns | self.annotations(own)

    def scores(self, variants: Sequence[Variant]) -> dict[str, Any]:
        """What the models say of variants."""
        return self.scorer.columns(variants, self.genome, self.options.per_track)

    def annotations(self, variants: Sequence[Variant]) -> dict[str, Any]:
        """Genes and elements at the variants."""
        contigs = [variant.contig for variant in variants]
        starts, ends = (np.array([getattr(v, name) for v in variants], np.int64) for name in ("start", "end"))
        found: dict[str, Any] = {}
        if self.options.genes is not None:
            found |= self.options.genes.annotate(contigs, starts, ends)
        for elements in self.options.elements:
            found[f"in.{elements.name}"] = elements.annotate(contigs, starts, ends)
        return found

    def groups(self, alleles: Sequence[Allele], variants: Sequence[Variant]) -> dict[int, Group]:
        """With --phased the alleles that are scored together; otherwise none, but close neighbours are counted."""
        pairs = [(allele.record, allele.number) for allele in alleles]
        if self.sample is not None:
            return groups_of(variants, carried_by(pairs, self.sample))
        samples = range(
            FIRST_SAMPLE, min(len(pairs[0][0].cells), FIRST_SAMPLE + FEW_SAMPLES) if pairs else FIRST_SAMPLE
        )
        near = self.scorer.members[0].predictor.window // 2
        close = [neighbours(variants, own, near) for column in samples for own in carried_by(pairs, column).values()]
        self.summary.close += len(set().union(*close))
        return {}

    def count(self, alleles: Sequence[Allele], variants: VariantFile) -> None:
        """Add a chunk to the summary; the first mismatch stops where that is asked for."""
        summary = self.summary
        for allele in alleles:
            if allele.reason is None:
                continue
            wrong = allele.reason.startswith(MISMATCH)
            kind = "reference mismatch" if wrong else allele.reason
            summary.skipped[kind] = summary.skipped.get(kind, 0) + 1
            if wrong and self.options.check_ref == "error":
                raise VariantError(
                    allele.reason, path=variants.name, line=allele.record.line, hint="--check-ref skip goes on"
                )
            if wrong or kind == BEYOND:
                self.mismatch = self.mismatch or f"line {allele.record.line}: {allele.reason}"
        summary.alleles += len(alleles)
        summary.scored += sum(allele.reason is None for allele in alleles)

    def agreement(self, alleles: Sequence[Allele], columns: Mapping[str, Any]) -> list[str]:
        """How far scores in less than float32 agree with those in float32 on the first alleles, in a sentence."""
        settings = self.scorer.settings
        if settings.precision == "float32" or self.options.phased:
            return []
        some = [allele.variant for allele in alleles if allele.variant is not None][:COMPARED]
        full = ScoreSettings(settings.placement, "float32", settings.tracks, settings.fixes)
        exact = Scorer(self.scorer.runs, self.scorer.device, self.scorer.batch_size, full)
        one, other = columns["MFD_MAX_DLOGIT"][: len(some)], exact.columns(some, self.genome)["MFD_MAX_DLOGIT"]
        told = f", r = {np.corrcoef(one, other)[0, 1]:.4f}" if len(some) > 2 and one.std() * other.std() > 0 else ""
        return [
            f"scored in {settings.precision}; on the first {len(some)} alleles MFD_MAX_DLOGIT differs from float32 by at "
            f"most {np.abs(one - other).max():.2g}{told}"
        ]

    def check_assembly(self, variants: VariantFile, finished: bool) -> None:
        """VariantError where too many of the reference alleles seen so far disagree with the genome.

        Too many are MOST_MISMATCHES of all; while there is more to come, or where they are few, PLAINLY_WRONG.
        """
        mismatches = sum(self.summary.skipped.get(kind, 0) for kind in ("reference mismatch", BEYOND))
        checked = self.summary.scored + mismatches
        few = checked < FEWEST_CHECKED
        most = PLAINLY_WRONG if few or not finished else MOST_MISMATCHES
        if (few and not finished) or mismatches <= most * checked:
            return
        told = f"{mismatches:,} of {checked:,} reference alleles are not in the genome ({self.mismatch})"
        if self.options.check_ref != "warn":
            raise VariantError(
                told,
                path=variants.name,
                hint="the file belongs to another assembly; give its genome with --fasta, or --check-ref warn goes on",
            )
        if finished:
            self.summary.warnings.append(f"{told}: the file seems to belong to another assembly")

    def index(self, writer: VcfWriter, vcf: Path, places: ScoreFiles, place: Mapping[Path, Path]) -> None:
        """Index the compressed output beside it, or say why not."""
        wanted = self.options.index
        if wanted == "none":
            return
        problem = "" if writer.sorted else "the input is not sorted by position (bcftools sort makes it so)"
        long = max(self.genome.lengths.values(), default=0) >= 1 << 29
        kinds = [wanted] if wanted != "auto" else ["csi"] if long or places.kind == "b" else ["tbi", "csi"]
        if not problem and not any(writer.index(vcf, place[Path(f"{places.vcf}.{kind}")]) for kind in kinds):
            problem = "a record lies beyond what an index can hold"
        if problem and wanted != "auto":
            raise VariantError(f"the output cannot have a {wanted} index: {problem}")
        if problem:
            self.summary.warnings.append(f"the output has no index: {problem}")

    # -- the table -----------------------------------------------------------------------------------------------------

    def schema(self) -> pa.Schema:
        """Columns of the Parquet table, one row per scored allele."""
        text, number, scorer, options = pa.string(), pa.float32(), self.scorer, self.options
        columns: list[tuple[str, pa.DataType]] = [("line", pa.int64()), ("contig", text), ("position", pa.int64())]
        columns += [(name, text) for name in ("id", "ref", "alt", "key", "MFD_TRACK", "MFD_FLAGS")]
        if options.genes is not None:
            columns += [("gene", text), ("tss_distance", pa.int64()), ("within_gene", text)]
        columns += [(f"in.{elements.name}", text) for elements in options.elements]
        if options.phased:
            columns += [("phased_with", text), ("haplotype", pa.int64())]
        first = scorer.fields
        columns += [(name, number) for name in first]
        columns += [(name, number) for name in (self.background.column_names if self.background else ())]
        columns += [(name, number) for name in scorer.column_names if name not in first]
        columns += [(f"track.{name}", number) for name in scorer.panel.ids if options.per_track]
        return pa.schema(columns, metadata=table_metadata(scorer, self.background))


def _company(number: int, groups: Mapping[int, Group], keys: Sequence[str]) -> str:
    return ",".join(keys[i] for i in groups[number].members if i != number) if number in groups else ""
