"""Which variants count for a gene: annotation, sets and masks, in the plain tables of regenie (words, no header)."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path

from mfd_cli.base.errors import InputError, nearest
from mfd_cli.base.files import check_input
from mfd_cli.formats.text import read_lines


@dataclass(frozen=True)
class GeneSet:
    """The variants of a gene, by name, and where it lies."""

    gene: str
    chromosome: str
    position: int
    variants: tuple[str, ...]


@dataclass(frozen=True)
class BurdenPlan:
    """Genes with their variants; the class of each variant in each gene; masks, {name: classes that count}."""

    sets: tuple[GeneSet, ...]
    classes: Mapping[tuple[str, str], str]
    masks: Mapping[str, frozenset[str]]

    def counted(self, gene: GeneSet, mask: str) -> list[str]:
        """Return the variants of a gene whose class counts in a mask."""
        wanted = self.masks[mask]
        return [variant for variant in gene.variants if self.classes.get((variant, gene.gene)) in wanted]


def read_plan(annotation: Path, sets: Path, masks: Path) -> BurdenPlan:
    """Read the three tables. InputError, with the line, where one is not what it should be, or a mask names a class that no
    variant has."""
    classes: dict[tuple[str, str], str] = {}
    for line, cells in _rows(annotation, 3, "variant, gene and class"):
        variant, gene, name = cells
        if classes.setdefault((variant, gene), name) != name:
            raise InputError(f"{variant} has another class in {gene} on an earlier line", path=annotation, line=line)
    found: dict[str, GeneSet] = {}
    for line, cells in _rows(sets, 4, "gene, chromosome, position and variants, with commas between"):
        gene, chromosome, position, text = cells
        if not (position.isascii() and position.isdecimal()):
            raise InputError(f"position is {position[:40]!r}, no whole number", path=sets, line=line)
        if gene in found:
            raise InputError(f"has the gene {gene} again", path=sets, line=line)
        variants = tuple(dict.fromkeys(name for name in text.split(",") if name))
        found[gene] = GeneSet(gene, chromosome, int(position[:12]), variants)
    wanted: dict[str, frozenset[str]] = {}
    known = set(classes.values())
    for line, cells in _rows(masks, 2, "a name and the classes that count, with commas between"):
        name, text = cells
        if name in wanted:
            raise InputError(f"has the mask {name} again", path=masks, line=line)
        wanted[name] = frozenset(part for part in text.split(",") if part)
        for part in sorted(wanted[name] - known):
            raise InputError(f"class {part[:40]!r} is that of no variant{nearest(part, known)}", path=masks, line=line)
    return BurdenPlan(tuple(found.values()), classes, wanted)


def _rows(path: Path, count: int, what: str) -> Iterator[tuple[int, list[str]]]:
    """The numbered lines of a table, in so many words each; blank lines are left out."""
    rows = 0
    for number, line in read_lines(check_input(path, InputError), InputError):
        try:
            cells = line.decode("utf-8").split()
        except UnicodeDecodeError as error:
            raise InputError("is not UTF-8 text", path=path, line=number) from error
        if not cells:
            continue
        if len(cells) != count:
            raise InputError(f"has {len(cells)} words, and a line has {count}: {what}", path=path, line=number)
        rows += 1
        yield number, cells
    if not rows:
        raise InputError("has no line", path=path)
