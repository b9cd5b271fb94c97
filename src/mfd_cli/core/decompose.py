"""What each factor contributes to a track's weights: exact Shapley values that add up to the prediction.

v_i(S) is the mean of E_g over background rows whose columns in S are replaced by those of track i; phi_i,f the Shapley
value of factor f under v_i, all coalitions enumerated; centred like the weights, sum_f phi~_i,f = c_i,g exactly. Of a group
with more than eight factors, orders of joining are sampled instead: the sum is exact too, each value has a standard error.
The coalitions combine levels that nobody measured together: where factors are confounded, only their sum is identified.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from itertools import combinations
from math import factorial

import numpy as np
import torch
from torch import Tensor

from mfd_cli.base.arrays import Bools, Floats
from mfd_cli.base.errors import ConfigError, MfdError
from mfd_cli.core.head import ConditionedHead, FreeHead
from mfd_cli.core.mixed_head import MixedHead
from mfd_cli.core.model import MfdModel
from mfd_cli.settings.names import RESIDUAL

MOST_FACTORS = 8
"""Factors of a group whose coalitions, 256, are all enumerated."""
MOST_REMEMBERED = 2_000
"""Coalitions whose values are remembered while orders are sampled."""
_NETWORK_ROWS = 65_536
"""Rows that go through a metadata network at once."""


@dataclass(frozen=True)
class Decomposition:
    """`factors`: name -> centred contribution phi~ (tracks, size of the factor's group), gains included.

    Of a mixed head they are also products of factors and the residual, which have no levels. For each group the contributions
    of its factors sum to the group's weights, so that logit = bias + shared + sum over factors of <phi~_i,f, s_g>.
    """

    factors: Mapping[str, Floats]
    group_of: Mapping[str, str]
    levels: Mapping[str, Sequence[str]]
    members: Mapping[str, Bools]
    trained: Bools
    errors: Mapping[str, float]
    """Root mean square standard error of a factor's contributions over tracks and latents; 0 where they are exact."""

    def direction(self, factor: str, level: str) -> Floats:
        """Return the mean contribution phi~ of a factor over the training tracks of one level, (size of the group,)."""
        tracks = self.tracks_of(factor, level)
        if not tracks.any():
            raise MfdError(f"no training track has the level {level!r} of {factor}")
        mean: Floats = self.factors[factor][tracks].mean(0)
        return mean

    def tracks_of(self, factor: str, level: str) -> Bools:
        """Return which training tracks have the level, (tracks,)."""
        with_level: Bools = self.members[factor][:, list(self.levels[factor]).index(level)] & self.trained
        return with_level


@torch.no_grad()
def decompose(model: MfdModel, background: int = 48, seed: int = 0, orders: int = 64) -> Decomposition:
    """Return the weights of a conditioned head as a sum over its factors.

    `background` rows are drawn from the deduplicated metadata of the training tracks, seeded; `orders` (even) of joining are
    sampled in a group of more than eight factors. Raises ConfigError for a free head: it has no factors.
    """
    head, metadata, factors = model.head, model.metadata, model.factors
    if isinstance(head, FreeHead):
        raise ConfigError("this model has a free head: it knows no factors", hint="train without --head free")
    if isinstance(head, MixedHead):
        return of_mixed(model, head)
    gains = head.gains()
    # A factor in which no track differs stays at nothing.
    contributions = {
        name: np.zeros((len(head.bias), head.groups[factor.group]), np.float32) for name, factor in factors.items()
    }
    errors = dict.fromkeys(factors, 0.0)
    for index, (group, names) in enumerate(head.factors_of.items()):
        if not names:
            continue
        values, group_errors = shapley_values(
            head, group, background_rows(model, names, background, seed), orders, seed
        )
        errors |= group_errors
        for name, phi in values.items():
            centred = phi - head.centre(group).double() @ phi
            if gains is not None:
                centred = centred * gains[index].double()[:, None]
            contributions[name] = centred.float().cpu().numpy()
    return Decomposition(
        contributions,
        {name: factor.group for name, factor in factors.items()},
        {name: metadata.levels(name) for name in factors},
        {name: metadata.membership(name, model.rows) for name in factors},
        model.trained,
        errors,
    )


def of_mixed(model: MfdModel, head: MixedHead) -> Decomposition:
    """Return the parts of a mixed head: factors, products of factors and the residual, as they are, without a split of points.

    Products and the residual have no levels. Products of factors of two groups are told by themselves, and the residual without
    them.
    """
    metadata, own = model.metadata, head.term_weights()
    contributions = {
        name: np.zeros((len(head.bias), head.groups[factor.group]), np.float32)
        for name, factor in model.factors.items()
    }
    for term in head.terms:
        contributions[term.name] = own[term.name].cpu().numpy()
    contributions[RESIDUAL] = head.weights().groups[RESIDUAL].cpu().numpy()
    for term in head.terms:
        if term.group == RESIDUAL:
            contributions[RESIDUAL] = contributions[RESIDUAL] - contributions[term.name]
    group_of = {name: factor.group for name, factor in model.factors.items()}
    group_of |= {term.name: term.group for term in head.terms} | {RESIDUAL: RESIDUAL}
    without = {name: np.zeros((len(head.bias), 0), bool) for name in contributions if name not in model.factors}
    return Decomposition(
        contributions,
        group_of,
        {name: metadata.levels(name) for name in model.factors} | {name: [] for name in without},
        {name: metadata.membership(name, model.rows) for name in model.factors} | without,
        model.trained,
        dict.fromkeys(contributions, 0.0),
    )


def background_rows(model: MfdModel, names: Sequence[str], count: int, seed: int) -> list[int]:
    """Return the indices of at most `count` training tracks with distinct metadata in these factors, spread over their levels.

    Drawn by going round the levels of each factor in turn, so that rare levels are in the background too.
    """
    distinct: dict[tuple[str, ...], int] = {}
    for index in np.flatnonzero(model.trained):
        key = tuple(model.rows[index].get(model.metadata.columns[name], "") for name in names)
        distinct.setdefault(key, int(index))
    rows = list(distinct.values())
    if len(rows) <= count:
        return rows
    rng = np.random.default_rng(seed)
    chosen: list[int] = []
    queues = []
    for name in names:
        member = model.metadata.membership(name, [model.rows[row] for row in rows])
        queues += [rng.permutation(np.flatnonzero(column)).tolist() for column in member.T if column.any()]
    order = rng.permutation(len(queues))
    while len(chosen) < count:
        for queue in (queues[place] for place in order):
            while queue and rows[queue[-1]] in chosen:
                queue.pop()
            if queue and len(chosen) < count:
                chosen.append(rows[queue.pop()])
    return sorted(chosen)


def shapley_values(
    head: ConditionedHead, group: str, background: Sequence[int], orders: int, seed: int
) -> tuple[dict[str, Tensor], dict[str, float]]:
    """Return phi of each factor of a group that acts, (tracks, size) doubles, not centred; and its standard error."""
    names = head.factors_of[group]
    if len(names) > MOST_FACTORS:
        return _sampled(head, group, names, background, orders, seed)
    values = {subset: _value(head, group, names, subset, background) for subset in _subsets(names)}
    return {name: _shapley(values, name, names) for name in names}, dict.fromkeys(names, 0.0)


def _subsets(names: Sequence[str]) -> Iterator[frozenset[str]]:
    """Yield every coalition of factors, the smallest first."""
    for size in range(len(names) + 1):
        yield from (frozenset(members) for members in combinations(names, size))


def _value(
    head: ConditionedHead, group: str, names: Sequence[str], replaced: frozenset[str], background: Sequence[int]
) -> Tensor:
    """Return v_i(S) for every track, (tracks, size) in double precision; `replaced` is S."""
    network, codes = head.network(group), head.track_codes(group)
    tracks = len(next(iter(codes.values())))
    if not replaced:
        return network({name: codes[name][background] for name in names}).double().mean(0).expand(tracks, -1)
    if len(replaced) == len(names):
        return network(codes).double()
    # Tracks that agree in the replaced columns have one value: of most coalitions there are few.
    replacing = torch.cat([codes[name] for name in names if name in replaced], 1)
    _, which = torch.unique(replacing, dim=0, return_inverse=True)
    first = torch.full((int(which.max()) + 1,), tracks, device=which.device)
    first = first.scatter_reduce(0, which, torch.arange(tracks, device=which.device), "amin")
    # So do background rows that agree in the others: each counts as often as it is there.
    others = {name: codes[name][background] for name in names if name not in replaced}
    distinct, counts = torch.unique(torch.cat(list(others.values()), 1), dim=0, return_counts=True)
    distinct_of = dict(zip(others, distinct.split([values.shape[1] for values in others.values()], 1)))
    share, count = (counts.double() / len(background))[:, None], len(distinct)
    pieces = []
    for own in first.split(max(_NETWORK_ROWS // count, 1)):
        mixed = {
            name: codes[name][own].repeat_interleave(count, 0)
            if name in replaced
            else distinct_of[name].repeat(len(own), 1)
            for name in names
        }
        pieces.append((network(mixed).double().unflatten(0, (len(own), count)) * share).sum(1))
    return torch.cat(pieces)[which]


def _shapley(values: Mapping[frozenset[str], Tensor], name: str, names: Sequence[str]) -> Tensor:
    """Return the mean of what one factor adds when it joins, over all orders in which factors can join."""
    count = len(names)
    total = torch.zeros_like(values[frozenset(names)])
    for subset in _subsets([other for other in names if other != name]):
        share = factorial(len(subset)) * factorial(count - len(subset) - 1) / factorial(count)
        total += share * (values[subset | {name}] - values[subset])
    return total


def _sampled(
    head: ConditionedHead, group: str, names: Sequence[str], background: Sequence[int], orders: int, seed: int
) -> tuple[dict[str, Tensor], dict[str, float]]:
    """Return Shapley values from sampled orders of joining, each with its reverse, and their standard errors.

    What a factor adds when it joins adds up to the whole in every order, and so does the mean over orders. An order and its
    reverse are one sample: their errors largely cancel.
    """
    rng, pairs = np.random.default_rng(seed), orders // 2
    remembered: dict[frozenset[str], Tensor] = {}

    def value(coalition: Sequence[str]) -> Tensor:
        key = frozenset(coalition)
        if key not in remembered:
            remembered[key] = _value(head, group, names, key, background)
        return remembered[key]

    sums, squares = dict[str, Tensor](), dict[str, Tensor]()
    for _ in range(pairs):
        order = [names[i] for i in rng.permutation(len(names))]
        added: dict[str, list[Tensor]] = {name: [] for name in order}
        for joining in (order, order[::-1]):
            for count, name in enumerate(joining):
                added[name].append(value(joining[: count + 1]) - value(joining[:count]))
        for name, (forward, backward) in added.items():
            mean = (forward + backward) / 2
            sums[name] = sums[name] + mean if name in sums else mean
            squares[name] = squares[name] + mean**2 if name in squares else mean**2
        if len(remembered) > MOST_REMEMBERED:
            remembered.clear()
    means = {name: sums[name] / pairs for name in names}
    errors = {}
    for name in names:
        variance = (squares[name] / pairs - means[name] ** 2).clamp_min(0) / max(pairs - 1, 1)
        errors[name] = float(variance.mean().sqrt())
    return means, errors
