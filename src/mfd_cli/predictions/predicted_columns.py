"""The columns of a prediction: which track or experiment, which part of it, and what its numbers are."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import pyarrow as pa

from mfd_cli.base.errors import ConfigError
from mfd_cli.runs.folder import Run
from mfd_cli.runs.panel import Panel
from mfd_cli.settings.names import DEBIASED, SHARED, SURE_COLUMN, TOTAL

PROBABILITY, LOGIT = "probability of a peak", "logit"
MEAN_SIGNAL, STANDARD_LOG = "mean signal", "standardised log signal"
MEAN_COUNT, RELATIVE_COUNT, LOG_COUNT = (
    "mean count",
    "count relative to the mean",
    "log of the count relative to the mean",
)
"""What the numbers of an output are, as outputs.tsv says it. A signal is modelled as log-normal, so that what a mean of logs
becomes in the signal's own units is the median; its mean is larger."""
PLACE = ("contig", "start", "end")
"""Columns of predictions.parquet that say where a bin is."""


@dataclass(frozen=True)
class PredictedColumn:
    """One output: its name, the number of its track in the panel, which part of it, and what its numbers are.

    Of a column that says how sure a part is, `part` is the part's name with `.sd` behind it.
    """

    name: str
    number: int
    part: str
    scale: str


def experiment_scale(run: Run, kind: str) -> str:
    """Return what the total of an experiment that nobody did is measured in.

    A signal track's units (its noise floor, mean and standard deviation) are measured, not predicted. Without them the
    prediction stays on the scale of the loss: standard deviations of the log signal from its mean, or, for counts, a multiple
    of the mean count. Raises ConfigError where training had signal tracks of both sorts: their biases are not comparable.
    """
    if kind == "peaks":
        return PROBABILITY
    trained = run.model.trained[run.peak_tracks :]
    counts = run.signal_scale.counts[trained]
    if counts.any() and not counts.all():
        raise ConfigError("some signal tracks are counts and some are not: a new experiment has no scale")
    return RELATIVE_COUNT if counts.any() else STANDARD_LOG


def predicted_columns(
    run: Run, panel: Panel, parts: Sequence[str], of_experiment: bool, sure: bool = False
) -> list[PredictedColumn]:
    """Return every output in order, named `track` or `track.part`, with `sure` each followed by how sure it is (`.sd`).

    ConfigError for an unknown part, and where two columns of the table would have one name.
    """
    groups = list(panel.head.groups) if run.model.has_parts else []
    known = [TOTAL, SHARED, DEBIASED, *groups] if groups else [TOTAL]
    for part in parts:
        if part not in known:
            raise ConfigError(f"--part {part!r}: the model has {', '.join(known)}")
    totals = total_scales(run, panel, of_experiment)
    columns = [
        PredictedColumn(str(name), number, part, totals[number])
        if part == TOTAL
        else PredictedColumn(f"{name}.{part}", number, part, SCALE_OF_PARTS[totals[number]])
        for number, name in enumerate(panel.ids)
        for part in dict.fromkeys(parts)
    ]
    if sure:
        columns = [one for column in columns for one in (column, deviation_of(column))]
    names = [*PLACE, *(column.name for column in columns)]
    twice = next((name for name in names if names.count(name) > 1), None)
    if twice is not None:
        raise ConfigError(
            f"two columns of predictions.parquet would be called {twice!r}",
            hint="--tracks leaves out a track; another id in the metadata table tells them apart",
        )
    return columns


def deviation_of(column: PredictedColumn) -> PredictedColumn:
    """Return the column that says how sure another one is: a standard deviation on the scale on which parts add up."""
    scale = SCALE_OF_PARTS.get(column.scale, column.scale)
    return PredictedColumn(
        f"{column.name}{SURE_COLUMN}",
        column.number,
        f"{column.part}{SURE_COLUMN}",
        f"standard deviation of the {scale}",
    )


SCALE_OF_PARTS = {
    PROBABILITY: LOGIT,
    MEAN_SIGNAL: STANDARD_LOG,
    STANDARD_LOG: STANDARD_LOG,
    MEAN_COUNT: LOG_COUNT,
    RELATIVE_COUNT: LOG_COUNT,
}
"""Scale of a total -> that of its parts."""


def total_scales(run: Run, panel: Panel, of_experiment: bool) -> list[str]:
    """Return what the total of every output is measured in."""
    kinds = ["peaks" if peaks else "signal" for peaks in panel.peaks.tolist()]
    if of_experiment:
        return [experiment_scale(run, kind) for kind in kinds]
    counts, numbers = run.signal_scale.counts, signal_numbers(run)
    of_signal = {name: MEAN_COUNT if counts[number] else MEAN_SIGNAL for name, number in numbers.items()}
    return [of_signal.get(str(name), PROBABILITY) for name in panel.ids]


def signal_numbers(run: Run) -> dict[str, int]:
    """Return the place of each signal track among the signal tracks of the run, by id."""
    return {track.id: number for number, track in enumerate(run.tracks[run.peak_tracks :])}


def schema_of_columns(columns: Sequence[PredictedColumn]) -> pa.Schema:
    """Return the schema of predictions.parquet: where a bin is (0-based, end excluded), and a float32 column per output."""
    where = list(zip(PLACE, (pa.string(), pa.int64(), pa.int64())))
    return pa.schema([*where, *((column.name, pa.float32()) for column in columns)])


def described(run: Run, panel: Panel, column: PredictedColumn, file: str) -> dict[str, Any]:
    """Return one row of outputs.tsv; `file` is empty where there is no bigWig."""
    row, metadata = panel.rows[column.number], run.model.metadata
    cells = {name: row.get(of_table, "") for name, of_table in metadata.columns.items()}
    if any(row == track.metadata for track in run.tracks if track.id == panel.ids[column.number]):
        cells = metadata.level_cells(
            row
        )  # of an experiment, an empty cell is no missing value: it is a mean over levels
    return {
        "output": column.name,
        "file": file,
        "part": column.part,
        "scale": column.scale,
        "support": panel.support[column.number],
        "bias": float(panel.head.bias[column.number]),
        **cells,
    }
