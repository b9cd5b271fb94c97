"""selected.parquet of `mfd enrich`: which labelled variants the enriched features select, and which features select each."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa

from mfd_cli.base.arrays import Bools, Doubles, Ints
from mfd_cli.base.progress import Progress
from mfd_cli.enrichment import statistics as st
from mfd_cli.enrichment.labels import WHERE, Joined
from mfd_cli.enrichment.score_table import ScoreTable
from mfd_cli.formats.tables import ParquetRows

Row = dict[str, Any]
WRITTEN_AT_ONCE = 1 << 16
"""Rows that are written together."""


def enriched(cuts: Iterable[Row], fdr: float) -> dict[str, list[Row]]:
    """Return the cuts of each feature that select the positive class more often: q below the rate, odds ratio above 1."""
    by_feature: dict[str, list[Row]] = {}
    for row in cuts:
        if row["fisher_q"] < fdr and row["odds_ratio"] > 1:
            by_feature.setdefault(row["feature"], []).append(row)
    return by_feature


def write_selected(
    path: Path,
    table: ScoreTable,
    joined: Joined,
    classes: tuple[str, str],
    cuts: Iterable[Row],
    fdr: float,
    used_of: Callable[[Doubles], Doubles],
    progress: Progress | None,
) -> int:
    """Write the labelled variants that an enriched cut selects, with the features that select each; return how many.

    Cuts apply to the score that was tested: `used_of` makes it of the stored one (signed or absolute).
    """
    selecting = enriched(cuts, fdr)
    bits = np.zeros((len(selecting), (len(joined.rows) + 7) // 8), np.uint8)  # a bit per feature and variant
    for place, (name, rows) in enumerate(selecting.items()):
        used = used_of(table.column(name, joined.rows))
        masks = [st.selects(used, row["cut"], row["quantile"]) for row in rows]
        bits[place] = np.packbits(np.any(masks, axis=0))
        if progress:
            progress("selecting variants", place + 1, len(selecting))
    naming = [name for name in (*WHERE, "id", "key") if name in table.columns]
    text, number = pa.string(), pa.int32()
    schema = pa.schema(
        [(name, pa.int64() if name == "position" else text) for name in naming]
        + [("label", text), ("n_features", number), ("features", pa.list_(text))]
    )
    names, written = pa.array(list(selecting), text), 0
    with ParquetRows(path, schema, len(naming)) as output:
        for piece, places in labelled_pieces(table, naming, joined.rows):
            mask = unpacked(bits, places)
            any_feature = mask.sum(1) > 0
            output.write(
                selected_columns(
                    piece, mask[any_feature], joined.positive[places][any_feature], names, classes, any_feature
                )
            )
            written += int(any_feature.sum())
    return written


def labelled_pieces(table: ScoreTable, columns: Sequence[str], rows: Ints) -> Iterator[tuple[pa.RecordBatch, slice]]:
    """Yield the labelled rows of the scores in pieces, and which of the labelled variants (`rows`) they are."""
    begin = 0
    for batch in table.batches(columns, WRITTEN_AT_ONCE):
        low, high = np.searchsorted(rows, (begin, begin + batch.num_rows)).tolist()
        yield batch.take(pa.array(rows[low:high] - begin)), slice(low, high)
        begin += batch.num_rows


def unpacked(bits: np.ndarray[Any, np.dtype[np.uint8]], places: slice) -> Bools:
    """Return (variants, features) of a run of variants, from a bit per feature and variant, eight variants to a byte."""
    first = places.start // 8
    whole_bytes = np.unpackbits(bits[:, first : (places.stop + 7) // 8], axis=1)
    return np.asarray(whole_bytes[:, places.start - first * 8 : places.stop - first * 8].T == 1)


def selected_columns(
    piece: pa.RecordBatch, mask: Bools, positive: Bools, names: pa.Array, classes: tuple[str, str], selected: Bools
) -> dict[str, Any]:
    """Return the columns of selected.parquet for the variants of a piece that are selected.

    `selected` (rows of the piece,) says which; `mask` (selected, features) by which features, `positive` (selected,).
    """
    count = mask.sum(1)
    offsets = pa.array(np.append(0, np.cumsum(count)).astype(np.int32))
    columns = {name: piece[name].filter(pa.array(selected)) for name in piece.schema.names}
    return columns | {
        "label": np.where(positive, *classes),
        "n_features": count.astype(np.int32),
        "features": pa.ListArray.from_arrays(offsets, names.take(pa.array(np.nonzero(mask)[1]))),
    }
