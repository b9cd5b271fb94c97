"""Output weights of tracks that nobody trained on, from their metadata."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import numpy as np
import torch
from torch import Tensor

from mfd_cli.base.arrays import Doubles
from mfd_cli.base.errors import ConfigError
from mfd_cli.core.head import ConditionedHead, FreeHead
from mfd_cli.core.mixed_head import MixedHead
from mfd_cli.core.model import MfdModel
from mfd_cli.core.part_variances import Alike
from mfd_cli.core.predictor import Head, as_array
from mfd_cli.core.terms import kernel_among, term_kernel


@torch.no_grad()
def estimate_from_metadata(
    model: MfdModel, rows: Sequence[Mapping[str, str]], values: Tensor, known: Tensor, ridge: float = 1.0
) -> Tensor:
    """Return what values (known tracks, ...) of the model's tracks are for other metadata rows, estimated: (rows, ...) float32.

    Ridge regression on the metadata codes, around the mean: the bias and the gain of a track that nobody trained on.
    `known` (tracks,) marks the model's tracks that have a value. An unseen level counts as the mean level.
    """
    known_rows = [row for row, used in zip(model.rows, known.tolist()) if used]

    def codes(chosen: Sequence[Mapping[str, str]]) -> Tensor:
        encoded = model.metadata.encode(chosen, unseen="mean").values()
        return torch.from_numpy(np.concatenate([*encoded, np.zeros((len(chosen), 1), np.float32)], 1)).double()

    x, y = codes(known_rows), values.detach().double().cpu()
    mean, middle = x.mean(0), y.mean(0)
    # The ridge makes the equations solvable where factors are confounded, and shares an effect between them.
    gram = (x - mean).T @ (x - mean) + ridge * torch.eye(x.shape[1], dtype=torch.float64)
    slopes = torch.linalg.solve(gram, (x - mean).T @ (y - middle).reshape(len(y), -1))
    guess = (codes(rows) - mean) @ slopes
    return (guess.reshape(len(rows), *y.shape[1:]) + middle).float()


@torch.no_grad()
def fill_held_out(model: MfdModel, kinds: Sequence[str]) -> None:
    """Set the bias (and gain) of every held-out track to the estimate from the training tracks of its kind, in place."""
    trained = torch.from_numpy(model.trained)
    for kind in dict.fromkeys(kinds):
        of_kind = torch.tensor([other == kind for other in kinds])
        held, known = of_kind & ~trained, of_kind & trained
        if not held.any() or not known.any():
            continue
        rows = [row for row, wanted in zip(model.rows, held.tolist()) if wanted]
        head = model.head
        head.bias[held] = estimate_from_metadata(model, rows, head.bias[known], known).to(head.bias.device)
        gain = getattr(head, "gain", None)
        if gain is not None:
            gain[:, held] = estimate_from_metadata(model, rows, gain[:, known].T, known).T.to(gain.device)
    if isinstance(model.head, MixedHead):
        model.head.fill_held_out()


@torch.no_grad()
def head_of_rows(model: MfdModel, rows: Sequence[Mapping[str, str]], kinds: Sequence[str], of: Sequence[str]) -> Head:
    """Return the output weights of experiments given by metadata rows, whether anybody made them or not.

    `kinds` (peaks, signal) of the model's tracks, `of` those wanted, one per row: a bias comes from tracks of its kind.
    Raises ConfigError for a free head, which has no weights but those of its own tracks.
    """
    head = model.head
    if isinstance(head, FreeHead):
        raise ConfigError("this model has a free head: it knows only its own tracks", hint="train without --head free")
    bias, gains = torch.zeros(len(rows)), torch.ones(len(head.groups), len(rows))
    for kind in dict.fromkeys(of):
        chosen = torch.tensor([wanted == kind for wanted in of])
        known = torch.from_numpy(model.trained) & torch.tensor([other == kind for other in kinds])
        if not known.any():
            raise ConfigError(f"the model has no training track of kind {kind}")
        own = [row for row, wanted in zip(rows, chosen.tolist()) if wanted]
        bias[chosen] = estimate_from_metadata(model, own, head.bias[known], known)
        if isinstance(head, ConditionedHead) and head.gain is not None:
            free = estimate_from_metadata(model, own, head.gain[:, known].T, known).T
            gains[:, chosen] = 2 * torch.sigmoid(free)
    weights = weights_of_rows(model, rows)
    groups = {
        group: as_array(values.cpu() * gains[index][:, None]) for index, (group, values) in enumerate(weights.items())
    }
    return Head(as_array(bias), as_array(head.weights().shared), groups, model.slices)


def weights_of_rows(model: MfdModel, rows: Sequence[Mapping[str, str]]) -> dict[str, Tensor]:
    """Return each group's output weights (rows, size of the group), without gain, of metadata rows. An unseen level counts as
    the mean level, or with a mixed head as one that contributes nothing. Not for a free head."""
    head = model.head
    if isinstance(head, MixedHead):
        return head.group_weights(len(rows), kernels_with_training(model, head, rows))
    assert isinstance(head, ConditionedHead)
    codes = {n: torch.from_numpy(v).to(head.bias.device) for n, v in model.metadata.encode(rows, unseen="mean").items()}
    groups = {}
    for group, size in head.groups.items():
        own = {name: codes[name] for name in head.factors_of[group]}
        groups[group] = head.group_weights(group, own) if own else head.bias.new_zeros(len(rows), size)
    return groups


def kernels_with_training(model: MfdModel, head: MixedHead, rows: Sequence[Mapping[str, str]]) -> dict[str, Doubles]:
    """Return how alike metadata rows are to the training tracks, term -> (rows, training tracks)."""
    training = [row for row, used in zip(model.rows, model.first.tolist()) if used]
    return {term.name: term_kernel(model.metadata, term, rows, training) for term in head.terms}


def alike_rows(model: MfdModel, head: MixedHead, rows: Sequence[Mapping[str, str]]) -> Alike:
    """Return how alike experiments are, given by metadata rows: nobody's, so that each has a residual of its own.

    A level that nobody measured is like no other, and like itself.
    """
    own = {
        term.name: torch.from_numpy(kernel_among(model.metadata, term, rows).diagonal().copy()) for term in head.terms
    }
    cross = {name: torch.from_numpy(kernel) for name, kernel in kernels_with_training(model, head, rows).items()}
    return Alike(own, cross, torch.full((len(rows),), -1))
