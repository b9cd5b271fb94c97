"""GTF and GFF3, plain, gzip or bgzip: a strict reader of the rows that say where genes and transcripts are.

Ensembl, GENCODE, RefSeq/NCBI, UCSC and SGD each write these formats in their own way; here they become one `Feature`.
The syntax of the attributes is told apart row by row: `key "value";` is GTF, `key=value;` is GFF3.

Why not a library: gffutils, which reads both, builds a database of every row first, where genes and transcripts, a tenth of
them, are wanted; and a row that is wrong must be told with its line.
"""

from __future__ import annotations

import re
from collections.abc import Collection, Iterator, Mapping
from functools import lru_cache
from pathlib import Path
from typing import NamedTuple

from mfd_cli.base.errors import RegionError
from mfd_cli.formats.text import read_lines


class Feature(NamedTuple):
    """One row: `start` is 0-based, `end` excluded, `strand` one of + - . ?

    `kind` is gene, transcript, part (exon or CDS) or region. `genes` are the ids of the genes it belongs to (of a gene: its
    own), `transcript` is the id of the transcript that a part is part of, or by which GFF3 rows may call this one their
    parent. `name` is what people call its gene. A region has only a place and its `chromosome`.
    """

    line: int
    kind: str
    contig: str
    start: int
    end: int
    strand: str
    genes: tuple[str, ...]
    transcript: str
    name: str
    chromosome: str


Attributes = Mapping[str, tuple[str, ...]]
_KINDS = {
    "gene": re.compile(rb"(\w+_)?(pseudo)?gene"),
    "transcript": re.compile(rb"\w*(RNA|rna|transcript|_gene_segment)"),
    "part": re.compile(rb"exon|CDS"),
    "region": re.compile(rb"region"),
}
_NAMES = {
    "gene": ("gene_name", "gene", "Name", "gene_id", "locus_tag", "ID"),
    # `Name` comes last: in GFF3 that is the name of the transcript or the protein.
    "transcript": ("gene_name", "gene", "gene_id", "locus_tag", "Parent", "ID", "Name"),
    "part": ("gene_name", "gene", "gene_id", "locus_tag", "Parent", "ID", "Name"),
}
_GENE_IDS = {
    "gene": ("ID", "gene_id", "gene_name", "gene", "locus_tag", "Name"),
    "transcript": ("Parent", "gene_id", "gene", "locus_tag", "ID", "Name"),
    "part": ("gene_id", "Parent", "gene", "locus_tag", "ID", "Name"),  # a part's parent is a transcript, rarely a gene
}
_TRANSCRIPT_IDS = {"gene": (), "transcript": ("ID",), "part": ("transcript_id", "Parent")}
_HINT = "GTF and GFF3 have nine columns with tabs between: contig, source, feature, start, end, score, strand, ..."
_NUMBER = re.compile(rb"[0-9]{1,10}")
_GFF3 = re.compile(r'\s*[^\s=;"]+=')
_GTF_ENTRY = re.compile(r'\s*([^\s;"=]+)\s+(?:"((?:[^"\\]|\\.)*)"|([^\s;"]+))\s*(?:;[\s;]*|$)')
_ESCAPED = re.compile("(?:%[0-9A-Fa-f]{2})+")
_FASTA = (b"##FASTA", b">")
_SKIPPED = (b"#", b"track ", b"browser ")


def read_features(path: Path, kinds: Collection[str]) -> Iterator[Feature]:
    """Yield the rows of these kinds, in the order of the file. RegionError with the line where one is broken.

    Every row must have nine columns; what is in them is checked only in the rows that are asked for. In GFF3, sequence may
    follow after `##FASTA`, which ends the features.
    """
    for number, line in read_lines(path, RegionError):
        if line.startswith(_FASTA):
            return
        if not line.strip() or line.startswith(_SKIPPED):
            continue
        tabs = line.count(b"\t")
        if tabs != 8:
            raise RegionError(f"has {tabs + 1} columns, not nine", path=path, line=number, hint=_HINT)
        kind = _kind(line.split(b"\t", 3)[2])
        if kind in kinds:
            try:
                feature = _region(line, number) if kind == "region" else _feature(line, kind, number)
            except ValueError as problem:
                raise RegionError(str(problem), path=path, line=number, hint=_HINT) from None
            if feature is not None:
                yield feature


@lru_cache(maxsize=1000)
def _kind(feature: bytes) -> str:
    """Return the kind of a feature type of the Sequence Ontology, such as `lnc_RNA` or `ncRNA_gene`; empty for all others."""
    return next((kind for kind, pattern in _KINDS.items() if pattern.fullmatch(feature)), "")


def _feature(line: bytes, kind: str, number: int) -> Feature:
    """Return a row that is a gene, transcript or part. ValueError that says what is wrong with it."""
    cells = line.split(b"\t")
    start, end = _start_and_end(cells)
    if cells[6] not in (b"+", b"-", b".", b"?"):
        raise ValueError(f"the strand is {_shown(cells[6])}, not one of + - . ?")
    values_of = attributes(cells[8].decode("utf-8", "replace"))
    genes, transcript, name = (_first(values_of, keys[kind]) for keys in (_GENE_IDS, _TRANSCRIPT_IDS, _NAMES))
    if not genes:
        raise ValueError(f"the {cells[2].decode()} has no {', '.join(_NAMES[kind][:-1])} or {_NAMES[kind][-1]}")
    return Feature(
        number,
        kind,
        _contig(cells),
        start,
        end,
        cells[6].decode(),
        genes,
        transcript[0] if transcript else "",
        name[0],
        "",
    )


def _region(line: bytes, number: int) -> Feature | None:
    """Return the row that says which chromosome a contig is (RefSeq names contigs by accession); None for other regions."""
    values_of = attributes(line.rpartition(b"\t")[2].decode("utf-8", "replace"))
    if values_of.get("genome") not in (("chromosome",), ("mitochondrion",)):
        return None
    cells = line.split(b"\t")
    start, end = _start_and_end(cells)
    name = _first(values_of, ("chromosome", "Name") if values_of["genome"] == ("chromosome",) else ("Name",))
    return Feature(number, "region", _contig(cells), start, end, ".", (), "", "", name[0]) if name else None


def _contig(cells: list[bytes]) -> str:
    if not cells[0].strip():
        raise ValueError("the contig has no name")
    return unquote(cells[0].decode("utf-8", "replace"))


def _start_and_end(cells: list[bytes]) -> tuple[int, int]:
    """Return start, 0-based, and end, excluded; the file has them 1-based, the end included."""
    for what, cell in (("start", cells[3]), ("end", cells[4])):
        if not _NUMBER.fullmatch(cell):
            raise ValueError(f"{what} is not a whole number ({_shown(cell)})")
    start, end = int(cells[3]), int(cells[4])
    if start < 1:
        raise ValueError("start is 0; the first base is 1 in GTF and GFF3")
    if end < start:
        raise ValueError(f"end {end} is before start {start}")
    return start - 1, end


def _shown(cell: bytes) -> str:
    return repr(cell[:40].decode("utf-8", "replace"))


def _first(values_of: Attributes, keys: tuple[str, ...]) -> tuple[str, ...]:
    """Return the values of the first key that has any."""
    return next((values_of[key] for key in keys if key in values_of), ())


def attributes(text: str) -> dict[str, tuple[str, ...]]:
    """Return the values per key of a ninth column, empty ones left out. ValueError where it is neither GTF nor GFF3.

    >>> attributes('gene_id "A1"; tag "basic"; tag "CCDS"; level 2')
    {'gene_id': ('A1',), 'tag': ('basic', 'CCDS'), 'level': ('2',)}
    >>> attributes("ID=g%3B1;Parent=a,b;Name=tRNA,Ala")
    {'ID': ('g;1',), 'Parent': ('a', 'b'), 'Name': ('tRNA,Ala',)}
    """
    if not text.strip() or text.strip() == ".":
        return {}
    return _gff3_attributes(text) if _GFF3.match(text) else _gtf_attributes(text)


def _gtf_attributes(text: str) -> dict[str, tuple[str, ...]]:
    """Return the values per key of GTF, where keys may come more than once.

    Nothing may lie between the entries: a quote that is not closed shows there.
    """
    values_of: dict[str, tuple[str, ...]] = {}
    at = 0
    while at < len(text):
        entry = _GTF_ENTRY.match(text, at)
        if entry is None:
            raise ValueError(f'attributes are neither GTF (key "value";) nor GFF3 (key=value;): {text[at:][:40]!r}')
        at = entry.end()
        key, value = entry[1], entry[2] if entry[2] is not None else entry[3]
        if value:
            values_of[key] = (*values_of.get(key, ()), re.sub(r"\\(.)", r"\1", value) if "\\" in value else value)
    return values_of


def _gff3_attributes(text: str) -> dict[str, tuple[str, ...]]:
    """Return the values per key of GFF3.

    Only Parent is split on commas: several parents are common, and names with a bare comma are too. Pieces without `=`
    come from a note with a bare semicolon and are left out.
    """
    values_of: dict[str, tuple[str, ...]] = {}
    for piece in text.split(";"):
        key, equals, raw = piece.partition("=")
        pieces = raw.split(",") if key.strip() == "Parent" else [raw]
        values = tuple(value for value in map(_unescaped, pieces) if value)
        if equals and values:
            values_of.setdefault(key.strip(), values)
    return values_of


def _unescaped(value: str) -> str:
    """Return a value without %XX, and without the quotes that programs may put around it."""
    value = value.strip()
    if len(value) > 1 and value[0] == value[-1] == '"':
        value = value[1:-1]
    return unquote(value) if "%" in value else value


def unquote(text: str) -> str:
    """Return a text with the characters that `%20` and its like stand for (UTF-8), as GFF3 has it."""
    return _ESCAPED.sub(lambda run: bytes.fromhex(run[0].replace("%", "")).decode("utf-8", "replace"), text)
