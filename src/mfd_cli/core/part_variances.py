"""How sure the split of a mixed head's logits into parts is: the variance of each part given the weights and the data.

The weights along an axis of the latent are W = 1 u + G + others + E (see `variances`). A part m u + G of the outputs o, where G
has the covariance K among them and with the training tracks t, and m is 1 for parts with the mean row u and else 0, has given W
the variance (Henderson 1975)

    Var(m u + G_o | W) = K_oo - K_ot V^-1 K_to + (m - 1' V^-1 K_to)^2 / 1' V^-1 1

Axes are independent of each other, so that a part of a logit has a variance that is a sum over axes, each weighed by the square
of the latent along it. That the latents could be other ones is not counted: what the network has not learnt is not here.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import NamedTuple

import numpy as np
import torch
from torch import Tensor

from mfd_cli.base.arrays import Bools, Floats
from mfd_cli.core.mixed_head import MixedHead, Space
from mfd_cli.core.variances import Components
from mfd_cli.settings.names import RESIDUAL, SHARED


class Alike(NamedTuple):
    """How alike outputs are, in each term: `own` term -> (outputs,) each with itself, `cross` term -> (outputs, training
    tracks); `track` (outputs,) is the track of the model whose residual each has, -1 for none. float64 on the CPU."""

    own: Mapping[str, Tensor]
    cross: Mapping[str, Tensor]
    track: Tensor


@dataclass(frozen=True)
class PartVariances:
    """The variances of parts of outputs, along the axes of each subspace.

    `places` of the subspaces in the latent; `duals` (axes, latents of the subspace) of each; `variances` part -> of each
    subspace (axes, outputs). `added` (outputs,) marks outputs whose products are computed apart, see `Head`.
    """

    places: Sequence[slice]
    duals: Sequence[Floats]
    variances: Mapping[str, Sequence[Floats]]
    added: Bools

    def deviations(self, part: str, latents: Floats) -> Floats:
        """Return the standard deviation of a part of the logits, (bins, outputs), of latents (bins, latent), or of changes of
        the latent, as variants make them."""
        total = np.zeros((len(latents), len(self.added)), np.float32)
        for place, duals, variances in zip(self.places, self.duals, self.variances[part]):
            along = np.square(latents[:, place] @ duals.T)
            for chosen in (~self.added, self.added):  # a product of other columns may round differently
                if chosen.any():
                    total[:, chosen] += along @ variances[:, chosen]
        result: Floats = np.sqrt(total)
        return result


@torch.no_grad()
def part_variances(head: MixedHead, parts: Mapping[str, Sequence[str]], alike: Alike | None = None) -> PartVariances:
    """Return the variances of parts, name -> the groups that it is the sum of. The residual and `shared` may be among them.

    A group's part is that relative to the mean of the training tracks, which is in the shared part: shared and all groups
    together are the whole logit, but for its bias. Without `alike` the outputs are the model's own tracks. Of added tracks it
    is the variance before their own data were seen, which is too large.
    """
    alike = alike or alike_tracks(head)
    added = (alike.track >= 0) & head.added[alike.track]
    duals = [head.get_buffer(f"duals_{space.name}").float().cpu().numpy() for space in head.spaces]
    variances: dict[str, list[Floats]] = {part: [] for part in parts}
    for space, axes in zip(head.spaces, duals):
        found = {part: np.zeros((len(axes), len(added)), np.float32) for part in parts}
        for chosen in (~added, added):  # sums of other rows may round differently
            if chosen.any():
                for part, values in variances_along(head, space, parts, only(alike, chosen)).items():
                    found[part][:, chosen.numpy()] = values.float().numpy()
        for part in parts:
            variances[part].append(found[part])
    return PartVariances([space.place for space in head.spaces], duals, variances, added.numpy())


def solved_by(root: Tensor, right: Tensor) -> Tensor:
    """Return root^-1 right of a lower triangular root."""
    return torch.linalg.solve_triangular(root, right, upper=False)


def alike_tracks(head: MixedHead) -> Alike:
    """Return how alike the model's own tracks are."""
    rows = head.get_buffer("rows").cpu()
    own = {name: kernel.diagonal() for name, kernel in head.kernels.items()}
    cross = {name: kernel[:, rows] for name, kernel in head.kernels.items()}
    return Alike(own, cross, torch.arange(len(head.bias)))


def only(alike: Alike, outputs: Tensor) -> Alike:
    """Return how alike some outputs are, a mask (outputs,)."""
    own, cross = ({name: values[outputs] for name, values in given.items()} for given in alike[:2])
    return Alike(own, cross, alike.track[outputs])


class Held(NamedTuple):
    """What a part holds of a subspace, how often (0, 1 or -1): the mean row (`shared`); of each term, and last of the residual,
    its own part (`own`), and the mean of that over the training tracks (`mean`)."""

    shared: int
    own: tuple[int, ...]
    mean: tuple[int, ...]


def held_by(space: Space, groups: Sequence[str]) -> Held:
    """Return what the sum of some groups holds of a subspace. The mean of a group's part is shared, and not the group's."""
    shared, of_terms = int(SHARED in groups), [int(term.group in groups) for term in space.terms]
    return Held(shared, (*of_terms, int(RESIDUAL in groups)), (*(shared - own for own in of_terms), 0))


def variances_along(
    head: MixedHead, space: Space, parts: Mapping[str, Sequence[str]], alike: Alike
) -> dict[str, Tensor]:
    """Return the variance of each part along each axis of a subspace, (axes, outputs)."""
    components, noise, rows = head.components(space), head.noise(), head.get_buffer("rows").cpu()
    own = [*(alike.own[term.name] for term in space.terms), torch.ones(len(alike.track), dtype=torch.float64)]
    cross = [*(alike.cross[term.name] for term in space.terms), (alike.track[:, None] == rows).double()]
    means = [*(head.centre[term.group][rows] for term in space.terms), torch.zeros_like(noise)]
    holds = {part: held_by(space, groups) for part, groups in parts.items()}
    nothing = torch.zeros(len(alike.track), dtype=torch.float64)
    axes = head.axis_variances(space).double().cpu().T
    made = {held: nothing.repeat(len(axes), 1) for held in holds.values()}
    for axis, variances in enumerate(axes):
        root = torch.linalg.cholesky(Components(components.kernels, variances, noise).covariance())
        ones = solved_by(root, torch.ones_like(noise)[:, None])
        for held in made:
            alone, across = nothing, nothing[:, None].expand(-1, len(noise))
            for number, (mine, mean) in enumerate(zip(held.own, held.mean)):
                if mine or mean:  # of mine G_o + mean c' G, with the weights c of the mean
                    of_mean = means[number] @ components.kernels[number]
                    with_mean = cross[number] @ means[number]
                    size = mine * own[number] + 2 * mine * mean * with_mean + mean**2 * of_mean @ means[number]
                    alone = alone + variances[number] * size
                    across = across + variances[number] * (mine * cross[number] + mean * of_mean)
            # V is not inverted: with L L' = V, K_ot V^-1 K_to is half' half.
            half = solved_by(root, across.T)
            unexplained = (held.shared - (ones.T @ half)[0]).square() / ones.square().sum()
            made[held][axis] = (alone - half.square().sum(0) + unexplained).clamp_min(0)
    return {part: made[held] for part, held in holds.items()}
