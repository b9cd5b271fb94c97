"""Scoring files of the PGS Catalog: which allele of which variant counts how much.

Lines `#key=value`, then a tab-separated table. Harmonised files have further columns, hm_chr, hm_pos, hm_rsID and
hm_inferOtherAllele, whose positions are of the assembly HmPOS_build.
"""

from __future__ import annotations

import math
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from mfd_cli.base.arrays import Doubles
from mfd_cli.base.errors import InputError, few
from mfd_cli.base.files import check_input
from mfd_cli.formats.text import read_lines

REFUSED = ("is_haplotype", "is_diplotype", "is_interaction")
PER_DOSAGE = ("dosage_0_weight", "dosage_1_weight", "dosage_2_weight")
ASSEMBLIES = {"grch37": "37", "hg19": "37", "ncbi37": "37", "grch38": "38", "hg38": "38"}
"""Names of an assembly, in small letters, and what they have in common."""
KINDS_HINT = (
    "scoring files of the PGS Catalog have the columns rsID or chr_name and chr_position, effect_allele, effect_weight"
)


@dataclass(frozen=True)
class ScoreFile:
    """A polygenic score. Its variants are known by position (`keys` are chromosome and position) or by name (rsID).

    `terms` (variants, 3) is what 0, 1 and 2 copies of the effect allele add; the other allele is empty where it is not told,
    and `frequency` (variants,) of the effect allele NaN.
    """

    path: Path
    name: str
    by_position: bool
    keys: tuple[tuple[str, int] | str, ...]
    effect_allele: tuple[str, ...]
    other_allele: tuple[str, ...]
    terms: Doubles
    frequency: Doubles

    def __len__(self) -> int:
        return len(self.keys)


def read_score(path: Path, assembly: str | None = None) -> ScoreFile:
    """Read a scoring file. Variants are known by position where its assembly is this one, else by rsID.

    Raises InputError, with the line, where a weight is none, or a term is not of one variant alone.
    """
    lines = _text_lines(check_input(path, InputError))
    about, columns, number = _header(lines, path)
    places = {name: place for place, name in enumerate(columns)}
    key = _key_columns(about, places, path, number, assembly)
    if "effect_allele" not in places:
        raise InputError(f"has no column effect_allele; it has {few(columns, 20)}", path=path, line=number)
    per_dosage = all(name in places for name in PER_DOSAGE)
    if "effect_weight" not in places and not per_dosage:
        raise InputError("has no column effect_weight", path=path, line=number, hint=KINDS_HINT)
    keys, effects, others, terms, frequencies = [], [], [], list[Sequence[float]](), []
    for line, text in lines:
        if not text.strip():
            continue
        cells = [cell.strip() for cell in text.split("\t")]
        if len(cells) != len(columns):
            message = f"has {len(cells)} cells where the header has {len(columns)}"
            raise InputError(message, path=path, line=line)
        row = _Row(path, line, places, cells)
        keys.append(row.key(key))
        effects.append(row.text("effect_allele").upper())
        others.append((row.text("other_allele") or row.text("hm_inferOtherAllele")).upper())
        terms.append(row.terms(per_dosage))
        frequencies.append(row.number("allelefrequency_effect", needed=False))
        if not effects[-1]:
            raise InputError("effect_allele is empty", path=path, line=line)
    if not keys:
        raise InputError("has a header but no variants", path=path)
    name = about.get("pgs_id") or path.name.split(".")[0]
    return ScoreFile(
        path, name, len(key) == 2, tuple(keys), tuple(effects), tuple(others), np.array(terms), np.array(frequencies)
    )


def same_assembly(one: str | None, two: str | None) -> bool:
    """Return whether two names are known to mean the same assembly: GRCh38 and hg38 do."""
    if not one or not two:
        return False
    first, second = (name.lower().split(".")[0] for name in (one, two))
    return ASSEMBLIES.get(first, first) == ASSEMBLIES.get(second, second)


def _text_lines(path: Path) -> Iterator[tuple[int, str]]:
    """The numbered lines of a file as text."""
    for number, line in read_lines(path, InputError):
        try:
            yield number, line.decode("utf-8")
        except UnicodeDecodeError as error:
            raise InputError("is not UTF-8 text", path=path, line=number) from error


def _header(lines: Iterator[tuple[int, str]], path: Path) -> tuple[dict[str, str], list[str], int]:
    """What the lines `#key=value` say, the names of the columns, and their line."""
    about: dict[str, str] = {}
    for number, text in lines:
        if text.startswith("#"):
            key, equals, value = text.lstrip("#").partition("=")
            if equals:
                about[key.strip()] = value.strip()
        elif text.strip():
            columns = [cell.strip() for cell in text.split("\t")]
            if len(set(columns)) < len(columns) or len(columns) < 2:
                raise InputError(
                    f"has the columns {few(columns, 20)}: two or more are needed, each once",
                    path=path,
                    line=number,
                    hint=KINDS_HINT,
                )
            return about, columns, number
    raise InputError("has no header", path=path, hint=KINDS_HINT)


def _key_columns(
    about: Mapping[str, str], places: Mapping[str, int], path: Path, line: int, assembly: str | None
) -> tuple[str, ...]:
    """The columns that say which variant is meant: chromosome and position, or a name."""
    for build, columns in (("HmPOS_build", ("hm_chr", "hm_pos")), ("genome_build", ("chr_name", "chr_position"))):
        if same_assembly(about.get(build), assembly) and all(column in places for column in columns):
            return columns
    for column in ("hm_rsID", "rsID"):
        if column in places:
            return (column,)
    builds = ", ".join(f"{key}={about[key]}" for key in ("HmPOS_build", "genome_build") if about.get(key))
    raise InputError(
        f"has no rsID, and its positions ({builds or 'of no named assembly'}) are not known to be those of data.assembly "
        f"({assembly or 'not set'})",
        path=path,
        line=line,
        hint="data.assembly names the assembly of the genotypes; the PGS Catalog has each score for GRCh37 and GRCh38",
    )


@dataclass(frozen=True)
class _Row:
    """A line of the table."""

    path: Path
    line: int
    places: Mapping[str, int]
    cells: Sequence[str]

    def text(self, name: str) -> str:
        """A cell, empty where the table has no such column."""
        return self.cells[self.places[name]] if name in self.places else ""

    def number(self, name: str, needed: bool = True) -> float:
        """A cell as a finite number; NaN where it is empty and not needed."""
        text = self.text(name)
        if not needed and text in ("", "NA", "NR", "."):
            return math.nan
        try:
            value = float(text)
        except ValueError:
            value = math.nan
        if not math.isfinite(value):
            raise InputError(f"{name} is {text[:40]!r}, no number", path=self.path, line=self.line)
        return value

    def flag(self, name: str) -> bool:
        """Whether a cell says true."""
        return self.text(name).lower() in ("true", "1", "yes")

    def key(self, columns: Sequence[str]) -> tuple[str, int] | str:
        """What the variant is known by; a position that is not known is 0."""
        if len(columns) == 1:
            return self.text(columns[0])
        chromosome, text = (self.text(column) for column in columns)
        if text and not (text.isascii() and text.isdecimal()):
            raise InputError(f"{columns[1]} is {text[:40]!r}, no position", path=self.path, line=self.line)
        return chromosome.removeprefix("chr"), int(text[:12] or 0)

    def terms(self, per_dosage: bool) -> Sequence[float]:
        """What 0, 1 and 2 copies add."""
        for name in REFUSED:
            if self.flag(name):
                raise InputError(
                    f"{name}: a term of several variants together, or of their phase, is not computed",
                    path=self.path,
                    line=self.line,
                    hint="such a score can be computed elsewhere and read as a table",
                )
        if per_dosage and self.text("dosage_0_weight"):
            return [self.number(name) for name in PER_DOSAGE]
        weight = self.number("effect_weight")
        if self.flag("is_dominant"):
            return 0.0, weight, weight
        if self.flag("is_recessive"):
            return 0.0, 0.0, weight
        return 0.0, weight, 2 * weight
