"""What a variant changes, in numbers: a model's weights arranged so that scores are products with the change of its latent.

Scores are alternate minus reference on the logit scale, both strands averaged. The head is linear, so the difference is taken
in the latent and every score is a product with it:

    MFD_MAX_DLOGIT, MFD_TRACK   signed change of the most affected track, and its id
    MFD_SHARED                  signed change of what all tracks have in common
    MFD_BIO, MFD_TECH, ...      root mean square over tracks of a group's change, every level weighing the same
    MFD_DEBIASED                the same for everything but the technical part

Windows are placed in one of two ways. `centred`: the variant lies in the middle of the bin that is predicted. `grid`: the bins
are those of the genome's 128-bp grid, so that all variants of a bin share one pass over the reference; a variant within 32 bp
of a bin's edge is scored in both bins and gets the mean change. These are different estimates of an effect.
"""

from __future__ import annotations

import re
from collections.abc import Iterator, Sequence
from typing import Any, Literal, NamedTuple

import numpy as np
import torch
from numpy.typing import NDArray

from mfd_cli.core.backbones import BIN
from mfd_cli.core.decompose import Decomposition, decompose
from mfd_cli.core.head import ConditionedHead
from mfd_cli.core.predict import Precision, Predictor
from mfd_cli.data.sequence import Genome, encode
from mfd_cli.data.variants import Variant, alternate_windows
from mfd_cli.run_folder import Run

Floats = NDArray[np.float32]
Placement = Literal["centred", "grid"]
EDGE = 32
"""In grid placement, variants closer than this (bp) to the edge of a bin are scored in the next bin too."""
MOST_ALTERNATES = 16
"""Substitutions that go through the model together, per window of a batch: they touch a twentieth of it."""
TECHNICAL = "technical"
_SHORT = {"biological": "BIO", "technical": "TECH"}


class Window(NamedTuple):
    """Where a window begins, 0-based; before the contig too."""

    contig: str
    start: int


class Scorer:
    """Scores variants with a model. `placement` says where windows lie, `precision` what the backbone computes in."""

    def __init__(
        self, run: Run, device: torch.device | str = "cpu", batch_size: int = 256, placement: Placement = "centred",
        precision: Precision = "float32",
    ) -> None:  # fmt: skip
        self.run, self.placement = run, placement
        self.predictor = Predictor(run.model, device, batch_size, precision)
        head, model = self.predictor.head, run.model
        self.centre = self.predictor.left + BIN // 2  # of a centred variant
        self.matrix = head.matrix()
        self.conditioned = isinstance(model.head, ConditionedHead)
        self.decomposition: Decomposition | None = decompose(model) if self.conditioned else None
        self.top = slice(0, run.peak_tracks) if run.peak_tracks else slice(0, len(run.tracks))
        self.groups = list(head.groups) if self.conditioned else []
        self.kept = [group for group in self.groups if group != TECHNICAL]
        self.weights = {group: model.track_weights([group]) for group in self.groups}
        self.kept_weights = model.track_weights(self.kept)
        self.level_names, self.level_matrix = self._levels()
        self.track_ids = np.array([track.id for track in run.tracks], object)

    def field_of(self, group: str) -> str:
        """The INFO field of a group."""
        name = _SHORT.get(group, re.sub("[^A-Z0-9]", "_", group.upper()))
        return f"MFD_GROUP_{name}" if name in ("MAX_DLOGIT", "TRACK", "SHARED", "DEBIASED") else f"MFD_{name}"

    @property
    def fields(self) -> list[str]:
        """The numeric fields, in order."""
        parts = ["MFD_SHARED", *(self.field_of(g) for g in self.groups), "MFD_DEBIASED"] if self.conditioned else []
        return ["MFD_MAX_DLOGIT", *parts]

    @property
    def column_names(self) -> list[str]:
        """The numeric columns of `columns`, without those of single tracks."""
        return [*self.fields, "ref_probability", "alt_probability", *self.level_names]

    def _levels(self) -> tuple[list[str], Floats]:
        """Name `level.FACTOR=LEVEL` and direction over the whole latent of every level that a training track has."""
        latent = self.run.model.settings.latent
        names, rows = list[str](), list[Floats]()
        if self.decomposition is not None:
            for factor, levels in self.decomposition.levels.items():
                place = self.predictor.slices[self.decomposition.group_of[factor]]
                for level in levels:
                    if self.decomposition.tracks_of(factor, level).any():
                        wide = np.zeros(latent, np.float32)
                        wide[place] = self.decomposition.direction(factor, level)
                        names.append(f"level.{factor}={level}")
                        rows.append(wide)
        return names, np.stack(rows) if rows else np.zeros((0, latent), np.float32)

    # -- the change of the latent --------------------------------------------------------------------------------------

    def windows_of(self, variant: Variant, genome: Genome) -> list[Window]:
        """The windows that a variant is scored in; the first is that of the bin where it lies."""
        if self.placement == "centred":
            return [Window(variant.contig, variant.start - self.centre)]
        last = (len(genome.sequences[variant.contig]) - 1) // BIN
        own = min(variant.start // BIN, last)
        within = variant.start - own * BIN
        near = own - (within < EDGE) + (within >= BIN - EDGE)
        windows = [Window(variant.contig, number * BIN - self.predictor.left) for number in (own, near)]
        sees = 0 <= variant.start - windows[1].start <= self.predictor.window - max(len(variant.ref), 1)
        return windows if near != own and 0 <= near <= last and sees else windows[:1]

    def changes(self, variants: Sequence[Variant], genome: Genome) -> tuple[Floats, Floats]:
        """Latent of the reference and change of the latent, (variants, latent) each, of trimmed variants on the genome.

        Every window goes through the model once, whatever the number of variants in it; substitutions of one base are
        computed from what they change, all others by whole windows.
        """
        windows: dict[Window, list[int]] = {}
        count = np.zeros(len(variants), np.float32)
        own = []
        for number, variant in enumerate(variants):
            places = self.windows_of(variant, genome)
            own.append(places[0])
            count[number] = len(places)
            for window in places:
                windows.setdefault(window, []).append(number)
        latent = self.run.model.settings.latent
        reference, change = np.zeros((2, len(variants), latent), np.float32)
        for batch in _pieces(list(windows), self.predictor.batch_size):
            inside = [[(row, number) for number in windows[window]] for row, window in enumerate(batch)]
            pairs = [pair for found in inside for pair in found]
            before, after = self._pass(batch, pairs, variants, genome)
            rows, numbers = (np.array(values) for values in zip(*pairs))
            np.add.at(change, numbers, after - before[rows])
            for row, number in pairs:
                if own[number] == batch[row]:
                    reference[number] = before[row]
        return reference, change / count[:, None]

    def _pass(
        self, windows: Sequence[Window], pairs: Sequence[tuple[int, int]], variants: Sequence[Variant], genome: Genome
    ) -> tuple[Floats, Floats]:
        """Latents of the windows, and of each (window, variant) the alternate latent."""
        predictor = self.predictor
        codes = np.stack([genome.codes(contig, start, start + predictor.window) for contig, start in windows])
        single = [
            i for i, (_, number) in enumerate(pairs) if len(variants[number].ref) == len(variants[number].alt) == 1
        ]
        after = np.empty((len(pairs), self.run.model.settings.latent), np.float32)
        if single:
            row = np.array([pairs[i][0] for i in single])
            index = np.array([variants[pairs[i][1]].start - windows[pairs[i][0]].start for i in single])
            base = encode("".join(variants[pairs[i][1]].alt for i in single))
            reference, latents = predictor.reference(predictor.placed(codes), int(index.min()), int(index.max()))
            for part in _pieces(range(len(single)), MOST_ALTERNATES * predictor.batch_size):
                one, two, three = (predictor.placed(values[part.start : part.stop]) for values in (row, index, base))
                found = predictor.substituted(reference, one, two, three.long())
                after[[single[i] for i in part]] = found.cpu().numpy()
            before = latents.cpu().numpy()
        else:
            before = predictor.latents(codes)
        self._others(windows, pairs, variants, genome, after, set(single))
        return before, after

    def _others(
        self, windows: Sequence[Window], pairs: Sequence[tuple[int, int]], variants: Sequence[Variant], genome: Genome,
        after: Floats, done: set[int],
    ) -> None:  # fmt: skip
        """Fill in the alternates that are not single substitutions, by whole windows."""
        rest = [i for i in range(len(pairs)) if i not in done]
        alternatives = []
        for i in rest:
            row, number = pairs[i]
            index = variants[number].start - windows[row].start
            alternatives.append(alternate_windows(variants[number], genome, self.predictor.window, index))
        if rest:
            latents = self.predictor.latents(np.stack([window for some in alternatives for window in some]))
            ends = np.cumsum([len(some) for some in alternatives])
            for i, end, some in zip(rest, ends, alternatives):
                after[i] = latents[end - len(some) : end].mean(0)

    # -- scores --------------------------------------------------------------------------------------------------------

    def scores(self, change: Floats) -> dict[str, Floats]:
        """The numeric fields for changes of the latent (alleles, latent), each (alleles,) float32; `track` is the number of
        the most affected one."""
        head = self.predictor.head
        deltas = change @ self.matrix.T  # (alleles, tracks)
        most = np.abs(deltas[:, self.top]).argmax(1)
        result = {"MFD_MAX_DLOGIT": deltas[np.arange(len(change)), most], "track": most}
        if not self.conditioned:
            return result
        shared = head.shared_part(change)
        parts = {group: head.group_part(group, change) for group in self.groups}
        result["MFD_SHARED"] = shared
        for group in self.groups:
            result[self.field_of(group)] = _rms(parts[group], self.weights[group])
        rest = shared[:, None] + sum(parts[group] for group in self.kept)
        result["MFD_DEBIASED"] = _rms(rest, self.kept_weights)
        return result

    def columns(self, variants: Sequence[Variant], genome: Genome, per_track: bool = False) -> dict[str, Any]:
        """Columns of the table of scores, one value per variant: MFD_TRACK, `column_names`, and each track if wanted."""
        reference, change = self.changes(variants, genome)
        scores, head = self.scores(change), self.predictor.head
        top = scores.pop("track")
        # Logit of each variant's own top track: products of matching rows, not of all tracks.
        logits = np.einsum("vk,vk->v", reference, self.matrix[top]) + head.bias[top]
        if not self.run.peak_tracks:
            logits = np.full_like(logits, np.nan)  # a signal has no probability
        columns: dict[str, Any] = {"MFD_TRACK": self.track_ids[top], **scores}
        columns["ref_probability"] = sigmoid(logits)
        columns["alt_probability"] = sigmoid(logits + scores["MFD_MAX_DLOGIT"])
        columns |= dict(zip(self.level_names, (change @ self.level_matrix.T).T))
        if per_track:
            columns |= {f"track.{name}": values for name, values in zip(self.track_ids, (change @ self.matrix.T).T)}
        return columns


def _pieces(values: Sequence[Any], size: int) -> Iterator[Any]:
    return (values[low : low + size] for low in range(0, len(values), size))


def _rms(values: Floats, weights: NDArray[np.float64]) -> Floats:
    """Root of the weighted mean square over tracks, (alleles, tracks) to (alleles,)."""
    result: Floats = np.sqrt(np.square(values, dtype=np.float64) @ weights).astype(np.float32)
    return result


def sigmoid(x: Floats) -> Floats:
    result: Floats = (1 / (1 + np.exp(-x.astype(np.float64)))).astype(np.float32)
    return result
