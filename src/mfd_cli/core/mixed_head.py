"""The mixed head: free output weights under a prior made of the metadata, a linear mixed model whose variances are learnt.

    W_g = 1 u_g' + sum_k Z_k C_k + R_g        rows of C_k ~ N(0, s_k,g I), rows of R_g ~ N(0, t_g I)

in every subspace g of the latent, for a latent of independent columns. Real ones are correlated, so the weights are measured
by what they do to logits: W S W' stands for W W', with S the covariance of the latents, and the columns count as many as
would be as independent, (tr S)^2 / tr S^2. While it is trained it is an ordinary linear layer, with tr(P W S W') / 2 added to
its negative log likelihood: the prior with the mean row u flat and the C_k integrated out. What each part of the metadata
contributes is the best linear prediction from W: linear in W, so that the parts add up to it. The residual R is what no
column says of a track. As the residual's variance goes to infinity this is the free head, and as it goes to 0 the
conditioned head without its network.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from typing import Any, NamedTuple, Self

import numpy as np
import torch
from torch import Tensor, nn

from mfd_cli.base.arrays import Bools, Doubles
from mfd_cli.core.head import START, HeadWeights, edges_of
from mfd_cli.core.terms import Term
from mfd_cli.core.variances import Components, learn_variances
from mfd_cli.settings.names import RESIDUAL

PRIOR_VARIANCE = 1.0
"""What all terms of a subspace start with together: far more than weights have, so that the prior is weak at first."""
ITERATIONS = 30
"""Iterations for the variances at each validation; they go on where the last validation left off."""

LEAST_CURVATURE = 1e-3
"""Bins' worth of information that a track's weights have at least."""


class Space(NamedTuple):
    """A part of the latent in which some terms act."""

    name: str
    place: slice
    terms: tuple[Term, ...]


class Derived(NamedTuple):
    """What follows from the variances of a subspace: `precision` (training tracks, training tracks) of the prior; the shared
    row of the weights is `mean` (training tracks,) times the training tracks' weights, a part's rows are `parts` name ->
    (tracks, training tracks) times them."""

    precision: Tensor
    mean: Tensor
    parts: dict[str, Tensor]


class MixedHead(nn.Module):
    """Free weights (tracks, latent) with a prior. `kernels` has (tracks, tracks) for each term's name.

    `centre` maps a group to the weights (tracks,) that average its part before the average is moved to the shared part.
    """

    def __init__(
        self,
        groups: Mapping[str, int],
        joint: bool,
        terms: Sequence[Term],
        kernels: Mapping[str, Doubles],
        centre: Mapping[str, np.ndarray],
        bias: Tensor,
        trained: Bools,
    ) -> None:
        super().__init__()
        latent = sum(groups.values())
        self.bias = nn.Parameter(bias.clone())
        self.weight = nn.Parameter(torch.randn(len(bias), latent) * START / math.sqrt(3 * latent))
        self.spaces, self.terms = spaces_of(groups, joint, terms), tuple(terms)
        self.groups = {group: latent if joint else size for group, size in groups.items()} | {RESIDUAL: latent}
        whole = slice(0, latent)
        own = dict.fromkeys(groups, whole) if joint else {space.name: space.place for space in self.spaces}
        self.slices = own | {RESIDUAL: whole}
        self.kernels = {name: torch.from_numpy(kernel) for name, kernel in kernels.items()}
        self.centre = {group: torch.from_numpy(np.asarray(values, float)) for group, values in centre.items()}
        self.register_buffer("rows", torch.from_numpy(np.flatnonzero(trained)), persistent=False)
        self.register_buffer("curvature", torch.zeros(len(bias)))
        self.register_buffer("covariance", torch.eye(latent))
        for space in self.spaces:
            count = len(space.terms) + 1
            self.register_buffer(f"variances_{space.name}", torch.full((count,), PRIOR_VARIANCE / count))
        self.trained = torch.from_numpy(np.asarray(trained, bool))
        self.derived: dict[str, Derived] = {}
        self.derive()
        self.register_load_state_dict_post_hook(lambda head, _: head.derive())

    @torch.no_grad()
    def follow_data(self, curvature: Tensor, latent: Tensor, keep: float) -> None:
        """Move what is known of the data towards a batch: the `curvature` (tracks,) of the loss, and the covariance of the
        latents (batch, latent), which have means of 0."""
        self.get_buffer("curvature").lerp_(curvature, 1 - keep)
        self.get_buffer("covariance").lerp_(latent.T @ latent / len(latent), 1 - keep)

    # -- the variances -------------------------------------------------------------------------------------------------

    def variances(self, space: Space) -> Tensor:
        """Return the variances of a subspace's terms, the residual's last, (terms + 1,)."""
        return self.get_buffer(f"variances_{space.name}")

    def components(self, space: Space, noise: Tensor | None = None) -> Components:
        """Return the variance components of the training tracks in a subspace, in float64 on the CPU."""
        rows = self.get_buffer("rows").cpu()
        count = len(rows)
        own = [self.kernels[term.name][rows][:, rows] for term in space.terms]
        kernels = torch.stack([*own, torch.eye(count, dtype=torch.float64)])
        variances = self.variances(space).double().cpu()
        return Components(kernels, variances, torch.zeros(count).double() if noise is None else noise)

    def noise(self) -> Tensor:
        """Return the variance (training tracks,) with which the data determine a track's weights; `curvature` is 1 / it."""
        return 1 / self.get_buffer("curvature").double().cpu()[self.get_buffer("rows").cpu()].clamp_min(LEAST_CURVATURE)

    def gram(self, space: Space) -> Tensor:
        """Return W S W' (training tracks, training tracks) of a subspace: the covariance over bins of what it gives logits."""
        trained = self.weight[self.get_buffer("rows")].double().cpu()[:, space.place]
        return trained @ self.latent_covariance(space).double().cpu() @ trained.T

    def latent_covariance(self, space: Space) -> Tensor:
        """Return S (latents, latents) of a subspace."""
        return self.get_buffer("covariance")[space.place, space.place]

    def columns(self, space: Space) -> float:
        """Return how many independent latents a subspace is worth."""
        covariance = self.latent_covariance(space)
        return float(covariance.trace() ** 2 / covariance.pow(2).sum())

    @torch.no_grad()
    def learn_variances(self, iterations: int = ITERATIONS, shrunk: bool = True) -> None:
        """Set the variances to those under which the weights are likeliest, and what follows from them.

        `shrunk` says that the weights were learnt under the prior; otherwise they are what the data alone say.
        """
        for space in self.spaces:
            now = self.components(space, self.noise())
            learnt = learn_variances(self.gram(space), self.columns(space), now, iterations, shrunk)
            self.variances(space).copy_(learnt.variances)
        self.derive()

    @torch.no_grad()
    def take_variances(self, other: MixedHead) -> None:
        """Set the variances to those of another head of the same terms."""
        for space in self.spaces:
            self.variances(space).copy_(other.variances(space))
        self.derive()

    @torch.no_grad()
    def derive(self) -> None:
        """Compute what follows from the variances: the prior's precision, and how each part is made from the weights."""
        rows, like = self.get_buffer("rows").cpu(), self.weight
        for space in self.spaces:
            components = self.components(space)
            precision, mean = components.projection(), components.mean_weights()
            parts: dict[str, Tensor] = {}
            for term, variance in zip(space.terms, components.variances):
                maker = variance * self.kernels[term.name][:, rows] @ precision
                parts[term.group] = parts[term.group] + maker if term.group in parts else maker
            for group, maker in parts.items():
                middle = self.centre[group] @ maker
                parts[group], mean = maker - middle, mean + middle
            parts[RESIDUAL] = torch.zeros(len(self.bias), len(rows), dtype=torch.float64)
            parts[RESIDUAL][rows] = components.variances[-1] * precision
            self.derived[space.name] = Derived(
                precision.to(like), mean.to(like), {name: maker.to(like) for name, maker in parts.items()}
            )

    def _apply(self, fn: Any, recurse: bool = True) -> Self:
        """Move what is derived along with the parameters."""
        super()._apply(fn, recurse)
        for name, (precision, mean, parts) in self.derived.items():
            self.derived[name] = Derived(fn(precision), fn(mean), {part: fn(maker) for part, maker in parts.items()})
        return self

    @torch.no_grad()
    def part_variances(self, group: str) -> Tensor:
        """Return the variance of a part, given the data, (subspaces, tracks): that of each weight for independent latents.

        A group's part is that relative to the mean of the training tracks. See `part_deviations` for what it makes of logits.
        """
        rows, found = self.get_buffer("rows").cpu(), []
        for space in self.spaces:
            components = self.components(space, self.noise())
            if group == RESIDUAL:
                kernel = components.variances[-1] * torch.eye(len(self.bias), dtype=torch.float64)
            else:
                mine = [(t, s) for t, s in zip(space.terms, components.variances) if t.group == group]
                kernel = sum(
                    (variance * self.kernels[term.name] for term, variance in mine),
                    torch.zeros(len(self.bias), len(self.bias), dtype=torch.float64),
                )
                kernel = kernel - self.centre[group] @ kernel
                kernel = kernel - (kernel @ self.centre[group])[:, None]
            cross = kernel[:, rows]  # what is the same for all tracks does not matter: the projection takes it out
            explained = ((cross @ components.projection()) * cross).sum(1)
            found.append((kernel.diagonal() - explained).clamp_min(0))
        return torch.stack(found)

    @torch.no_grad()
    def part_deviations(self, group: str, latent: Tensor) -> Tensor:
        """Return the standard deviation of a part of the logits given the data, (bins, tracks), of latents (bins, latent).

        Also of a change of the latent, as a variant makes it. What is not counted is that the latents could be other ones.
        """
        total = latent.new_zeros(len(latent), len(self.bias))
        for space, variance in zip(self.spaces, self.part_variances(group)):
            own = latent[:, space.place]
            size = own.pow(2).sum(1) * (self.columns(space) / self.latent_covariance(space).trace())
            total += torch.outer(size, variance.to(latent))
        return total.sqrt()

    # -- what the weights are ------------------------------------------------------------------------------------------

    def matrix(self) -> Tensor:
        """Return the weights (tracks, latent) as they are trained."""
        return self.weight

    def prior(self) -> Tensor:
        """Return tr(P W S W') / 2 over all subspaces: the negative log density of the weights, without its constant."""
        trained, total = self.weight[self.get_buffer("rows")], self.weight.new_zeros(())
        for space in self.spaces:
            own = trained[:, space.place]
            total = (
                total + ((own @ self.latent_covariance(space)) * (self.derived[space.name].precision @ own)).sum() / 2
            )
        return total

    @torch.no_grad()
    def fill_held_out(self) -> None:
        """Set the weights of tracks that do not train to what their metadata say."""
        held = ~self.trained
        if held.any():
            self.weight[held] = self.weights().matrix()[held]

    @torch.no_grad()
    def term_weights(self, kernels: Mapping[str, Doubles] | None = None) -> dict[str, Tensor]:
        """Return what each term contributes to the weights of rows, (rows, size of its group), before a group is centred.

        `kernels` name -> (rows, training tracks) says how alike the rows are to the training tracks; default: the model's own.
        """
        trained, result = self.weight[self.get_buffer("rows")], dict[str, Tensor]()
        rows = self.get_buffer("rows").cpu()
        for space in self.spaces:
            components, own = self.components(space), trained[:, space.place]
            precision = components.projection()  # large numbers, which cancel: not in float32
            for term, variance in zip(space.terms, components.variances):
                kernel = self.kernels[term.name][:, rows] if kernels is None else torch.from_numpy(kernels[term.name])
                result[term.name] = (variance * kernel @ precision).to(own) @ own
        return result

    def group_weights(self, kernels: Mapping[str, Doubles]) -> dict[str, Tensor]:
        """Return each group's part of the weights of rows, (rows, size of the group), relative to the mean of the training
        tracks; the residual of rows that nobody measured is 0. `kernels`: see `term_weights`."""
        own, new = self.term_weights(), self.term_weights(kernels)
        rows = len(next(iter(kernels.values()))) if kernels else 0
        groups = {group: self.weight.new_zeros(rows, size) for group, size in self.groups.items()}
        for term in self.terms:
            middle = self.centre[term.group].to(self.weight) @ own[term.name]
            groups[term.group] = groups[term.group] + new[term.name] - middle
        return groups

    def weights(self) -> HeadWeights:
        """Return the parts of the weights: shared, each group's, and the residual, which add up to the trained weights."""
        trained = self.weight[self.get_buffer("rows")]
        shared = torch.cat([self.derived[space.name].mean @ trained[:, space.place] for space in self.spaces])
        groups = {}
        for group, place in self.slices.items():
            pieces = []
            for space in self.spaces:
                made, own = self.derived[space.name].parts.get(group), trained[:, space.place]
                if made is not None:
                    pieces.append(made @ own)
                elif space.place.start >= place.start and space.place.stop <= place.stop:
                    pieces.append(own.new_zeros(len(self.bias), own.shape[1]))
            groups[group] = torch.cat(pieces, 1)
        return HeadWeights(self.bias, shared, groups, self.slices)


def spaces_of(groups: Mapping[str, int], joint: bool, terms: Sequence[Term]) -> tuple[Space, ...]:
    """Return the subspaces: one for each group, in which its own terms act, or with `joint` the whole latent for all terms."""
    if joint:
        return (Space("all", slice(0, sum(groups.values())), tuple(terms)),)
    return tuple(
        Space(group, place, tuple(term for term in terms if term.group == group))
        for group, place in edges_of(groups).items()
    )
