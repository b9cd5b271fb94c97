"""Records of a VCF on their way to a model: which of them, in chunks, as normalised alleles or with the reason why not."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, replace
from itertools import chain
from typing import Any

import numpy as np

from mfd_cli.base.errors import VariantError
from mfd_cli.formats.vcf_reader import Record, VariantFile
from mfd_cli.genome.alleles import Variant, why_not
from mfd_cli.genome.intervals import Interval
from mfd_cli.genome.sequence import Genome, aliases, contig_of
from mfd_cli.variants.options import CheckRef

CHUNK = 512
"""Records that are scored together; memory does not depend on the length of the file."""
MOST_MISMATCHES = 0.05
"""Share of reference alleles that may disagree with the genome."""
SHOWN_BASES = 200
"""Bases of an allele in the list of skipped ones; some are megabases long."""
SKIP_COLUMNS = ("line", "contig", "position", "id", "ref", "alt", "reason")


@dataclass(frozen=True)
class Allele:
    """One alternate allele on its way through the model: its record, its number, and the normalised variant (and where the
    file has it) or a reason."""

    record: Record
    number: int
    variant: Variant | None
    reason: str | None
    written: Variant | None = None


def records_within(records: Iterator[Record], regions: Sequence[Interval], genome: Genome) -> Iterator[Record]:
    """Yield the records whose reference allele overlaps one of the regions (of the genome's contigs)."""
    spans_of: dict[str, list[tuple[int, int]]] = {}
    for region in regions:
        spans_of.setdefault(region.contig, []).append((region.start, region.end))
    joined = {contig: _disjoint(spans) for contig, spans in spans_of.items()}
    for record in records:
        starts, ends = joined.get(contig_of(record.contig, genome) or "", (np.zeros(0), np.zeros(0)))
        start = record.position - 1
        number = int(np.searchsorted(ends, start, "right"))  # the first region that ends behind the record's start
        if number < len(starts) and starts[number] < start + len(record.ref):
            yield record


def _disjoint(spans: Sequence[tuple[int, int]]) -> tuple[np.ndarray, np.ndarray]:
    """Return the starts and ends of the union of spans, sorted."""
    merged: list[list[int]] = []
    for start, end in sorted(spans):
        if merged and start <= merged[-1][1]:
            merged[-1][1] = max(merged[-1][1], end)
        else:
            merged.append([start, end])
    return np.array([start for start, _ in merged]), np.array([end for _, end in merged])


def chunks(records: Iterator[Record], gap: int = 0) -> Iterator[list[Record]]:
    """Yield runs of CHUNK records; where `gap` (bp) is given up to twice as many, so as not to part records within it."""
    batch: list[Record] = []
    for record in records:
        if len(batch) >= CHUNK:
            last = batch[-1]
            near = record.contig == last.contig and record.position - last.position - len(last.ref) <= gap
            if not gap or not near or len(batch) >= 2 * CHUNK:
                yield batch
                batch = []
        batch.append(record)
    if batch:
        yield batch


def alleles_of(record: Record, genome: Genome) -> list[Allele]:
    """Return the alternate alleles of a record, each normalised or with the reason why it is not scored."""
    contig, result = contig_of(record.contig, genome), []
    for number, alt in enumerate(record.alts):
        reason = why_not(record.position, record.ref, alt, genome, contig)
        if reason is None and contig is not None:
            # Where REF has an N or R the genome knows better.
            ref = genome.bases(contig, record.position - 1, record.position - 1 + len(record.ref))
            variant = Variant(contig, record.position, ref, alt)
            result.append(Allele(record, number, variant.normalised(genome), None, variant.as_written()))
        else:
            result.append(Allele(record, number, None, reason))
    return result


def skip_row(allele: Allele) -> dict[str, Any]:
    """Return the row of skipped.tsv for an allele that is not scored; long alleles are cut."""
    record = allele.record
    return {
        "line": record.line,
        "contig": record.contig,
        "position": record.position,
        "id": record.cells[2].decode("utf-8", "replace"),
        "ref": record.ref[:SHOWN_BASES],
        "alt": record.alts[allele.number][:SHOWN_BASES],
        "reason": allele.reason,
    }


def peeked(variants: VariantFile) -> tuple[Record | None, VariantFile]:
    """Return the first record, and the file with all of them still to come."""
    first = next(variants.records, None)
    return first, replace(variants, records=chain([] if first is None else [first], variants.records))


def naming(example: str, genome: Genome) -> Callable[[str], str]:
    """Return the function that renames a genome contig in the style of a file where one is called `example` (chr1/1, M/MT)."""
    known = contig_of(example, genome)
    if known is None or known == example:
        return str
    with_chr = example.startswith("chr")
    return lambda name: next((a for a in aliases(name) if a.startswith("chr") == with_chr and a != name), name)


def check_lengths(variants: VariantFile, genome: Genome, check_ref: CheckRef) -> list[str]:
    """Return a warning where a contig's length in the header is not the genome's; VariantError with check_ref `error`."""
    wrong = [
        (name, length, genome.lengths[known])
        for name, length in variants.lengths.items()
        if (known := contig_of(name, genome)) is not None and length != genome.lengths[known]
    ]
    if not wrong:
        return []
    name, in_header, in_genome = wrong[0]
    more = f" (and {len(wrong) - 1} more)" if len(wrong) > 1 else ""
    text = f"the header says that {name} has {in_header:,} bp, in the genome it has {in_genome:,}{more}"
    if check_ref == "error":
        raise VariantError(
            text, path=variants.name, hint="the file belongs to another assembly; --fasta gives its genome"
        )
    return [text]
