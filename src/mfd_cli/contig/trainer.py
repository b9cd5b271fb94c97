"""What moves while an encoder is trained, and how it is set up at step 0."""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

import torch
from torch import Tensor

from mfd_cli.base.errors import ConfigError
from mfd_cli.contig.batches import PairedSplit, size_of
from mfd_cli.contig.config import ContigConfig
from mfd_cli.contig.core.networks import ContigModel
from mfd_cli.contig.data.cohort import Cohort
from mfd_cli.contig.data.image_factors import FactorEncoder
from mfd_cli.contig.run import built, inputs_of
from mfd_cli.contig.technical import Technical, encoders_of, kept_apart
from mfd_cli.contig.training_labels import TrainingLabels
from mfd_cli.core.finite import Later


@dataclass
class Best:
    """The best validation so far: skill and its standard error (nats), when, and how many were worse since."""

    skill: float = -math.inf
    error: float = 0.0
    step: int = 0
    without_improvement: int = 0


@dataclass
class Trainer:
    """Everything that moves while an encoder is trained."""

    config: ContigConfig
    cohort: Cohort
    training: PairedSplit
    validation: PairedSplit
    model: ContigModel
    average: ContigModel
    optimiser: torch.optim.Optimizer
    device: torch.device
    total_steps: int
    control: str = ""
    labels: TrainingLabels | None = None
    step: int = 0
    seconds: float = 0.0
    best: Best = field(default_factory=Best)
    sums: dict[str, float] = field(default_factory=dict)
    doubt: Later | None = None
    factors: Mapping[str, FactorEncoder] = field(default_factory=dict)
    technical: Technical | None = None


def set_up(
    config: ContigConfig,
    cohort: Cohort,
    device: torch.device,
    control: str = "",
    labels: TrainingLabels | None = None,
) -> Trainer:
    """Return a trainer at step 0. ConfigError where the settings do not fit the cohort."""
    cohort = cohort.only(tuple(config.modalities))
    seed = config.train.seed
    shuffled = seed if control == "shuffled" else None
    # Who lacks genetic data has pictures, and labels: without a genetic side nobody is left out.
    join = config.objective.join if config.objective.genetic else None
    training, validation = (PairedSplit.of(cohort, split, shuffled, join) for split in ("train", "validation"))
    for split, people in (("training", training), ("validation", validation)):
        if len(people) < 2:
            raise ConfigError(
                f"{len(people)} {split} persons have {join_words(config)}",
                hint='objective.join = "outer" takes persons with any of them',
            )
    inputs, columns = inputs_of(config, cohort), labels.columns if labels else ()
    factors = encoders_of(config, cohort, training.share)
    torch.manual_seed(seed)
    model = built(config, inputs, factors, columns)
    model.pixel_mean.copy_(torch.tensor(cohort.manifest["pixel_mean"]))
    model.pixel_scale.copy_(torch.tensor(cohort.manifest["pixel_scale"]))
    average = built(config, inputs, factors, columns).to(device).eval()
    average.load_state_dict(model.state_dict())
    average.requires_grad_(False)
    model = model.to(device)
    size = size_of(config, len(training))
    per_epoch = len(training) // size
    technical = kept_apart(config, factors, training.share, size, device)
    optimiser = torch.optim.AdamW(
        parameter_groups(model, config), lr=config.train.lr, fused=device.type in ("cpu", "cuda")
    )
    total = config.train.epochs * per_epoch
    return Trainer(
        config,
        cohort,
        training,
        validation,
        model,
        average,
        optimiser,
        device,
        total,
        control,
        labels,
        factors=factors,
        technical=technical,
    )


def join_words(config: ContigConfig) -> str:
    """Say which modalities a person needs to be trained on."""
    how = "all of" if config.objective.join == "inner" else "any of"
    return f"{how} {', '.join(config.modalities)} (objective.join = {config.objective.join})"


def parameter_groups(model: ContigModel, config: ContigConfig) -> list[dict[str, Any]]:
    """Return what decays, and how much: matrices of the image side as `train.weight_decay`, those of an encoder as its modality
    says; biases, norms and temperatures do not."""
    decays: dict[float, list[Tensor]] = {0.0: []}
    for name, parameter in model.named_parameters():
        side, *rest = name.split(".")
        decay = 0.0
        if parameter.ndim > 1:
            decay = config.modalities[rest[0]].decay if side == "encoders" else config.train.weight_decay
        decays.setdefault(decay, []).append(parameter)
    return [{"params": parameters, "weight_decay": decay} for decay, parameters in decays.items()]
