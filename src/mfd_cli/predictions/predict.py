"""`mfd predict`: predictions along the genome, as bigWigs that browsers load and as a table.

predict/predictions.parquet     contig, start, end and one column per output
        OUTPUT.bw               the same as bigWig (128-bp bins)
        outputs.tsv             what each output is: track or experiment, part, scale, support, bias, levels
        hub/                    a track hub for the UCSC browser (put the folder on a web server)

An output is a track, or an experiment that nobody did, or a part of either: `total` (a probability for peaks, the signal in
its own units), `shared`, a group's part, or `debiased` (everything but the technical groups). Parts are on the scale on which
the model adds up: logits of peaks, standardised logs of signals. With `sd` each output is followed by OUTPUT.sd, how sure it is
on that scale. There

    bias + shared + the parts of all groups = debiased + the parts of the technical groups = the total before it gets its units

and the bias, which is the same in all bins, stands in outputs.tsv. The signal of an experiment that nobody did has no units of
its own: see `experiment_scale` in predicted_columns.py.
"""

from __future__ import annotations

import hashlib
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch
from scipy.special import expit

from mfd_cli.base.arrays import Floats, Ints
from mfd_cli.base.errors import ConfigError
from mfd_cli.base.files import names_of_files, whole_folder
from mfd_cli.base.notebook import Told
from mfd_cli.base.progress import Progress
from mfd_cli.core.losses import bounded_exp
from mfd_cli.core.part_variances import PartVariances
from mfd_cli.core.predictor import Predictor
from mfd_cli.engine.jobs import HERE, Piece, Workplace, at_work
from mfd_cli.engine.parts import Columns
from mfd_cli.experiments.track import Kind
from mfd_cli.formats.bigwig_writer import BigWigs
from mfd_cli.formats.tables import ParquetRows, write_tsv
from mfd_cli.formats.track_hub import check_assembly, known_assembly, write_hub
from mfd_cli.genome.grid import BIN
from mfd_cli.genome.intervals import Interval
from mfd_cli.genome.sequence import Genome
from mfd_cli.predictions.part_deviations import part_deviations
from mfd_cli.predictions.predicted_columns import (
    MEAN_COUNT,
    MEAN_SIGNAL,
    PROBABILITY,
    RELATIVE_COUNT,
    PredictedColumn,
    described,
    predicted_columns,
    schema_of_columns,
    signal_numbers,
)
from mfd_cli.runs.folder import Run
from mfd_cli.runs.new_experiment import experiment_kind, experiment_panel
from mfd_cli.runs.panel import Panel, panel_of
from mfd_cli.runs.sources import Sources
from mfd_cli.settings.names import DEBIASED, SHARED, SURE_COLUMN, TOTAL

PREDICTED_AT_ONCE = 4096
"""Bins that are held in memory, and written, together."""
MOST_FILES = 400
"""bigWigs are written together, each an open file."""
COMPRESSION_LEVEL = 3
"""Level of zstd for the table: predictions are noise in their last digits, and more effort gains little."""


@dataclass(frozen=True, repr=False)
class PredictSummary(Told):
    """What was predicted, and where it lies."""

    folder: Path
    bins: int
    outputs: int
    remarks: str

    def lines(self) -> list[str]:
        """Return the summary as lines for the terminal."""
        remarks = f"; {self.remarks}" if self.remarks else ""
        return [f"{self.outputs:,} outputs on {self.bins:,} bins{remarks}", f"wrote {self.folder}"]


def predict(
    run: Run,
    genome: Genome,
    regions: Sequence[Interval],
    output: Path,
    *,
    tracks: str | None = None,
    fixes: Sequence[str] = (),
    experiment: dict[str, str] | None = None,
    kind: Kind | None = None,
    parts: Sequence[str] = (TOTAL,),
    sd: bool = False,
    bigwig: bool = True,
    hub_genome: str | None = None,
    device: torch.device | str = "cpu",
    batch_size: int = 256,
    workplace: Workplace = HERE,
    force: bool = False,
    progress: Progress | None = None,
) -> PredictSummary:
    """Predict the bins of the genome's grid that overlap the regions, both strands averaged, and write a folder, whole.

    `experiment` (factor -> level) takes the place of the run's tracks, and is of `kind` (see `experiment_kind`). With `sd`
    each output is followed by its standard deviation given the data. `workplace` says where bins are predicted. Raises
    ConfigError for a part that the model does not have, for `sd` of a head that is not mixed, and for more bigWigs than can be
    open together.
    """
    workplace.check_result(output, force)
    if hub_genome is not None:
        check_assembly(hub_genome)
    question = Question(tracks, tuple(fixes), tuple(experiment.items()) if experiment else None, kind, tuple(parts), sd)
    along = question.of(run, genome, device, batch_size)
    columns, panel = along.columns, along.panel
    if bigwig and len(columns) > MOST_FILES:
        raise ConfigError(
            f"{len(columns)} bigWigs are too many for one folder, {MOST_FILES} can be written",
            hint="--tracks chooses some, --no-bigwig writes the table only",
        )
    pieces = list(grid(regions, genome))
    count = sum(piece.size for piece in pieces)
    if not count:
        raise ConfigError("there is no whole 128-bp bin in these regions")
    names = names_of_files([column.name for column in columns])
    assembly = hub_genome or known_assembly(genome.lengths)
    job = PredictJob(Sources.of(run, genome), question, str(device), batch_size)
    with at_work(job, along.predicted, output, workplace) as work:
        if workplace.shard is not None:
            work.make_shard(output, pieces)
        with whole_folder(output) as folder:
            bigwigs = [folder / f"{name}.bw" for name in names] if bigwig else []
            along.write(folder, bigwigs, work.parts_of((piece, piece) for piece in pieces), count, progress)
            write_tsv(
                folder / "outputs.tsv",
                [described(run, panel, column, f"{name}.bw" if bigwig else "") for column, name in zip(columns, names)],
            )
            if bigwig and assembly:
                # A probability has a natural axis from 0 to 1; the browser scales everything else by itself.
                full = [column.scale == PROBABILITY for column in columns]
                write_hub(folder, [column.name for column in columns], names, full, assembly)
    remarks = [support_of(panel, experiment is not None)]
    if bigwig and not assembly:
        remarks.append("no hub for the UCSC browser (--hub-genome tells its name of this genome)")
    return PredictSummary(output, count, len(columns), "; ".join(text for text in remarks if text))


@dataclass(frozen=True)
class Question:
    """What is predicted: the run's tracks or some of them, with factors fixed, or an `experiment` of a `kind`; and which parts.
    Plain values that can be sent to a worker."""

    tracks: str | None
    fixes: tuple[str, ...]
    experiment: tuple[tuple[str, str], ...] | None
    kind: Kind | None
    parts: tuple[str, ...]
    sd: bool = False

    def of(self, run: Run, genome: Genome, device: torch.device | str, batch_size: int) -> ModelAlongGenome:
        """Return the model at work on the question. ConfigError for a part or a level that it does not know."""
        predictor = Predictor(run.model, device, batch_size)
        if self.experiment is not None:
            panel = experiment_panel(run, dict(self.experiment), experiment_kind(run, self.kind))
        else:
            panel = panel_of(run, predictor.head, self.tracks, self.fixes)
        columns = predicted_columns(run, panel, self.parts, self.experiment is not None, self.sd)
        deviations = part_deviations(run, panel, self.parts) if self.sd else None
        return ModelAlongGenome(run, predictor, panel, columns, genome, deviations)


@dataclass(frozen=True)
class PredictJob:
    """Predictions along a genome as work in pieces, see `grid`."""

    sources: Sources
    question: Question
    device: str
    batch_size: int

    @property
    def plan(self) -> Mapping[str, Any]:
        """Return what predictions depend on besides the bins."""
        return self.sources.plan(self.device, **asdict(self.question), **{"batch size": self.batch_size})

    def start(self, device: str) -> Callable[[Any], Columns]:
        """Open model and genome and return what predicts a piece."""
        runs, genome = self.sources.open()
        return self.question.of(runs[0], genome, device, self.batch_size).predicted


def support_of(panel: Panel, of_experiment: bool) -> str:
    """Say how far the training tracks back the outputs."""
    if of_experiment:
        return f"support of {panel.ids[0]}: {panel.support[0]}"
    counts = {level: panel.support.count(level) for level in ("pairwise", "extrapolated")}
    backed = [f"{count} {level}" for level, count in counts.items() if count]
    left_out = [f"{panel.left_out} tracks left out, for which that is no experiment"] if panel.left_out else []
    return ", ".join([*backed, *left_out])


def grid(regions: Sequence[Interval], genome: Genome) -> Iterator[Piece]:
    """Yield the whole bins that overlap the regions, each once, in pieces of one contig, in the genome's order.

    What a piece is: the contig, and where its bins start. An unfinished bin at the end of a contig is left out, as in training.
    """
    for contig, length in genome.lengths.items():
        chosen = np.zeros(length // BIN, bool)
        for region in regions:
            if region.contig == contig:
                chosen[region.start // BIN : -(-region.end // BIN)] = True
        starts = np.flatnonzero(chosen) * BIN
        for low in range(0, len(starts), PREDICTED_AT_ONCE):
            own = starts[low : low + PREDICTED_AT_ONCE]
            name = f"{contig}:{own[0] + 1:,}-{own[-1] + BIN:,}"
            yield Piece((contig, own), f"{name} {hashlib.sha256(own.tobytes()).hexdigest()}", name, len(own))


@dataclass(frozen=True)
class ModelAlongGenome:
    """A model at work on bins of a genome; `columns` are the outputs that are wanted of its panel, `deviations` how sure
    it is of their parts, where that is wanted."""

    run: Run
    predictor: Predictor
    panel: Panel
    columns: Sequence[PredictedColumn]
    genome: Genome
    deviations: PartVariances | None = None

    def write(
        self,
        folder: Path,
        bigwigs: Sequence[Path],
        predicted: Iterable[tuple[Piece, Columns]],
        count: int,
        progress: Progress | None,
    ) -> None:
        """Write predictions.parquet, and a bigWig per output where their paths are given, of `count` bins predicted in
        pieces."""
        done = 0
        with (
            ParquetRows(folder / "predictions.parquet", schema_of_columns(self.columns), COMPRESSION_LEVEL) as table,
            BigWigs(bigwigs, self.genome.lengths) as files,
        ):
            for piece, values in predicted:
                contig, starts = piece.what
                bins: dict[str, Any] = {"contig": [contig] * len(starts), "start": starts, "end": starts + BIN}
                table.write(bins | values)
                if bigwigs:
                    files.write(contig, starts, np.stack([values[column.name] for column in self.columns], 1), BIN)
                done += len(starts)
                if progress:
                    progress("predicting bins", done, count)

    def predicted(self, piece: tuple[str, Ints]) -> Columns:
        """Return a column of predictions per output, (bins,) each, of a contig's bins that begin at some starts."""
        values = self.values(*piece)
        return {column.name: np.ascontiguousarray(values[:, i]) for i, column in enumerate(self.columns)}

    def values(self, contig: str, starts: Ints) -> Floats:
        """Return the predictions (bins, outputs) of the bins of a contig that begin at `starts`.

        Of the sum logit = bias + shared + parts of the groups, only what the outputs need is computed.
        """
        latents = self.predictor.latents_at(starts, self.predictor.cutter(self.genome, contig))
        head, computed = self.panel.head, dict[str, Floats]()  # part -> (bins, tracks)
        if (known := self.deviations) is not None:
            computed |= {f"{part}{SURE_COLUMN}": known.deviations(part, latents) for part in known.variances}
        parts = {column.part for column in self.columns} - set(computed)
        if parts - {TOTAL, SHARED}:
            computed |= {group: head.group_part(group, latents) for group in head.groups}
        if parts - {TOTAL}:
            computed[SHARED] = np.broadcast_to(head.shared_part(latents)[:, None], (len(starts), len(self.panel.ids)))
        if DEBIASED in parts:
            technical = self.run.model.settings.technical
            left_in = [computed[part] for part in (SHARED, *head.groups) if part not in technical]
            computed[DEBIASED] = head.bias + sum(left_in)
        if TOTAL in parts:
            computed[TOTAL] = self.in_units(head.logits(latents))
        return np.stack([computed[column.part][:, column.number] for column in self.columns], 1)

    def in_units(self, logits: Floats) -> Floats:
        """Return logits (bins, tracks) as what the total columns are measured in: probabilities of a peak, signals."""
        result, numbers = logits.astype(np.float32, copy=True), signal_numbers(self.run)
        for column in self.columns:
            if column.part != TOTAL:
                continue
            values = logits[:, column.number]
            if column.scale == PROBABILITY:
                result[:, column.number] = expit(values)
            elif column.scale == RELATIVE_COUNT:
                result[:, column.number] = bounded_exp(torch.from_numpy(np.ascontiguousarray(values))).numpy()
            elif column.scale in (MEAN_SIGNAL, MEAN_COUNT):
                scale = self.run.signal_scale.only(numbers[str(self.panel.ids[column.number])])
                scaled = scale.expected(torch.from_numpy(np.ascontiguousarray(values[:, None])))
                result[:, column.number] = scale.inverse(scaled).numpy()[:, 0]
        return result
