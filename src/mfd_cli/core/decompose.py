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
from mfd_cli.core.head import ConditionedHead
from mfd_cli.core.model import MfdModel

MOST_FACTORS = 8
MOST_KEPT = 2_000
"""Coalitions whose values are kept while orders are sampled."""
_CHUNK = 65_536
"""Rows that go through a metadata network at once."""


@dataclass(frozen=True)
class Decomposition:
    """`factors`: name -> centred contribution phi~ (tracks, size of the factor's group), gains included.

    For each group the contributions of its factors sum to the group's weights, so that
    logit = bias + shared + sum over factors of <phi~_i,f, s_g>.
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
        rows = self.members[factor][:, list(self.levels[factor]).index(level)] & self.trained
        if not rows.any():
            raise MfdError(f"no training track has the level {level!r} of {factor}")
        mean: Floats = self.factors[factor][rows].mean(0)
        return mean

    def tracks_of(self, factor: str, level: str) -> Bools:
        """Return which training tracks have the level, (tracks,)."""
        chosen: Bools = self.members[factor][:, list(self.levels[factor]).index(level)] & self.trained
        return chosen


@torch.no_grad()
def decompose(model: MfdModel, background: int = 48, seed: int = 0, orders: int = 64) -> Decomposition:
    """Return the weights of a conditioned head as a sum over its factors.

    `background` rows are drawn from the deduplicated metadata of the training tracks, seeded; `orders` (even) of joining are
    sampled in a group of more than eight factors. Raises ConfigError for a free head: it has no factors.
    """
    head = model.head
    if not isinstance(head, ConditionedHead):
        raise ConfigError("this model has a free head: it knows no factors", hint="train without --head free")
    gains = head.gains()
    contributions: dict[str, Floats] = {}
    errors: dict[str, float] = {}
    for index, group in enumerate(head.groups):
        nothing = np.zeros((len(head.bias), head.groups[group]), np.float32)
        own = [name for name, factor in model.factors.items() if factor.group == group]
        contributions |= dict.fromkeys(own, nothing)  # until it is known better: factors in which no track differs
        errors |= dict.fromkeys(own, 0.0)
        names = head.factors_of[group]
        if not names:
            continue
        rows = background_rows(model, names, background, seed)
        if len(names) > MOST_FACTORS:
            found, error = _sampled(head, group, names, rows, orders, seed)
        else:
            values = {subset: _value(head, group, names, subset, rows) for subset in _subsets(names)}
            found, error = {name: _shapley(values, name, names) for name in names}, dict.fromkeys(names, 0.0)
        errors |= error
        for name, phi in found.items():
            phi = phi - head.centre(group).double() @ phi
            if gains is not None:
                phi = phi * gains[index].double()[:, None]
            contributions[name] = phi.float().cpu().numpy()
    ordered = {name: contributions[name] for name in model.factors if name in contributions}
    return Decomposition(
        ordered,
        {name: model.factors[name].group for name in ordered},
        {name: model.metadata.levels(name) for name in ordered},
        {name: model.metadata.membership(name, model.rows) for name in ordered},
        model.trained,
        errors,
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


def _subsets(names: Sequence[str]) -> Iterator[frozenset[str]]:
    for size in range(len(names) + 1):
        yield from (frozenset(chosen) for chosen in combinations(names, size))


def _value(
    head: ConditionedHead, group: str, names: Sequence[str], replaced: frozenset[str], background: Sequence[int]
) -> Tensor:
    """v_i(S) for every track: (tracks, size) in double precision."""
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
    kept = {name: codes[name][background] for name in names if name not in replaced}
    distinct, counts = torch.unique(torch.cat(list(kept.values()), 1), dim=0, return_counts=True)
    other = dict(zip(kept, distinct.split([values.shape[1] for values in kept.values()], 1)))
    share, count = (counts.double() / len(background))[:, None], len(distinct)
    pieces = []
    for own in first.split(max(_CHUNK // count, 1)):
        mixed = {
            name: codes[name][own].repeat_interleave(count, 0) if name in replaced else other[name].repeat(len(own), 1)
            for name in names
        }
        pieces.append((network(mixed).double().unflatten(0, (len(own), count)) * share).sum(1))
    return torch.cat(pieces)[which]


def _shapley(values: Mapping[frozenset[str], Tensor], name: str, names: Sequence[str]) -> Tensor:
    """Mean marginal contribution of one factor over all orders in which factors can join."""
    count = len(names)
    total = torch.zeros_like(values[frozenset(names)])
    for subset in _subsets([other for other in names if other != name]):
        share = factorial(len(subset)) * factorial(count - len(subset) - 1) / factorial(count)
        total += share * (values[subset | {name}] - values[subset])
    return total


def _sampled(
    head: ConditionedHead, group: str, names: Sequence[str], background: Sequence[int], orders: int, seed: int
) -> tuple[dict[str, Tensor], dict[str, float]]:
    """Shapley values from sampled orders of joining, each with its reverse, and their standard errors.

    What a factor adds when it joins adds up to the whole in every order, and so does the mean over orders.
    """
    rng, count = np.random.default_rng(seed), orders // 2 * 2
    known: dict[frozenset[str], Tensor] = {}

    def value(subset: frozenset[str]) -> Tensor:
        if subset not in known:
            known[subset] = _value(head, group, names, subset, background)
        return known[subset]

    total: dict[str, Tensor] = {}
    squares: dict[str, Tensor] = {}
    for _ in range(count // 2):
        order = [names[i] for i in rng.permutation(len(names))]
        pair: dict[str, Tensor] = {}
        for one in (order, order[::-1]):
            for place, name in enumerate(one):
                joined = value(frozenset(one[: place + 1])) - value(frozenset(one[:place]))
                pair[name] = pair[name] + joined if name in pair else joined
        for name, both in pair.items():
            mean = both / 2
            total[name] = total[name] + mean if name in total else mean
            squares[name] = squares[name] + mean**2 if name in squares else mean**2
        if len(known) > MOST_KEPT:
            known.clear()
    pairs = count // 2
    found = {name: total[name] / pairs for name in names}
    errors = {}
    for name in names:
        variance = (squares[name] / pairs - found[name] ** 2).clamp_min(0) / max(pairs - 1, 1)
        errors[name] = float(variance.mean().sqrt())
    return found, errors
