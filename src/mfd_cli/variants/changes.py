"""What variants change in a model's latent, by as few passes over the reference as there can be.

Bins of substitutions are placed in one of two ways. `centred`: the variant lies in the middle of the bin that is predicted.
`grid`: the bins are those of the genome's 128-bp grid, so that all variants of a bin, and neighbouring bins, share passes over
the reference; a variant within 32 bp of a bin's edge is scored in both bins and gets the mean change. These are different
estimates of an effect. Alleles of another length than their reference are centred either way (see `indel_windows`).
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from itertools import chain
from typing import Any, Literal, NamedTuple

import numpy as np
from torch import Tensor

from mfd_cli.base.arrays import Bytes, Floats, Ints
from mfd_cli.core.incremental import Seen
from mfd_cli.core.predictor import Predictor, as_array
from mfd_cli.genome.alleles import Variant, indel_windows, substituted
from mfd_cli.genome.grid import BIN, off_line, on_line
from mfd_cli.genome.sequence import Genome, encode

Placement = Literal["centred", "grid"]
EDGE = 32
"""In grid placement, variants closer than this (bp) to the edge of a bin are scored in the next bin too."""
MOST_ALTERNATES = 16
"""Substitutions that go through the model together, per window of a batch: they touch a twentieth of it."""
WINDOWS_OF_INDEL = 8
"""About how many windows an indel is scored in (both haplotypes, both edges): so many fewer indels make a batch."""


class Window(NamedTuple):
    """Where a window begins, 0-based. Near the start of a contig that is below 0: what lies outside reads as unknown bases."""

    contig: str
    start: int


class LatentChanges:
    """What alleles change in the latents of one model, with substitutions in one of the placements."""

    def __init__(self, predictor: Predictor, placement: Placement) -> None:
        self.predictor, self.placement = predictor, placement
        self.centre = predictor.left + BIN // 2  # where in its window a centred variant lies

    def of(self, variants: Sequence[Variant], genome: Genome) -> tuple[Floats, Floats]:
        """Return the latent of the reference and its change, (variants, latent) each, of trimmed variants on the genome.

        Every bin goes through the model once, whatever the number of variants in it; substitutions of one base are
        computed from what they change, all others by whole windows.
        """
        reference, change = np.zeros((2, len(variants), self.predictor.latent), np.float32)
        indels = [i for i, variant in enumerate(variants) if not variant.same_length]
        for piece in _pieces(indels, max(self.predictor.batch_size // WINDOWS_OF_INDEL, 1)):
            reference[piece], change[piece] = self._indels([variants[i] for i in piece], genome)
        substitutions = [i for i, variant in enumerate(variants) if variant.same_length]
        if substitutions:
            chosen = [variants[i] for i in substitutions]
            reference[substitutions], change[substitutions] = self._substitutions(chosen, genome)
        return reference, change

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

        The change is the mean over a variant's windows; the reference is that of its own bin.
        """
        seen_in = [self.windows_of(variant, genome) for variant in variants]
        number_of = {window: number for number, window in enumerate(dict.fromkeys(chain.from_iterable(seen_in)))}
        count = np.array([len(windows) for windows in seen_in])
        # Every pair of a variant and a window that it is seen in, by their numbers.
        variant = np.repeat(np.arange(len(variants)), count)
        window = np.array([number_of[one] for one in chain.from_iterable(seen_in)])
        before, after = self._passes(list(number_of), variants, variant, window, genome)
        first = np.cumsum(count) - count  # a variant's pairs follow each other
        change: Floats = np.add.reduceat(after - before[window], first)
        change /= count[:, None].astype(np.float32)
        return before[window[first]], change

    def _passes(
        self, windows: Sequence[Window], variants: Sequence[Variant], variant: Ints, window: Ints, genome: Genome
    ) -> tuple[Floats, Floats]:
        """Return the latents of the windows' bins (windows, latent), and of each pair of a `variant` and a `window` (pairs,)
        the latent with the variant in it (pairs, latent).

        Neighbouring bins share one pass over a stretch where the model gives the same numbers so.
        """
        predictor = self.predictor
        before = np.empty((len(windows), predictor.latent), np.float32)
        after = np.empty((len(variant), predictor.latent), np.float32)
        single = np.array([len(one.ref) == 1 for one in variants])[variant]
        contigs = list(dict.fromkeys(one.contig for one in windows))
        number = {contig: number for number, contig in enumerate(contigs)}
        bins = on_line(
            np.array([number[one.contig] for one in windows]),
            np.array([one.start for one in windows]) + predictor.left,
        )
        changed, their_place, longer = list[Bytes](), list[int](), list[int]()
        for batch in predictor.batches_of(bins):
            length = predictor.length(batch.bins)
            begins = [
                Window(contigs[contig], start - predictor.left)
                for contig, start in zip(*(values.tolist() for values in off_line(batch.firsts)))
            ]
            codes = np.stack([genome.codes(contig, start, start + length) for contig, start in begins])
            column = np.full(len(windows), -1)
            column[batch.index] = np.arange(len(batch.index))
            column = column[window]
            pairs = np.flatnonzero(single & (column >= 0))
            if len(pairs):
                row, place = batch.row[column[pairs]], batch.place[column[pairs]]
                starts = [begin.start for begin in begins]
                latents, after[pairs] = self._pass(codes, starts, [variants[i] for i in variant[pairs]], row, place)
            else:
                latents = predictor.latents_of(predictor.placed(codes))
            before[batch.index] = as_array(latents)[batch.row * batch.bins + batch.place]
            for pair in np.flatnonzero(~single & (column >= 0)).tolist():
                row, place = batch.row[column[pair]], int(batch.place[column[pair]])
                # A window alone says as much of its bin as the stretch, where the place in the stretch does not matter.
                first, count = (0, length) if predictor.block > 1 else (place * BIN, predictor.window)
                begin = begins[row].start + first
                changed.append(substituted(codes[row, first : first + count], variants[variant[pair]], begin))
                longer.append(pair)
                their_place.append(place if predictor.block > 1 else 0)
        if longer:
            of_all = predictor.latents(np.stack(changed)).reshape(len(longer), -1, predictor.latent)
            after[longer] = of_all[np.arange(len(longer)), their_place]
        return before, after

    def _pass(
        self, codes: Bytes, starts: Sequence[int], variants: Sequence[Variant], row: Ints, place: Ints
    ) -> tuple[Tensor, Floats]:
        """Return the latents (stretches x bins, latent) of stretches, whose base `codes` (stretches, bases) begin at `starts`,
        and the latents (pairs, latent) of bins with a substitution of one base: each pair is one of `variants` and a bin, at
        `place` of the stretch in `row`.

        Substitutions go through what they can change of the model only (see core/incremental.py), each once a stretch.
        """
        predictor = self.predictor
        number_of = {pair: number for number, pair in enumerate(dict.fromkeys(zip(row.tolist(), variants)))}
        which = np.array([number_of[pair] for pair in zip(row.tolist(), variants)])
        rows = np.array([one for one, _ in number_of])
        position = np.array([variant.start - starts[one] for one, variant in number_of])
        base = encode("".join(variant.alt for _, variant in number_of)).astype(np.int64)
        reference, latents = predictor.reference(predictor.placed(codes), int(position.min()), int(position.max()))
        after = np.empty((len(which), predictor.latent), np.float32)
        at_once = MOST_ALTERNATES * predictor.batch_size
        for low in range(0, len(rows), at_once):
            mine = np.flatnonzero((which >= low) & (which < low + at_once))
            seen = Seen(predictor.placed(which[mine] - low), predictor.placed(place[mine]))
            one, two, three = (predictor.placed(values[low : low + at_once]) for values in (rows, position, base))
            after[mine] = as_array(predictor.substituted(reference, one, two, three, seen))
        return latents, after


def _pieces(values: Sequence[Any], size: int) -> Iterator[Any]:
    """Yield a sequence in pieces of at most `size`."""
    return (values[low : low + size] for low in range(0, len(values), size))
