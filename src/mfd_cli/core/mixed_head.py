"""The mixed head: free output weights under a prior made of the metadata, a linear mixed model whose variances are learnt.

    W_g = 1 u_g' + sum_k Z_k C_k + R_g        rows of C_k ~ N(0, s_k,g I), rows of R_g ~ N(0, t_g I)

in every subspace g of the latent, for a latent of independent columns. Real ones are correlated, so the weights are measured
by what they do to logits: W S W' stands for W W', with S the covariance of the latents, and the columns count as many as
would be as independent, (tr S)^2 / tr S^2. While it is trained it is an ordinary linear layer, with tr(P W S W') / 2 added to
its negative log likelihood: the prior with the mean row u flat and the C_k integrated out. What each part of the metadata
contributes is the best linear prediction from W: linear in W, so that the parts add up to it. The residual R is what no
column says of a track. As the residual's variance goes to infinity this is the free head, and as it goes to 0 the
conditioned head without its network.

What factors of two groups do only together is of neither group: their products belong to the residual, as what no column says.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import replace
from typing import Any, NamedTuple, Self

import numpy as np
import torch
from torch import Tensor, nn

from mfd_cli.base.arrays import Bools, Doubles
from mfd_cli.base.progress import Progress
from mfd_cli.core.added_rows import Expected, expected_of_added
from mfd_cli.core.head import START, HeadWeights, edges_of
from mfd_cli.core.independent_components import independent_rotation
from mfd_cli.core.terms import Term
from mfd_cli.core.variances import Components, averaged_variances, learn_variances
from mfd_cli.settings.names import RESIDUAL

PRIOR_VARIANCE = 1.0
"""What all terms of a subspace start with together: far more than weights have, so that the prior is weak at first."""
MOST_AXES = 24
"""Axes of a subspace that have variances of their own. On planted worlds ten hold 99.5 % of what tells tracks apart."""
AXIS_ITERATIONS, AXIS_ITERATIONS_OF_MANY = 100, 30
"""Iterations for the variances of an axis, of few tracks and of many."""
AVERAGED = 200
"""Of at most so many training tracks the variances of an axis are averaged over which terms there are. Of more they are those
of all terms, """
LENT = 0.1
"""and the mean over all axes counts so much for each of them, whose own weights count 1."""
LEAST_SHARE = 1e-3
"""An axis holds at least so much of what the largest does: of many latents, none may hold much of them all."""
ITERATIONS, ITERATIONS_OF_MANY = 30, 10
"""Iterations for the variances at each validation, of few tracks and of many; they go on where the last validation left off."""
AXIS_BINS = 16_384
"""Bins that are enough to find the axes by."""
MANY = 500
"""Training tracks that are many: an iteration's time grows with their third power."""
LEAST_CURVATURE = 1e-3
"""Bins' worth of information that a track's weights have at least."""


class Space(NamedTuple):
    """A part of the latent in which some terms act."""

    name: str
    place: slice
    terms: tuple[Term, ...]


class Solved(NamedTuple):
    """What parts are made of in a subspace, float64 on the CPU: `asked` (training tracks, axes) and `rest` (training tracks,
    latents) are P times the weights along the axes and beside them, `shared` (latents,) the mean row."""

    asked: Tensor
    rest: Tensor
    shared: Tensor


class MixedHead(nn.Module):
    """Free weights (tracks, latent) with a prior. `kernels` has (tracks, tracks) for each term's name.

    `centre` maps a group to the weights (tracks,) that average its part before the average is moved to the shared part.
    `trained` (tracks,) marks the tracks from which everything is learnt, `added` (tracks,) those whose weights were fitted
    afterwards: nothing that is said of another track depends on them.
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
        added: Bools | None = None,
    ) -> None:
        super().__init__()
        latent = sum(groups.values())
        self.bias = nn.Parameter(bias.clone())
        self.weight = nn.Parameter(torch.randn(len(bias), latent) * START / math.sqrt(3 * latent))
        self.spaces, self.terms = spaces_of(groups, joint, terms), tuple(terms)
        self.groups = {group: latent if joint else size for group, size in groups.items()} | {RESIDUAL: latent}
        self.subspaces = {space.name: space.place for space in self.spaces}
        whole = slice(0, latent)
        own = dict.fromkeys(groups, whole) if joint else {space.name: space.place for space in self.spaces}
        self.slices = own | {RESIDUAL: whole}
        self.kernels = {name: torch.from_numpy(kernel) for name, kernel in kernels.items()}
        self.centre = {group: torch.from_numpy(np.asarray(values, float)) for group, values in centre.items()}
        self.centre[RESIDUAL] = torch.zeros(len(bias), dtype=torch.float64)  # it stays where it is
        self.register_buffer("rows", torch.from_numpy(np.flatnonzero(trained)), persistent=False)
        self.register_buffer("curvature", torch.zeros(len(bias)))
        self.register_buffer("covariance", torch.eye(latent))
        for space in self.spaces:
            count = len(space.terms) + 1
            self.register_buffer(f"variances_{space.name}", torch.full((count,), PRIOR_VARIANCE / count))
            latents = space.place.stop - space.place.start
            axes = max(min(MOST_AXES, latents, int(np.sum(trained)) - 1), 1)
            self.register_buffer(f"axes_{space.name}", torch.zeros(latents, axes))
            self.register_buffer(f"duals_{space.name}", torch.zeros(axes, latents))
            self.register_buffer(f"axis_variances_{space.name}", torch.ones(count, axes))
        self.trained = torch.from_numpy(np.asarray(trained, bool))
        self.added = torch.zeros_like(self.trained) if added is None else torch.from_numpy(np.asarray(added, bool))
        self.precision: dict[str, Tensor] = {}
        self.solved: dict[str, tuple[Tensor, Solved]] = {}
        self.expected: dict[str, list[Expected]] = {}
        self.derive()
        self.register_load_state_dict_post_hook(lambda head, _: head.derive())

    @torch.no_grad()
    def follow_data(self, curvature: Tensor, latent: Tensor, keep: float) -> None:
        """Move what is known of the data towards a batch: the `curvature` (tracks,) of the loss, and the covariance of the
        latents (batch, latent), which have means of 0."""
        self.get_buffer("curvature").lerp_(curvature, 1 - keep)
        self.get_buffer("covariance").lerp_(latent.T @ latent / len(latent), 1 - keep)

    @property
    def many(self) -> bool:
        """Whether so many tracks train that fewer iterations have to do."""
        return len(self.get_buffer("rows")) >= MANY

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

    def measured_weights(self, space: Space) -> Tensor:
        """Return W S^(1/2) (training tracks, latents) of a subspace, whose rows' products are the covariance of the logits."""
        values, vectors = torch.linalg.eigh(self.latent_covariance(space).double().cpu())
        return self.own_weights(space) @ (vectors * values.clamp_min(0).sqrt())

    def latent_covariance(self, space: Space) -> Tensor:
        """Return S (latents, latents) of a subspace."""
        return self.get_buffer("covariance")[space.place, space.place]

    def columns(self, space: Space) -> float:
        """Return how many independent latents a subspace is worth."""
        covariance = self.latent_covariance(space)
        return float(covariance.trace() ** 2 / covariance.pow(2).sum())

    @torch.no_grad()
    def learn_variances(self, iterations: int | None = None, shrunk: bool = True) -> None:
        """Set the variances to those under which the weights are likeliest; the axes are to be learnt anew afterwards.

        At most so many iterations, by default those of a validation.
        `shrunk` says that the weights were learnt under the prior; otherwise they are what the data alone say.
        """
        iterations = iterations or (ITERATIONS_OF_MANY if self.many else ITERATIONS)
        for space in self.spaces:
            now = self.components(space, self.noise())
            learnt = learn_variances(self.measured_weights(space), self.columns(space), now, iterations, shrunk)
            self.variances(space).copy_(learnt.variances)
            self.forget_axes(space)
        self.derive()

    @torch.no_grad()
    def learn_axes(self, latents: Tensor, progress: Progress | None = None) -> None:
        """Learn along which axes parts lie, and the variances along each, from the `latents` (bins, latent) of some bins.

        Parts are found with them; training knows nothing of them. They do not depend on the axes that were there before.
        """
        for space in self.spaces:
            self.forget_axes(space)
            self.turn(space, latents.cpu()[:, space.place].double(), progress)
        self.derive()

    def forget_axes(self, space: Space) -> None:
        """Find parts in a subspace without axes from now on, each term with one variance."""
        self.axes(space).zero_()
        self.get_buffer(f"duals_{space.name}").zero_()

    def turn(self, space: Space, latents: Tensor, progress: Progress | None) -> None:
        """Turn what tells tracks apart in a subspace to axes along which the latents are as independent as they can be.

        Motifs come and go by themselves, so an axis follows few of them, often one, and few terms of the metadata or one
        track. How likely weights are depends on W S W' alone, which no rotation changes: weights cannot tell the axes. S is
        here that of `latents`: what is known from training is of latents of which motif filters are left out.
        """
        if len(latents) < 2 or not latents.var(0).any():
            return
        values, vectors = torch.linalg.eigh(torch.atleast_2d(torch.cov(latents.T, correction=0)))
        vectors, values = vectors[:, values > LEAST_SHARE * values[-1]], values[values > LEAST_SHARE * values[-1]]
        whiten, back = vectors * values.sqrt(), vectors / values.sqrt()
        weights = self.own_weights(space)
        centred = (weights - weights.mean(0)) @ whiten
        size, directions = torch.linalg.eigh(centred.T @ centred)
        kept = torch.arange(len(size)).flip(0)[: self.axes(space).shape[1]]
        kept = kept[size[kept] > LEAST_SHARE * size[-1].clamp_min(1e-300)]
        if not len(kept):
            return
        directions = directions[:, kept]
        directions = directions @ independent_rotation(latents @ back @ directions)
        self.axes(space)[:, : len(kept)] = (whiten @ directions).to(self.weight)
        self.get_buffer(f"duals_{space.name}")[: len(kept)] = (directions.T @ back.T).to(self.weight)
        self.learn_axis_variances(space, centred @ directions, progress)

    def learn_axis_variances(self, space: Space, along: Tensor, progress: Progress | None) -> None:
        """Learn the variances of weights along axes (training tracks, axes), of mean 0, on which latents vary by 1."""
        spread = along.pow(2).mean(0)
        unit = along / spread.sqrt()
        lent = unit * math.sqrt(LENT / along.shape[1])
        iterations = AXIS_ITERATIONS_OF_MANY if self.many else AXIS_ITERATIONS
        place = {term.name: number for number, term in enumerate(space.terms)}
        between = {
            place[term.name]: (place[term.factors[0]], place[term.factors[1]])
            for term in space.terms
            if term.group == RESIDUAL
        }
        for axis, column in enumerate(unit.T):
            start = self.components(space, self.noise() / spread[axis])
            start = replace(start, variances=start.variances / start.variances.sum())
            if len(column) <= AVERAGED:
                found = averaged_variances(column, start, iterations, between)
            else:
                own = torch.cat([column[:, None], lent], 1)
                found = learn_variances(own, 1 + LENT, start, iterations).variances
            self.axis_variances(space)[:, axis] = (found * spread[axis]).to(self.weight)
            if progress:
                progress("finding parts", axis + 1, len(unit.T))

    def axes(self, space: Space) -> Tensor:
        """Return the axes (latents, axes) of a subspace: weights times these are the weights along them. 0 where unused."""
        return self.get_buffer(f"axes_{space.name}")

    def axis_variances(self, space: Space) -> Tensor:
        """Return the variances along each axis, (terms + 1, axes)."""
        return self.get_buffer(f"axis_variances_{space.name}")

    def own_weights(self, space: Space) -> Tensor:
        """Return the training tracks' weights in a subspace, in float64 on the CPU."""
        return self.weight[self.get_buffer("rows")].double().cpu()[:, space.place]

    @torch.no_grad()
    def take_variances(self, other: MixedHead) -> None:
        """Set the variances to those of another head of the same terms, without the axes, of which training knows nothing."""
        for space in self.spaces:
            self.variances(space).copy_(other.variances(space))
        self.derive()

    @torch.no_grad()
    def derive(self) -> None:
        """Compute the prior's precision from the variances, and forget what parts were made of before."""
        self.solved.clear()
        self.expected.clear()
        for space in self.spaces:
            self.precision[space.name] = self.components(space).projection().to(self.weight)

    def _apply(self, fn: Any, recurse: bool = True) -> Self:
        """Move the prior's precision along with the parameters."""
        super()._apply(fn, recurse)
        self.precision = {name: fn(precision) for name, precision in self.precision.items()}
        self.solved.clear()
        return self

    # -- what the weights are ------------------------------------------------------------------------------------------

    def matrix(self) -> Tensor:
        """Return the weights (tracks, latent) as they are trained."""
        return self.weight

    def prior(self) -> Tensor:
        """Return tr(P W S W') / 2 over all subspaces: the negative log density of the weights, without its constant."""
        trained, total = self.weight[self.get_buffer("rows")], self.weight.new_zeros(())
        for space in self.spaces:
            own = trained[:, space.place]
            total = total + ((own @ self.latent_covariance(space)) * (self.precision[space.name] @ own)).sum() / 2
        return total

    @torch.no_grad()
    def fill_held_out(self) -> None:
        """Set the weights of tracks that do not train to what their metadata say."""
        held = ~(self.trained | self.added)
        if held.any():
            self.weight[held] = self.weights().matrix()[held]

    @torch.no_grad()
    def solve(self, space: Space) -> Solved:
        """Return what parts are made of, from the weights as they are now; kept until the weights change."""
        weights = self.own_weights(space)
        known = self.solved.get(space.name)
        if known is not None and torch.equal(known[0], weights):
            return known[1]
        components = self.components(space)
        axes, duals = self.axes(space).double().cpu(), self.get_buffer(f"duals_{space.name}").double().cpu()
        along = weights @ axes
        rest = weights - along @ duals
        (asked_of_rest, shared), asked = components.applied(rest), torch.zeros_like(along)
        for axis, variances in enumerate(self.axis_variances(space).double().cpu().T):
            if axes[:, axis].any():
                own = Components(components.kernels, variances, components.noise)
                of_axis, mean = own.applied(along[:, axis : axis + 1])
                asked[:, axis] = of_axis[:, 0]
                shared = shared + mean * duals[axis]
        found = Solved(asked, asked_of_rest, shared)
        self.solved[space.name] = (weights, found)
        return found

    def term_parts(self, space: Space, kernels: Mapping[str, Tensor]) -> dict[str, Tensor]:
        """Return what each term contributes to the weights of rows in a subspace, (rows, latents), not centred, in float64;
        `kernels` name -> (rows, training tracks)."""
        solved, duals = self.solve(space), self.get_buffer(f"duals_{space.name}").double().cpu()
        whole, along = self.variances(space).double().cpu(), self.axis_variances(space).double().cpu()
        return {
            term.name: (kernels[term.name] @ (solved.asked * along[number])) @ duals
            + kernels[term.name] @ (whole[number] * solved.rest)
            for number, term in enumerate(space.terms)
        }

    def own_parts(self, space: Space) -> dict[str, Tensor]:
        """Return what each term contributes to the tracks' weights in a subspace, (tracks, latents), not centred, in float64.

        Added tracks go through sums of their own, so that the others' have the same bits as without them.
        """
        rows, others = self.get_buffer("rows").cpu(), ~self.added
        parts = {
            term.name: torch.zeros(len(self.bias), space.place.stop - space.place.start).double()
            for term in space.terms
        }
        for chosen in (others, self.added) if self.added.any() else (others,):
            kernels = {term.name: self.kernels[term.name][chosen][:, rows] for term in space.terms}
            for name, part in self.term_parts(space, kernels).items():
                parts[name][chosen] = part
        if self.added.any():
            for name, part in self.parts_of_unexpected(space, parts).items():
                parts[name][self.added] += part
        return parts

    def group_parts(self, space: Space) -> dict[str, Tensor]:
        """Return what the groups contribute to the tracks' weights in a subspace, group -> (tracks, latents), not centred."""
        terms, parts = self.own_parts(space), dict[str, Tensor]()
        for term in space.terms:
            parts[term.group] = parts[term.group] + terms[term.name] if term.group in parts else terms[term.name]
        return parts

    def middle(self, group: str, part: Tensor) -> Tensor:
        """Return the mean (latents,) of a part of the weights (tracks, latents) over the training tracks."""
        rows = self.get_buffer("rows").cpu()
        return self.centre[group][rows] @ part[rows]

    @torch.no_grad()
    def term_weights(self) -> dict[str, Tensor]:
        """Return what each term contributes to the tracks' weights, (tracks, size of its group), relative to the mean of the
        training tracks."""
        result = dict[str, Tensor]()
        for space in self.spaces:
            parts = self.own_parts(space)
            for term in space.terms:
                result[term.name] = (parts[term.name] - self.middle(term.group, parts[term.name])).to(self.weight)
        return result

    # -- tracks that were added ------------------------------------------------------------------------------------------

    def expectations(self, space: Space) -> list[Expected]:
        """Return what is known of added tracks from the others: along each axis of a subspace, and last beside them."""
        if space.name not in self.expected:
            old, added = self.get_buffer("rows").cpu(), torch.nonzero(self.added)[:, 0]
            empty = torch.zeros(0, len(self.bias), len(self.bias), dtype=torch.float64)
            kernels = torch.stack([self.kernels[term.name] for term in space.terms]) if space.terms else empty
            columns = [*self.axis_variances(space).double().cpu().T, self.variances(space).double().cpu()]
            self.expected[space.name] = [expected_of_added(kernels, column, old, added) for column in columns]
        return self.expected[space.name]

    def weights_of_added(self, space: Space) -> Tensor:
        """Return the added tracks' weights (added, latents) in a subspace, in float64 on the CPU."""
        return self.weight.double().cpu()[self.added][:, space.place]

    @torch.no_grad()
    def expected_weights(self) -> Tensor:
        """Return what the metadata say of the weights of added tracks (added, latent), in float64."""
        rows, pieces = self.get_buffer("rows").cpu(), []
        for space in self.spaces:
            kernels = {term.name: self.kernels[term.name][self.added][:, rows] for term in space.terms}
            parts = self.term_parts(space, kernels)
            shared = self.solve(space).shared.expand(int(self.added.sum()), -1)
            pieces.append(shared + sum(parts.values(), torch.zeros_like(shared)))
        return torch.cat(pieces, 1)

    def parts_of_unexpected(self, space: Space, expected: Mapping[str, Tensor]) -> dict[str, Tensor]:
        """Return what each term has of the difference (added, latents) between the weights of added tracks and what is
        `expected` of them: the terms' parts (tracks, latents)."""
        mean = self.solve(space).shared + sum(
            (part[self.added] for part in expected.values()), torch.zeros(()).double()
        )
        unexpected = self.weights_of_added(space) - mean
        axes, duals = self.axes(space).double().cpu(), self.get_buffer(f"duals_{space.name}").double().cpu()
        along = unexpected @ axes
        *of_axes, beside = self.expectations(space)
        shared_out = {}
        for number, term in enumerate(space.terms):
            own = [of.shares[number] @ along[:, axis] for axis, of in enumerate(of_axes)]
            shared_out[term.name] = torch.stack(own, 1) @ duals + beside.shares[number] @ (unexpected - along @ duals)
        return shared_out

    @torch.no_grad()
    def group_weights(self, rows: int, kernels: Mapping[str, Doubles]) -> dict[str, Tensor]:
        """Return each group's part of the weights (rows, size of the group), relative to the training tracks' mean.

        The residual of rows that nobody measured is what the products between groups say of them. `kernels` name -> (rows,
        training tracks) says how alike the rows are to the training tracks.
        """
        given = {name: torch.from_numpy(kernel) for name, kernel in kernels.items()}
        groups = {group: self.weight.new_zeros(rows, size) for group, size in self.groups.items()}
        for space in self.spaces:
            middle = {group: self.middle(group, part) for group, part in self.group_parts(space).items()}
            total = {group: -row.expand(rows, -1) for group, row in middle.items()}
            for term, part in zip(space.terms, self.term_parts(space, given).values()):
                total[term.group] = total[term.group] + part
            groups |= {group: part.to(self.weight) for group, part in total.items()}
        return groups

    @torch.no_grad()
    def weights(self) -> HeadWeights:
        """Return the parts of the weights: shared, each group's, and the residual, which add up to the trained weights."""
        rows, groups, shared, own = self.get_buffer("rows").cpu(), dict[str, Tensor](), list[Tensor](), list[Tensor]()
        for space in self.spaces:
            solved, mean = self.solve(space), self.solve(space).shared
            of_groups = self.group_parts(space)
            for group, part in of_groups.items():
                middle = self.middle(group, part)
                groups[group], mean = part - middle, mean + middle
            along, duals = (
                self.axis_variances(space).double().cpu()[-1],
                self.get_buffer(f"duals_{space.name}").double().cpu(),
            )
            residual = torch.zeros(len(self.bias), solved.rest.shape[1], dtype=torch.float64)
            residual[rows] = (solved.asked * along) @ duals + self.variances(space).double().cpu()[-1] * solved.rest
            if self.added.any():  # theirs is what the other parts leave
                explained = sum((groups[group][self.added] for group in of_groups), mean)
                residual[self.added] = self.weights_of_added(space) - explained
            shared.append(mean)
            own.append(residual + groups.pop(RESIDUAL, torch.zeros(())))
        silent = {group: self.weight.new_zeros(len(self.bias), size) for group, size in self.groups.items()}
        made = silent | groups | {RESIDUAL: torch.cat(own, 1)}
        parts = {group: made[group].to(self.weight) for group in self.groups}
        return HeadWeights(self.bias, torch.cat(shared).to(self.weight), parts, self.slices)


def spaces_of(groups: Mapping[str, int], joint: bool, terms: Sequence[Term]) -> tuple[Space, ...]:
    """Return the subspaces: one for each group, in which its own terms act, or with `joint` the whole latent for all terms."""
    if joint:
        return (Space("latent", slice(0, sum(groups.values())), tuple(terms)),)
    return tuple(
        Space(group, place, tuple(term for term in terms if term.group == group))
        for group, place in edges_of(groups).items()
    )
