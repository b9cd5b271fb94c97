"""Results on disk in the formats of the field: TSV, Parquet, bigWig, VCF. One function per format."""

from __future__ import annotations

import csv
import math
from collections.abc import Collection, Iterable, Mapping, Sequence
from pathlib import Path
from typing import Any, Self

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq

from mfd_cli.base.errors import InputError, OutputError
from mfd_cli.base.files import check_input, whole_file

NOT_OURS = "it is not as mfd wrote it"
"""The hint where a table of ours has been changed."""


def write_tsv(path: Path, rows: Sequence[Mapping[str, Any]], columns: Sequence[str] | None = None) -> None:
    """Write rows as tab-separated text with a header; NaN and None are empty, floats keep six significant digits.

    Tabs, line ends and control characters inside a value become spaces, and a text that a spreadsheet would take for a
    formula is quoted with an apostrophe.
    """
    with whole_file(path) as temporary, TsvRows(temporary, list(columns or (rows[0] if rows else ()))) as table:
        table.write(rows)


class TsvRows:
    """Tab-separated text as `write_tsv` writes it, in pieces, so that memory does not grow with the length of the file."""

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


def read_tsv(path: Path, columns: Sequence[str], numbers: Collection[str] = ()) -> list[dict[str, Any]]:
    """Return the rows of a table that `write_tsv` wrote, column to text, without the apostrophe before what a spreadsheet would
    take for a formula; in the columns `numbers` to a number, NaN where the cell is empty.

    InputError where the file is missing, empty or no text, or a row lacks one of `columns` or has no number where one is due.
    """
    path = check_input(path)
    try:
        with path.open(encoding="utf-8", newline="") as file:
            lines = csv.reader(file, delimiter="\t", quoting=csv.QUOTE_NONE)
            header = next(lines, [])
            rows = [dict(zip(header, (cell.removeprefix("'") for cell in line))) for line in lines]
    except (UnicodeDecodeError, csv.Error) as error:
        raise InputError("is not a table of text", path=path, hint=NOT_OURS) from error
    return [_checked(row, columns, numbers, path, line) for line, row in enumerate(rows, start=2)]


def _checked(
    row: dict[str, str], columns: Sequence[str], numbers: Collection[str], path: Path, line: int
) -> dict[str, Any]:
    """A row with numbers in place of their text; InputError where it lacks a column or a number."""
    if missing := [name for name in columns if name not in row]:
        raise InputError(f"has no {missing[0]}", path=path, line=line, hint=NOT_OURS)
    if wrong := [name for name in numbers if row.get(name) and not _is_number(row[name])]:
        raise InputError(f"{wrong[0]} is {row[wrong[0]][:60]!r}, no number", path=path, line=line, hint=NOT_OURS)
    return {name: float(text or "nan") if name in numbers else text for name, text in row.items()}


def _is_number(text: str) -> bool:
    try:
        float(text)
    except ValueError:
        return False
    return True


def write_parquet(path: Path, rows: Sequence[Mapping[str, Any]]) -> None:
    """Write rows as a Parquet file with the columns of the first row; NaN stays NaN."""
    columns = {name: [row.get(name) for row in rows] for name in (rows[0] if rows else ())}
    with whole_file(path) as temporary:
        pq.write_table(pa.table(columns), temporary)


def parquet_name(path: Path) -> Path:
    """Return the path, if it may be the name of a Parquet file; OutputError where its name says that it is something else."""
    if not path.name.lower().endswith((".parquet", ".pq")):
        raise OutputError(
            "a Parquet file is written, whose name must end in .parquet",
            path=path,
            hint=f"pandas.read_parquet reads it, and DataFrame.to_csv writes it as text: {path.stem or 'table'}.parquet",
        )
    return path


class ParquetRows:
    """A Parquet file written in pieces, so that memory does not grow with its length; nothing where `path` is None.

    Minima and maxima are kept of the first `indexed` columns only: those of hundreds of tracks would fill the footer. The
    numbers of the columns `split` are stored byte by byte (BYTE_STREAM_SPLIT), and those of others by a dictionary.
    """

    def __init__(self, path: Path | None, schema: pa.Schema, indexed: int = 7, split: Sequence[str] = ()) -> None:
        self.writer: pq.ParquetWriter | None = None
        if path is not None:
            names = schema.names[:indexed]
            encodings: dict[str, Any] = {}
            if split:
                encodings["use_byte_stream_split"] = list(split)
                encodings["use_dictionary"] = [name for name in schema.names if name not in split]
            self.writer = pq.ParquetWriter(path, schema, compression="zstd", write_statistics=names, **encodings)

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


def write_attributions(path: Path, levels: Sequence[Any], factor: str) -> None:
    """Write an Arrow file, one row per region and level: where, the score, and 4 x window hypothetical contributions.

    The contributions are a fixed-size list in channel-major order: all positions of A, then C, G, T.
    """
    rows = [(level, index) for level in levels for index in range(len(level.regions))]
    width = levels[0].hypothetical.shape[2] if rows else 0
    flat = np.concatenate([level.hypothetical.reshape(-1) for level in levels]) if rows else np.zeros(0, np.float32)
    regions = [level.regions[index] for level, index in rows]
    table = pa.table(
        {
            "level": [level.name for level, _ in rows],
            "contig": [region.contig for region in regions],
            "start": pa.array([region.start for region in regions], pa.int64()),
            "score": pa.array([region.score for region in regions], pa.float32()),
            "contributions": pa.FixedSizeListArray.from_arrays(pa.array(flat.astype(np.float32)), max(4 * width, 1)),
        }
    )
    layout = f"4 x {width}, all positions of A, then C, G, T; start is the 0-based start of the 128-bp bin"
    table = table.replace_schema_metadata({"factor": factor, "layout": layout})
    with whole_file(path) as temporary, pa.OSFile(str(temporary), "wb") as sink:
        with pa.ipc.new_file(sink, table.schema) as writer:
            writer.write_table(table)
