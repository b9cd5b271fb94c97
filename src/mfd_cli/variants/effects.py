"""What a variant changes in a model: the latent of the alternate minus that of the reference, part by part.

The head is linear, so every change of a logit is a product with the change of the latent, both strands averaged.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np
import torch

from mfd_cli.base.arrays import Floats
from mfd_cli.core.decompose import Decomposition, decompose
from mfd_cli.core.predictor import Precision, Predictor
from mfd_cli.genome.alleles import Variant
from mfd_cli.genome.sequence import Genome
from mfd_cli.runs.folder import Run
from mfd_cli.runs.panel import panel_of, panel_variances
from mfd_cli.settings.names import DEBIASED, SHARED
from mfd_cli.variants.changes import LatentChanges, Placement


@dataclass(frozen=True)
class ScoreSettings:
    """What scores depend on besides model, genome and variant: they must be the same for scores to be comparable.

    `tracks` is a query (None: all tracks), `fixes` are factors fixed at a level or at their average.
    """

    placement: Placement = "centred"
    precision: Precision = "float32"
    tracks: str | None = None
    fixes: tuple[str, ...] = ()


@dataclass(frozen=True)
class Effects:
    """What alleles change, alternate minus reference on the logit scale, part by part.

    `reference` (alleles, outputs) logits of the reference; changes of the parts: `shared` (alleles,), `groups` name ->
    (alleles, outputs); `levels` (alleles, levels) inner products of the levels' directions with the change of the latent;
    `deviations` part -> (alleles, outputs) the standard deviation of how much of the change belongs to a part, given the data,
    which a mixed head knows.
    """

    reference: Floats
    shared: Floats
    groups: Mapping[str, Floats]
    levels: Floats
    deviations: Mapping[str, Floats]

    def total(self) -> Floats:
        """Return the change of the logits, (alleles, outputs): the bias does not change, so the parts add up to it."""
        return self.shared[:, None] + sum(self.groups.values())


class Member:
    """One trained model at work: changes of its latent, and what they are made of.

    `panel` is what it predicts (its tracks, some of them, or tracks with factors fixed); `level_names` (levels,) and
    `level_matrix` (levels, latent) are the directions of factor levels; both are empty for a model with a free head.
    """

    def __init__(self, run: Run, device: torch.device | str, batch_size: int, settings: ScoreSettings) -> None:
        self.run = run
        self.predictor = Predictor(run.model, device, batch_size, settings.precision)
        self.changes = LatentChanges(self.predictor, settings.placement)
        self.panel = panel_of(run, self.predictor.head, settings.tracks, settings.fixes)
        self.decomposition: Decomposition | None = decompose(run.model) if run.model.has_parts else None
        self.level_names, self.level_matrix = self._levels()
        self.variances = panel_variances(run, self.panel, self._parts())

    def _parts(self) -> dict[str, list[str]]:
        """Return the parts whose deviations are told, name -> groups: each group, and all but the technical ones."""
        technical = self.run.model.settings.technical
        groups = self.panel.head.groups
        return {group: [group] for group in groups} | {
            DEBIASED: [SHARED, *(group for group in groups if group not in technical)]
        }

    def _levels(self) -> tuple[list[str], Floats]:
        """Return the name `level.FACTOR=LEVEL` and the direction over the whole latent of every level of a training track."""
        latent = self.run.model.settings.latent
        names, directions = list[str](), list[Floats]()
        if self.decomposition is not None:
            for factor, levels in self.decomposition.levels.items():
                subspace = self.predictor.slices[self.decomposition.group_of[factor]]
                for level in levels:
                    if self.decomposition.tracks_of(factor, level).any():
                        direction = np.zeros(latent, np.float32)  # nothing outside the subspace of the factor's group
                        direction[subspace] = self.decomposition.direction(factor, level)
                        names.append(f"level.{factor}={level}")
                        directions.append(direction)
        return names, np.stack(directions) if directions else np.zeros((0, latent), np.float32)

    def effects(self, variants: Sequence[Variant], genome: Genome) -> Effects:
        """Return the parts of the change of every output, for normalised variants on the genome.

        Alleles that are the same variant, as records repeat them, are computed once.
        """
        row_of = {variant: number for number, variant in enumerate(dict.fromkeys(variants))}
        rows = [row_of[variant] for variant in variants]
        reference, change = self.changes.of(list(row_of), genome)
        head = self.panel.head
        groups = {group: head.group_part(group, change)[rows] for group in head.groups}
        levels = change @ self.level_matrix.T
        known = self.variances
        deviations = {part: known.deviations(part, change)[rows] for part in known.variances} if known else {}
        return Effects(head.logits(reference)[rows], head.shared_part(change)[rows], groups, levels[rows], deviations)
