"""The state of an optimiser, and of several modules, as one flat set of named tensors."""

from __future__ import annotations

from collections.abc import Mapping

import torch
from torch import Tensor


def prefixed(prefix: str, tensors: Mapping[str, Tensor]) -> dict[str, Tensor]:
    """Return tensors under the names PREFIX/NAME."""
    return {f"{prefix}/{name}": value for name, value in tensors.items()}


def only(prefix: str, tensors: Mapping[str, Tensor]) -> dict[str, Tensor]:
    """Return the tensors of a prefix under their own names."""
    start = f"{prefix}/"
    return {name.removeprefix(start): value for name, value in tensors.items() if name.startswith(start)}


def moments(optimiser: torch.optim.Optimizer) -> dict[str, Tensor]:
    """Return an optimiser's state as flat tensors: PARAMETER.NAME."""
    state = optimiser.state_dict()["state"]
    return {f"{index}.{name}": torch.as_tensor(v) for index, values in state.items() for name, v in values.items()}


def set_moments(optimiser: torch.optim.Optimizer, tensors: Mapping[str, Tensor]) -> None:
    """Give an optimiser the state that `moments` returned."""
    state: dict[int, dict[str, Tensor]] = {}
    for name, value in tensors.items():
        index, _, key = name.partition(".")
        state.setdefault(int(index), {})[key] = value
    optimiser.load_state_dict({"state": state, "param_groups": optimiser.state_dict()["param_groups"]})


def first_moments(optimiser: torch.optim.Optimizer) -> dict[str, Tensor]:
    """Return what `moments` gives after a step, with other numbers. A parameter without a gradient has none."""
    parameters = [parameter for group in optimiser.param_groups for parameter in group["params"]]
    moments = {
        f"{index}.{name}": parameter for index, parameter in enumerate(parameters) for name in ("exp_avg", "exp_avg_sq")
    }
    return moments | {f"{index}.step": torch.zeros(()) for index in range(len(parameters))}
