"""Results on disk in the formats of the field: TSV, Parquet, bigWig, VCF. One function per format."""

from __future__ import annotations

import math
import os
import shutil
import sys
import tempfile
from collections.abc import Callable, Collection, Iterable, Mapping, Sequence
from pathlib import Path
from typing import Any, Literal, Self

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pysam
import pysam.bcftools

from mfd_cli.bigwig_writer import BigWigs
from mfd_cli.data.variants import Record, quiet_htslib, split_info
from mfd_cli.errors import VariantError
from mfd_cli.files import check_space, whole_file


def write_tsv(path: Path, rows: Sequence[Mapping[str, Any]], columns: Sequence[str] | None = None) -> None:
    """Rows as tab-separated text with a header; NaN and None are empty, floats keep six significant digits.

    Tabs, line ends and control characters inside a value become spaces, and a text that a spreadsheet would take for a
    formula is quoted with an apostrophe.
    """
    with whole_file(path) as temporary, TsvRows(temporary, list(columns or (rows[0] if rows else ()))) as table:
        table.write(rows)


class TsvRows:
    """The same written in pieces, so that memory does not grow with the length of the file."""

    def __init__(self, path: Path, columns: Sequence[str]) -> None:
        self.columns, self.stream = columns, path.open("w", encoding="utf-8", newline="\n")
        self.stream.write("\t".join(columns) + "\n")

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.stream.close()

    def write(self, rows: Iterable[Mapping[str, Any]]) -> None:
        """Add rows; a column that one lacks is empty."""
        self.stream.writelines("\t".join(_text(row.get(name)) for name in self.columns) + "\n" for row in rows)


def _text(value: Any) -> str:
    if value is None or (isinstance(value, float) and math.isnan(value)):
        return ""
    if isinstance(value, float):
        return f"{value:.6g}"
    if not isinstance(value, str):
        return str(value)
    clean = "".join(" " if ord(letter) < 32 or 127 <= ord(letter) < 160 else letter for letter in value)
    return f"'{clean}" if clean[:1] in ("=", "+", "-", "@") and not _is_number(clean) else clean


def _is_number(text: str) -> bool:
    try:
        float(text)
    except ValueError:
        return False
    return True


def write_parquet(path: Path, rows: Sequence[Mapping[str, Any]]) -> None:
    """Rows as a Parquet file with the columns of the first row; NaN stays NaN."""
    columns = {name: [row.get(name) for row in rows] for name in (rows[0] if rows else ())}
    with whole_file(path) as temporary:
        pq.write_table(pa.table(columns), temporary)


class ParquetRows:
    """A Parquet file written in pieces, so that memory does not grow with its length; nothing where `path` is None.

    Minima and maxima are kept of the first `indexed` columns only: those of hundreds of tracks would fill the footer.
    """

    def __init__(self, path: Path | None, schema: pa.Schema, indexed: int = 7) -> None:
        self.writer: pq.ParquetWriter | None = None
        if path is not None:
            names = schema.names[:indexed]
            self.writer = pq.ParquetWriter(path, schema, compression="zstd", write_statistics=names)

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        if self.writer is not None:
            self.writer.close()

    def write(self, columns: Mapping[str, Any]) -> None:
        """Add rows, given as the columns of the schema."""
        if self.writer is not None and len(next(iter(columns.values()))):
            schema = self.writer.schema
            self.writer.write_table(pa.table({name: columns[name] for name in schema.names}, schema))


class VcfWriter:
    """Annotated VCF in a file or on standard output (None). `kind` as in bcftools: v text, z BGZF, b BCF, u BCF uncompressed.

    A record is its own bytes with our entries in INFO (of BCF, what htslib makes of that text); `sorted` tells whether the
    records came in order, `own` are the INFO entries that are replaced. A BCF is complete when the block ends.
    """

    def __init__(
        self, path: Path | None, kind: Literal["v", "z", "b", "u"] = "v", own: Collection[str] = ()
    ) -> None:  # fmt: skip
        self.path, self.kind, self.sorted, self.own = path, kind, True, {name.encode() for name in own}
        self.last: tuple[str, int] = ("", 0)
        self.finished: set[str] = set()
        self.scratch: tempfile.TemporaryDirectory[str] | None = None
        self.stream: Any
        if kind in ("b", "u"):
            self.scratch = tempfile.TemporaryDirectory(dir=None if path is None else path.parent)
            self.text = Path(self.scratch.name, "records.vcf")
            self.stream = self.text.open("wb")
        elif kind == "z":
            self.stream = pysam.BGZFile("-" if path is None else str(path), "wb", None)
        else:
            self.stream = sys.stdout.buffer if path is None else path.open("wb")

    def __enter__(self) -> Self:
        return self

    def __exit__(self, kind: type[BaseException] | None, *_: object) -> None:
        if self.path is None and self.kind == "v":
            self.stream.flush()
            return
        if self.path is None and kind is not None:  # a reader must not take what was cut for the whole: no end mark
            os.dup2(os.open(os.devnull, os.O_WRONLY), 1)
        self._do(self.stream.close)
        if self.scratch is not None:
            with self.scratch:
                if kind is None:
                    self._convert(Path(self.scratch.name, "records.bcf"))

    def _do(self, action: Callable[..., object], *given: object) -> None:
        """Write or close; of htslib's failures, which have no number, a full disk is told apart."""
        try:
            action(*given)
        except OSError as error:
            if error.errno is None and self.path is not None:
                check_space(self.path, error)
            raise

    def _convert(self, made: Path) -> None:
        """Text to BCF. VariantError where a record is no valid VCF, which text can carry and BCF cannot."""
        quiet_htslib()
        try:
            pysam.bcftools.view("--no-version", f"-O{self.kind}", "-o", str(made), str(self.text), catch_stdout=False)
        except pysam.SamtoolsError as error:
            check_space(made, error)
            raise VariantError(
                "the records cannot be written as BCF: a tag, filter or contig in them is not defined in the header",
                hint="-O z keeps every record as it is",
            ) from error
        if self.path is not None:
            made.replace(self.path)
            return
        with made.open("rb") as file:
            shutil.copyfileobj(file, sys.stdout.buffer)
        sys.stdout.buffer.flush()

    def write_header(self, lines: Sequence[bytes]) -> None:
        self._do(self.stream.write, b"\n".join(lines) + b"\n")

    def write(self, record: Record, info: Mapping[str, str]) -> None:
        """Write a record with these entries added to INFO, in place of older ones of ours."""
        kept = [entry for entry in split_info(record.cells[7]) if entry.partition(b"=")[0] not in self.own]
        ours = [f"{name}={value}".encode() for name, value in info.items()]
        cells = [*record.cells[:7], b";".join([*kept, *ours]) or b".", *record.cells[8:]]
        self._do(self.stream.write, b"\t".join(cells) + b"\n")
        contig, position = self.last
        if record.contig != contig:
            self.sorted &= record.contig not in self.finished
            self.finished.add(contig)
        elif record.position < position:
            self.sorted = False
        self.last = (record.contig, record.position)

    def index(self, path: Path, index: Path) -> bool:
        """Write an index (.tbi, or .csi for BCF and very long contigs) of the closed file; False where it cannot hold it.

        A .tbi ends at 2^29 bp, a .csi at 2^31, and a record may claim any position.
        """
        quiet_htslib()
        kind = "-c" if index.suffix == ".csi" else "-t"
        try:
            pysam.bcftools.index("-f", kind, "-o", str(index), str(path))
        except pysam.SamtoolsError as error:
            check_space(index, error)
            index.unlink(missing_ok=True)
            return False
        return True


def write_attributions(path: Path, levels: Sequence[Any], factor: str) -> None:
    """Arrow file, one row per region and level: where, the score, and 4 x window hypothetical contributions.

    The contributions are a fixed-size list in channel-major order: all positions of A, then C, G, T.
    """
    rows = [(level, index) for level in levels for index in range(len(level.regions))]
    width = levels[0].hypothetical.shape[2] if rows else 0
    flat = np.concatenate([level.hypothetical.reshape(-1) for level in levels]) if rows else np.zeros(0, np.float32)
    regions = [level.regions[index] for level, index in rows]
    table = pa.table(
        {
            "level": [level.name for level, _ in rows], "contig": [region.contig for region in regions],
            "start": pa.array([region.start for region in regions], pa.int64()),
            "score": pa.array([region.score for region in regions], pa.float32()),
            "contributions": pa.FixedSizeListArray.from_arrays(pa.array(flat.astype(np.float32)), max(4 * width, 1)),
        }
    )  # fmt: skip
    layout = f"4 x {width}, all positions of A, then C, G, T; start is the 0-based start of the 128-bp bin"
    table = table.replace_schema_metadata({"factor": factor, "layout": layout})
    with whole_file(path) as temporary, pa.OSFile(str(temporary), "wb") as sink:
        with pa.ipc.new_file(sink, table.schema) as writer:
            writer.write_table(table)


def write_bigwig(path: Path, lengths: Mapping[str, int], pieces: Sequence[tuple[str, int, Any]]) -> None:
    """bigWig of per-base values: (contig, start, values (n,)); where pieces overlap the first one counts."""
    with BigWigs([path], lengths) as file:
        for contig in lengths:
            here = [(start + np.arange(len(values)), values) for name, start, values in pieces if name == contig]
            if here:
                places = np.concatenate([place for place, _ in here])
                positions, first = np.unique(places, return_index=True)  # the first of each position
                inside = (positions >= 0) & (positions < lengths[contig])
                values = np.concatenate([values for _, values in here])[first]
                file.write(contig, positions[inside], values[inside, None], 1)


def write_meme(path: Path, motifs: Mapping[str, Any]) -> None:
    """Base frequencies (4, width) per name as a MEME motif file."""
    lines = ["MEME version 4", "", "ALPHABET= ACGT", "", "strands: + -", ""]
    for name, frequency in motifs.items():
        columns = frequency.T + 1e-6
        lines += [f"MOTIF {name}", f"letter-probability matrix: alength= 4 w= {len(columns)}"]
        lines += [" ".join(f"{value:.6f}" for value in column / column.sum()) for column in columns]
        lines.append("")
    with whole_file(path) as temporary:
        temporary.write_text("\n".join(lines) + "\n", "ascii")
