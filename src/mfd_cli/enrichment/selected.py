"""selected.parquet of `mfd enrich`: which labelled variants the enriched features select, and which features select each.

A cut selects some variants by chance among those on which it was chosen and tested. So cuts are chosen and tested in one half
of the blocks of the genome (every other one), and select among the variants of the other half; and the other way round.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa

from mfd_cli.base.arrays import Bools, Doubles, Ints
from mfd_cli.base.progress import Progress
from mfd_cli.enrichment import statistics as st
from mfd_cli.enrichment.features import Design, EnrichSettings, Row, selected_row
from mfd_cli.enrichment.labels import WHERE
from mfd_cli.enrichment.score_table import ScoreTable
from mfd_cli.formats.tables import ParquetRows

WRITTEN_AT_ONCE = 1 << 16
"""Rows that are written together."""


def enriched(cuts: Iterable[Row], fdr: float) -> list[Row]:
    """Return the cuts that select the positive class more often: q below the rate, odds ratio above 1."""
    return [row for row in cuts if row["q"] < fdr and row["odds_ratio"] > 1]


def by_feature(cuts: Iterable[Row]) -> dict[str, list[Row]]:
    """Return the cuts of each feature."""
    grouped: dict[str, list[Row]] = {}
    for row in cuts:
        grouped.setdefault(row["feature"], []).append(row)
    return grouped


def write_selected(
    path: Path,
    table: ScoreTable,
    design: Design,
    classes: tuple[str, str],
    half_cuts: Iterable[Row],
    settings: EnrichSettings,
    progress: Progress | None,
) -> tuple[int, list[Row]]:
    """Write the labelled variants that an enriched cut of the other half of the blocks selects, and the features that do.

    Return how many these are, and a row per such cut: what it was found by, and what it selects in the half that had no say
    in it. `half_cuts` are those of both halves. Cuts apply to the score that was tested (signed or absolute).
    """
    selecting = by_feature(enriched(half_cuts, settings.fdr))
    bits = np.zeros((len(selecting), (len(design.rows) + 7) // 8), np.uint8)  # a bit per feature and variant
    checked = list[Row]()
    for place, (name, rows) in enumerate(selecting.items()):
        used = settings.used(table.column(name, design.rows))
        masks = [st.selects(used, row["cut"], row["quantile"]) & design.halves[2 - row["half"]] for row in rows]
        checked += [in_other_half(row, used, mask, design) for row, mask in zip(rows, masks)]
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
        for piece, places in labelled_pieces(table, naming, design.rows):
            mask = unpacked(bits, places)
            any_feature = mask.sum(1) > 0
            output.write(
                selected_columns(
                    piece, mask[any_feature], design.positive[places][any_feature], names, classes, any_feature
                )
            )
            written += int(any_feature.sum())
    return written, checked


def in_other_half(cut: Row, used: Doubles, mask: Bools, design: Design) -> Row:
    """Return a cut of one half of the blocks with what it selects (`mask`, (n,)) among the scores `used` of the other half."""
    known = np.flatnonzero(design.halves[2 - cut["half"]] & ~np.isnan(used))
    positive, blocks = design.positive[known], design.blocks[known]
    everything = st.class_counts(positive, blocks, design.block_count)
    of_table = st.block_table(np.flatnonzero(mask[known]), positive, blocks, everything)
    names = ("feature", "score", "half", "quantile", "tail", "cut", "odds_ratio", "p", "q")
    return {name: cut[name] for name in names} | {
        f"other_half_{name}": value for name, value in selected_row(of_table).items()
    }


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
