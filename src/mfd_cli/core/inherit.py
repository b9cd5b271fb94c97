"""What a model can take from another one before it is trained: the backbone, and of the head what has the same name.

A row of output weights is worth as much under another head, since every head is a linear layer of the same latents. Metadata
networks are taken factor by factor and level by level: the columns of a level that both models know are copied, those of a new
one stay as they were begun.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import torch
from torch import Tensor, nn

from mfd_cli.core.head import ConditionedHead, GroupNetwork
from mfd_cli.core.metadata import LevelEncoder, MetadataEncoder, NumberEncoder
from mfd_cli.core.model import MfdModel

Pairs = Sequence[tuple[int, int]]
"""What belongs together: a number in the model that takes, and one in the model that is taken from."""


@torch.no_grad()
def inherit_backbone(model: MfdModel, source: MfdModel) -> None:
    """Set backbone and latent norm, running averages included, to those of another model of the same shape."""
    model.backbone.load_state_dict(source.backbone.state_dict())
    model.norm.load_state_dict(source.norm.state_dict())


@torch.no_grad()
def inherit_rows(model: MfdModel, source: MfdModel, tracks: Pairs) -> bool:
    """Set output weights and biases of tracks to those that a source of any head has for them; return whether it could be done.

    A conditioned head has no rows of its own and takes only what `inherit_networks` does.
    """
    if isinstance(model.head, ConditionedHead):
        return False
    own, theirs = _columns(tracks)
    model.head.weight[own] = source.head.matrix()[theirs].to(model.head.weight)
    model.head.bias[own] = source.head.bias[theirs].to(model.head.bias)
    return True


@torch.no_grad()
def inherit_networks(model: MfdModel, source: MfdModel, tracks: Pairs) -> list[str]:
    """Set the metadata networks of a conditioned head to those of another one, where groups, factors and levels have the same
    names; return the names of these groups.

    A group is taken where it lies in the same latents and the same levels drive latents directly. Biases and gains are those of
    `tracks`. Weights are relative to the mean of the training tracks, which are other ones now: the shared part takes up the
    difference, so that a track of known levels has the same weights as it had (up to rounding, and to learned gains).
    """
    head, other = model.head, source.head
    if not (isinstance(head, ConditionedHead) and isinstance(other, ConditionedHead)):
        return []
    taken = [group for group in head.groups if fits(model, source, group)]
    head.shared.copy_(other.shared)
    for group in taken:
        pairs = {name: shared_levels(model, source, name) for name in head.factors_of[group]}
        inherit_network(head.network(group), other.network(group), pairs)
        place = head.slices[group]
        head.shared[place] += head.raw_weights(group)[1] - other.raw_weights(group)[1].to(head.shared)
    own, theirs = _columns(tracks)
    head.bias[own] = other.bias[theirs].to(head.bias)
    if head.gain is not None and other.gain is not None:
        places = [(place, list(other.groups).index(group)) for place, group in enumerate(head.groups) if group in taken]
        for here, there in places:
            head.gain[here, own] = other.gain[there, theirs].to(head.gain)
    return taken


def fits(model: MfdModel, source: MfdModel, group: str) -> bool:
    """Return whether the metadata network of a group can take anything from that of another model of conditioned heads."""
    head, other = model.head, source.head
    assert isinstance(head, ConditionedHead) and isinstance(other, ConditionedHead)
    if group not in other.groups or head.slices[group] != other.slices[group]:
        return False
    if not (head.acts(group) and other.acts(group)):
        return False
    own, theirs = head.network(group), other.network(group)
    if own.direct != theirs.direct or (own.rest, bool(own.interact)) != (theirs.rest, bool(theirs.interact)):
        return False
    if own.interact and own.network_push != theirs.network_push:  # it says how wide the network is
        return False
    # A level that drives a latent directly drives the one of its own number, which cannot move.
    for name in own.direct:
        size, other_size = (of.metadata.encoders[name].size for of in (model, source))
        if size != other_size or shared_levels(model, source, name) != _every(size):
            return False
    return any(shared_levels(model, source, name) for name in own.names)


def shared_levels(model: MfdModel, source: MfdModel, factor: str) -> Pairs:
    """Return which columns of a factor's codes mean the same in both models; none where they make weights of it differently."""
    if factor not in model.factors or factor not in source.factors:
        return []
    own, theirs = model.factors[factor], source.factors[factor]
    if (own.role, own.encode, own.dim) != (theirs.role, theirs.encode, theirs.dim):
        return []
    return level_pairs(model.metadata, source.metadata, factor)


def level_pairs(own: MetadataEncoder, theirs: MetadataEncoder, factor: str) -> Pairs:
    """Return which columns of a factor's codes mean the same: those of a level by name, those of a number where both
    standardise it alike, none where types differ."""
    here, there = own.encoders.get(factor), theirs.encoders.get(factor)
    if isinstance(here, NumberEncoder) and isinstance(there, NumberEncoder):
        same = (here.centre, here.scale) == (there.centre, there.scale)
        return [(column, column) for column in range(here.size)] if same else []
    if isinstance(here, LevelEncoder) and isinstance(there, LevelEncoder) and here.type == there.type:
        column_of = {level: column for column, level in enumerate(there.vocabulary)}
        return [(column, column_of[level]) for column, level in enumerate(here.vocabulary) if level in column_of]
    return []


def inherit_network(own: GroupNetwork, theirs: GroupNetwork, pairs: Mapping[str, Pairs]) -> None:
    """Copy one group's network; `pairs` says for each factor which columns of its code mean the same in both."""
    inside = dict[str, Pairs]()
    for name, module in zip(own.names, own.maps):
        if name in theirs.names:
            inside[name] = inherit_map(module, theirs.maps[theirs.names.index(name)], pairs[name])
    if not own.interact:
        return
    here, there = own.offsets(), theirs.offsets()
    columns = [(here[name] + i, there[name] + j) for name in own.interact if name in there for i, j in inside[name]]
    first, second = _columns(columns)
    scale = theirs.get_buffer("push")[second] / own.get_buffer("push")[first]
    own.linear.weight[:, first] = (theirs.linear.weight[:, second] * scale).to(own.linear.weight)
    inherit_layers(own.network, theirs.network, columns)


def inherit_map(own: nn.Module, theirs: nn.Module, pairs: Pairs) -> Pairs:
    """Copy the map of one factor's code, and return which columns of what it makes mean the same."""
    if not pairs or type(own) is not type(theirs):
        return []
    if isinstance(own, nn.Sequential) and isinstance(theirs, nn.Sequential):
        inherit_layers(own, theirs, pairs)
        return _all(own[-1])
    if isinstance(own, nn.Linear) and isinstance(theirs, nn.Linear):
        inherit_linear(own, theirs, pairs)
        return _all(own)
    scale, other = getattr(own, "scale", None), getattr(theirs, "scale", None)
    if scale is not None and other is not None:
        first, second = _columns(pairs if len(scale) > 1 or len(other) > 1 else [(0, 0)])
        scale[first] = other[second].to(scale)
    return pairs


def inherit_layers(own: nn.Sequential, theirs: nn.Sequential, inputs: Pairs) -> None:
    """Copy a metadata network whose first layer has other inputs, and whose other layers have the same shape."""
    layers = [(a, b) for a, b in zip(own, theirs) if isinstance(a, nn.Linear) and isinstance(b, nn.Linear)]
    for number, (layer, other) in enumerate(layers):
        inherit_linear(layer, other, inputs if number == 0 else _every(layer.in_features))


def inherit_linear(own: nn.Linear, theirs: nn.Linear, inputs: Pairs) -> None:
    """Copy the columns of some inputs of a layer, and its bias."""
    first, second = _columns(inputs)
    own.weight[:, first] = theirs.weight[:, second].to(own.weight)
    own.bias.copy_(theirs.bias)


def _all(layer: nn.Module) -> Pairs:
    """Every output of a layer with itself."""
    assert isinstance(layer, nn.Linear)
    return _every(layer.out_features)


def _every(count: int) -> Pairs:
    return [(number, number) for number in range(count)]


def _columns(pairs: Pairs) -> tuple[Tensor, Tensor]:
    """Pairs as two indices."""
    both = torch.tensor(list(pairs), dtype=torch.long).reshape(-1, 2)
    return both[:, 0], both[:, 1]
