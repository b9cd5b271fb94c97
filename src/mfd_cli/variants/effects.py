"""What a variant changes in a model: the latent of the alternate minus that of the reference, part by part.

The head is linear, so every change of a logit is a product with the change of the latent, both strands averaged.

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

from mfd_cli.base.arrays import Floats
from mfd_cli.core.decompose import Decomposition, decompose
from mfd_cli.core.head import ConditionedHead
from mfd_cli.core.predictor import Precision, Predictor
from mfd_cli.genome.alleles import Variant, indel_windows, substituted
from mfd_cli.genome.grid import BIN
from mfd_cli.genome.sequence import Genome, encode
from mfd_cli.runs.folder import Run
from mfd_cli.runs.panel import panel_of

Placement = Literal["centred", "grid"]
EDGE = 32
"""In grid placement, variants closer than this (bp) to the edge of a bin are scored in the next bin too."""
MOST_ALTERNATES = 16
"""Substitutions that go through the model together, per window of a batch: they touch a twentieth of it."""
WINDOWS_OF_INDEL = 8
"""About how many windows an indel is scored in (both haplotypes, both edges): so many fewer indels make a batch."""


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


def _pieces(values: Sequence[Any], size: int) -> Iterator[Any]:
    """Yield a sequence in pieces of at most `size`."""
    return (values[low : low + size] for low in range(0, len(values), size))
