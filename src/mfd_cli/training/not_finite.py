"""A loss or a gradient that is not finite: found without making the device wait, told with its tracks and its batch."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from typing import NoReturn

import torch
from torch import Tensor

from mfd_cli.base.errors import RunError, few
from mfd_cli.dataset.bins import Bins
from mfd_cli.runs.draws import NO_BIN, Draw
from mfd_cli.training.setup import Trainer


class NotFinite(RunError):
    """The loss or a gradient of a step is not finite; the optimiser has not taken the step."""

    def __init__(self, step: int, what: str) -> None:
        super().__init__(f"{what} at step {step}", hint=_CALMER)
        self.step = step


_CALMER = "lower train.lr, or train with --set train.precision=float32; the best weights so far are kept"


def check_gradients(trainer: Trainer) -> None:
    """Raise NotFinite, with tracks or weights, where the gradient of the step before was not finite."""
    if trainer.doubt is None or not trainer.doubt.value():
        return
    spoilt = {
        name: ~torch.isfinite(parameter.grad)
        for name, parameter in trainer.model.named_parameters()
        if parameter.grad is not None
    }
    tracks = few([trainer.tracks[i] for i in torch.nonzero(spoilt["head.bias"]).flatten().tolist()])
    weights = few([name for name, bad in spoilt.items() if bad.any()])
    raise NotFinite(trainer.step - 1, f"the gradient of {f'tracks {tracks}' if tracks else weights} is not finite")


def stop_not_finite(trainer: Trainer, per_track: Tensor) -> NoReturn:
    """Raise NotFinite, with the tracks whose loss (tracks,) is at fault, before the optimiser is harmed."""
    bad = few([trainer.tracks[i] for i in torch.nonzero(~torch.isfinite(per_track)).flatten().tolist()])
    raise NotFinite(trainer.step, f"the loss of {f'tracks {bad}' if bad else 'a penalty'} is not finite")


@contextmanager
def batches_named(draw_of: Callable[[int], Draw], bins: Bins, contigs: Sequence[str]) -> Iterator[None]:
    """Name, when a step in the block is not finite, the bins of its batch, which `draw_of` the step draws again."""
    try:
        yield
    except NotFinite as error:
        rows = draw_of(error.step).rows.flatten()
        chosen = rows[rows != NO_BIN].tolist()
        positions = [f"{contigs[c]}:{s + 1}" for c, s in zip(bins.contig[chosen].tolist(), bins.start[chosen].tolist())]
        raise RunError(f"{error.message}, in the batch of the bins at {few(positions)}", hint=error.hint) from error
