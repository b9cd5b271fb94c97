"""The file of every substitution: what it is called, which format its name stands for, and what is in it.

    .parquet                  all columns of the table of scores, or with `fields_only` those of the VCF; float32
    .tsv.gz                   the fields, in blocks of BGZF with an index of tabix, as CADD's files
    .vcf, .vcf.gz, .bcf       the fields, as sites without samples; one record per substitution

Texts have numbers of fixed decimals. Each format says of itself what the others say: fields, models, genome, settings.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from itertools import chain
from pathlib import Path
from typing import Any, Literal

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from mfd_cli.base.errors import ConfigError, OutputError
from mfd_cli.base.files import names_of_files, whole_files
from mfd_cli.engine.jobs import Workplace
from mfd_cli.engine.parts import Columns
from mfd_cli.formats.fixed_point import fixed_point, lines_of, rounded
from mfd_cli.formats.tabix_writer import TabixWriter
from mfd_cli.formats.tables import ParquetRows
from mfd_cli.formats.vcf_writer import VcfWriter
from mfd_cli.genome.sequence import Genome
from mfd_cli.variants.options import TYPE_OF_SUFFIX, OutputType
from mfd_cli.variants.outputs import write_index
from mfd_cli.variants.scorer import Scorer
from mfd_cli.variants.table import table_metadata
from mfd_cli.variants.vcf_fields import about_lines, contig_lines, percent_encoded

DECIMALS = 4
"""Decimals of a text unless another number is asked for: an error of 0.00005 on the logit scale."""
PLACE = ("contig", "position", "ref", "alt")
WORDS = ("MFD_TRACK", "MFD_FLAGS")
PARQUET, TSV = (".parquet", ".pq"), (".tsv.gz", ".tsv.bgz")
Kind = Literal["parquet", "tsv"] | OutputType


@dataclass(frozen=True)
class SiteOptions:
    """How the scores of every substitution are written; what they depend on is in ScoreSettings.

    `output`: a .parquet, .tsv.gz, .vcf, .vcf.gz or .bcf file (default: saturate.REGION.parquet in the current folder).
    `decimals` of numbers (default: 4 in texts, and float32 as it is in Parquet). `fields_only`: of the Parquet table only what
    a VCF has. `per_track`: each track's change too, in Parquet. `genome_note` says which other genome was used.
    """

    output: Path | None = None
    per_track: bool = False
    fields_only: bool = False
    decimals: int | None = None
    genome_note: str = ""
    force: bool = False


@dataclass(frozen=True)
class SiteFile:
    """Where the scores go, and in which format."""

    path: Path
    kind: Kind

    @property
    def indexes(self) -> list[Path]:
        """Return every index that could lie beside the file."""
        return [Path(f"{self.path}.{kind}") for kind in ("tbi", "csi")] if self.kind in ("tsv", "z", "b") else []

    @property
    def is_text(self) -> bool:
        """Whether its numbers are text, of fixed decimals."""
        return self.kind != "parquet"

    def claimed(self, workplace: Workplace, force: bool) -> SiteFile:
        """Return the file, if it and its index may be written. OutputError where something is in the way."""
        for path in (self.path, *self.indexes):
            workplace.check_result(path, force)
        return self


def site_file(options: SiteOptions, region: str) -> SiteFile:
    """Return the file that `options` name, or one called after the region.

    ConfigError for standard output, and for the change of every track in a text; OutputError for a name that stands for no
    format.
    """
    if options.output is None:
        return SiteFile(Path(f"saturate.{names_of_files([region])[0]}.parquet"), "parquet")
    if str(options.output) == "-":
        raise ConfigError("--saturate writes a file, and not to standard output", hint="-o scores.tsv.gz")
    file = SiteFile(options.output, _kind_of(options.output))
    if file.is_text and options.per_track:
        raise ConfigError(f"{file.path.name} has no columns of single tracks", hint="--per-track -o scores.parquet")
    return file


def _kind_of(path: Path) -> Kind:
    """Return the format that a file's name stands for; OutputError where it stands for none."""
    kinds: Mapping[tuple[str, ...], Kind] = {PARQUET: "parquet", TSV: "tsv", **TYPE_OF_SUFFIX}
    name = path.name.lower()
    for suffixes, kind in kinds.items():
        if name.endswith(suffixes):
            return kind
    raise OutputError(
        "the name of a file of every substitution says its format, and this one says none",
        path=path,
        hint=f"it may end in {', '.join(chain(*kinds))}",
    )


# -- columns -----------------------------------------------------------------------------------------------------------


def fields_of_sites(scorer: Scorer) -> list[str]:
    """Return the columns of scores that all formats have."""
    return [*WORDS, *scorer.info_fields]


def site_schema(scorer: Scorer, genome: Genome, options: SiteOptions) -> pa.Schema:
    """Return the schema of the Parquet table, one row per substitution."""
    columns: list[tuple[str, pa.DataType]] = [("contig", pa.string()), ("position", pa.int64())]
    columns += [(name, pa.string()) for name in (*PLACE[2:], *WORDS)]
    columns += [(name, pa.float32()) for name in (scorer.info_fields if options.fields_only else scorer.column_names)]
    columns += [(f"track.{name}", pa.float32()) for name in scorer.panel.ids if options.per_track]
    return pa.schema(columns, metadata=table_metadata(scorer, genome))


# -- files -------------------------------------------------------------------------------------------------------------


@contextmanager
def site_writer(
    file: SiteFile, scorer: Scorer, genome: Genome, options: SiteOptions, warnings: list[str]
) -> Iterator[Callable[[Columns], None]]:
    """Yield what writes rows, given as columns, in the order of the genome.

    When the block ends well the file is indexed, if its format can be, and gets its name; why it has no index is one of
    `warnings`.
    """
    with whole_files(file.path, *file.indexes) as temporary:
        if file.is_text:
            with _text_writer(file, temporary, scorer, genome, options, warnings) as write:
                yield write
        else:
            with _parquet_writer(temporary[0], scorer, genome, options) as write:
                yield write
        for path in file.indexes:
            path.unlink(missing_ok=True)  # an older output's index must never lie beside the new output


@contextmanager
def _parquet_writer(
    path: Path, scorer: Scorer, genome: Genome, options: SiteOptions
) -> Iterator[Callable[[Columns], None]]:
    """Yield what writes rows into a Parquet file.

    Rounded numbers have a short dictionary. That of numbers as they are is longer than they themselves; their bytes, all first
    ones, all second ones and so on, are compressed better.
    """
    schema, decimals = site_schema(scorer, genome, options), options.decimals
    numbers = [field.name for field in schema if pa.types.is_float32(field.type)]
    with ParquetRows(path, schema, len(PLACE), numbers if decimals is None else ()) as table:
        if decimals is None:
            yield table.write
        else:
            yield lambda columns: table.write(columns | {name: rounded(columns[name], decimals) for name in numbers})


@contextmanager
def _text_writer(
    file: SiteFile, temporary: Sequence[Path], scorer: Scorer, genome: Genome, options: SiteOptions, warnings: list[str]
) -> Iterator[Callable[[Columns], None]]:
    """Yield what writes rows into a text, whose index is made when the block ends well. `temporary` are the file and the
    indexes that it could have."""
    assert file.kind != "parquet", "a text"
    names, decimals = [*scorer.info_fields, *WORDS], options.decimals or DECIMALS
    writer = TabixWriter(temporary[0]) if file.kind == "tsv" else VcfWriter(temporary[0], file.kind)
    with writer:
        writer.write_header([line.encode() for line in _header(file.kind, scorer, genome, options)])
        yield lambda columns: writer.write_lines(_lines(file.kind, names, decimals, columns))
    if file.indexes:
        by_kind = {path.suffix[1:]: path for path in temporary[1:]}
        warnings += write_index(writer, temporary[0], by_kind, "auto", file.kind, genome)


def _header(kind: Kind, scorer: Scorer, genome: Genome, options: SiteOptions) -> list[str]:
    """Return the header lines of a text, of which the last one names its columns."""
    about = about_lines(scorer, options.genome_note, options.decimals or DECIMALS)
    if kind == "tsv":
        return [*about, "\t".join(("#Chrom", "Pos", "Ref", "Alt", *scorer.info_fields, *WORDS))]
    return ["##fileformat=VCFv4.3", *contig_lines(genome), *about, "#CHROM\tPOS\tID\tREF\tALT\tQUAL\tFILTER\tINFO"]


def _lines(kind: Kind, names: Sequence[str], decimals: int, columns: Columns) -> bytes:
    """Return rows as lines of a TSV, or as records of a VCF that has the columns `names` in INFO."""
    contig, position, ref, alt = (pc.cast(pa.array(columns[name]), pa.string()) for name in PLACE)
    cells = [_cells(columns[name], decimals) for name in names]
    if kind == "tsv":
        return lines_of([contig, "\t", position, "\t", ref, "\t", alt, *chain(*(("\t", cell) for cell in cells))])
    before = [f"\t.\t.\t{names[0]}=", *(f";{name}=" for name in names[1:])]
    return lines_of([contig, "\t", position, "\t.\t", ref, "\t", alt, *chain(*zip(before, cells))])


def _cells(values: Any, decimals: int) -> pa.Array:
    """Return a column as texts that may stand in INFO."""
    if np.issubdtype(values.dtype, np.floating):
        return fixed_point(values, decimals)
    encoded = pa.array(values, pa.string()).dictionary_encode()  # few different words
    return pa.array([percent_encoded(word) for word in encoded.dictionary.to_pylist()], pa.string()).take(
        encoded.indices
    )
