"""The scores of variants: models' weights arranged so that each score is a product with the change of the latent.

Scores are alternate minus reference on the logit scale, both strands averaged:

    MFD_MAX_DLOGIT, MFD_TRACK   signed change of the most affected track, and its id
    MFD_SHARED                  signed change of what all tracks have in common
    MFD_BIO, MFD_TECH, ...      root mean square over tracks of a group's change, every level weighing the same
    MFD_DEBIASED                the same for everything but the technical groups (model.technical)
    MFD_BIO_SD, ...             root mean square over tracks of the doubt about how much of the change belongs to the part

Each of these averages lets the levels of its own groups weigh the same. Two averages are compared under one set of weights.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from scipy.special import expit

from mfd_cli.base.arrays import Doubles, Floats
from mfd_cli.base.errors import RunError
from mfd_cli.base.notebook import one_line
from mfd_cli.genome.alleles import Variant
from mfd_cli.genome.sequence import Genome
from mfd_cli.runs.folder import Run
from mfd_cli.runs.panel import Panel
from mfd_cli.settings.names import DEBIASED, SURE, field_name
from mfd_cli.variants.effects import Effects, Member, ScoreSettings

ROUNDING = 1e-6
"""Sizes below this are the rounding of float32."""
MOSTLY_TECHNICAL, EXTRAPOLATED = "mostly_technical", "extrapolated"


class Scorer:
    """Scores variants with one model or with several of the same tracks (seeds), whose parts are averaged.

    `columns` gives the scores of any number of variants. Raises RunError where the models cannot be averaged, ConfigError for
    a query or a fixed factor that the model does not know.
    """

    def __init__(
        self,
        runs: Run | Sequence[Run],
        device: torch.device | str = "cpu",
        batch_size: int = 256,
        settings: ScoreSettings | None = None,
    ) -> None:
        self.runs = [runs] if isinstance(runs, Run) else list(runs)
        self.settings = settings or ScoreSettings()
        check_alike(self.runs)
        self.members = [Member(run, device, batch_size, self.settings) for run in self.runs]
        self.device, self.batch_size, self.run = torch.device(device), batch_size, self.runs[0]
        first = self.members[0]
        self.panel: Panel = first.panel
        self.decomposition, self.level_names = first.decomposition, first.level_names
        self.has_parts = first.decomposition is not None
        self.groups = list(self.panel.head.groups) if self.has_parts else []
        self.technical = [group for group in self.groups if group in self.run.model.settings.technical]
        self.debiased = [group for group in self.groups if group not in self.technical]
        self.group_weights = {group: self.panel.weights(self.run, [group]) for group in self.groups}
        self.weights = self.panel.weights(self.run, self.groups)
        self.debiased_weights = self.panel.weights(self.run, self.debiased)
        peaks = np.flatnonzero(self.panel.peaks)
        # The most affected track is a peak track where there is one: logits and standardised signals do not compare.
        self.top = peaks if len(peaks) else np.arange(len(self.panel.ids))
        self.probable = bool(len(peaks))  # a signal has no probability
        self.extrapolated = np.array([value == "extrapolated" for value in self.panel.support])

    def __repr__(self) -> str:
        models = "1 model" if len(self.members) == 1 else f"{len(self.members)} models"
        return one_line(self, f"{models} on {self.device}, {len(self.panel.ids):,} outputs, {self.settings}")

    @property
    def strands(self) -> str:
        """Return how the strands are taken together, for the header."""
        return self.members[0].predictor.strands

    def field_of(self, group: str) -> str:
        """Return the INFO field of a group."""
        return f"MFD_{field_name(group)}"

    @property
    def fields(self) -> list[str]:
        """Return the numeric INFO fields, in order."""
        parts = ["MFD_SHARED", *(self.field_of(g) for g in self.groups), "MFD_DEBIASED"] if self.has_parts else []
        return ["MFD_MAX_DLOGIT", *parts]

    @property
    def error_fields(self) -> list[str]:
        """Return the fields that say how sure the split between parts is, in order: of a mixed head."""
        if not self.members[0].variances:
            return []
        return [f"{name}{SURE}" for name in (*(self.field_of(g) for g in self.groups), "MFD_DEBIASED")]

    @property
    def info_fields(self) -> list[str]:
        """Return all numeric INFO fields, in order."""
        return [*self.fields, *self.error_fields]

    @property
    def column_names(self) -> list[str]:
        """Return the names of the numeric columns of `columns`, without those of single tracks."""
        alone = [f"alt_probability.{part}" for part in ("shared", *self.groups)] if self.has_parts else []
        spread = [f"spread.{name}" for name in self.fields] if len(self.members) > 1 else []
        return [*self.info_fields, "ref_probability", "alt_probability", *alone, *spread, *self.level_names]

    def scores(self, effects: Effects) -> tuple[dict[str, Floats], NDArray[np.intp]]:
        """Return the numeric fields, each (alleles,) float32, and (alleles,) the number of the most affected output."""
        total = effects.total()
        top = self.top[np.abs(total[:, self.top]).argmax(1)]
        result = {"MFD_MAX_DLOGIT": total[np.arange(len(total)), top]}
        if not self.has_parts:
            return result, top
        result["MFD_SHARED"] = effects.shared
        for group in self.groups:
            result[self.field_of(group)] = _rms(effects.groups[group], self.group_weights[group])
        result["MFD_DEBIASED"] = _rms(self.rest(effects), self.debiased_weights)
        return result, top

    def columns(self, variants: Sequence[Variant], genome: Genome, per_track: bool = False) -> dict[str, Any]:
        """Return columns of the table of scores, one value per variant: MFD_TRACK, MFD_FLAGS, `column_names`, and each
        track's change with `per_track`. Variants are normalised, and on the genome."""
        of_members = [member.effects(variants, genome) for member in self.members]
        effects = mean_effects(of_members)
        scores, top = self.scores(effects)
        columns: dict[str, Any] = {
            "MFD_TRACK": self.panel.ids[top],
            "MFD_FLAGS": self.flags(effects, top),
            **scores,
            **self.errors(effects),
        }
        columns |= self.probabilities(effects, top)
        if len(of_members) > 1:
            columns |= self.spread(of_members, top)
        columns |= dict(zip(self.level_names, effects.levels.T))
        if per_track:
            columns |= {f"track.{name}": values for name, values in zip(self.panel.ids, effects.total().T)}
        return columns

    def errors(self, effects: Effects) -> dict[str, Floats]:
        """Return the deviations of the parts, (alleles,) for each of `error_fields`: the root mean square over tracks, with the
        part's own weights."""
        if not self.error_fields:
            return {}
        sizes = [_rms(effects.deviations[group], self.group_weights[group]) for group in self.groups]
        sizes.append(_rms(effects.deviations[DEBIASED], self.debiased_weights))
        return dict(zip(self.error_fields, sizes))

    def spread(self, of_members: Sequence[Effects], top: NDArray[np.intp]) -> dict[str, Floats]:
        """Return the standard deviation over the models of every field (alleles,); of MFD_MAX_DLOGIT in the track that is
        reported, which need not be the one that each model would report."""
        rows = np.arange(len(top))
        every = [self.scores(one)[0] | {"MFD_MAX_DLOGIT": one.total()[rows, top]} for one in of_members]
        return {f"spread.{name}": np.std([one[name] for one in every], axis=0, ddof=1) for name in self.fields}

    def probabilities(self, effects: Effects, top: NDArray[np.intp]) -> dict[str, Floats]:
        """Return the probability of a peak in the top track: of the reference, of the alternate, and with one part changed
        alone (D.4 of the method). NaN where the outputs are signals alone."""
        rows = np.arange(len(top))
        before = effects.reference[rows, top]
        if not self.probable:
            before = np.full_like(before, np.nan)
        parts = {group: effects.groups[group][rows, top] for group in effects.groups}
        change = effects.shared + sum(parts.values())
        result = {"ref_probability": expit(before), "alt_probability": expit(before + change)}
        if self.has_parts:
            for name, part in {"shared": effects.shared, **parts}.items():
                result[f"alt_probability.{name}"] = expit(before + part)
        return result

    def rest(self, effects: Effects) -> Floats:
        """Return (alleles, outputs) the change of everything but the technical groups."""
        return effects.shared[:, None] + sum(effects.groups[group] for group in self.debiased)

    def flags(self, effects: Effects, top: NDArray[np.intp]) -> list[str]:
        """Return the warnings of each allele, joined by `&`; a dot for none.

        The technical part and the rest are averaged with the same weights over tracks, those of the factors of all groups: with
        different ones the one would look larger where its own tracks happen to change more.
        """
        technical = np.zeros(len(top), bool)
        if self.technical:
            part = np.asarray(sum(effects.groups[group] for group in self.technical))
            technical = _rms(part, self.weights) > _rms(self.rest(effects), self.weights)
        marks = ((MOSTLY_TECHNICAL, technical), (EXTRAPOLATED, self.extrapolated[top]))
        return ["&".join(name for name, marked in marks if marked[i]) or "." for i in range(len(top))]


def check_alike(runs: Sequence[Run]) -> None:
    """Raise RunError where the models of an ensemble differ in genome, tracks or factors."""
    first = runs[0]
    for run in runs[1:]:
        for what, one, other in (
            ("tracks", [t.id for t in run.tracks], [t.id for t in first.tracks]),
            ("factors", run.model.metadata.to_json(), first.model.metadata.to_json()),
            ("groups", run.model.groups, first.model.groups),
            ("technical groups", run.model.settings.technical, first.model.settings.technical),
            ("genome", run.about["genome_digest"], first.about["genome_digest"]),
        ):
            if one != other:
                raise RunError(f"has other {what} than {first.path}: they cannot be averaged", path=run.path)


def mean_effects(of_members: Sequence[Effects]) -> Effects:
    """Return the mean of every part over models; of deviations the root mean square, as all learnt from the same data."""
    if len(of_members) == 1:
        return of_members[0]
    groups = {group: np.mean([one.groups[group] for one in of_members], axis=0) for group in of_members[0].groups}
    return Effects(
        np.mean([one.reference for one in of_members], axis=0),
        np.mean([one.shared for one in of_members], axis=0),
        groups,
        np.mean([one.levels for one in of_members], axis=0),
        {
            part: np.sqrt(np.mean([np.square(one.deviations[part]) for one in of_members], axis=0))
            for part in of_members[0].deviations
        },
    )


def _rms(values: Floats, weights: Doubles) -> Floats:
    """Return the root of the weighted mean square over tracks, (alleles, tracks) to (alleles,).

    Sizes that are nothing but rounding become 0, so that a part that a model lacks is 0 and not 1e-8.
    """
    size = np.sqrt(np.square(values, dtype=np.float64) @ weights).astype(np.float32)
    result: Floats = np.where(size < ROUNDING, np.float32(0), size)
    return result
