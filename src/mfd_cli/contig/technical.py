"""What keeps technique apart in a training: factors told from the technical slice, and penalties between the slices."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

import numpy as np
import torch
from torch import Tensor, nn

from mfd_cli.base.errors import ConfigError
from mfd_cli.contig.config import ContigConfig
from mfd_cli.contig.core.networks import ContigModel
from mfd_cli.contig.core.slices import Factor, level_weights, mean_factor_loss, slices_of
from mfd_cli.contig.data.cohort import Cohort, Share
from mfd_cli.contig.data.image_factors import FactorEncoder, fitted_encoder, targets_of
from mfd_cli.core.apart import adversary_optimiser, built_penalties, risen_weight, teach_adversaries
from mfd_cli.core.metadata import NumberEncoder
from mfd_cli.core.penalties import PENALTIES
from mfd_cli.engine.optimiser_state import moments, only, prefixed, set_moments


@dataclass
class Technical:
    """The factors of the training images, the penalties, and what moves the adversaries among these."""

    config: ContigConfig
    factors: Mapping[str, Factor]
    penalties: nn.ModuleDict
    optimiser: torch.optim.Optimizer | None

    def loss(
        self, model: ContigModel, feature: Tensor, images: Tensor, chance: Tensor, when: tuple[int, int]
    ) -> Tensor:
        """Return what is added to the loss of a step, a scalar in nats.

        `feature` (images, features) is of the training images `images` (rows), `chance` what guessing who is who costs, the
        unit of all weights; `when` is the step, of how many.
        """
        unit = float(chance)
        total = feature.new_zeros(())
        if self.factors and self.config.objective.technical_weight:
            own = {name: factor.of(images) for name, factor in self.factors.items()}
            total = total + self.config.objective.technical_weight * unit * mean_factor_loss(
                model.factor_logits(feature), own
            )
        # The adversaries' parameters are frozen here, so that the model's backward pass leaves no gradient in them.
        self.penalties.requires_grad_(False)
        for name, penalty in self.penalties.items():
            if len(feature) < PENALTIES[name].fewest_windows:
                continue  # of two eyes, few of a batch may be there
            weight = risen_weight(self.config.objective.penalties[name], *when, unit)  # type: ignore[index]
            total = total + weight * penalty(model.parts(feature))
        return total

    def teach(self, model: ContigModel, feature: Tensor) -> None:
        """Take the adversaries' own steps on the features (images, features) of a step, where there is one."""
        if self.optimiser is not None and len(feature) > 1:
            steps = self.config.objective.adversary_steps
            teach_adversaries(self.penalties, self.optimiser, model.parts(feature), steps)

    def state(self) -> dict[str, Tensor]:
        """Return everything of it that moves."""
        tensors = prefixed("penalties", self.penalties.state_dict())
        return tensors | (prefixed("adversary", moments(self.optimiser)) if self.optimiser is not None else {})

    def set_state(self, tensors: Mapping[str, Tensor]) -> None:
        """Put everything back to what `state` returned."""
        self.penalties.load_state_dict(only("penalties", tensors))
        if self.optimiser is not None:
            set_moments(self.optimiser, only("adversary", tensors))


def encoders_of(config: ContigConfig, cohort: Cohort, training: Share) -> dict[str, FactorEncoder]:
    """Return how each factor becomes numbers, as the cohort's training images have it.

    ConfigError where the settings declare other factors than the cohort has, MetadataError where one is the same everywhere.
    """
    wanted = {name: factor.type for name, factor in config.factors.items()}
    if wanted != cohort.factors:
        raise ConfigError(
            f"the cohort has the technical factors {_in_words(cohort.factors)}, and the settings {_in_words(wanted)}",
            hint="run mfd contig prepare again",
        )
    return {name: fitted_encoder(name, kind, training.images.factors[name]) for name, kind in wanted.items()}


def _in_words(factors: Mapping[str, str]) -> str:
    """Factors with their types."""
    return ", ".join(f"{name} ({kind})" for name, kind in factors.items()) or "none"


def outputs_of(encoders: Mapping[str, FactorEncoder]) -> dict[str, int]:
    """Return how many logits each factor takes: one for each level, or one for a number."""
    return {name: 1 if isinstance(encoder, NumberEncoder) else encoder.size for name, encoder in encoders.items()}


def kept_apart(
    config: ContigConfig, encoders: Mapping[str, FactorEncoder], training: Share, batch: int, device: torch.device
) -> Technical | None:
    """Return what keeps technique apart in a training of batches of so many images; None without a technical slice.

    ConfigError where a penalty cannot be had of so small batches.
    """
    technical = config.technical_features
    if not technical:
        return None
    settings = {name: one for name, one in config.objective.penalties.items() if one.weight > 0}
    for penalty in settings:
        if (fewest := PENALTIES[penalty].fewest_windows) > batch:
            raise ConfigError(f"a batch has {batch:,} images: the penalty {penalty} needs at least {fewest}")
    groups = {name: place.stop - place.start for name, place in slices_of(config.model.features, technical).items()}
    penalties = built_penalties(settings, groups, config.objective.adversary_hidden).to(device)
    factors = dict[str, Factor]()
    for factor, encoder in encoders.items():
        target = torch.from_numpy(targets_of(encoder, training.images.factors[factor]).astype(np.float32)).to(device)
        weight = None if isinstance(encoder, NumberEncoder) else level_weights(target, encoder.size)
        factors[factor] = Factor(target, weight)
    return Technical(config, factors, penalties, adversary_optimiser(penalties, config.objective.adversary_lr, device))
