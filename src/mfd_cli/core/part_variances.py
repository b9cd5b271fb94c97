"""How sure the split of a mixed head's logits into parts is: the variance of each part given the weights and the data.

The weights along an axis of the latent are W = 1 u + G + others + E (see `variances`). A part G of the outputs o, with
covariance K among them and with the training tracks t, has given W the variance (Henderson 1975)

    Var(G_o | W) = K_oo - K_ot P K_to

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
from mfd_cli.settings.names import RESIDUAL


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
    """Return the variances of parts, name -> the groups that it is the sum of, one of which may be the residual.

    A group's part is that relative to the mean of the training tracks. Without `alike` the outputs are the model's own tracks.
    Of added tracks it is the variance before their own data were seen, which is too large.
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


def variances_along(
    head: MixedHead, space: Space, parts: Mapping[str, Sequence[str]], alike: Alike
) -> dict[str, Tensor]:
    """Return the variance of each part along each axis of a subspace, (axes, outputs)."""
    components, noise = head.components(space), head.noise()
    own, cross = list[Tensor](), list[Tensor]()
    for number, term in enumerate(space.terms):  # relative to the mean of the training tracks
        inside, across = components.kernels[number], alike.cross[term.name]
        centre = head.centre[term.group][head.get_buffer("rows").cpu()]
        cross.append(across - centre @ inside)
        own.append(alike.own[term.name] - 2 * across @ centre + centre @ inside @ centre)
    own.append(torch.ones(len(alike.track), dtype=torch.float64))
    cross.append((alike.track[:, None] == head.get_buffer("rows").cpu()).double())
    groups = [*(term.group for term in space.terms), RESIDUAL]
    numbers = {part: tuple(n for n, group in enumerate(groups) if group in chosen) for part, chosen in parts.items()}
    axes = head.axis_variances(space).double().cpu().T
    made = {mine: torch.zeros(len(axes), len(alike.track), dtype=torch.float64) for mine in numbers.values()}
    for axis, variances in enumerate(axes):
        root = torch.linalg.cholesky(Components(components.kernels, variances, noise).covariance())
        ones = solved_by(root, torch.ones_like(noise)[:, None])
        for mine in filter(None, made):
            alone = torch.stack([variances[number] * own[number] for number in mine]).sum(0)
            across = torch.stack([variances[number] * cross[number] for number in mine]).sum(0)
            # K_ot P K_to is half' half, less what the mean row takes: P is not formed.
            half = solved_by(root, across.T)
            explained = half.square().sum(0) - (ones.T @ half)[0].square() / ones.square().sum()
            made[mine][axis] = (alone - explained).clamp_min(0)
    return {part: made[mine] for part, mine in numbers.items()}
