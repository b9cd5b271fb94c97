"""What a model of sequence has to beat where others have measured: predictions made of the labels of other tracks.

They read no sequence. Whoever wants an experiment on a genome where others were done has the labels of those at the same bins,
so a model that is behind is of use only where there are none: on another genome or allele.

In a bin, the rate of some tracks is the share of those measured there that have a peak. T is the first technical factor.

    labels: all tracks          the rate of all training tracks
    labels: same F + T          the rate of those that share a level of the biological factor F, plus that of the same T
    labels: same biology + T    the same with all biological factors at once; where there are several
    labels: additive logits     logit(all) + sum over the biological factors and T of logit(those that share it) - logit(all)

Rates in logits are shrunk as if one more track had been there, which says what all tracks say, and that one what is usual.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, replace

import numpy as np
import torch

from mfd_cli.base.arrays import Bools, Floats, Ints
from mfd_cli.base.long_array import NUMBERS_AT_ONCE
from mfd_cli.core.metadata import MetadataEncoder
from mfd_cli.dataset.bins import Bins
from mfd_cli.evaluation.baselines import share_a_level
from mfd_cli.runs.at_work import labels_of
from mfd_cli.runs.folder import Run

NEEDS = "labels of other tracks at the same bins"
"""What these predictions need, and a prediction from sequence does not."""
ADDITIVE = "labels: additive logits"


@dataclass(frozen=True)
class FromLabels:
    """Predictions made of the labels of `kept` tracks (kept,) of a run at each bin, one column per experiment.

    `all` (columns, kept) says which tracks a column may be made of, each of `sets` (columns, kept) which of those share
    something with it. `usual` is how often tracks have a peak. The prediction is a sum of rates, or with `logits_of_rates` of
    logits. `bias` (columns,) is NaN where it says nothing of an experiment, because a set is empty.
    """

    run: Run
    bins: Bins
    kept: Ints
    all: Bools
    sets: tuple[Bools, ...]
    usual: float
    logits_of_rates: bool

    @property
    def bias(self) -> Floats:
        """Return (columns,): 0 where the prediction says something, NaN where it does not."""
        needed = (self.all,) if self.logits_of_rates else (self.all, *self.sets)
        silent = ~np.logical_and.reduce([chosen.any(1) for chosen in needed])
        return np.where(silent, np.float32(np.nan), np.float32(0))

    def of(self, columns: Ints) -> FromLabels:
        """Return the prediction of some columns alone."""
        return replace(self, all=self.all[columns], sets=tuple(chosen[columns] for chosen in self.sets))

    def logits(self, columns: Ints) -> Floats:
        """Return the scores of some columns (n,), as (n, bins). Labels are read for some bins at a time."""
        mine, result = self.of(columns), np.empty((len(columns), len(self.bins)), np.float32)
        step = max(NUMBERS_AT_ONCE // max(len(self.kept), 1), 1)
        for low in range(0, len(self.bins), step):
            part = np.arange(low, min(low + step, len(self.bins)))
            labels = labels_of(self.run, self.bins.taken(part), self.kept)
            result[:, part] = mine.scores(labels).T.numpy()
        return result

    def scores(self, labels: torch.Tensor) -> torch.Tensor:
        """Return the scores (bins, columns) that labels (bins, kept) give: 0 or 1, NaN where a track was not measured."""
        measured, peaks = (~labels.isnan()).float(), labels.nan_to_num(0)

        def counted(chosen: Bools) -> tuple[torch.Tensor, torch.Tensor]:
            """Peaks and measured tracks among those chosen, (bins, columns) each."""
            weights = torch.from_numpy(chosen.astype(np.float32)).T
            return peaks @ weights, measured @ weights

        hits, of = counted(self.all)
        if self.logits_of_rates:
            everywhere = (hits + self.usual) / (of + 1)
            logits = torch.logit(everywhere)
            for chosen in self.sets:
                hits, of = counted(chosen)
                logits = logits + torch.logit((hits + everywhere) / (of + 1)) - torch.logit(everywhere)
            return logits
        rate = hits / of.clamp_min(1)
        if not self.sets:
            return rate
        counts = [counted(chosen) for chosen in self.sets]
        # Where none of the tracks of a set was measured, what all tracks say has to do.
        return sum((torch.where(of > 0, hits / of.clamp_min(1), rate) for hits, of in counts), torch.zeros_like(rate))


def label_baselines(
    run: Run, bins: Bins, rows: Sequence[Mapping[str, str]], tracks: Sequence[int | None]
) -> Iterator[tuple[str, FromLabels]]:
    """Yield the name and the prediction of each baseline for experiments on peaks, from the labels of the training tracks.

    `rows` are the metadata of the experiments, `tracks` their places among the run's tracks: an experiment that is a training
    track is left out of its own baseline. Nothing where the run has no training track of peaks.
    """
    kept = np.flatnonzero(run.model.trained[: run.peak_tracks])
    if not len(kept):
        return
    own = np.array([-1 if track is None else track for track in tracks])
    others = own[:, None] != kept[None]
    metadata = run.model.metadata
    known = [run.model.rows[track] for track in kept]
    similar = {name: others & alike(metadata, name, rows, known) for name in metadata.encoders}
    biological = [name for name in similar if run.model.factors[name].group not in run.model.settings.technical]
    technique = [name for name in similar if name not in biological][:1]
    shift, plus = tuple(similar[name] for name in technique), "".join(f" + {name}" for name in technique)
    trained = [run.tracks[track] for track in kept]
    usual = float(np.mean([(track.positives + 0.5) / (track.measured + 1) for track in trained]))

    def made(*sets: Bools, logits_of_rates: bool = False) -> FromLabels:
        return FromLabels(run, bins, kept, others, sets, usual, logits_of_rates)

    yield "labels: all tracks", made()
    for name in biological:
        yield f"labels: same {name}{plus}", made(similar[name], *shift)
    if len(biological) > 1:
        together = np.logical_and.reduce([similar[name] for name in biological])
        yield f"labels: same biology{plus}", made(together, *shift)
    yield ADDITIVE, made(*(similar[name] for name in [*biological, *technique]), logits_of_rates=True)


def alike(
    metadata: MetadataEncoder, factor: str, rows: Sequence[Mapping[str, str]], others: Sequence[Mapping[str, str]]
) -> Bools:
    """Return (rows, others) whether an experiment shares a level of a factor with another."""
    return share_a_level(metadata.membership(factor, [*rows, *others]))[: len(rows), len(rows) :]
