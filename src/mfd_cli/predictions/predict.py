"""`mfd predict`: predictions along the genome, as bigWigs that browsers load and as a table.

predict/predictions.parquet     contig, start, end and one column per output
        OUTPUT.bw               the same as bigWig (128-bp bins)
        outputs.tsv             what each output is: track or experiment, part, scale, support, levels
        hub/                    a track hub for the UCSC browser (put the folder on a web server)

An output is a track, or an experiment that nobody did, or a part of either: `total` (a probability for peaks, the signal in
its own units), `shared`, a group's part, or `debiased` (everything but the technical part); parts are on the logit scale.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import torch
from scipy.special import expit

from mfd_cli.base.arrays import Floats, Ints
from mfd_cli.base.errors import ConfigError
from mfd_cli.base.files import check_output, names_of_files, whole_folder
from mfd_cli.base.progress import Progress
from mfd_cli.core.head import ConditionedHead
from mfd_cli.core.losses import SignalScale
from mfd_cli.core.predictor import Predictor
from mfd_cli.formats.bigwig_writer import BigWigs
from mfd_cli.formats.tables import ParquetRows, write_tsv
from mfd_cli.formats.track_hub import check_assembly, known_assembly, write_hub
from mfd_cli.genome.grid import BIN
from mfd_cli.genome.intervals import Interval
from mfd_cli.genome.sequence import Genome
from mfd_cli.runs.folder import Run
from mfd_cli.runs.panel import Panel, experiment_panel, panel_of
from mfd_cli.settings.config import DEBIASED, SHARED, TECHNICAL, TOTAL

BINS_AT_ONCE = 4096
MOST_FILES = 400
"""bigWigs are written together, each an open file."""


@dataclass(frozen=True)
class PredictSummary:
    """What was predicted, and where it lies."""

    folder: Path
    bins: int
    outputs: int
    remarks: str

    def lines(self) -> list[str]:
        told = f"; {self.remarks}" if self.remarks else ""
        return [f"{self.outputs:,} outputs on {self.bins:,} bins{told}", f"wrote {self.folder}"]


@dataclass(frozen=True)
class PredictedColumn:
    """One column: its name, the number of its track in the panel, and which part of it."""

    name: str
    place: int
    part: str


def predict(
    run: Run,
    genome: Genome,
    regions: Sequence[Interval],
    output: Path,
    *,
    tracks: str | None = None,
    fixes: Sequence[str] = (),
    experiment: dict[str, str] | None = None,
    parts: Sequence[str] = (TOTAL,),
    bigwig: bool = True,
    hub_genome: str | None = None,
    device: torch.device | str = "cpu",
    batch_size: int = 256,
    force: bool = False,
    progress: Progress | None = None,
) -> PredictSummary:
    """Predict the bins of the genome's grid that overlap the regions, both strands averaged, and write a folder, whole.

    `experiment` (factor -> level) takes the place of the run's tracks. Raises ConfigError for a part that the model does not
    have, and for more bigWigs than can be open together.
    """
    check_output(output, force)
    if hub_genome is not None:
        check_assembly(hub_genome)
    predictor = Predictor(run.model, device, batch_size)
    if experiment is not None:
        panel = experiment_panel(run, experiment)
    else:
        panel = panel_of(run, predictor.head, tracks, fixes)
    outputs = outputs_of(run, panel, parts)
    if bigwig and len(outputs) > MOST_FILES:
        raise ConfigError(
            f"{len(outputs)} bigWigs are too many for one folder, {MOST_FILES} can be written",
            hint="--tracks chooses some, --no-bigwig writes the table only",
        )
    pieces = list(grid(regions, genome))
    count = sum(len(starts) for _, starts in pieces)
    if not count:
        raise ConfigError("there is no whole 128-bp bin in these regions")
    names = names_of_files([one.name for one in outputs])
    with whole_folder(output) as folder:
        schema = pa.schema(
            [
                ("contig", pa.string()),
                ("start", pa.int64()),
                ("end", pa.int64()),
                *((o.name, pa.float32()) for o in outputs),
            ]
        )
        files = [folder / f"{name}.bw" for name in names] if bigwig else []
        with (
            ParquetRows(folder / "predictions.parquet", schema, 3) as table,
            BigWigs(files, genome.lengths) as bigwigs,
        ):
            done = 0
            for contig, starts in pieces:
                values = values_of(run, predictor, panel, outputs, genome, contig, starts)
                columns: dict[str, Any] = {"contig": [contig] * len(starts), "start": starts, "end": starts + BIN}
                table.write(columns | {one.name: values[:, i] for i, one in enumerate(outputs)})
                bigwigs.write(contig, starts, values, BIN)
                done += len(starts)
                if progress:
                    progress("predicting bins", done, count)
        write_tsv(folder / "outputs.tsv", [described(run, panel, one, name) for one, name in zip(outputs, names)])
        assembly = hub_genome or known_assembly(genome.lengths)
        if bigwig and assembly:
            full = [one.part == TOTAL and bool(panel.peaks[one.place]) for one in outputs]
            write_hub(folder, [one.name for one in outputs], names, full, assembly)
    told = [support_of(panel, experiment is not None)]
    if bigwig and not assembly:
        told.append("no hub for the UCSC browser (--hub-genome tells its name of this genome)")
    return PredictSummary(output, count, len(outputs), "; ".join(text for text in told if text))


def support_of(panel: Panel, of_experiment: bool) -> str:
    """How far the training tracks back the outputs, in words."""
    if of_experiment:
        return f"support of {panel.ids[0]}: {panel.support[0]}"
    counts = {level: panel.support.count(level) for level in ("pairwise", "extrapolated")}
    told = [f"{count} {level}" for level, count in counts.items() if count]
    left = [f"{panel.left_out} tracks left out, for which that is no experiment"] if panel.left_out else []
    return ", ".join([*told, *left])


def outputs_of(run: Run, panel: Panel, parts: Sequence[str]) -> list[PredictedColumn]:
    """Every output in order, named `track` or `track.part`. ConfigError for an unknown part."""
    groups = list(panel.head.groups) if isinstance(run.model.head, ConditionedHead) else []
    known = [TOTAL, SHARED, DEBIASED, *groups] if groups else [TOTAL]
    for part in parts:
        if part not in known:
            raise ConfigError(f"--part {part!r}: the model has {', '.join(known)}")
    chosen = list(dict.fromkeys(parts))
    return [
        PredictedColumn(str(name) if part == TOTAL else f"{name}.{part}", place, part)
        for place, name in enumerate(panel.ids)
        for part in chosen
    ]


def grid(regions: Sequence[Interval], genome: Genome) -> Iterator[tuple[str, Ints]]:
    """Starts of the whole bins that overlap the regions, each once, in pieces of one contig, in the genome's order."""
    for contig, length in genome.lengths.items():
        chosen = np.zeros(length // BIN, bool)
        for region in regions:
            if region.contig == contig:
                chosen[region.start // BIN : -(-region.end // BIN)] = True
        starts = np.flatnonzero(chosen) * BIN
        for low in range(0, len(starts), BINS_AT_ONCE):
            yield contig, starts[low : low + BINS_AT_ONCE]


def values_of(
    run: Run,
    predictor: Predictor,
    panel: Panel,
    outputs: Sequence[PredictedColumn],
    genome: Genome,
    contig: str,
    starts: Ints,
) -> Floats:
    """Predictions (bins, outputs)."""
    left, width = predictor.left, predictor.window
    latents = predictor.latents(np.stack([genome.codes(contig, s - left, s - left + width) for s in starts.tolist()]))
    head = panel.head
    parts = {one.part for one in outputs}
    found: dict[str, Floats] = {}
    if parts - {TOTAL, SHARED}:
        found |= {group: head.group_part(group, latents) for group in head.groups}
    if parts - {TOTAL}:
        found[SHARED] = np.broadcast_to(head.shared_part(latents)[:, None], (len(starts), len(panel.ids)))
    if DEBIASED in parts:
        found[DEBIASED] = head.bias + sum(found[part] for part in (SHARED, *head.groups) if part != TECHNICAL)
    if TOTAL in parts:
        found[TOTAL] = in_units(run, panel, head.logits(latents))
    return np.stack([found[one.part][:, one.place] for one in outputs], 1)


def in_units(run: Run, panel: Panel, logits: Floats) -> Floats:
    """Logits (bins, outputs) as probabilities of a peak, and as signals in their own units."""
    result = np.where(panel.peaks, expit(logits), logits)
    signals = {track.id: number for number, track in enumerate(run.tracks[run.peak_tracks :])}
    for place, name in enumerate(panel.ids):
        if name in signals:
            number = slice(signals[name], signals[name] + 1)
            scale = run.signal_scale
            one = SignalScale(scale.floor[number], scale.mean[number], scale.sd[number], scale.counts[number])
            scaled = one.expected(torch.from_numpy(np.ascontiguousarray(logits[:, place : place + 1])))
            result[:, place] = one.inverse(scaled).numpy()[:, 0]
    return result.astype(np.float32)


def described(run: Run, panel: Panel, one: PredictedColumn, file: str) -> dict[str, Any]:
    """One row of outputs.tsv."""
    row, columns = panel.rows[one.place], run.model.metadata.columns
    peaks = bool(panel.peaks[one.place])
    scale = "logit" if one.part != TOTAL else "probability of a peak" if peaks else "signal"
    return {
        "output": one.name,
        "file": f"{file}.bw",
        "part": one.part,
        "scale": scale,
        "support": panel.support[one.place],
        **{name: row.get(column, "") for name, column in columns.items()},
    }
