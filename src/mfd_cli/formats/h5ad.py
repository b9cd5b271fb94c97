"""AnnData files (.h5ad): a matrix whose rows (`obs`) and columns (`var`) have names and tables, as scanpy reads it.

The package anndata is the extra `h5ad` and is imported only here. It writes a whole matrix from memory; here the matrix goes to
the disk in pieces, each element through anndata's own `write_elem`, so that what is written is its format in its version.
"""

from __future__ import annotations

import contextlib
import io
import json
from collections.abc import Iterator, Mapping, Sequence
from importlib.util import find_spec
from pathlib import Path
from typing import Any, Self

import numpy as np
import pyarrow as pa

from mfd_cli.base.arrays import Floats
from mfd_cli.base.errors import ConfigError, OutputError

CHUNK = 1 << 16
"""float32 values of a chunk of the matrix on disk, 256 KiB: what a reader of a few rows has to read."""
EMPTY = ("layers", "obsm", "obsp", "varm", "varp")
"""Elements that every AnnData has and that are empty in ours."""
RESERVED = ("", ".", "..", "_index")
"""Names that no column can have: HDF5 takes the dots for folders, and anndata keeps the last for the names of the rows."""


def check_h5ad(path: Path | None) -> Path | None:
    """Return the path, if an AnnData file of this name can be written, or is not asked for (None).

    Raises OutputError where the name says that it is something else, and ConfigError where anndata is not installed.
    """
    if path is None:
        return None
    if not path.name.lower().endswith(".h5ad"):
        raise OutputError("an AnnData file is written, whose name must end in .h5ad", path=path)
    if find_spec("anndata") is None:
        raise ConfigError("--h5ad needs anndata, which is not installed", hint="pip install 'mfd-cli[h5ad]'")
    return path


class Sink(io.FileIO):
    """A file to which every write seems to succeed; the first error is kept in `error`, and nothing is written after it.

    HDF5 does not survive a write that fails, such as on a full disk: it fails again when the program ends, with a segmentation
    fault. So it is not told, and who writes asks.
    """

    error: OSError | None = None

    def write(self, data: Any) -> int:
        """Write all bytes, or none after an error, and return how many there were."""
        left = memoryview(data).cast("B")
        size = len(left)
        with self._kept():
            while left and self.error is None:
                left = left[super().write(left) :]
        return size

    def truncate(self, size: int | None = None) -> int:
        """Set the size of the file, unless there was an error, and return it."""
        with self._kept():
            if self.error is None:
                super().truncate(size)
        return size or 0

    @contextlib.contextmanager
    def _kept(self) -> Iterator[None]:
        try:
            yield
        except OSError as error:
            self.error = error


class H5adRows:
    """An AnnData file written in pieces, its matrix float32; nothing where `path` is None.

    `obs` are the columns that are told of each row, `var` (columns of the matrix) what is told of each column, whose names are
    `names`; `about` becomes `.uns["mfd"]`. What is told of rows stays in memory until the end, and the matrix does not. Where
    HDF5 cannot have a name another is written; `.uns["mfd"]["renamed"]` says which, as JSON: obs or var -> new -> old name.
    """

    def __init__(
        self, path: Path | None, obs: pa.Schema, names: Sequence[str], var: pa.Table, about: Mapping[str, str]
    ) -> None:
        self.file: Any = None
        if path is None:
            return
        import h5py

        self.obs, self.about, self.renamed = obs, dict(about), dict[str, dict[str, str]]()
        self.names, self.pieces = list[str](), list[pa.Table]()
        self.sink = Sink(path, "w+")
        self.file = h5py.File(self.sink, "w")
        try:
            nothing, rows = np.zeros((0, len(names)), np.float32), max(CHUNK // len(names), 1)
            self._write("X", nothing, maxshape=(None, len(names)), chunks=(rows, len(names)))
            self._write("var", self._frame("var", names, var))
        except BaseException:
            self._close()
            raise

    def __enter__(self) -> Self:
        return self

    def __exit__(self, error: type[BaseException] | None, *_: object) -> None:
        if self.file is None:
            return
        try:
            if error is None:
                self._finish()
        finally:
            self._close()

    def _close(self) -> None:
        """Close the file."""
        with self.sink, self._first_error():
            self.file.close()

    def write(self, names: Sequence[str], matrix: Floats, columns: Mapping[str, Any]) -> None:
        """Add rows: their names, the matrix (rows, columns), and the columns of `obs`."""
        if self.file is None or not len(names):
            return
        self.names += names
        self.pieces.append(pa.table({name: columns[name] for name in self.obs.names}, self.obs))
        with self._first_error():
            stored = self.file["X"]
            stored.resize(len(self.names), axis=0)
            stored[len(self.names) - len(names) :] = matrix

    def _finish(self) -> None:
        """Write what is told of the rows and of the whole."""
        obs = pa.concat_tables([self.obs.empty_table(), *self.pieces])
        self._write("obs", self._frame("obs", self.names, obs))
        self._write("uns", {"mfd": {**self.about, "renamed": json.dumps(self.renamed, ensure_ascii=False)}})
        for name in EMPTY:
            self._write(name, {})
        self.file.attrs["encoding-type"], self.file.attrs["encoding-version"] = "anndata", "0.1.0"

    def _write(self, name: str, value: Any, **layout: Any) -> None:
        from anndata.io import write_elem

        with self._first_error():
            write_elem(self.file, name, value, dataset_kwargs=layout)

    @contextlib.contextmanager
    def _first_error(self) -> Iterator[None]:
        """Raise the error that a write has met, if one has, in place of those that follow from it: what HDF5 believes to have
        written it does not find again."""
        try:
            yield
        except Exception:
            if self.sink.error is None:
                raise
        if self.sink.error is not None:
            raise self.sink.error

    def _frame(self, element: str, names: Sequence[str], table: pa.Table) -> Any:
        """Return a table as pandas' frame with names for its rows, each once; texts that are repeated become categories."""
        own = column_names(table.column_names)
        self.renamed[element] = {new: old for new, old in zip(own, table.column_names) if new != old}
        return frame_of(each_once(names), dict(zip(own, table.columns)))


def frame_of(names: Sequence[str], columns: Mapping[str, pa.ChunkedArray]) -> Any:
    """Return columns as pandas' frame with these names of its rows. A missing text is empty, a missing number NaN; texts are
    numbered categories where one is repeated, as anndata itself writes them.

    Texts are Python's objects: anndata before 0.12.7 runs with pandas 3, whose own type for texts it cannot write.
    """
    import pandas

    def texts(values: Sequence[str]) -> Any:
        return pandas.Index(values, dtype=object)

    def cells(column: pa.ChunkedArray) -> Any:
        if not pa.types.is_string(column.type):
            return column.to_numpy()
        values = [text or "" for text in column.to_pylist()]
        categories = sorted(set(values))
        if len(categories) == len(values):
            return texts(values)
        return pandas.Categorical(texts(values), categories=texts(categories))

    return pandas.DataFrame({name: cells(column) for name, column in columns.items()}, index=texts(names))


def column_names(names: Sequence[str]) -> list[str]:
    """Return names as HDF5 and anndata can have them, each once. A slash would make a folder.

    >>> column_names(["lab", "level.lab=/labs/a", "_index", ""])
    ['lab', 'level.lab=_labs_a', '_index_', '_']
    """
    plain = [name.replace("/", "_") for name in names]
    return each_once([f"{name}_" if name in RESERVED else name for name in plain])


def each_once(names: Sequence[str]) -> list[str]:
    """Return names, of which those that were there before have a number.

    >>> each_once(["a", "b", "a", "a", "a-2"])
    ['a', 'b', 'a-2', 'a-3', 'a-2-2']
    """
    numbers, taken, result = dict[str, int](), set[str](), list[str]()
    for name in names:
        chosen = name
        while chosen in taken:
            numbers[name] = numbers.get(name, 1) + 1
            chosen = f"{name}-{numbers[name]}"
        taken.add(chosen)
        result.append(chosen)
    return result
