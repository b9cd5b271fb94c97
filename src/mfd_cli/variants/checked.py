"""The records of a file, read ahead in chunks, counted, and judged: does the file belong to the genome at all?"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

from mfd_cli.base.errors import VariantError
from mfd_cli.base.progress import Progress
from mfd_cli.base.threads import ahead
from mfd_cli.formats.vcf_reader import Record, VariantFile, open_variants
from mfd_cli.genome.alleles import BEYOND, LONGEST, MISMATCH
from mfd_cli.genome.sequence import Genome, match_contigs
from mfd_cli.variants.options import ScoreOptions
from mfd_cli.variants.phasing import sample_column
from mfd_cli.variants.records import MOST_MISMATCHES, Allele, alleles_of, check_lengths, chunks, records_within
from mfd_cli.variants.summary import ScoreSummary

FEWEST_CHECKED = 20
"""With fewer reference alleles than this, a share of mismatches says little."""
PLAINLY_WRONG, EARLY = 0.5, 10_000
"""Above this share of mismatches within the first records there is no need to read on."""
REFERENCE_MISMATCH = "reference mismatch"
"""The reason under which all alleles are counted whose REF is not in the genome."""


@contextmanager
def checked_header(
    source: str | Path, genome: Genome, options: ScoreOptions, summary: ScoreSummary
) -> Iterator[tuple[VariantFile, int | None]]:
    """Open a file of variants whose header fits the genome; with it goes the column of the sample whose haplotypes count, None
    without --phased. Raises VariantError where no sample is chosen, or (check_ref `error`) a contig has another length."""
    with open_variants(source) as variants:
        summary.warnings += check_lengths(variants, genome, options.check_ref)
        yield variants, sample_column(variants.header[-1], options.sample, variants.name) if options.phased else None


@dataclass
class CheckedRecords:
    """The chunks of a file, which are counted in `summary` as they are taken.

    `first_mismatch` is the line and the reason of the first reference allele that is not in the genome.
    """

    variants: VariantFile
    genome: Genome
    options: ScoreOptions
    summary: ScoreSummary
    progress: Progress | None = None
    doing: str = "scoring records"
    first_mismatch: str = ""

    def __iter__(self) -> Iterator[tuple[list[Record], list[Allele]]]:
        """Yield chunks of records and their alleles; a chunk is counted when the next one is asked for.

        Raises VariantError where too many REF alleles are not in the genome, GenomeError where no record is on it.
        """
        contigs: dict[str, None] = {}
        summary = self.summary
        for records, alleles in ahead(self._read()):
            yield records, alleles
            self._count(alleles)
            contigs |= dict.fromkeys(record.contig for record in records)
            summary.records += len(records)
            if summary.records <= EARLY:
                self._check_assembly(finished=False)
            if self.progress:
                self.progress(self.doing, summary.records, summary.records)
        self._check_assembly(finished=True)
        if summary.records and not summary.scored:
            match_contigs(contigs, self.genome.sequences, self.variants.name)  # GenomeError with both vocabularies

    def _read(self) -> Iterator[tuple[list[Record], list[Allele]]]:
        """Yield chunks of records and the alleles of each; neighbours that are to be scored together stay in one chunk."""
        records = self.variants.records
        if self.options.regions:
            records = records_within(records, self.options.regions, self.genome)
        for chunk in chunks(records, LONGEST if self.options.phased else 0):
            yield chunk, [allele for record in chunk for allele in alleles_of(record, self.genome)]

    def _count(self, alleles: Sequence[Allele]) -> None:
        """Add a chunk to the summary. Raises VariantError for the first mismatch where that is asked for."""
        summary = self.summary
        for allele in alleles:
            if allele.reason is None:
                continue
            mismatch = allele.reason.startswith(MISMATCH)
            reason = REFERENCE_MISMATCH if mismatch else allele.reason
            summary.skipped[reason] = summary.skipped.get(reason, 0) + 1
            if mismatch and self.options.check_ref == "error":
                raise VariantError(
                    allele.reason, path=self.variants.name, line=allele.record.line, hint="--check-ref skip goes on"
                )
            if mismatch or reason == BEYOND:
                self.first_mismatch = self.first_mismatch or f"line {allele.record.line}: {allele.reason}"
        summary.alleles += len(alleles)
        summary.scored += sum(allele.reason is None for allele in alleles)

    def _check_assembly(self, finished: bool) -> None:
        """Raise VariantError where too many of the reference alleles seen so far disagree with the genome.

        Too many are MOST_MISMATCHES of all; while there is more to come, or where they are few, PLAINLY_WRONG.
        """
        mismatches = sum(self.summary.skipped.get(reason, 0) for reason in (REFERENCE_MISMATCH, BEYOND))
        checked = self.summary.scored + mismatches
        few = checked < FEWEST_CHECKED
        most = PLAINLY_WRONG if few or not finished else MOST_MISMATCHES
        if (few and not finished) or mismatches <= most * checked:
            return
        message = f"{mismatches:,} of {checked:,} reference alleles are not in the genome ({self.first_mismatch})"
        if self.options.check_ref != "warn":
            raise VariantError(
                message,
                path=self.variants.name,
                hint="the file belongs to another assembly; give its genome with --fasta, or --check-ref warn goes on",
            )
        if finished:
            self.summary.warnings.append(f"{message}: the file seems to belong to another assembly")
