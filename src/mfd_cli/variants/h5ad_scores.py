"""The AnnData file of scores: a row per scored allele, a column per track, and between them the change of the track's logit."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa

from mfd_cli.formats.h5ad import H5adRows
from mfd_cli.runs.panel import Panel


class H5adScores:
    """The open file, or nothing where `path` is None.

    `schema` is that of the Parquet table: its columns are told of each allele, but for those of single tracks, and its metadata
    of the whole.
    """

    def __init__(self, path: Path | None, panel: Panel, schema: pa.Schema) -> None:
        self.tracks = [f"track.{name}" for name in panel.ids]
        of_tracks = set(self.tracks)
        obs = pa.schema([field for field in schema if field.name not in of_tracks])
        about = {key.decode().removeprefix("mfd_"): value.decode() for key, value in schema.metadata.items()}
        self.rows = H5adRows(path, obs, panel.ids.tolist(), track_table(panel), about)

    def write(self, columns: Mapping[str, Any]) -> None:
        """Add the alleles of a chunk, given as the columns of the table and each track's change."""
        if self.rows.file is not None:
            changes = np.stack([columns[name] for name in self.tracks], axis=1)  # (alleles, tracks)
            self.rows.write(columns["key"], changes, columns)


def track_table(panel: Panel) -> pa.Table:
    """Return what is told of each output: its kind, its support, and its metadata, with the level that a factor is fixed at."""
    columns = dict.fromkeys(name for row in panel.rows for name in row)
    told = {
        "kind": ["peaks" if peaks else "signal" for peaks in panel.peaks],
        "support": list(panel.support),
    }
    values = [*told.values(), *([row.get(name, "") for row in panel.rows] for name in columns)]
    return pa.Table.from_arrays([pa.array(each, pa.string()) for each in values], [*told, *columns])
