"""A VCF that `mfd score-variants` wrote: its strongest variants, and the records of some regions."""

from __future__ import annotations

import heapq
import re
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import NamedTuple

from mfd_cli.base.errors import VariantError, nearest
from mfd_cli.formats.gff import unquote
from mfd_cli.formats.vcf_reader import Record, open_variants
from mfd_cli.genome.intervals import Interval
from mfd_cli.genome.sequence import match_contigs
from mfd_cli.view.shown import Table, Track, VariantsTrack, overlaps

STRONGEST_BY = "MFD_MAX_DLOGIT"
INFO = 7
"""The column of a record that holds our fields."""
LONGEST_ALLELE = 12
"""Bases of an allele that a cell shows in full."""
_FIELD = re.compile(rb"##INFO=<ID=(MFD_\w+),Number=A,Type=(\w+)")
_HEADER = "##fileformat=VCFv4.2\n#CHROM\tPOS\tID\tREF\tALT\tQUAL\tFILTER\tINFO\n"


class ScoredAllele(NamedTuple):
    """An alternate allele of a record, by its number, and the size of its score."""

    record: Record
    number: int
    size: float


@dataclass(frozen=True)
class ScoredVcf:
    """A scored VCF. `names` are the genome's names of its contigs; `fields` our INFO fields, `by` the one by whose size a
    variant is strong, `most` how many are listed."""

    path: Path
    lengths: Mapping[str, int]
    names: Mapping[str, str]
    fields: Sequence[str]
    by: str
    most: int

    def tables(self, within: Sequence[Interval]) -> list[Table]:
        """Return the table of the strongest variants. VariantError where none of the file is scored."""
        alleles = (one for one in self._alleles() if not within or overlaps(self._place(one.record), within))
        strongest = heapq.nlargest(self.most, alleles, key=lambda one: one.size)
        if not (strongest or within):
            raise VariantError("no variant in it is scored", path=self.path)
        about = f"The alleles of {self.path.name} whose {self.by} is largest in size."
        places = [self._place(one.record) for one in strongest]
        return [Table("Strongest variants", about, [self._row(one) for one in strongest], places)]

    def tracks(self, regions: Sequence[Interval]) -> list[Track]:
        """Return the scored records of the regions with our fields; other fields and genotypes are left out."""
        near = (record for record in self._scored() if overlaps(self._place(record), regions))
        lines = [_line(record, self.names[record.contig]) for record in near]
        return [VariantsTrack(self.path.name, _HEADER + "".join(lines))]

    def _row(self, one: ScoredAllele) -> dict[str, str]:
        """Return the cells of an allele as they stand in the file; percent-encoded text is decoded. VariantError where another
        field of ours does not fit the alleles."""
        record = one.record
        alleles = f"{_short(record.ref)}>{_short(record.alts[one.number])}"
        texts = {name: text.split(",") for name, text in mfd_fields(record).items()}
        if any(len(values) != len(record.alts) for values in texts.values()):
            raise self._damaged("a field has not one value for each alternate allele", record)
        # The field that they are sorted by comes first.
        scores = {name: unquote(texts[name][one.number]) if name in texts else "" for name in (self.by, *self.fields)}
        name = record.cells[2].decode("utf-8", "replace")
        row = {"variant": f"{self.names[record.contig]}:{record.position} {alleles}", **scores}
        return row | {"id": "" if name == "." else name}

    def _place(self, record: Record) -> Interval:
        """Return the bases that a record replaces."""
        contig, start = self.names[record.contig], record.position - 1
        return Interval(contig, start, min(start + len(record.ref), self.lengths[contig]))

    def _alleles(self) -> Iterator[ScoredAllele]:
        """Yield every allele that was scored. VariantError where its score is no number, or alleles have none."""
        entry = re.compile(rb"(?:^|;)" + self.by.encode() + rb"=([^;]*)")
        for record in self._scored():
            match = entry.search(record.cells[INFO])
            texts = match[1].split(b",") if match else []
            if match and len(texts) != len(record.alts):
                raise self._damaged(f"has {len(texts)} values of {self.by} for {len(record.alts)} alleles", record)
            for number, text in enumerate(texts):
                if text == b".":
                    continue
                try:
                    yield ScoredAllele(record, number, abs(float(text)))
                except ValueError:
                    raise self._damaged(f"{self.by} is no number ({text[:40]!r})", record) from None

    def _scored(self) -> Iterator[Record]:
        """Yield the records that have scores, on contigs that are known."""
        with open_variants(self.path) as variants:
            for record in variants.records:
                if record.contig in self.names and len(record.cells) > INFO and b"MFD_" in record.cells[INFO]:
                    yield record

    def _damaged(self, message: str, record: Record) -> VariantError:
        return VariantError(message, path=self.path, line=record.line, hint="mfd score-variants --force again")


def open_scored(path: Path, by: str, most: int, lengths: Mapping[str, int]) -> ScoredVcf:
    """Open a VCF and read its header; `lengths` are those of the genome, where it is known.

    VariantError where mfd did not score it, where it has no such numeric field, and where no length of a contig is known.
    """
    with open_variants(path) as variants:
        found = [match for line in variants.header if (match := _FIELD.match(line))]
        fields = {match[1].decode(): match[2].decode() for match in found}
        known = dict(lengths) or variants.lengths
        contigs = variants.contigs
    if STRONGEST_BY not in fields:
        hint = "mfd score-variants FILE writes one that is"
        raise VariantError(f"was not scored by mfd (its header has no {STRONGEST_BY})", path=path, hint=hint)
    numeric = [name for name, kind in fields.items() if kind == "Float"]
    if by not in numeric:
        raise VariantError(f"has no scores called {by!r}{nearest(by, numeric)}", path=path)
    if not known:
        raise VariantError("tells no length of a contig", path=path, hint="--fasta FILE")
    return ScoredVcf(path, known, match_contigs(contigs, known, path.name), list(fields), by, most)


def mfd_fields(record: Record) -> dict[str, str]:
    """Return our INFO entries of a record, name to text."""
    info = record.cells[INFO].decode("utf-8", "replace")
    entries = (entry.partition("=") for entry in info.split(";") if entry.startswith("MFD_"))
    return {name: text for name, _, text in entries}


def _line(record: Record, contig: str) -> str:
    """Return a record as a line of the VCF that the page holds, with the contig's name in the genome.

    igv.js decodes percent signs in every field that it is given, and fails on one that stands alone, as other programs write
    them: so only our fields are kept, in which percent signs are encoded.
    """
    first = [contig, *(cell.decode("utf-8", "replace") for cell in record.cells[1:INFO])]
    info = ";".join(f"{name}={text}" for name, text in mfd_fields(record).items())
    return "\t".join([*first, info]) + "\n"


def _short(bases: str) -> str:
    """Return bases as a cell shows them: of a long allele its ends and its length."""
    return bases if len(bases) <= LONGEST_ALLELE else f"{bases[:4]}...{bases[-4:]} ({len(bases)} bp)"
