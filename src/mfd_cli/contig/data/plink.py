"""PLINK 1 genotypes: a .bed file of calls, with the .bim (variants) and .fam (persons) beside it.

A byte of a .bed holds the calls of four persons, lowest bits first, variant after variant. The codes 00, 01, 10 and 11 are 2,
missing, 1 and 0 copies of A1, the first allele of the .bim, which is the effect allele of every number made from these calls.
"""

from __future__ import annotations

import os
import re
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

import numpy as np
from numpy.typing import NDArray

from mfd_cli.base.arrays import Bytes, Int8s, Ints
from mfd_cli.base.errors import GenotypeError
from mfd_cli.base.files import check_input, whole_files
from mfd_cli.formats.text import read_lines

MAGIC = b"\x6c\x1b"
MISSING = -1
"""What stands for a call that is missing."""
NOBODY = "0"
"""An individual id (of a parent) that no person has."""
LARGEST = (1 << 31) - 1
"""No position on a chromosome is larger, in any tool that reads these files."""
BED, BIM, FAM = ".bed", ".bim", ".fam"
_COUNTS = (2, MISSING, 1, 0)
"""Copies of A1, by code."""
_ALLELE = re.compile(r"[ACGTNacgtn]+|[DIdi]|[0.*]|[1-4]|<[!-;=?-~]+>")
"""Bases, insertion and deletion by a letter, missing, bases by a number, and the names that VCF has for long ones."""
_NUMBER = re.compile(r"[0-9]{1,10}")


def _decoding() -> NDArray[np.int32]:
    """The four calls of every byte, as the four int8 of one int32: one look-up decodes four persons."""
    codes = np.arange(256)[:, None] >> np.array([0, 2, 4, 6]) & 3
    return np.ascontiguousarray(np.array(_COUNTS, np.int8)[codes]).view(np.int32)[:, 0]


DECODED = _decoding()
PIECE = 1 << 15
"""Bytes that are decoded together: numpy makes indices of eight bytes of them, which stay in the cache."""
ENCODED = np.array([3, 2, 0, 1], np.uint8)
"""Code by dosage: of 0, 1, 2, and of -1, which is the last."""


@dataclass(frozen=True)
class Variants:
    """Variants in the order of the file. Positions are 1-based."""

    chromosome: tuple[str, ...]
    name: tuple[str, ...]
    position: Ints
    effect_allele: tuple[str, ...]
    other_allele: tuple[str, ...]

    def __len__(self) -> int:
        return len(self.name)

    def take(self, rows: Ints) -> Variants:
        """Return the variants of these rows, in this order."""
        chosen = rows.tolist()
        texts = (self.chromosome, self.name, self.effect_allele, self.other_allele)
        chromosome, name, effect, other = (tuple(column[row] for row in chosen) for column in texts)
        return Variants(chromosome, name, self.position[rows], effect, other)


@dataclass(frozen=True)
class PlinkFile:
    """Who was genotyped at which variants; the calls stay on the disk until `blocks` reads them.

    `persons` are the individual ids (IID) and `families` the family ids (FID) of the .fam, in its order.
    """

    path: Path
    persons: tuple[str, ...]
    families: tuple[str, ...]
    variants: Variants

    @property
    def calls(self) -> Path:
        """The file of the calls: the .bed."""
        return self.path

    @property
    def called(self) -> bool:
        """Whether there are calls, whole numbers of copies."""
        return True

    @property
    def width(self) -> int:
        """Bytes that hold the calls of one variant."""
        return -(-len(self.persons) // 4)

    def names(self, how: Literal["iid", "fid_iid"] = "iid") -> tuple[str, ...]:
        """Return a name for each person: the IID, or FID_IID. Raises GenotypeError where two persons have the same one."""
        both = how == "fid_iid"
        names = self.persons if not both else tuple(f"{f}_{i}" for f, i in zip(self.families, self.persons))
        hint = None if both else 'the ids are told apart by [persons] id = "fid_iid"'
        _check_different(names, self.path.with_suffix(FAM), "fid_iid" if both else "IID", hint)
        return names

    def blocks(
        self, rows: Ints | None = None, persons: Ints | None = None, mib: int = 64
    ) -> Iterator[tuple[Ints, Int8s]]:
        """Yield some rows of the file and their dosages, int8 (variants, persons): copies of A1, -1 where missing.

        `rows` and `persons` choose and order (default: all). A block, with all persons of the file, has at most `mib` MiB, but
        one variant at least; memory does not grow with their number. Raises GenotypeError where the file has changed since.
        """
        wanted = np.arange(len(self.variants)) if rows is None else np.asarray(rows, np.int64)
        if persons is not None and np.array_equal(persons, np.arange(len(self.persons))):
            persons = None
        step = max((mib << 20) // max(4 * self.width, 1), 1)
        with self.calls.open("rb", buffering=0) as file:
            for start in range(0, len(wanted), step):
                some = wanted[start : start + step]
                dosages = self._decoded(_read_rows(file.fileno(), some, self.width, self.path))
                yield some, dosages if persons is None else dosages.take(persons, axis=1)

    def _decoded(self, packed: Bytes) -> Int8s:
        """The dosages (variants, persons) in packed calls (variants, width)."""
        decoded = np.empty(packed.shape, np.int32)
        source, target = packed.reshape(-1), decoded.reshape(-1)
        for start in range(0, len(source), PIECE):
            piece = slice(start, start + PIECE)
            np.take(DECODED, source[piece], out=target[piece], mode="clip")  # none is out of range: clip saves a buffer
        return decoded.view(np.int8)[:, : len(self.persons)]


def _read_rows(descriptor: int, rows: Ints, width: int, path: Path) -> Bytes:
    """The packed calls (variants, width) of some rows: stretches of neighbours are read together."""
    packed = np.empty((len(rows), width), np.uint8)
    breaks = np.flatnonzero(np.diff(rows) != 1) + 1
    for first, last in zip([0, *breaks.tolist()], [*breaks.tolist(), len(rows)]):
        target, place = packed[first:last].data.cast("B"), 3 + int(rows[first]) * width
        while target:
            count = os.preadv(descriptor, [target], place)  # at most 2 GiB at once
            if not count:
                raise GenotypeError("has become shorter while it was read", path=path)
            target, place = target[count:], place + count
    return packed


# -- reading -----------------------------------------------------------------------------------------------------------


def open_plink(path: Path) -> PlinkFile:
    """Read the .bim and .fam beside a .bed, and return them with the .bed, whose calls are read later.

    Raises GenotypeError with the file, and of a table the line, where one of the three is not what it should be, or they do not
    belong together.
    """
    if path.suffix != BED:
        raise GenotypeError(
            "is no .bed file by its name",
            path=path,
            hint="plink2 --vcf FILE --make-bed --out NAME (or --bgen, --pfile) writes NAME.bed, NAME.bim and NAME.fam",
        )
    bed = check_input(path, GenotypeError)
    families, persons = _read_fam(check_input(path.with_suffix(FAM), GenotypeError))
    variants = _read_bim(check_input(path.with_suffix(BIM), GenotypeError))
    _check_bed(bed, len(persons), len(variants))
    return PlinkFile(bed, persons, families, variants)


def _check_bed(path: Path, persons: int, variants: int) -> None:
    """Raise GenotypeError where a .bed has another beginning or another length than its tables ask for."""
    with path.open("rb") as file:
        start = file.read(3)
    if start[:2] != MAGIC or len(start) < 3 or start[2] > 1:
        raise GenotypeError(
            f"is no PLINK 1 .bed: it begins with {start.hex(' ')}, not 6c 1b 01",
            path=path,
            hint="plink2 --vcf FILE --make-bed --out NAME (or --bgen, --pfile) writes one",
        )
    if start[2] == 0:
        stem = path.with_suffix("")
        raise GenotypeError(
            "is sample-major (person after person), which is not read",
            path=path,
            hint=f"plink2 --bfile {stem} --make-bed --out {stem}-by-variant",
        )
    expected, found = 3 + variants * -(-persons // 4), path.stat().st_size
    if found != expected:
        raise GenotypeError(
            f"has {found:,} bytes, and {variants:,} variants of {persons:,} persons take {expected:,}",
            path=path,
            hint="it was cut short, or its .bim or .fam belongs to another file",
        )


def _read_fam(path: Path) -> tuple[tuple[str, ...], tuple[str, ...]]:
    """The family ids and the individual ids of a .fam."""
    families, persons = list[str](), list[str]()
    lines: dict[tuple[str, str], int] = {}
    for number, cells in _rows(path):
        if len(cells) not in (5, 6):
            raise GenotypeError(f"has {len(cells)} columns, and a .fam has 5 or 6", path=path, line=number)
        if cells[1] == NOBODY:
            raise GenotypeError(f"the individual id is {NOBODY}, which stands for nobody", path=path, line=number)
        first = lines.setdefault((cells[0], cells[1]), number)
        if first != number:
            raise GenotypeError(f"has the person of line {first} again", path=path, line=number)
        families.append(cells[0])
        persons.append(cells[1])
    if not persons:
        raise GenotypeError("names no person", path=path)
    return tuple(families), tuple(persons)


def _read_bim(path: Path) -> Variants:
    """The variants of a .bim."""
    chromosomes, names, positions = list[str](), list[str](), list[int]()
    effects, others = list[str](), list[str]()
    known: dict[str, str] = {}  # a text that comes again is held once
    for number, cells in _rows(path):
        if len(cells) != 6:
            raise GenotypeError(f"has {len(cells)} columns, and a .bim has 6", path=path, line=number)
        chromosome, name, _, position, effect, other = cells
        if not _NUMBER.fullmatch(position) or int(position) > LARGEST:
            raise GenotypeError(f"position is {position[:30]!r}, no whole number from 0", path=path, line=number)
        for allele in (effect, other):
            if not _ALLELE.fullmatch(allele):
                raise GenotypeError(f"allele is {allele[:30]!r}, no bases", path=path, line=number)
        if effect == other and effect not in ("0", "."):
            raise GenotypeError(f"both alleles are {effect[:30]}", path=path, line=number)
        chromosomes.append(known.setdefault(chromosome, chromosome))
        names.append(name)
        positions.append(int(position))
        effects.append(known.setdefault(effect, effect))
        others.append(known.setdefault(other, other))
    if not names:
        raise GenotypeError("names no variant", path=path)
    return Variants(tuple(chromosomes), tuple(names), np.array(positions, np.int64), tuple(effects), tuple(others))


def _rows(path: Path) -> Iterator[tuple[int, list[str]]]:
    """The numbered lines of a table without a header, in cells; blank lines are left out."""
    for number, line in read_lines(path, GenotypeError):
        try:
            cells = line.decode("utf-8").split()
        except UnicodeDecodeError as error:
            raise GenotypeError("is not UTF-8 text", path=path, line=number) from error
        if cells:
            yield number, cells


def _check_different(names: Sequence[str], path: Path, what: str, hint: str | None) -> None:
    """Raise GenotypeError where two persons have the same name. Names are not shown, since they name people."""
    seen: dict[str, int] = {}
    for row, name in enumerate(names, start=1):
        first = seen.setdefault(name, row)
        if first != row:
            raise GenotypeError(f"persons {first:,} and {row:,} have the same {what}", path=path, hint=hint)


# -- writing -----------------------------------------------------------------------------------------------------------


def write_plink(
    path: Path, persons: Sequence[str], families: Sequence[str], variants: Variants, dosages: Int8s | Iterable[Int8s]
) -> None:
    """Write NAME.bed, NAME.bim and NAME.fam, whole and together.

    `dosages`, int8 (variants, persons), are copies of the effect allele and -1 where missing; they may come in blocks of
    variants. Sex, parents and phenotype are written as unknown. Raises GenotypeError where an id or a name is empty or has
    blanks, ValueError where the numbers do not fit each other.
    """
    _check_words([*persons, *families], "the id of a person", path)
    _check_words([*variants.name, *variants.chromosome], "the name of a variant or chromosome", path)
    if NOBODY in persons:
        raise GenotypeError(f"the id of a person is {NOBODY}, which stands for nobody in PLINK files", path=path)
    if len(families) != len(persons) or path.suffix != BED:
        raise ValueError(f"{len(persons)} persons, {len(families)} families, {path.name}")
    with whole_files(path, path.with_suffix(BIM), path.with_suffix(FAM)) as (bed, bim, fam):
        with bed.open("wb") as file:
            file.write(MAGIC + b"\x01")
            written = 0
            for block in [dosages] if isinstance(dosages, np.ndarray) else dosages:
                if block.ndim != 2 or block.shape[1] != len(persons):
                    raise ValueError(f"dosages of shape {block.shape} for {len(persons)} persons")
                file.write(packed_calls(block).tobytes())
                written += len(block)
        if written != len(variants):
            raise ValueError(f"dosages of {written} variants, of {len(variants)}")
        with bim.open("w", encoding="utf-8", newline="\n") as text:
            text.writelines(
                f"{chromosome}\t{name}\t0\t{position}\t{effect}\t{other}\n"
                for chromosome, name, position, effect, other in zip(
                    variants.chromosome,
                    variants.name,
                    variants.position.tolist(),
                    variants.effect_allele,
                    variants.other_allele,
                )
            )
        with fam.open("w", encoding="utf-8", newline="\n") as text:
            text.writelines(f"{family}\t{person}\t0\t0\t0\t-9\n" for family, person in zip(families, persons))


def packed_calls(dosages: Int8s) -> Bytes:
    """Return the calls (variants, width) of dosages (variants, persons); those of nobody, at the end, are 0.

    ValueError where a dosage is none.
    """
    if dosages.size and (dosages.min() < MISSING or dosages.max() > 2):
        raise ValueError("a dosage is not -1, 0, 1 or 2")
    count, people = dosages.shape
    codes = np.zeros((count, 4 * -(-people // 4)), np.uint8)
    codes[:, :people] = ENCODED[dosages]
    quarters = codes.reshape(count, -1, 4)
    return quarters[:, :, 0] | quarters[:, :, 1] << 2 | quarters[:, :, 2] << 4 | quarters[:, :, 3] << 6


def _check_words(words: Iterable[str], what: str, path: Path) -> None:
    """Raise GenotypeError where a word would not be read back as one cell."""
    for word in words:
        if word.split() != [word]:
            raise GenotypeError(f"{what} is {word[:30]!r}: empty, or with blanks", path=path)
