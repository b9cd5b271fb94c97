"""What moves while a model is trained, and how it is set up at step 0."""

from __future__ import annotations

import math
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, cast

import numpy as np
import torch
from torch import Tensor, nn

from mfd_cli.base.arrays import Bools, Floats
from mfd_cli.base.errors import ConfigError, DatasetError
from mfd_cli.core.apart import adversary_optimiser, built_penalties
from mfd_cli.core.backbones import BACKBONES, DilatedBackbone
from mfd_cli.core.finite import Later
from mfd_cli.core.losses import SignalScale
from mfd_cli.core.metadata import fit_metadata
from mfd_cli.core.mixed_head import MixedHead
from mfd_cli.core.model import MfdModel
from mfd_cli.core.penalties import PENALTIES
from mfd_cli.core.stretches import STRETCH
from mfd_cli.core.trunks import TRUNKS
from mfd_cli.core.unseen import fill_held_out
from mfd_cli.dataset.bins import Bins
from mfd_cli.dataset.folder import Dataset
from mfd_cli.engine.processes import ALONE, Processes
from mfd_cli.experiments.strands import count_tracks
from mfd_cli.experiments.track import Track
from mfd_cli.genome.grid import BIN
from mfd_cli.runs.batches import Partners
from mfd_cli.runs.draws import Tiling
from mfd_cli.settings.config import Config, PenaltyConfig, PenaltyName
from mfd_cli.training.enriched_words import enriched_words, sets_of_tracks, start_as_words
from mfd_cli.training.length import epochs_of
from mfd_cli.training.start import Start, Taken
from mfd_cli.training.start_trunk import StartFromTrunk, TakenTrunk

COMPILER = "inductor"
"""What makes a network into fused kernels (torch.compile's backend)."""
FEWEST_OF_BATCH_NORM = 2
"""Windows in a batch: over one alone the last norm, of (batch, latent), has no variance to divide by."""


@dataclass
class Best:
    """The best validation so far."""

    skill: float = -math.inf
    step: int = 0
    without_improvement: int = 0


@dataclass(frozen=True)
class Pace:
    """The size of every batch, all processes together, in `stretches` and in `bins`, and how many batches an epoch has.

    Every batch of a training has the same size. The rest of an epoch, smaller than a batch, is left out; another epoch
    leaves out others.
    """

    stretches: int
    bins: int
    steps_per_epoch: int


@dataclass
class Trainer:
    """Everything that moves while a model is trained."""

    config: Config
    model: MfdModel
    backbone: nn.Module  # the model's, as it is trained: with several processes, wrapped
    processes: Processes
    average: MfdModel
    penalties: nn.ModuleDict
    optimiser: torch.optim.Optimizer
    adversary_optimiser: torch.optim.Optimizer | None
    device: torch.device
    tracks: tuple[str, ...]
    """Their ids, in the order of the outputs."""
    used: Tensor
    cells_of: Tensor
    """(tracks,) In how many training bins each output was measured."""
    cells: float
    """Their sum over the training tracks."""
    total_steps: int
    pace: Pace
    autocast: bool
    prior_loss: float
    dataset: str
    """Digest of the dataset: a training is resumed on the same one only."""
    taken: Taken | TakenTrunk | None = None
    """What was taken from another run or a trunk, when this training was begun."""
    source: dict[str, Any] | None = None
    """That run, as the description of this one names it."""
    step: int = 0
    best: Best = field(default_factory=Best)
    sums: dict[str, float | Tensor] = field(default_factory=dict)
    seconds: float = 0.0
    doubt: Later | None = None
    """Whether the gradient of the last step was not finite; asked before the next one."""

    @property
    def frozen(self) -> bool:
        """Whether what the backbone took from elsewhere stays as it is in the present step."""
        return self.step < self.config.thaw * self.total_steps


def outputs_of(dataset: Dataset) -> tuple[Track, ...]:
    """Return the tracks in the order of the model's outputs: peak tracks, then signal tracks."""
    return dataset.peak_tracks + dataset.signal_tracks


def build(
    config: Config,
    dataset: Dataset,
    bins: Bins,
    trained: Bools,
    device: torch.device,
    processes: Processes = ALONE,
    start: Start | StartFromTrunk | None = None,
) -> Trainer:
    """Return the model, its running average, the penalties and the optimisers, at step 0.

    `trained` (tracks,) says which tracks take part; held-out ones start from an estimate. `start` is the run that weights are
    taken from, where there is one. ConfigError or MetadataError where the settings do not fit the tracks.
    """
    settings, tracks = config.resolved_model(), outputs_of(dataset)
    pace = pace_of(config, Tiling.of(bins, stretch_of(config)))
    if config.train.compile and settings.backbone in TRUNKS:
        raise ConfigError("train.compile is for our own network, and the backbone is a trunk", hint="leave it out")
    rows = [track.metadata for track in tracks]
    if not config.factors and settings.head != "free":
        raise ConfigError(f"the {settings.head} head needs at least one factor", hint="mfd init proposes [factors]")
    metadata = fit_metadata(rows, config.factors, trained.tolist())
    bias = start_bias(dataset)
    torch.manual_seed(config.train.seed)
    model = MfdModel(settings, metadata, config.factors, rows, trained, bias)
    words = int(config.train.words * settings.filters)
    if words and start is None:  # another run's filters are there already
        start_as_words(model, enriched_words(dataset, bins, sets_of_tracks(dataset, metadata, trained), words))
    taken = None if start is None else start.put_into(model, tracks)
    model = model.to(device)
    fill_held_out(model, [track.kind for track in tracks])
    average = MfdModel(settings, metadata, config.factors, rows, trained, bias).to(device).eval()
    average.load_state_dict(model.state_dict())
    average.requires_grad_(False)
    objective = config.objective
    penalties = built_penalties(active_penalties(config), settings.groups, objective.adversary_hidden).to(device)
    backbone = processes.spread(compiled(model.backbone) if config.train.compile else model.backbone)
    fused = device.type in ("cuda", "cpu")
    cells_of = np.array([track.measured for track in tracks])
    return Trainer(
        config,
        model,
        backbone,
        processes,
        average,
        penalties,
        torch.optim.AdamW(parameter_groups(model, config), lr=config.train.lr, fused=fused),
        adversary_optimiser(penalties, objective.adversary_lr, device),
        device,
        tuple(track.id for track in tracks),
        torch.from_numpy(trained.astype(np.float32)).to(device),
        torch.from_numpy(cells_of.astype(np.float32)).to(device),
        float(cells_of[trained].sum()),
        planned_steps(config, pace),
        pace,
        autocast=config.train.precision == "bf16" or (config.train.precision == "auto" and device.type == "cuda"),
        prior_loss=prior_loss(bias, trained, len(dataset.peak_tracks), objective.signal_weight),
        dataset=dataset.digest,
        taken=taken,
        source=None if start is None else start.source,
    )


def compiled(backbone: nn.Module) -> nn.Module:
    """Return a backbone as one graph of fused operations, with its own weights; the same numbers but for rounding.

    It is made at the first step, for batches of that one size, which all batches of a training have.
    """
    return cast(nn.Module, torch.compile(backbone, fullgraph=True, dynamic=False, backend=COMPILER))


def pace_of(config: Config, tiling: Tiling) -> Pace:
    """Return batches of about `train.batch_size` bins, in whole stretches; of all stretches where they are fewer."""
    stretches = min(max(config.train.batch_size // tiling.size, 1), tiling.fewest)
    return Pace(stretches, stretches * tiling.size, tiling.fewest // stretches)


def active_penalties(config: Config) -> dict[PenaltyName, PenaltyConfig]:
    """Return the penalties that weigh something: none where there are no subspaces to keep apart."""
    if not config.has_subspaces:
        return {}
    return {name: penalty for name, penalty in config.objective.penalties.items() if penalty.weight > 0}


def check_batch(config: Config, tiling: Tiling, dataset: Path, processes: Processes) -> None:
    """Refuse batches from which nothing can be learnt, or that the processes cannot share evenly.

    Raises ConfigError where `train.batch_size` is at fault, DatasetError where `dataset` has too few training bins.
    """
    needs = {"batch norm": FEWEST_OF_BATCH_NORM}
    of_penalties = {f"the penalty {name}": PENALTIES[name].fewest_windows for name in active_penalties(config)}
    for part, fewest in of_penalties.items():
        if config.objective.bins < fewest:
            raise ConfigError(f"objective.bins is {config.objective.bins}: {part} needs at least {fewest} bins")
    needs |= of_penalties
    part, fewest = max(needs.items(), key=lambda item: item[1])
    reason = f"{part} needs at least {fewest} windows in a batch"
    if (size := config.train.batch_size) < fewest:
        raise ConfigError(f"train.batch_size is {size}: {reason}", hint="make train.batch_size larger")
    if len(tiling) < fewest:
        raise DatasetError(
            f"has {len(tiling)} training bins: {reason}", path=dataset, hint="look at [split] and [bins]"
        )
    processes.share(pace_of(config, tiling).stretches)


def stretch_of(config: Config) -> int:
    """Return how many bins are read in one pass. ConfigError where that are several and the model sees its padding.

    In a stretch most bins see bases in the place of the padding of their own window: it would be another model.
    """
    settings, wanted = config.resolved_model(), config.train.stretch
    with torch.device("meta"):  # the shape of the network, without its weights
        backbone = BACKBONES[settings.backbone](settings)
    if backbone.block > 1 and wanted not in (None, backbone.block):
        raise ConfigError(
            f"train.stretch is {wanted}, and model.block {backbone.block}: the genome is read in blocks of so many bins",
            hint="set model.block, and leave train.stretch out",
        )
    if backbone.block > 1:
        return backbone.block
    if wanted is None:
        return 1 if backbone.sees_padding else STRETCH
    if wanted > 1 and backbone.sees_padding:
        assert isinstance(backbone, DilatedBackbone)
        enough = (2 * -(-backbone.reach // BIN) + 1) * BIN
        raise ConfigError(
            f"train.stretch is {wanted}, and a window of {settings.window:,} bp ends before what its bin depends on does",
            hint=f"set model.window to {enough} or more, or train.stretch to 1",
        )
    return wanted


def start_bias(dataset: Dataset) -> Floats:
    """Return where the biases (tracks,) start: of peak tracks the log odds of a peak in the training bins where the track was
    measured, of signals 0, the mean."""
    share = np.array([(track.positives + 0.5) / (track.measured + 1) for track in dataset.peak_tracks])
    share = np.clip(share, 1e-6, 1 - 1e-6)
    return np.concatenate([np.log(share / (1 - share)), np.zeros(len(dataset.signal_tracks))]).astype(np.float32)


def prior_loss(bias: Floats, trained: Bools, peaks: int, signal_weight: float) -> float:
    """Return the prediction loss of a model that knows only how frequent each track's peaks are: mean over training tracks.

    Penalties are weighed in units of it: the loss of rare peaks is small, and a penalty must not drown it.
    """
    share = 1 / (1 + np.exp(-bias[:peaks].astype(np.float64)))
    entropy = -share * np.log(share) - (1 - share) * np.log1p(-share)
    losses = np.concatenate([entropy, np.full(len(bias) - peaks, 0.5 * signal_weight)])
    return float(losses[trained].mean())


def parameter_groups(model: MfdModel, config: Config) -> list[dict[str, Any]]:
    """Return what decays and what does not: weight matrices do, also a free head's; biases, scales, metadata networks and the
    weights of a mixed head do not.

    Decay of the metadata networks would pull rare levels to the mean of their group whatever their tracks say; a mixed head has
    a prior instead.
    """
    own = model.head if isinstance(model.head, MixedHead) else getattr(model.head, "networks", nn.Module())
    networks = {id(p) for p in own.parameters()}
    matrices = [p for p in model.parameters() if p.ndim > 1 and id(p) not in networks]
    others = [p for p in model.parameters() if p.ndim <= 1 or id(p) in networks]
    return [{"params": matrices, "weight_decay": config.train.weight_decay}, {"params": others, "weight_decay": 0.0}]


def fit_scale(dataset: Dataset, bins: Bins, config: Config, pairs: Partners) -> SignalScale:
    """Return the scales of the signal tracks in the training bins; both tracks of a stranded pair see both strands."""
    signal, peaks = bins.rows_of_signal, len(dataset.peak_tracks)
    other = pairs.place[peaks:] - peaks
    if (other != np.arange(signal.shape[1])).any():
        signal = np.concatenate([signal, signal[:, other] * pairs.sign[peaks:]])
    return SignalScale.fit(signal, count_tracks(dataset.signal_tracks, config))


def planned_steps(config: Config, pace: Pace) -> int:
    """Return the training steps in all: epochs x batches, or as many as `max_windows` allows."""
    steps = epochs_of(config, pace.steps_per_epoch * pace.bins) * pace.steps_per_epoch
    return max(1, min(steps, (config.train.max_windows or math.inf) // pace.bins))  # type: ignore[return-value]
