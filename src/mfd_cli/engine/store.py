"""Tensors on disk: safetensors files that appear whole and are checked when read."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path

import torch
from safetensors import SafetensorError
from safetensors.torch import load_file, save_file
from torch import Tensor

from mfd_cli.base.errors import RunError
from mfd_cli.base.files import whole_file


def check_tensors(tensors: Mapping[str, Tensor], expected: Mapping[str, Tensor], path: Path, hint: str) -> None:
    """Raise RunError, with `hint`, where tensors have not the expected names, types and shapes, or are not finite."""
    odd = sorted(set(tensors) ^ set(expected))
    if odd:
        problem = "lacks the tensor" if odd[0] in expected else "has an unknown tensor"
        raise RunError(f"{problem} {odd[0][:80]}", path=path, hint=hint)
    for name, tensor in tensors.items():
        wanted = expected[name]
        if tensor.shape != wanted.shape or tensor.dtype != wanted.dtype:
            difference = f"{tensor.dtype} {list(tensor.shape)}, not {wanted.dtype} {list(wanted.shape)}"
            raise RunError(f"tensor {name[:80]} is {difference}", path=path, hint=hint)
        if not torch.isfinite(tensor).all():
            raise RunError(f"tensor {name[:80]} holds a number that is not finite", path=path, hint=hint)


def save_tensors(path: Path, tensors: Mapping[str, Tensor]) -> None:
    """Write a safetensors file that appears whole."""
    with whole_file(path) as temporary:
        temporary.touch()  # with the rights that the user's other files get
        rights = temporary.stat().st_mode
        save_file({name: value.detach().cpu().contiguous() for name, value in tensors.items()}, temporary)
        temporary.chmod(rights)  # safetensors makes it anew, for its owner alone: a colleague could not read a run


def load_tensors(path: Path, hint: str) -> dict[str, Tensor]:
    """Read the tensors of a safetensors file; RunError with `hint` where it is none."""
    try:
        return dict(load_file(path))
    except (SafetensorError, OSError) as error:
        raise RunError("is not a safetensors file", path=path, hint=hint) from error
