"""An array that may be too long for memory: made of blocks of rows, one after the other, and read in blocks of rows."""

from __future__ import annotations

import shutil
import tempfile
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import IO

import numpy as np

from mfd_cli.base.arrays import Floats, Ints
from mfd_cli.base.errors import OutputError
from mfd_cli.base.files import disk_errors

MOST_IN_MEMORY = 2**30
"""Bytes up to which an array stays in memory."""
NUMBERS_AT_ONCE = 2**24
"""Numbers of a block that is read: 64 MiB."""


@dataclass(frozen=True)
class LongArray:
    """float32 numbers of this shape, (rows, size): `values` in memory, or those of a `file`.

    The file is read, not mapped: pages of a mapped file count as this process's memory until somebody else wants them.
    """

    shape: tuple[int, int]
    values: Floats | None = None
    file: IO[bytes] | None = None

    @classmethod
    def of(cls, values: Floats) -> LongArray:
        """Return an array (rows, size) that is in memory as a long one."""
        return cls((values.shape[0], values.shape[1]), values)

    def __len__(self) -> int:
        return self.shape[0]

    def blocks(self) -> Iterator[tuple[slice, Floats]]:
        """Yield which rows, and the numbers in them (some rows, size), from the first row to the last."""
        step = max(NUMBERS_AT_ONCE // max(self.shape[1], 1), 1)
        for low in range(0, len(self), step):
            part = slice(low, min(low + step, len(self)))
            yield part, self._read(part)

    def rows(self, index: Ints) -> Floats:
        """Return the rows of an index (n,), as (n, size)."""
        if self.file is None:
            assert self.values is not None
            return self.values[index]
        mapped = np.memmap(self.file, np.float32, "r", shape=self.shape)
        return np.array(mapped[index])

    def _read(self, part: slice) -> Floats:
        if self.file is None:
            assert self.values is not None
            return self.values[part]
        self.file.seek(part.start * self.shape[1] * 4)
        count = part.stop - part.start
        return np.fromfile(self.file, np.float32, count * self.shape[1]).reshape(count, self.shape[1])


def joined(shape: tuple[int, int], blocks: Iterable[Floats]) -> Floats:
    """Return the array of this shape (rows, size) that the blocks are, one after the other; no block is there twice."""
    values, done = np.empty(shape, np.float32), 0
    for block in blocks:
        values[done : done + len(block)] = block
        done += len(block)
    return values


@contextmanager
def long_array(shape: tuple[int, int], blocks: Iterable[Floats], folder: Path) -> Iterator[LongArray]:
    """Yield the array of this shape (rows, size) that the blocks (some rows, size) are, one after the other.

    What is larger than MOST_IN_MEMORY is kept in a file without a name on the disk of `folder`, of which nothing is left when
    the context, or the process, ends in whichever way. Raises OutputError where that disk has too little room.
    """
    wanted = shape[0] * shape[1] * 4
    if wanted <= MOST_IN_MEMORY:
        yield LongArray(shape, joined(shape, blocks))
        return
    if (free := shutil.disk_usage(folder).free) < wanted:
        message = f"has too little room: {wanted / 1e9:.1f} GB are needed while this runs, {free / 1e9:.1f} are free"
        raise OutputError(message, path=folder, hint="-o FOLDER on another disk")
    with tempfile.TemporaryFile(dir=folder) as file:
        with disk_errors(folder):
            for block in blocks:
                file.write(np.ascontiguousarray(block, np.float32).data)
            file.flush()
        yield LongArray(shape, file=file)
