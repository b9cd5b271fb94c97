"""The Parquet table of `mfd score-variants`, read back one column at a time."""

from __future__ import annotations

import fnmatch
import math
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq

from mfd_cli.base.arrays import Doubles, Ints
from mfd_cli.base.errors import InputError
from mfd_cli.base.files import check_input
from mfd_cli.enrichment.labels import WHERE
from mfd_cli.genome.sequence import aliases

NOT_SCORES = ("line", "position", "tss_distance", "haplotype", "MFD_BG_*", "MFD_*_SD", "quantile.*", "p.*")
"""Numbers that are no scores, or the ranks or the error of one that is there already."""
ROWS_AT_ONCE = 1 << 20
"""Rows whose names are joined together."""


def is_no_score(name: str) -> bool:
    """Return whether a column of numbers is one of NOT_SCORES."""
    return any(fnmatch.fnmatchcase(name, pattern) for pattern in NOT_SCORES)


class Places(NamedTuple):
    """Where variants lie: `contig` (n,) are places in `names`, which have no `chr`; `start` (n,) is 0-based."""

    names: tuple[str, ...]
    contig: Ints
    start: Ints


class ScoreTable:
    """The Parquet table of scores, read one column at a time. InputError where it is damaged or something else."""

    def __init__(self, path: Path) -> None:
        self.path = check_input(path)
        with self.errors():
            self.file = pq.ParquetFile(path)
        schema = self.file.schema_arrow
        self.rows, self.columns = self.file.metadata.num_rows, schema.names
        missing = [name for name in WHERE if name not in schema.names]
        if missing or not pa.types.is_integer(schema.field("position").type):
            what = f"has no column {missing[0]!r}" if missing else "has positions that are no whole numbers"
            raise InputError(
                f"{what}: it is not a table of scores", path=path, hint="mfd score-variants writes one beside the VCF"
            )
        if not self.rows:
            raise InputError("has no scored variants", path=path)
        self.half = [field.name for field in schema if pa.types.is_float16(field.type)]
        self.features = [
            field.name
            for field in schema
            if (pa.types.is_floating(field.type) or pa.types.is_integer(field.type)) and not is_no_score(field.name)
        ]
        if not self.features:
            raise InputError("has no numeric features", path=path, hint="mfd score-variants writes them")

    @property
    def about(self) -> dict[str, Any]:
        """Which model and genome the scores are of, as far as the file says."""
        stored = self.file.schema_arrow.metadata or {}
        names = ("mfd_version", "mfd_model", "mfd_genome")
        known = {name: stored[name.encode()].decode("utf-8", "replace") for name in names if name.encode() in stored}
        return {"file": self.path.name, "rows": self.rows, **known}

    @contextmanager
    def errors(self) -> Iterator[None]:
        """Turn what the reader of Parquet raises inside the block into an InputError."""
        try:
            yield
        except (pa.ArrowException, OSError) as error:
            raise InputError(
                "is damaged, or is not a Parquet file", path=self.path, hint="mfd score-variants writes the table"
            ) from error

    def column(self, name: str, rows: Ints) -> Doubles:
        """Return a feature's scores in these rows (n,), NaN where there is none. Infinite ones are none either."""
        with self.errors():
            values = self.file.read(columns=[name], use_threads=False)[name].to_numpy()
        result = np.asarray(values[rows], np.float64)
        result[~np.isfinite(result)] = math.nan
        return result

    def places(self, rows: Ints) -> Places:
        """Return where the variants of these rows (n,) lie."""
        with self.errors():
            table = self.file.read(columns=["contig", "position"], use_threads=False).take(pa.array(rows))
        encoded = table["contig"].combine_chunks().dictionary_encode()
        plain = [min(aliases(name)) for name in encoded.dictionary.to_pylist()]
        names = tuple(dict.fromkeys(plain))  # a table may call one contig both chr1 and 1
        own = np.array([names.index(name) for name in plain], np.int64)
        return Places(names, own[encoded.indices.to_numpy()], table["position"].to_numpy().astype(np.int64) - 1)

    def alleles(self, rows: Ints) -> tuple[pa.Array, pa.Array]:
        """Return the reference and alternate alleles of these rows, texts (n,) each."""
        with self.errors():
            table = self.file.read(columns=["ref", "alt"], use_threads=False).take(pa.array(rows))
        return table["ref"].combine_chunks(), table["alt"].combine_chunks()

    def naming(self, by: str) -> list[str]:
        """Return the columns that labels are joined by."""
        return ["id"] if by == "id" else [name for name in (*WHERE, "key") if name in self.columns]

    def batches(self, columns: Sequence[str], size: int = ROWS_AT_ONCE) -> Iterator[pa.RecordBatch]:
        """Yield all rows of some columns, in pieces of at most `size` rows. InputError where one is absent."""
        missing = [name for name in columns if name not in self.columns]
        if missing:
            raise InputError(
                f"has no column {missing[0]!r}",
                path=self.path,
                hint="give the labels with chrom, pos, ref and alt" if missing == ["id"] else None,
            )
        pieces = self.file.iter_batches(batch_size=size, columns=list(columns))
        while True:
            with self.errors():
                piece = next(pieces, None)
            if piece is None:
                return
            yield piece
