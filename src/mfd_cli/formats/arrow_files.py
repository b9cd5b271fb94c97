"""Arrow's file format: tables that appear on the disk before they are named, and are checked when they are read."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path

import numpy as np
import pyarrow as pa

from mfd_cli.base.arrays import Bools, Bytes, Floats
from mfd_cli.base.errors import MfdError
from mfd_cli.base.files import sync


def write_arrow(path: Path, table: pa.Table) -> None:
    """Write a table as one batch, without compression, so that it can be mapped into memory."""
    table = table.combine_chunks()
    with pa.OSFile(str(path), "wb") as sink, pa.ipc.new_file(sink, table.schema) as writer:
        writer.write_table(table)
    sync(path)


def read_arrow(
    path: Path, columns: Mapping[str, pa.DataType], error: type[MfdError], hint: str, may_miss: Sequence[str] = ()
) -> pa.Table:
    """Return a table that has these columns, of these types, without missing values but in those that `may_miss` some; `error`
    with `hint` otherwise. Its numbers stay on the disk until they are looked at."""
    try:
        with pa.memory_map(str(path)) as source:
            table = pa.ipc.open_file(source).read_all()
        table.validate(full=True)  # offsets and indices: what is read without a look at the bounds
    except (pa.ArrowException, OSError, ValueError) as problem:
        raise error("is not an Arrow file, or is damaged", path=path, hint=hint) from problem
    for name, kind in columns.items():
        if name not in table.column_names or table.schema.field(name).type != kind:
            raise error(f"has no column {name!r} of type {kind}", path=path, hint=hint)
        if name not in may_miss and table[name].null_count:
            raise error(f"has missing values in column {name!r}", path=path, hint=hint)
    return table


def fixed_binary(values: Bytes) -> pa.Array:
    """Return (rows, width) as a column of fixed-size binary, without copying."""
    values = np.ascontiguousarray(values)
    return pa.Array.from_buffers(pa.binary(values.shape[1]), len(values), [None, pa.py_buffer(values)])


def fixed_floats(values: Floats, missing: Bools | None = None) -> pa.Array:
    """Return (rows, width) as a column of fixed-size lists; `missing` (rows,) says which are not there."""
    flat = pa.array(np.ascontiguousarray(values, np.float32).reshape(-1))
    kind = pa.list_(pa.float32(), values.shape[1])
    if missing is not None and missing.any():
        return pa.FixedSizeListArray.from_arrays(flat, type=kind, mask=pa.array(missing))
    return pa.Array.from_buffers(kind, len(values), [None], children=[flat])


def floats_of(column: pa.Array, width: int) -> Floats:
    """Return a column of fixed-size lists of float32 as (rows, width), without copying; what is missing is any number."""
    flat: Floats = column.values.to_numpy()[column.offset * width :]
    return flat[: len(column) * width].reshape(len(column), width)


def bytes_of(column: pa.Array, width: int) -> Bytes:
    """Return a column of fixed-size binary as (rows, width), without copying."""
    if not len(column) or not width:
        return np.zeros((len(column), width), np.uint8)
    raw = np.frombuffer(column.buffers()[1], np.uint8)[column.offset * width :]
    return raw[: len(column) * width].reshape(len(column), width)
