"""`mfd add-tracks`: rows of the head for new tracks, on the latents of a backbone that stays as it is.

Everything that the run says of its own tracks stays as it is, to the last bit: their weights and biases, the parts of these,
the variances and averages that parts are made of. New rows come behind those of their kind.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor

from mfd_cli.base.arrays import Floats
from mfd_cli.base.errors import ConfigError, DatasetError, MetadataError, OutputError, few
from mfd_cli.base.locks import claim
from mfd_cli.base.long_array import LongArray
from mfd_cli.base.progress import Progress
from mfd_cli.base.words import counted
from mfd_cli.core.fit_rows import (
    Labelled,
    fit_rows,
    penalty_of,
    prior_directions,
    priors_of_added,
    ridge_directions,
    ridge_penalty,
)
from mfd_cli.core.head import ConditionedHead, FreeHead
from mfd_cli.core.losses import SignalScale
from mfd_cli.core.mixed_head import MixedHead
from mfd_cli.core.model import MfdModel
from mfd_cli.core.shares import covariance_of
from mfd_cli.core.stretches import STRETCH
from mfd_cli.dataset.bins import Bins
from mfd_cli.dataset.folder import Dataset, dataset_of
from mfd_cli.engine.checkpoint import DESCRIPTION, LAST, METRICS, WEIGHTS, remove
from mfd_cli.experiments.held_out import levels_of_row, same_experiment
from mfd_cli.experiments.strands import count_tracks, strand_partners
from mfd_cli.experiments.track import Track
from mfd_cli.runs.at_work import kept_latents
from mfd_cli.runs.draws import thinned_in_stretches
from mfd_cli.runs.folder import Run, load_run, save_run
from mfd_cli.settings.project import Project
from mfd_cli.training.setup import outputs_of, start_bias
from mfd_cli.training.start import FEW, Names, levels_by_name, shown

MOST_BINS = 500_000
"""Training bins that rows are fitted on, evenly spaced stretches of them: a row has as many weights as there are latents."""
RIDGES = (1.0, 10.0, 100.0, 1000.0)
"""Penalties of a free head's rows that are tried, where none is set and there are validation bins to choose by."""
MISLED = "they share their noise, and mfd evaluate takes it for what parts have in common (parts.tsv)"
"""What comes of tracks that are nearly the same."""
USUAL_RIDGE = 10.0
"""The penalty where there are none."""


@dataclass(frozen=True)
class Added:
    """What was added to a run: the new run, the ids of its new tracks, levels by factor, and on how many bins rows were fitted.

    `ridges` is the penalty of each track's row, with a free head; `alike` are the run's own tracks that are of the same
    experiment as a new one.
    """

    run: Run
    origin: str
    tracks: tuple[str, ...]
    levels: Mapping[str, Names]
    bins: int
    ridges: Mapping[str, float]
    alike: tuple[str, ...]

    def lines(self) -> list[str]:
        """Return it in words."""
        kinds = [track.kind for track in self.run.tracks if track.id in self.tracks]
        return [
            f"run: {self.run.path}",
            f"{counted(len(kinds), 'track')} added to the {len(self.run.tracks) - len(kinds)} of {self.origin}: "
            f"{few(self.tracks, FEW)} ({kinds.count('peaks')} peaks, {kinds.count('signal')} signal), "
            f"fitted on {self.bins:,} training bins",
            *(
                f"levels of {factor}: {names.line('level', 'levels')}"
                for factor, names in self.levels.items()
                if names.new
            ),
            *([f"new tracks are of the same experiment as {few(self.alike, FEW)}: {MISLED}"] if self.alike else []),
        ]

    def to_json(self) -> dict[str, Any]:
        """Return it as plain values."""
        return {
            "folder": self.run.path,
            "origin": self.origin,
            "added": list(self.tracks),
            "new_levels": {factor: list(names.new) for factor, names in self.levels.items() if names.new},
            "bins": self.bins,
            "ridges": dict(self.ridges),
            "same_experiment": list(self.alike),
            "weights_sha256": self.run.digest,
        }


def add_tracks(
    project: Project,
    run: Run,
    folder: Path,
    *,
    device: torch.device | str = "cpu",
    ridge: float | None = None,
    most_bins: int = MOST_BINS,
    force: bool = False,
    progress: Progress | None = None,
) -> Added:
    """Fit rows for the tracks of the project's dataset that a run does not have, and write the run with both to a new folder.

    `ridge` is the penalty of a free head's rows; by default that with the least loss on the validation bins, for each track. A
    mixed head's rows have the prior that the run learnt. Raises ConfigError for a conditioned head and for tracks that
    cannot be added, DatasetError where there is nothing to add or too little to fit, OutputError where a run is in the way.
    """
    check_head(run, ridge)
    dataset, device = dataset_of(project), torch.device(device)
    check_place(folder, run, force)
    new = new_tracks(run, dataset, project)
    bins = dataset.split("train")
    if not len(bins):
        raise DatasetError("has no training bins", path=project.dataset, hint="look at [split] and [bins]")
    chosen, validation = (
        thinned_in_stretches(part, most_bins, STRETCH) for part in (bins, dataset.split("validation"))
    )
    claim(folder)
    folder.parent.mkdir(parents=True, exist_ok=True)
    model, tracks = with_rows_for(run, new)
    places = [tracks.index(track) for track in new]
    signals = [track for track in new if track.kind == "signal"]
    scale = SignalScale.fit(bins.signals(columns_of(dataset, signals)), count_tracks(signals, run.config))
    bias = torch.from_numpy(start_bias(dataset)[[outputs_of(dataset).index(track) for track in new]])
    here = dataset, run, new, scale
    with (
        kept_latents(run, dataset, chosen, folder.parent, device, progress=progress) as latents,
        kept_latents(run, dataset, validation, folder.parent, device, progress=progress) as held,
    ):
        data = labelled(latents, chosen, *here, len(bins) / len(chosen))
        check = labelled(held, validation, *here)

        def fitted(done: int, fits: int) -> None:
            if progress:
                progress(f"fitting {counted(len(new), 'row')}", done, fits)

        ridges, bias = dict[str, float](), bias.to(device).double()
        if isinstance(model.head, MixedHead):
            mean, priors = model.head.expected_weights().to(device), priors_of_added(model.head, device)
            directions = prior_directions(priors, data.information(bias))
            fitted(0, 1)
            weight, bias = fit_rows(data, mean, bias, penalty_of(priors, mean), directions)
            fitted(1, 1)
        else:
            covariance = torch.from_numpy(covariance_of(latents)).to(device)
            weight, bias, chosen_ridges = best_ridge(data, check, bias, covariance, ridge, fitted)
            ridges = {track.id: value for track, value in zip(new, chosen_ridges)}
        if len(held) and signals:
            scale = calibrated(scale, check, weight.cpu(), bias.cpu())
    assert isinstance(model.head, MixedHead | FreeHead)
    with torch.no_grad():
        model.head.weight[places] = weight.to(model.head.weight)
        model.head.bias[places] = bias.to(model.head.bias)
    about = {
        **run.about,
        "dataset_digest": dataset.digest,
        "trained_on": list(
            dict.fromkeys([*run.about["trained_on"], *(dataset.contigs[index] for index in np.unique(bins.contig))])
        ),
        "added_to": {"path": shown(run.path), "weights_sha256": run.digest},
    }
    for name in (DESCRIPTION, WEIGHTS, METRICS, LAST):
        remove(folder / name)
    save_run(Run(folder, run.config, model.eval(), tracks, joined_scale(run.signal_scale, scale), about))
    rows = {track.id: track.metadata for track in tracks}
    alike = same_experiment({track.id for track in new}, run.config.tracks.experiment, rows)
    return Added(
        load_run(folder),
        shown(run.path),
        tuple(track.id for track in new),
        levels_by_name(model, run.model),
        len(chosen),
        ridges,
        tuple(sorted(alike & {track.id for track in run.tracks})),
    )


# -- what cannot work --------------------------------------------------------------------------------------------------


def check_head(run: Run, ridge: float | None) -> None:
    """Raise ConfigError where a run's head has no rows to add to."""
    if isinstance(run.model.head, ConditionedHead):
        raise ConfigError(
            f"{shown(run.path)} has a conditioned head: its weights are made from the metadata by networks that all tracks "
            "share, and a track of its own would change every other",
            hint="mfd predict --experiment FACTOR=LEVEL predicts it from its levels; "
            "mfd train --from RUN trains it with the others",
        )
    if isinstance(run.model.head, MixedHead):
        if run.model.added.any():
            raise ConfigError(
                f"{shown(run.path)} has added tracks already, whose parts would change",
                hint=f"add all of them together to {run.about['added_to']['path']}",
            )
        if ridge is not None:
            raise ConfigError(
                "--ridge is for a free head; a mixed one has a prior of its own", hint="leave --ridge out"
            )


def check_place(folder: Path, run: Run, force: bool) -> None:
    """Raise OutputError where a run is in the way of the new one, or is the one that tracks are added to."""
    if folder.resolve() == run.path.resolve():
        raise OutputError("is the run that tracks are added to, which stays as it is", path=folder, hint="name another")
    if not force and any((folder / name).exists() for name in (DESCRIPTION, WEIGHTS, LAST, METRICS)):
        raise OutputError("holds a run already", path=folder, hint="--force replaces it")


def new_tracks(run: Run, dataset: Dataset, project: Project) -> list[Track]:
    """Return the tracks of a dataset that a run does not have, in the order of outputs; raise what says why they cannot be
    added."""
    if dataset.manifest["genome_digest"] != run.about["genome_digest"]:
        raise DatasetError(
            f"has another genome than the one that {shown(run.path)} was trained on",
            path=dataset.path,
            hint="mfd train --from RUN starts a training on another genome from its backbone",
        )
    mine, outputs = {track.id: track for track in run.tracks}, outputs_of(dataset)
    new = [track for track in outputs if track.id not in mine]
    if not new:
        raise DatasetError(f"has no track that {shown(run.path)} does not have", path=dataset.path)
    wanted = [track.id for track in in_order(run.tracks, new)]
    if len(outputs) == len(wanted) and [track.id for track in outputs] != wanted:
        raise DatasetError(
            "has the run's tracks and the new ones in another order than the new run will, and mfd evaluate would refuse it",
            path=dataset.path,
            hint="put the rows of new tracks below all others in the metadata table, and run mfd preprocess again",
        )
    check_rows(run, new, dataset)
    check_held_out(run, new, project)
    tracks = in_order(run.tracks, new)
    stranded = bool((strand_partners(tracks, run.config) != np.arange(len(tracks))).any())
    if stranded != run.model.stranded:
        raise ConfigError(
            "the new tracks have pairs of strands, and the run has none: it would read one strand instead of the mean of both, "
            "and say something else of its own tracks",
            hint="mfd train --from RUN trains a model of both",
        )
    return new


def check_rows(run: Run, new: Sequence[Track], dataset: Dataset) -> None:
    """Raise MetadataError where the new tracks' rows lack what the run reads in them, or hold no value of a factor's type."""
    try:
        run.model.metadata.extended([track.metadata for track in new])
    except MetadataError as error:
        raise MetadataError(error.message, path=dataset.path, hint=error.hint) from error
    unmeasured = [track.id for track in new if not track.measured]
    if unmeasured:
        raise DatasetError(f"has no training bin in which {few(unmeasured)} was measured", path=dataset.path)


def check_held_out(run: Run, new: Sequence[Track], project: Project) -> None:
    """Raise ConfigError where a new track is to be held out, or is of the same experiment as one that the run holds out."""
    rows = {track.id: track.metadata for track in (*run.tracks, *new)}
    names = {track.id for track in new}
    named = {
        track.id
        for track in new
        for item in project.config.train.held_out
        if (item == track.id if isinstance(item, str) else has_levels(run, track, item))
    }
    if named:
        raise ConfigError(
            f"train.held_out keeps {few(sorted(named))} out of training, and to add a track is to train on it",
            hint="take it out of train.held_out, or out of the metadata table",
        )
    held = {track.id for track, used in zip(run.tracks, run.model.trained) if not used}
    shared = same_experiment(held, run.config.tracks.experiment, rows) & names if held else set[str]()
    if shared:
        raise ConfigError(
            f"{few(sorted(shared))} is of the same experiment as a track that the run holds out",
            hint="leave it out of the metadata table: files of one experiment share their reads",
        )


def has_levels(run: Run, track: Track, levels: Mapping[str, str]) -> bool:
    """Return whether a track has all of these levels, of factors that the run knows."""
    known = all(factor in run.config.factors for factor in levels)
    return known and all(level in levels_of_row(run.config, name, track.metadata) for name, level in levels.items())


# -- the new run -------------------------------------------------------------------------------------------------------


def in_order(old: Sequence[Track], new: Sequence[Track]) -> tuple[Track, ...]:
    """Return tracks in the order of a model's outputs: peaks before signals, and of each kind the old before the new."""
    return tuple(track for kind in ("peaks", "signal") for group in (old, new) for track in group if track.kind == kind)


def with_rows_for(run: Run, new: Sequence[Track]) -> tuple[MfdModel, tuple[Track, ...]]:
    """Return the run's model with rows for new tracks, not yet fitted, and the tracks of its outputs. Its metadata know the new
    tracks' levels."""
    tracks, known = in_order(run.tracks, new), {track.id: place for place, track in enumerate(run.tracks)}
    mine = [place for place, track in enumerate(tracks) if track.id in known]
    trained, added = np.ones(len(tracks), bool), np.ones(len(tracks), bool)
    trained[mine], added[mine] = run.model.trained, run.model.added
    old, rows = run.model, [track.metadata for track in tracks]
    metadata = old.metadata.extended([track.metadata for track in new])
    with torch.random.fork_rng(devices=[]):
        bias = np.zeros(len(tracks), np.float32)
        model = MfdModel(old.settings, metadata, run.config.factors, rows, trained, bias, added)
    model.stranded = old.stranded
    state, before = model.state_dict(), old.state_dict()
    model.load_state_dict({name: grown(value, before[name], mine) for name, value in state.items()})
    return model, tracks


def grown(value: Tensor, before: Tensor, mine: Sequence[int]) -> Tensor:
    """Return what a tensor was before; where it has a row per track, with zeros for the tracks that are not `mine`."""
    if value.shape == before.shape:
        return before
    rows = torch.zeros_like(value)
    rows[list(mine)] = before.to(rows)
    return rows


def columns_of(dataset: Dataset, signals: Sequence[Track]) -> np.ndarray:
    """Return the places (signals,) of signal tracks among those of a dataset."""
    place = {track.id: number for number, track in enumerate(dataset.signal_tracks)}
    return np.array([place[track.id] for track in signals], np.int64)


def labelled(
    latents: LongArray,
    bins: Bins,
    dataset: Dataset,
    run: Run,
    new: Sequence[Track],
    scale: SignalScale,
    of: float = 1.0,
) -> Labelled:
    """Return the latents of bins with the labels of new tracks, in the order of outputs.

    The loss of a free head's signals is not weighed against that of peaks: rows have nothing in common.
    """
    place = {track.id: number for number, track in enumerate(dataset.peak_tracks)}
    peaks = np.array([place[track.id] for track in new if track.kind == "peaks"], np.int64)
    labels: Floats = bins.labels(peaks).astype(np.float32)
    if (measured := bins.measured(peaks)) is not None:
        labels[~measured] = np.nan
    signals = [track for track in new if track.kind == "signal"]
    signal = scale.forward(torch.from_numpy(bins.signals(columns_of(dataset, signals)))).numpy()
    weight = 1.0 if isinstance(run.model.head, FreeHead) else run.config.objective.signal_weight
    counts = torch.from_numpy(np.asarray(scale.counts, bool))
    return Labelled(latents, np.concatenate([labels, signal], 1), counts, weight, of)


def best_ridge(
    data: Labelled,
    check: Labelled,
    bias: Tensor,
    covariance: Tensor,
    ridge: float | None,
    progress: Callable[[int, int], None],
) -> tuple[Tensor, Tensor, list[float]]:
    """Return weights (tracks, latent), biases and penalties (tracks,) of a free head's rows: those with the least loss on the
    bins of `check`, or with the `ridge` that is given."""
    tried = (ridge,) if ridge is not None else RIDGES if len(check.latents) else (USUAL_RIDGE,)
    weight = bias.new_zeros(len(bias), data.latents.shape[1], dtype=torch.float64)
    found, information = list[tuple[float, Tensor, Tensor, Tensor]](), float(data.information(bias).mean())
    progress(0, len(tried))
    for value in sorted(tried, reverse=True):  # from the stiffest on: each begins where the one before it ended
        directions = ridge_directions(covariance, information, value)
        weight, bias = fit_rows(data, weight, bias, ridge_penalty(value), directions)
        found.append((value, weight, bias, check.losses(weight, bias)))
        progress(len(found), len(tried))
    losses = torch.stack([loss.nan_to_num(0) for *_, loss in found])  # (penalties, tracks)
    best = losses.argmin(0).tolist()
    rows = range(len(bias))
    return (
        torch.stack([found[best[row]][1][row] for row in rows]),
        torch.stack([found[best[row]][2][row] for row in rows]),
        [found[best[row]][0] for row in rows],
    )


def calibrated(scale: SignalScale, check: Labelled, weight: Tensor, bias: Tensor) -> SignalScale:
    """Return the scales of the signals, the last of the tracks that were fitted, with the ratio measured on `check`."""
    signals = slice(len(bias) - len(scale.floor), None)
    logits = [
        torch.from_numpy(np.asarray(block)).double() @ weight[signals].T + bias[signals]
        for _, block in check.latents.blocks()
    ]
    return scale.calibrated(scale.expected(torch.cat(logits)), torch.from_numpy(check.labels[:, signals]).double())


def joined_scale(old: SignalScale, new: SignalScale) -> SignalScale:
    """Return the scales of the old signal tracks, then of the new ones."""
    both = {
        name: np.concatenate([getattr(old, name), getattr(new, name)])
        for name in ("floor", "mean", "sd", "counts", "ratio")
    }
    return replace(old, **both)
