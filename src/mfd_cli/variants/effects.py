"""What a variant changes, in numbers: models' weights arranged so that scores are products with the change of the latent.

Scores are alternate minus reference on the logit scale, both strands averaged. The head is linear, so the difference is taken
in the latent and every score is a product with it:

    MFD_MAX_DLOGIT, MFD_TRACK   signed change of the most affected track, and its id
    MFD_SHARED                  signed change of what all tracks have in common
    MFD_BIO, MFD_TECH, ...      root mean square over tracks of a group's change, every level weighing the same
    MFD_DEBIASED                the same for everything but the technical groups (model.technical)

Windows of substitutions are placed in one of two ways. `centred`: the variant lies in the middle of the bin that is predicted.
`grid`: the bins are those of the genome's 128-bp grid, so that all variants of a bin share one pass over the reference; a
variant within 32 bp of a bin's edge is scored in both bins and gets the mean change. These are different estimates of an
effect. Alleles of another length than their reference are centred either way (see `indel_windows`).
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Literal, NamedTuple

import numpy as np
import torch
from numpy.typing import NDArray
from scipy.special import expit

from mfd_cli.base.arrays import Doubles, Floats
from mfd_cli.base.errors import RunError
from mfd_cli.core.decompose import Decomposition, decompose
from mfd_cli.core.head import ConditionedHead
from mfd_cli.core.predictor import Precision, Predictor
from mfd_cli.genome.alleles import Variant, indel_windows, substituted
from mfd_cli.genome.grid import BIN
from mfd_cli.genome.sequence import Genome, encode
from mfd_cli.runs.folder import Run
from mfd_cli.runs.panel import Panel, panel_of
from mfd_cli.settings.config import field_name

Placement = Literal["centred", "grid"]
EDGE = 32
"""In grid placement, variants closer than this (bp) to the edge of a bin are scored in the next bin too."""
MOST_ALTERNATES = 16
"""Substitutions that go through the model together, per window of a batch: they touch a twentieth of it."""
WINDOWS_OF_INDEL = 8
"""About how many windows an indel is scored in (both haplotypes, both edges): so many fewer indels make a batch."""
NOTHING = 1e-6
"""Sizes below this are the rounding of float32."""
MOSTLY_TECHNICAL, EXTRAPOLATED = "mostly_technical", "extrapolated"


@dataclass(frozen=True)
class ScoreSettings:
    """What scores depend on besides model, genome and variant: they must be the same for scores to be comparable.

    `tracks` is a query (None: all tracks), `fixes` are factors fixed at a level or at their average.
    """

    placement: Placement = "centred"
    precision: Precision = "float32"
    tracks: str | None = None
    fixes: tuple[str, ...] = ()


class Window(NamedTuple):
    """Where a window begins, 0-based. Near the start of a contig that is below 0: what lies outside reads as unknown bases."""

    contig: str
    start: int


@dataclass(frozen=True)
class Effects:
    """What alleles change, alternate minus reference on the logit scale, part by part.

    `reference` (alleles, outputs) logits of the reference; changes of the parts: `shared` (alleles,), `groups` name ->
    (alleles, outputs); `levels` (alleles, levels) inner products of the levels' directions with the change of the latent.
    """

    reference: Floats
    shared: Floats
    groups: Mapping[str, Floats]
    levels: Floats

    def total(self) -> Floats:
        """Return the change of the logits, (alleles, outputs): the bias does not change, so the parts add up to it."""
        return self.shared[:, None] + sum(self.groups.values())


class Member:
    """One trained model at work: changes of its latent, and what they are made of.

    `panel` is what it predicts (its tracks, some of them, or tracks with factors fixed); `level_names` (levels,) and
    `level_matrix` (levels, latent) are the directions of factor levels; both are empty for a model with a free head.
    """

    def __init__(self, run: Run, device: torch.device | str, batch_size: int, settings: ScoreSettings) -> None:
        self.run, self.placement = run, settings.placement
        self.predictor = Predictor(run.model, device, batch_size, settings.precision)
        self.panel = panel_of(run, self.predictor.head, settings.tracks, settings.fixes)
        self.centre = self.predictor.left + BIN // 2  # where in its window a centred variant lies
        conditioned = isinstance(run.model.head, ConditionedHead)
        self.decomposition: Decomposition | None = decompose(run.model) if conditioned else None
        self.level_names, self.level_matrix = self._levels()

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
        reference, change = self.changes(list(row_of), genome)
        head = self.panel.head
        groups = {group: head.group_part(group, change)[rows] for group in head.groups}
        levels = change @ self.level_matrix.T
        return Effects(head.logits(reference)[rows], head.shared_part(change)[rows], groups, levels[rows])

    # -- the change of the latent --------------------------------------------------------------------------------------

    def windows_of(self, variant: Variant, genome: Genome) -> list[Window]:
        """Return the windows that a substitution is scored in; the first is that of the bin where it lies.

        Near the edge of a bin a motif that the variant changes may lie in the next one: then both are scored.
        """
        middle = variant.start + len(variant.ref) // 2
        if self.placement == "centred":
            return [Window(variant.contig, middle - self.centre)]
        last = (len(genome.sequences[variant.contig]) - 1) // BIN
        own = min(middle // BIN, last)
        offset = middle - own * BIN
        near = own - (offset < EDGE) + (offset >= BIN - EDGE)
        windows = [Window(variant.contig, number * BIN - self.predictor.left) for number in (own, near)]
        sees = 0 <= middle - windows[1].start < self.predictor.window
        return windows if near != own and 0 <= near <= last and sees else windows[:1]

    def changes(self, variants: Sequence[Variant], genome: Genome) -> tuple[Floats, Floats]:
        """Return the latent of the reference and its change, (variants, latent) each, of trimmed variants on the genome.

        Every window goes through the model once, whatever the number of variants in it; substitutions of one base are
        computed from what they change, all others by whole windows.
        """
        reference, change = np.zeros((2, len(variants), self.run.model.settings.latent), np.float32)
        indels = [i for i, variant in enumerate(variants) if not variant.same_length]
        for piece in _pieces(indels, max(self.predictor.batch_size // WINDOWS_OF_INDEL, 1)):
            reference[piece], change[piece] = self._indels([variants[i] for i in piece], genome)
        substitutions = [i for i, variant in enumerate(variants) if variant.same_length]
        if substitutions:
            chosen = [variants[i] for i in substitutions]
            reference[substitutions], change[substitutions] = self._substitutions(chosen, genome)
        return reference, change

    def _indels(self, variants: Sequence[Variant], genome: Genome) -> tuple[Floats, Floats]:
        """Return the latent of the reference and its change, (variants, latent) each, of alleles of another length than their
        reference: weighted means over the windows that `indel_windows` places on either haplotype."""
        windows_of = [indel_windows(variant, genome, self.predictor.window, self.centre) for variant in variants]
        pieces = [codes for windows in windows_of for codes in (windows.ref, windows.alt)]
        latents = np.split(self.predictor.latents(np.concatenate(pieces)), np.cumsum([len(p) for p in pieces])[:-1])
        weights = [w for windows in windows_of for w in (windows.ref_weights, windows.alt_weights)]
        means = np.stack([np.asarray(w, np.float32) @ latent for w, latent in zip(weights, latents)])
        return means[0::2], means[1::2] - means[0::2]

    def _substitutions(self, variants: Sequence[Variant], genome: Genome) -> tuple[Floats, Floats]:
        """Return the latent of the reference and its change, (variants, latent) each, of alleles as long as their reference.

        The change is the mean over a variant's windows; the reference is that of its own bin. Variants of one window share
        the pass over its reference.
        """
        windows: dict[Window, list[int]] = {}
        count = np.zeros(len(variants), np.float32)
        own = []
        for number, variant in enumerate(variants):
            seen_in = self.windows_of(variant, genome)
            own.append(seen_in[0])
            count[number] = len(seen_in)
            for window in seen_in:
                windows.setdefault(window, []).append(number)
        reference, change = np.zeros((2, len(variants), self.run.model.settings.latent), np.float32)
        for batch in _pieces(list(windows), self.predictor.batch_size):
            inside = [[(row, number) for number in windows[window]] for row, window in enumerate(batch)]
            pairs = [pair for of_window in inside for pair in of_window]
            before, after = self._pass(batch, pairs, variants, genome)
            rows, numbers = (np.array(values) for values in zip(*pairs))
            np.add.at(change, numbers, after - before[rows])  # `+=` would add once where a variant is in two windows
            for row, number in pairs:
                if own[number] == batch[row]:
                    reference[number] = before[row]
        return reference, change / count[:, None]

    def _pass(
        self, windows: Sequence[Window], pairs: Sequence[tuple[int, int]], variants: Sequence[Variant], genome: Genome
    ) -> tuple[Floats, Floats]:
        """Return the latents of the windows (windows, latent), and of each pair (window, variant) the latent of the window with
        the variant in it (pairs, latent).

        Substitutions of one base go through what they can change of the model only (see core/incremental.py).
        """
        predictor = self.predictor
        codes = np.stack([genome.codes(contig, start, start + predictor.window) for contig, start in windows])
        single = [i for i, (_, number) in enumerate(pairs) if len(variants[number].ref) == 1]
        after = np.empty((len(pairs), self.run.model.settings.latent), np.float32)
        if single:
            row = np.array([pairs[i][0] for i in single])
            index = np.array([variants[pairs[i][1]].start - windows[pairs[i][0]].start for i in single])
            base = encode("".join(variants[pairs[i][1]].alt for i in single))
            reference, latents = predictor.reference(predictor.placed(codes), int(index.min()), int(index.max()))
            for part in _pieces(range(len(single)), MOST_ALTERNATES * predictor.batch_size):
                one, two, three = (predictor.placed(values[part.start : part.stop]) for values in (row, index, base))
                substituted_latents = predictor.substituted(reference, one, two, three.long())
                after[[single[i] for i in part]] = substituted_latents.cpu().numpy()
            before = latents.cpu().numpy()
        else:
            before = predictor.latents(codes)
        longer = [i for i, (_, number) in enumerate(pairs) if len(variants[number].ref) != 1]
        if longer:
            changed = [
                substituted(codes[row], variants[n], windows[row].start) for row, n in (pairs[i] for i in longer)
            ]
            after[longer] = predictor.latents(np.stack(changed))
        return before, after


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
        self.conditioned = first.decomposition is not None
        self.groups = list(self.panel.head.groups) if self.conditioned else []
        self.technical = [group for group in self.groups if group in self.run.model.settings.technical]
        self.debiased = [group for group in self.groups if group not in self.technical]
        self.group_weights = {group: self.panel.weights(self.run, [group]) for group in self.groups}
        self.technical_weights = self.panel.weights(self.run, self.technical)
        self.debiased_weights = self.panel.weights(self.run, self.debiased)
        peaks = np.flatnonzero(self.panel.peaks)
        # The most affected track is a peak track where there is one: logits and standardised signals do not compare.
        self.top = peaks if len(peaks) else np.arange(len(self.panel.ids))
        self.probable = bool(len(peaks))  # a signal has no probability
        self.extrapolated = np.array([value == "extrapolated" for value in self.panel.support])

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
        parts = ["MFD_SHARED", *(self.field_of(g) for g in self.groups), "MFD_DEBIASED"] if self.conditioned else []
        return ["MFD_MAX_DLOGIT", *parts]

    @property
    def column_names(self) -> list[str]:
        """Return the names of the numeric columns of `columns`, without those of single tracks."""
        alone = [f"alt_probability.{part}" for part in ("shared", *self.groups)] if self.conditioned else []
        spread = [f"spread.{name}" for name in self.fields] if len(self.members) > 1 else []
        return [*self.fields, "ref_probability", "alt_probability", *alone, *spread, *self.level_names]

    def scores(self, effects: Effects) -> tuple[dict[str, Floats], NDArray[np.intp]]:
        """Return the numeric fields, each (alleles,) float32, and (alleles,) the number of the most affected output."""
        total = effects.total()
        top = self.top[np.abs(total[:, self.top]).argmax(1)]
        result = {"MFD_MAX_DLOGIT": total[np.arange(len(total)), top]}
        if not self.conditioned:
            return result, top
        result["MFD_SHARED"] = effects.shared
        for group in self.groups:
            result[self.field_of(group)] = _rms(effects.groups[group], self.group_weights[group])
        rest = effects.shared[:, None] + sum(effects.groups[group] for group in self.debiased)
        result["MFD_DEBIASED"] = _rms(rest, self.debiased_weights)
        return result, top

    def columns(self, variants: Sequence[Variant], genome: Genome, per_track: bool = False) -> dict[str, Any]:
        """Return columns of the table of scores, one value per variant: MFD_TRACK, MFD_FLAGS, `column_names`, and each
        track's change with `per_track`. Variants are normalised, and on the genome."""
        of_members = [member.effects(variants, genome) for member in self.members]
        effects = mean_effects(of_members)
        scores, top = self.scores(effects)
        columns: dict[str, Any] = {
            "MFD_TRACK": self.panel.ids[top],
            "MFD_FLAGS": self.flags(effects, scores, top),
            **scores,
        }
        columns |= self.probabilities(effects, top)
        if len(of_members) > 1:
            columns |= self.spread(of_members, top)
        columns |= dict(zip(self.level_names, effects.levels.T))
        if per_track:
            columns |= {f"track.{name}": values for name, values in zip(self.panel.ids, effects.total().T)}
        return columns

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
        if self.conditioned:
            for name, part in {"shared": effects.shared, **parts}.items():
                result[f"alt_probability.{name}"] = expit(before + part)
        return result

    def flags(self, effects: Effects, scores: Mapping[str, Floats], top: NDArray[np.intp]) -> list[str]:
        """Return the warnings of each allele, joined by `&`; a dot for none."""
        technical = np.zeros(len(top), bool)
        if self.technical:
            part = sum(effects.groups[group] for group in self.technical)
            technical = _rms(np.asarray(part), self.technical_weights) > scores["MFD_DEBIASED"]
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
    """Return the mean of every part over models."""
    if len(of_members) == 1:
        return of_members[0]
    groups = {group: np.mean([one.groups[group] for one in of_members], axis=0) for group in of_members[0].groups}
    return Effects(
        np.mean([one.reference for one in of_members], axis=0),
        np.mean([one.shared for one in of_members], axis=0),
        groups,
        np.mean([one.levels for one in of_members], axis=0),
    )


def _pieces(values: Sequence[Any], size: int) -> Iterator[Any]:
    """Yield a sequence in pieces of at most `size`."""
    return (values[low : low + size] for low in range(0, len(values), size))


def _rms(values: Floats, weights: Doubles) -> Floats:
    """Return the root of the weighted mean square over tracks, (alleles, tracks) to (alleles,).

    Sizes that are nothing but rounding become 0, so that a part that a model lacks is 0 and not 1e-8.
    """
    size = np.sqrt(np.square(values, dtype=np.float64) @ weights).astype(np.float32)
    result: Floats = np.where(size < NOTHING, np.float32(0), size)
    return result
