"""The output layer: weights computed from each track's metadata (conditioned), or free ones (the twin).

    logit_i(x) = b_i + <u, s(x)> + sum_g  a_i,g <c_i,g, s_g(x)>          c_i,g = E_g(m_i) - mean_j E_g(m_j)

All heads, that of mixed_head.py too, answer `weights()` with the same named tuple: everything downstream is written once.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from itertools import pairwise
from typing import NamedTuple

import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor, nn

from mfd_cli.base.errors import ConfigError
from mfd_cli.core.metadata import Matrix
from mfd_cli.settings.config import FactorConfig

START = 0.3
"""Size of the first weights of either head, as a multiple of what torch gives a linear layer (variance 1 / (3 K)). Random
weights are noise to the backbone. On yeast, median AUROC on chrIV after 64 thousand windows, one seed each: conditioned
head 0.80 from 1 and 0.86 from 0.3; free head 0.79 from 2, 0.85 from 1 and 0.86 from 0.3."""
DIRECT_START = 0.1
"""First size of the weight that a direct factor's level has for its own latent."""
LINEAR_PUSH, NETWORK_PUSH = 1.5, 0.5
"""How fast the two paths of E_g move its weights, relative to a free layer under the same optimiser; see GroupNetwork."""


class HeadWeights(NamedTuple):
    """bias (tracks,), shared (latent,), groups: name -> (tracks, size of the group), gains included.

    `slices` says where in the latent each group acts; groups may act in the same place.
    """

    bias: Tensor
    shared: Tensor
    groups: dict[str, Tensor]
    slices: dict[str, slice]

    def matrix(self) -> Tensor:
        """Return the weights (tracks, latent) of an ordinary linear layer with the same output: u + c_i,g for every group g."""
        total = self.shared.expand(len(self.bias), -1)
        for group, weights in self.groups.items():
            place = self.slices[group]
            total = total + F.pad(weights, (place.start, len(self.shared) - place.stop))
        return total


def edges_of(groups: Mapping[str, int]) -> dict[str, slice]:
    """Return where each group's subspace lies in a latent that is cut in their order."""
    edges = np.cumsum([0, *groups.values()]).tolist()
    return {group: slice(low, high) for group, (low, high) in zip(groups, pairwise(edges))}


# -- maps from a factor's code to what the network sees ----------------------------------------------------------------


class Rescale(nn.Module):
    """Multiply the code by one scalar, or by one per column."""

    def __init__(self, columns: int) -> None:
        super().__init__()
        self.scale = nn.Parameter(torch.full((columns,), DIRECT_START))

    def forward(self, x: Tensor) -> Tensor:
        """(rows, columns) to the same shape."""
        return x * self.scale


def metadata_network(inputs: int, hidden: int, outputs: int) -> nn.Sequential:
    """Return two hidden ReLU layers and a linear output, as the paper has them for the interacting factors of E_g."""
    return nn.Sequential(
        nn.Linear(inputs, hidden), nn.ReLU(), nn.Linear(hidden, hidden), nn.ReLU(), nn.Linear(hidden, outputs)
    )


def factor_map(name: str, factor: FactorConfig, inputs: int) -> tuple[nn.Module, int]:
    """Return the module of one factor's `encode`, for codes (rows, `inputs`), and the width of what it returns.

    ConfigError where `dim` goes with an encoding that has no width of its own.
    """
    encode = factor.encode or ("multihot" if factor.role == "interact" else "rescale-each")
    width = factor.dim or inputs
    if factor.dim and encode not in ("embed", "linear"):
        raise ConfigError(f"factors.{name}.dim goes with encode = embed or linear, not {encode}")
    if encode == "multihot":
        return nn.Identity(), inputs
    if encode == "linear":
        return nn.Linear(inputs, width), width
    if encode == "embed":
        return metadata_network(inputs, 2 * width, width), width
    return Rescale(1 if encode == "rescale" else inputs), inputs


class GroupNetwork(nn.Module):
    """E_g of the paper: metadata codes to the weights of one group, direct columns first.

    Direct factors drive a latent each. The others go together through a linear map plus a small network: the linear
    map gives every level a vector of its own (what a wide column such as the target needs), the network mixes factors.
    """

    def __init__(
        self, group: str, factors: Mapping[str, FactorConfig], sizes: Mapping[str, int], width: int, hidden: int
    ):
        super().__init__()
        self.direct = [name for name, factor in factors.items() if factor.role in ("direct", "both")]
        self.interact = [name for name, factor in factors.items() if factor.role in ("interact", "both")]
        maps = {name: factor_map(name, factor, sizes[name]) for name, factor in factors.items()}
        # A list, not a ModuleDict: a factor may be called "type" or "keys", which a ModuleDict does not take.
        self.names, self.maps = list(maps), nn.ModuleList(module for module, _ in maps.values())
        self.direct_columns = {name: maps[name][1] for name in self.direct}
        self.interact_columns = {name: maps[name][1] for name in self.interact}
        taken, inputs = sum(self.direct_columns.values()), sum(maps[name][1] for name in self.interact)
        rest = width - taken
        if rest < 0 or (rest == 0 and self.interact):
            raise ConfigError(
                f"group {group} has {width} latents, but its direct factors ({', '.join(self.direct)}) need {taken}"
                + (" and its interacting factors at least one" if rest == 0 else ""),
                hint="give a factor with many levels the role interact, or the group a larger share of model.latent",
            )
        self.rest, self.taken = rest, taken
        if self.interact:
            self.linear = nn.Linear(inputs, rest, bias=False)
            self.network = metadata_network(inputs, 2 * hidden, rest)
            # Under Adam every parameter moves by about the learning rate a step, whatever its gradient, so the factors of
            # a group would push the weights of tracks that share all levels several times as hard as a free layer does.
            # They share one push instead, in proportion to their columns: most of it goes to the widest factor, whose
            # levels are what tells tracks apart. The network's push is divided by its fan-in for the same reason.
            widths = torch.tensor([float(maps[name][1]) for name in self.interact])
            shares = LINEAR_PUSH * widths / widths.sum()
            self.register_buffer("push", shares.repeat_interleave(widths.long()))
            self.network_push = NETWORK_PUSH / (2 * hidden)
            nn.init.normal_(self.linear.weight)

    def forward(self, codes: Mapping[str, Tensor]) -> Tensor:
        """Codes per factor (rows, size) to weights (rows, width): direct columns first, not centred."""
        mapped = {name: module(codes[name]) for name, module in zip(self.names, self.maps)}
        parts = [mapped[name] for name in self.direct]
        if self.interact:
            together = torch.cat([mapped[name] for name in self.interact], 1)
            parts.append(self.linear(together * self.get_buffer("push")) + self.network_push * self.network(together))
        elif self.rest:  # a group with direct factors only and room to spare: those latents weigh nothing
            parts.append(parts[0].new_zeros(len(parts[0]), self.rest))
        return torch.cat(parts, 1)

    def offsets(self) -> dict[str, int]:
        """Return where the columns of each interacting factor begin in what the linear map and the network read."""
        ends = np.cumsum([0, *self.interact_columns.values()]).tolist()
        return dict(zip(self.interact_columns, ends))

    @torch.no_grad()
    def start_at(self, size: float, codes: Mapping[str, Tensor], centre: Tensor) -> None:
        """Scale the interacting weights so that, centred over the tracks, their root mean square is `size`."""
        if not self.interact:
            return
        weights = self(codes)[:, self.taken :]
        spread = (weights - centre @ weights)[centre > 0].pow(2).mean().sqrt().item()
        if spread > 0:
            self.linear.weight.mul_(size / spread)


def rows_differ(codes: Matrix) -> bool:
    """Return whether any row of codes (rows, size) is unlike the first."""
    return bool((codes != codes[:1]).any())


class ConditionedHead(nn.Module):
    """Output weights generated from metadata. The only free numbers per track are its bias and, on request, its gain.

    `centre` maps a group to the averaging weights (tracks,), zero for held-out tracks. `factors_of` has the factors of each
    group that have a say: those in which training tracks differ. Centred weights of tracks that are all alike would be rounding
    errors, and to scale those up to the size of weights invents a part that no data ever shaped.
    """

    codes: dict[str, dict[str, Tensor]]

    def __init__(
        self,
        groups: Mapping[str, int],
        factors: Mapping[str, FactorConfig],
        codes: Mapping[str, Matrix],
        centre: Mapping[str, np.ndarray],
        bias: Tensor,
        hidden: int,
        gain: bool,
    ) -> None:
        super().__init__()
        self.groups, self.slices = dict(groups), edges_of(groups)
        self.subspaces = self.slices
        latent, size = sum(groups.values()), START / math.sqrt(3 * sum(groups.values()))
        self.bias = nn.Parameter(bias.clone())
        self.shared = nn.Parameter(torch.randn(latent) * size)
        self.networks = nn.ModuleDict()  # group -> E_g, under the key "E_GROUP" so that any group name will do
        self.factors_of: dict[str, list[str]] = {}
        for name, values in codes.items():
            self.register_buffer(f"code_{name}", torch.from_numpy(np.ascontiguousarray(values)))
        for group, width in groups.items():
            self.register_buffer(f"centre_{group}", torch.from_numpy(np.asarray(centre[group], np.float32)))
            trained = np.asarray(centre[group]) > 0
            own = {n: f for n, f in factors.items() if f.group == group and rows_differ(codes[n][trained])}
            self.factors_of[group] = list(own)
            if own:
                sizes = {name: codes[name].shape[1] for name in own}
                self.networks[f"E_{group}"] = GroupNetwork(group, own, sizes, width, hidden)
                self.network(group).start_at(size, self.track_codes(group), self.centre(group))
        self.gain = nn.Parameter(torch.zeros(len(groups), len(bias))) if gain else None

    def acts(self, group: str) -> bool:
        """Return whether training tracks differ in some factor of a group; one that does not act contributes nothing."""
        return bool(self.factors_of[group])

    def network(self, group: str) -> GroupNetwork:
        """Return E_g of a group that acts; KeyError for another."""
        network = self.networks[f"E_{group}"]
        assert isinstance(network, GroupNetwork)
        return network

    def centre(self, group: str) -> Tensor:
        """Return what the group's weights are averaged with: (tracks,), summing to one, 0 for held-out tracks."""
        return self.get_buffer(f"centre_{group}")

    def track_codes(self, group: str) -> dict[str, Tensor]:
        """Return the metadata codes (tracks, size) of the model's own tracks for the factors of one group that have a say."""
        return {name: self.get_buffer(f"code_{name}") for name in self.factors_of[group]}

    def group_weights(self, group: str, codes: Mapping[str, Tensor]) -> Tensor:
        """Return c_g = E_g(m) - mean_j E_g(m_j) of any rows, given by their codes: (rows, size of the group), without gain.

        The mean is that over the training tracks, so that rows nobody trained on are relative to the same average. KeyError for
        a group that does not act.
        """
        return self.network(group)(codes) - self.raw_weights(group)[1]

    def gains(self) -> Tensor | None:
        """Return the gains a_i,g (groups, tracks), between 0 and 2 and 1 at the start; None without learned gains.

        The paper's sigmoid(alpha) lies between 0 and 1 and starts at a half; twice that starts where no gain would.
        """
        return None if self.gain is None else 2 * torch.sigmoid(self.gain)

    def weights(self) -> HeadWeights:
        """Return a_i,g c_i,g per group, the bias, and the shared part u, which alone learns what all tracks have in common.

        No gradient flows through the mean that is subtracted: a level's vector is moved by its own tracks only. (On yeast
        this made no difference in accuracy: median AUROC after 64 thousand windows 0.857, with that gradient 0.860.)
        """
        gains = self.gains()
        groups = {}
        for index, group in enumerate(self.groups):
            weights, middle = self.raw_weights(group)
            centred = weights - middle.detach()
            groups[group] = centred if gains is None else centred * gains[index][:, None]
        return HeadWeights(self.bias, self.shared, groups, self.slices)

    def matrix(self) -> Tensor:
        """Return the weights (tracks, latent) of the linear layer that the metadata make."""
        return self.weights().matrix()

    def raw_weights(self, group: str) -> tuple[Tensor, Tensor]:
        """Return E_g of the tracks (tracks, size of the group), not centred, and its mean (size of the group,)."""
        if not self.acts(group):
            nothing = self.bias.new_zeros(len(self.bias), self.groups[group])
            return nothing, nothing[0]
        weights = self.network(group)(self.track_codes(group))
        return weights, self.centre(group) @ weights


class FreeHead(nn.Module):
    """The twin: an ordinary linear layer. In its weights the shared part is the mean row, the rest one group `free`."""

    def __init__(self, latent: int, bias: Tensor, trained: Sequence[bool]) -> None:
        super().__init__()
        self.bias = nn.Parameter(bias.clone())
        self.weight = nn.Parameter(torch.randn(len(bias), latent) * START / math.sqrt(3 * latent))
        used = torch.tensor(list(trained), dtype=torch.float32)
        self.register_buffer("centre", used / used.sum())
        self.register_buffer("rows", torch.nonzero(used)[:, 0], persistent=False)
        self.groups = {"free": latent}
        self.slices = edges_of(self.groups)
        self.subspaces = self.slices

    def matrix(self) -> Tensor:
        """Return the weights (tracks, latent) as they are trained."""
        return self.weight

    def weights(self) -> HeadWeights:
        """Return the layer as the mean row over the training tracks and each track's difference from it."""
        rows = self.get_buffer("rows")
        shared = self.get_buffer("centre")[rows] @ self.weight[rows]  # other rows do not touch its bits
        return HeadWeights(self.bias, shared, {"free": self.weight - shared}, self.slices)
