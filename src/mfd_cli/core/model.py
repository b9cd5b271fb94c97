"""The model: DNA to a latent with named subspaces, to one logit per track, and the parts that the logit is made of."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from typing import NamedTuple, Self

import numpy as np
import torch
from torch import Tensor, nn

from mfd_cli.base.arrays import Bools, Doubles, Floats
from mfd_cli.core.backbones import BACKBONES, one_row_a_bin
from mfd_cli.core.head import ConditionedHead, FreeHead, HeadWeights
from mfd_cli.core.metadata import MetadataEncoder, level_balanced_weights
from mfd_cli.core.mixed_head import AVERAGED, MixedHead
from mfd_cli.core.onehot import kmers, one_hot
from mfd_cli.core.terms import term_kernel, terms_of
from mfd_cli.genome.grid import BIN
from mfd_cli.settings.config import FactorConfig
from mfd_cli.settings.network import ResolvedModel


class ModelOutput(NamedTuple):
    """logits (batch, tracks); latents: group -> (batch, size), in the canonical order of the groups."""

    logits: Tensor
    latents: dict[str, Tensor]


class Parts(NamedTuple):
    """What logits are made of: bias (tracks,) + shared (batch, 1) + the sum of groups (batch, tracks) each."""

    bias: Tensor
    shared: Tensor
    groups: dict[str, Tensor]

    def total(self) -> Tensor:
        """Return the logits again, (batch, tracks): logit_i = b_i + <u, s> + sum_g a_i,g <c_i,g, s_g>."""
        return self.bias + self.shared + sum(self.groups.values(), torch.zeros(()))


class MfdModel(nn.Module):
    """Backbone, batch norm without learned scale, head. The latent is cut in the order of `settings.groups`."""

    def __init__(
        self,
        settings: ResolvedModel,
        metadata: MetadataEncoder,
        factors: Mapping[str, FactorConfig],
        rows: Sequence[Mapping[str, str]],
        trained: Bools,
        bias: Floats,
        added: Bools | None = None,
    ) -> None:
        """Build with random weights (torch's generator). `rows` is the metadata of every track, `trained` says which
        take part in training, `bias` (tracks,) is where the biases start. `added` (tracks,) says which of the trained ones came
        after all others, whose numbers they leave alone."""
        super().__init__()
        self.settings, self.metadata, self.factors = settings, metadata, dict(factors)
        self.rows, self.trained = list(rows), trained
        self.added = np.zeros_like(trained) if added is None else added
        self.stranded = False  # whether some tracks are pairs of strands; set by who knows the tracks
        self.backbone = BACKBONES[settings.backbone](settings)
        self.norm = nn.BatchNorm1d(settings.latent, affine=False)  # no scale: penalties cannot be cheated by shrinking
        start = torch.from_numpy(np.asarray(bias, np.float32))
        self.head: ConditionedHead | MixedHead | FreeHead
        if settings.head == "free":
            self.head = FreeHead(settings.latent, start, self.first.tolist())
            return
        centre = centre_weights(settings, self.factors, metadata, self.rows, self.first)
        if settings.head == "mixed":
            training_rows = [row for row, used in zip(self.rows, self.first.tolist()) if used]
            joint = settings.subspaces == "joint"
            # Of more tracks variances are not averaged over which terms there are, and these would take of the residual.
            between = joint and len(training_rows) <= AVERAGED
            terms = terms_of(self.factors, metadata, training_rows, between=between)
            kernels = {term.name: term_kernel(metadata, term, self.rows, self.rows) for term in terms}
            self.head = MixedHead(settings.groups, joint, terms, kernels, centre, start, self.first, self.added)
        else:
            codes = metadata.encode(self.rows, unseen="mean")
            self.head = ConditionedHead(
                settings.groups, self.factors, codes, centre, start, settings.hidden, settings.gain
            )

    @property
    def first(self) -> Bools:
        """Which tracks (tracks,) the backbone, the prior and all averages are of: the trained ones that were not added."""
        first: Bools = self.trained & ~self.added
        return first

    def track_weights(self, groups: Sequence[str]) -> Doubles:
        """Return weights (tracks,) that sum to one and let each level of the factors of these groups weigh the same.

        Held-out and added tracks weigh nothing.
        """
        return weights_of_tracks(self.factors, self.metadata, self.rows, self.first, groups)

    @property
    def has_parts(self) -> bool:
        """Whether the metadata have a say in the weights: with every head but the free one."""
        return not isinstance(self.head, FreeHead)

    @property
    def groups(self) -> tuple[str, ...]:
        """Names of the groups of the head: those of the configuration, or `free` for the twin."""
        return tuple(self.head.groups)

    @property
    def slices(self) -> dict[str, slice]:
        """Where each group's subspace lies in the latent."""
        return dict(self.head.slices)

    @property
    def subspaces(self) -> dict[str, slice]:
        """The pieces of the latent by name, in order: each group's own or, where all groups act on all of it, `latent`."""
        return dict(self.head.subspaces)

    def latent_name(self, number: int) -> str:
        """Return SUBSPACE.NUMBER of a latent, counted from the start of its subspace."""
        name, place = next((name, place) for name, place in self.subspaces.items() if number < place.stop)
        return f"{name}.{number - place.start}"

    @property
    def window(self) -> int:
        """bp to cut for one bin: the margins, the bin, and the k - 1 bases that complete its last k-mer."""
        return self.settings.window + self.settings.kmer - 1

    @property
    def left(self) -> int:
        """bp of the window before the first base of the bin."""
        return (self.settings.window - BIN) // 2

    def length(self, bins: int) -> int:
        """Return how many bp to cut for a stretch of bins: one bin more than a window has takes 128 bp more."""
        return self.window + (bins - 1) * BIN

    def train(self, mode: bool = True) -> Self:
        """Set the mode of training or of evaluation; in either, everything may learn that was held."""
        super().train(mode)
        self.backbone.hold(False)
        return self

    def hold(self) -> bool:
        """Hold what the backbone took from elsewhere as it is, until `train` is called; return whether anything before the head
        learns. Where nothing does, the norm of the latents stays too."""
        learns = self.backbone.hold(True)
        if not learns:
            self.norm.eval()
        return learns

    def latent(self, codes: Tensor) -> Tensor:
        """Return the latents s (batch x bins, latent) float32 of base codes (batch, length of a stretch) uint8."""
        return self.latent_of_bases(one_hot(codes))

    def columns(self, codes: Tensor) -> Tensor:
        """Return what the backbone reads: base codes (batch, length) uint8 as one-hot k-mers (batch, 4^k, length - k + 1)."""
        return kmers(one_hot(codes), self.settings.kmer)

    def latent_of_bases(self, bases: Tensor) -> Tensor:
        """Return the latents (batch x bins, latent) of one-hot bases (batch, 4, length); differentiable in the bases."""
        return self.norm(one_row_a_bin(self.backbone(kmers(bases, self.settings.kmer)).float()))

    def forward(self, codes: Tensor) -> ModelOutput:
        """Base codes (batch, length) uint8 to logits (batch x bins, tracks) and the latents of every group."""
        latent = self.latent(codes)
        logits = torch.addmm(self.head.bias, latent, self.head.matrix().T)  # (batch, tracks)
        return ModelOutput(logits, {group: latent[:, place] for group, place in self.slices.items()})

    def parts(self, latent: Tensor, weights: HeadWeights | None = None) -> Parts:
        """Return the parts that the logits of latents (batch, latent) are made of; `weights`: the head's, if known."""
        weights = weights or self.head.weights()
        shared = latent @ weights.shared[:, None]  # (batch, 1)
        groups = {group: latent[:, self.slices[group]] @ weights.groups[group].T for group in self.groups}
        return Parts(weights.bias, shared, groups)


def weights_of_tracks(
    factors: Mapping[str, FactorConfig],
    metadata: MetadataEncoder,
    rows: Sequence[Mapping[str, str]],
    trained: Bools,
    groups: Sequence[str],
) -> Doubles:
    """Return weights (tracks,) that sum to one and let each level of the factors of `groups` weigh the same.

    Tracks that are not `trained` weigh nothing. Without groups every other track weighs the same.
    """
    names = [name for name, factor in factors.items() if factor.group in groups]
    return level_balanced_weights([metadata.membership(name, rows) for name in names], trained)


def centre_weights(
    settings: ResolvedModel,
    factors: Mapping[str, FactorConfig],
    metadata: MetadataEncoder,
    rows: Sequence[Mapping[str, str]],
    trained: Bools,
) -> dict[str, Doubles]:
    """Return what each group's weights are averaged with before the average is subtracted: group -> (tracks,).

    With `centre = "levels"` a level weighs the same however many tracks it has, so that "relative to the average" does not
    mean "relative to the commonest target".
    """
    balanced = settings.centre == "levels"
    return {
        group: weights_of_tracks(factors, metadata, rows, trained, [group] if balanced else [])
        for group in settings.groups
    }


@contextmanager
def in_evaluation(model: nn.Module, device: str | torch.device | None = None) -> Iterator[None]:
    """Have a model in evaluation mode, and on a device if one is named, inside the block; leave it as it was afterwards.

    Every module gets its own mode back: parts of a model may be frozen in evaluation mode while others train.
    """
    modes = [(module, module.training) for module in model.modules()]
    home = next(model.parameters()).device
    model.eval().to(device or home)
    try:
        yield
    finally:
        model.to(home)
        for module, mode in modes:
            module.training = mode
