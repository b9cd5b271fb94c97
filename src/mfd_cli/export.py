"""Results on disk in the formats of the field: TSV, Parquet, bigWig, VCF. One function per format."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq

from mfd_cli.files import whole_file


def write_tsv(path: Path, rows: Sequence[Mapping[str, Any]], columns: Sequence[str] | None = None) -> None:
    """Rows as tab-separated text with a header; NaN and None are empty, floats keep six significant digits.

    Tabs, line ends and control characters inside a value become spaces, and a text that a spreadsheet would take for a
    formula is quoted with an apostrophe.
    """
    columns = list(columns or (rows[0] if rows else ()))
    with whole_file(path) as temporary:
        lines = ["\t".join(columns), *("\t".join(_text(row.get(name)) for name in columns) for row in rows)]
        temporary.write_text("\n".join(lines) + "\n", "utf-8")


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
