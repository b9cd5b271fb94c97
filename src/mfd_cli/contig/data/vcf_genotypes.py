"""Genotypes of a VCF or BCF: each ALT allele becomes a variant of its own, whose copies are counted.

The file is read once, record after record, into a temporary folder, from where variants and persons are read as from a .bed.
Calls (GT) are kept as PLINK codes, dosages (DS) as float32.
"""

from __future__ import annotations

import re
import tempfile
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import BinaryIO, Literal

import numpy as np

from mfd_cli.base.arrays import Floats, Int8s, Ints
from mfd_cli.base.errors import GenotypeError
from mfd_cli.base.files import disk_errors
from mfd_cli.contig.data.plink import MAGIC, MISSING, PlinkFile, Variants, open_plink, packed_calls
from mfd_cli.formats.vcf_reader import Record, open_variants

SUFFIXES = (".vcf", ".vcf.gz", ".vcf.bgz", ".bcf")
FIXED = 9
"""Columns before those of persons."""
AUTOSOME = re.compile("(chr)?([1-9]|1[0-9]|2[0-2])")
GT = re.compile(rb"([0-9]+|\.)(?:[/|]([0-9]+|\.))?")
PLOIDY = "bcftools +fixploidy writes two alleles a call"


@dataclass(frozen=True)
class VcfFile(PlinkFile):
    """A VCF that has been read; `kept` is the temporary folder of its calls, which goes when nobody needs them any more."""

    kept: tempfile.TemporaryDirectory[str] = field(repr=False)

    @property
    def calls(self) -> Path:
        """Where the calls are."""
        return Path(self.kept.name) / "calls"

    def names(self, how: Literal["iid", "fid_iid"] = "iid") -> tuple[str, ...]:
        """Return a name for each person: a VCF has one id only."""
        return self.persons


@dataclass(frozen=True)
class DosageFile(VcfFile):
    """A VCF whose dosages have been read: numbers from 0 to 2, which need not be whole."""

    @property
    def called(self) -> bool:
        """Whether there are calls: here are dosages."""
        return False

    def blocks(  # type: ignore[override]
        self, rows: Ints | None = None, persons: Ints | None = None, mib: int = 64
    ) -> Iterator[tuple[Ints, Floats]]:
        """Yield some rows and their dosages, float32 (variants, persons), -1 where missing; see `PlinkFile.blocks`."""
        wanted = np.arange(len(self.variants)) if rows is None else np.asarray(rows, np.int64)
        stored = np.memmap(self.calls, np.float32, "r", shape=(len(self.variants), len(self.persons)))
        step = max((mib << 20) // (4 * len(self.persons)), 1)
        for start in range(0, len(wanted), step):
            some = wanted[start : start + step]
            dosages = np.asarray(stored[some])
            yield some, dosages if persons is None else dosages.take(persons, axis=1)


def open_genotypes(path: Path, dosage: Literal["GT", "DS"] = "GT") -> PlinkFile:
    """Open a .bed with its tables, or read a VCF or BCF, by the name of the file; of a VCF the field `dosage` is used.

    Raises GenotypeError or VariantError, with the line, where something is not what it should be.
    """
    return read_vcf(path, dosage) if path.name.lower().endswith(SUFFIXES) else open_plink(path)


def read_vcf(path: Path, dosage: Literal["GT", "DS"] = "GT") -> VcfFile:
    """Read all records of a VCF or BCF. A call that is half missing is missing; haploid calls on autosomes are refused."""
    kept = tempfile.TemporaryDirectory(prefix="mfd-vcf-")
    rows: list[tuple[str, str, int, str, str]] = []
    with open_variants(path) as file, disk_errors(Path(kept.name)), (Path(kept.name) / "calls").open("wb") as calls:
        persons = _persons(file.header[-1], path)
        if dosage == "GT":
            calls.write(MAGIC + b"\x01")
        for record in file.records:
            alternatives = [] if record.alts == (".",) else record.alts
            if not alternatives:
                continue
            read = _calls if dosage == "GT" else _dosages
            _write(calls, read(record, path))
            name = record.cells[2].decode("utf-8", "replace")
            for alt in alternatives:
                own = f"{record.contig}:{record.position}:{record.ref}:{alt}" if name == "." else name
                rows.append((record.contig, own, record.position, alt, record.ref))
    if not rows:
        raise GenotypeError("names no variant", path=path)
    chromosome, names, position, effect, other = zip(*rows)
    variants = Variants(chromosome, names, np.array(position, np.int64), effect, other)
    kind = VcfFile if dosage == "GT" else DosageFile
    return kind(path, persons, ("0",) * len(persons), variants, kept)


def _write(calls: BinaryIO, values: Int8s | Floats) -> None:
    """Add variants (variants, persons) to what is kept."""
    calls.write(packed_calls(values).tobytes() if values.dtype == np.int8 else values.tobytes())  # type: ignore[arg-type]


def _persons(header: bytes, path: Path) -> tuple[str, ...]:
    """Who was genotyped. Nobody is named in a message."""
    persons = [cell.decode("utf-8", "replace") for cell in header.split(b"\t")[FIXED:]]
    if not persons:
        raise GenotypeError("has no genotypes: no person after the column FORMAT", path=path)
    if len(set(persons)) < len(persons):
        raise GenotypeError(f"has {len(persons) - len(set(persons)):,} persons twice in its header", path=path)
    return tuple(persons)


def _field(record: Record, name: bytes, path: Path) -> list[bytes]:
    """What the persons have in a field of FORMAT; a person whose cell ends before it has none."""
    keys = record.cells[8].split(b":")
    if name not in keys:
        wanted = name.decode()
        other = "data.dosage says which field is read: GT or DS"
        raise GenotypeError(f"has no {wanted} in FORMAT", path=path, line=record.line, hint=other)
    place, cells = keys.index(name), record.cells[FIXED:]
    if len(keys) == 1:
        return cells
    return [parts[place] if len(parts) > place else b"." for parts in (cell.split(b":", place + 1) for cell in cells)]


def _calls(record: Record, path: Path) -> Int8s:
    """Copies of each ALT allele, int8 (alleles, persons), -1 where the call, or a half of it, is missing."""
    cells = _field(record, b"GT", path)
    meaning: dict[bytes, list[int]] = {}
    for text in set(cells):
        meaning[text] = _copies(text, record, path)
    return np.array([meaning[text] for text in cells], np.int8).T.copy()


def _copies(text: bytes, record: Record, path: Path) -> list[int]:
    """How many copies of each ALT allele a call has."""
    count, call = len(record.alts), GT.fullmatch(text)
    shown = text[:20].decode("utf-8", "replace")
    if call is None:
        raise GenotypeError(f"GT is {shown!r}, no call of two alleles", path=path, line=record.line, hint=PLOIDY)
    alleles = [part for part in call.groups() if part is not None]
    if b"." in alleles:
        return [MISSING] * count
    if len(alleles) == 1 and AUTOSOME.fullmatch(record.contig):
        message = f"GT is {shown!r}: one allele, on chromosome {record.contig}"
        raise GenotypeError(message, path=path, line=record.line, hint=PLOIDY)
    numbers = [int(part[:9]) for part in alleles] * (3 - len(alleles))  # a man has one X: as PLINK, two copies of it
    if max(numbers) > count:
        raise GenotypeError(f"GT is {shown!r}, and there are {count} ALT alleles", path=path, line=record.line)
    return [numbers.count(allele) for allele in range(1, count + 1)]


def _dosages(record: Record, path: Path) -> Floats:
    """Dosages of each ALT allele, float32 (alleles, persons), -1 where missing."""
    count = len(record.alts)
    return np.array([_numbers(text, count, record, path) for text in _field(record, b"DS", path)], np.float32).T.copy()


def _numbers(text: bytes, count: int, record: Record, path: Path) -> Sequence[float]:
    """The dosages of one person."""
    parts = text.split(b",") if text != b"." else [b"."] * count
    try:
        numbers = [-1.0 if part == b"." else float(part) for part in parts]
    except ValueError:
        numbers = []
    missing_or_fine = (part == b"." or 0 <= number <= 2 for number, part in zip(numbers, parts))
    if len(numbers) != count or not all(missing_or_fine):
        shown = text[:30].decode("utf-8", "replace")
        message = f"DS is {shown!r}, not a number from 0 to 2 for each ALT allele"
        raise GenotypeError(message, path=path, line=record.line)
    return numbers
