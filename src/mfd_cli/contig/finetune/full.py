"""Full fine-tuning: a head learns on the frozen network at first, then everything does; the best validation is kept."""

from __future__ import annotations

import copy
from collections.abc import Iterator
from dataclasses import dataclass

import numpy as np
import torch
from torch import Tensor, nn

from mfd_cli.base.arrays import Bools, Doubles, Ints
from mfd_cli.base.errors import RunError
from mfd_cli.base.progress import Progress
from mfd_cli.contig.config import ContigConfig
from mfd_cli.contig.core.augment import changed
from mfd_cli.contig.core.networks import ContigModel
from mfd_cli.contig.finetune.probe import validation_loss
from mfd_cli.contig.finetune.target import Target
from mfd_cli.contig.finetune.tasks import TASKS
from mfd_cli.contig.finetune.units import Units
from mfd_cli.contig.run import ContigRun
from mfd_cli.contig.step import change_of
from mfd_cli.core.schedule import rate

AT_ONCE = 512
"""Images that go through the network together where nothing is learnt."""
TUNE = 41
"""What tells these random numbers from those of training."""


class TunedModel(nn.Module):
    """An image network and a head on a part of its feature, which is standardised by what training images have."""

    mean: Tensor
    sd: Tensor

    def __init__(self, network: ContigModel, place: slice, mean: Doubles, sd: Doubles, width: int) -> None:
        super().__init__()
        self.network, self.place = network, place
        self.head = nn.Linear(len(mean), width)
        nn.init.zeros_(self.head.weight)
        nn.init.zeros_(self.head.bias)
        self.register_buffer("mean", torch.tensor(mean, dtype=torch.float32))
        self.register_buffer("sd", torch.tensor(sd, dtype=torch.float32))

    def forward(self, standardised: Tensor) -> Tensor:
        """Standardised pictures (images, 3, side, side) to outputs (images, width)."""
        out: Tensor = self.head((self.network.feature(standardised)[:, self.place] - self.mean) / self.sd)
        return out


@dataclass(frozen=True)
class Tuned:
    """The best model, and its mean loss on validation units; `epoch` says when that was, 0 before the first."""

    model: TunedModel
    validation: float
    epoch: int


def tune(
    run: ContigRun,
    place: slice,
    target: Target,
    kept: Bools,
    features: Doubles,
    config: ContigConfig,
    device: torch.device,
    progress: Progress | None = None,
) -> Tuned:
    """Fine-tune a run's network on the training units that are `kept` (units,).

    The head reads the features at `place`; `features` (units, size) are these, as the frozen network sees all training units.
    The same seed gives the same bits.
    """
    settings, seed, task = config.finetune, config.train.seed, TASKS[target.task]
    units = target.units["train"].only(kept)
    answers = torch.from_numpy(target.values["train"][kept].astype(np.float32)).to(device)
    sd = features[kept].std(0)
    torch.manual_seed(seed)
    network = copy.deepcopy(run.model).to(device).requires_grad_(True)
    mean, sd = features[kept].mean(0), np.where(sd > 1e-8, sd, 1.0)
    model = TunedModel(network, place, mean, sd, task.width(target)).to(device)
    groups = [
        {"params": list(model.head.parameters()), "peak": settings.lr},
        {"params": list(network.parameters()), "peak": settings.trunk_lr},
    ]
    optimiser = torch.optim.AdamW(groups, weight_decay=config.train.weight_decay)
    change, steps = change_of(config), -(-len(units.images) // settings.batch_size)
    best, step = Tuned(copy.deepcopy(model), _validated(model, target, device), 0), 0
    for epoch in range(1, settings.epochs + 1):
        everything = epoch > settings.head_epochs
        network.train(everything).requires_grad_(everything)
        for number, places in enumerate(_dealt(units, settings.batch_size, [seed, epoch, TUNE])):
            pictures = torch.from_numpy(units.share.pictures(units.images[places])).to(device)
            seen = changed(network.standardised(pictures), change, np.random.default_rng([seed, epoch, number, TUNE]))
            for group in optimiser.param_groups:
                group["lr"] = group["peak"] * rate(step, settings.epochs * steps)
            loss = task.loss(model(seen), answers[torch.from_numpy(units.unit[places]).to(device)]).mean()
            optimiser.zero_grad(set_to_none=True)
            loss.backward()
            if not bool(torch.isfinite(loss)):
                raise RunError(f"the loss is not finite in epoch {epoch}", hint="lower finetune.lr and trunk_lr")
            optimiser.step()
            step += 1
        found = _validated(model, target, device)
        if found < best.validation:
            best = Tuned(copy.deepcopy(model), found, epoch)
        if progress:
            progress(f"fine-tuning ({run.name}, {target.label})", epoch, settings.epochs)
    return best


@torch.no_grad()
def outputs_of(model: TunedModel, units: Units, device: torch.device) -> Doubles:
    """Return what the model says of units (units, width): the mean over the images of each, as they are."""
    model.eval()
    parts = []
    for low in range(0, len(units.images), AT_ONCE):
        pictures = torch.from_numpy(units.share.pictures(units.images[low : low + AT_ONCE])).to(device)
        parts.append(model(model.network.standardised(pictures)).float().cpu().numpy())
    return units.means(np.concatenate(parts))


def _validated(model: TunedModel, target: Target, device: torch.device) -> float:
    """The mean loss on the validation units."""
    return validation_loss(outputs_of(model, target.units["validation"], device), target)


def _dealt(units: Units, size: int, seed: list[int]) -> Iterator[Ints]:
    """The images of an epoch, in a drawn order, in batches; a last one of a single image, which has no norm, is left out."""
    order = np.random.default_rng(seed).permutation(len(units.images))
    for low in range(0, len(order), size):
        places = order[low : low + size]
        if len(places) > 1 or len(order) == 1:
            yield places
