"""Where a model runs: the CPU, or one of the machine's GPUs."""

from __future__ import annotations

import torch

from mfd_cli.base.errors import RunError


def device_of(gpus: int, local: int = 0) -> torch.device:
    """Return the device for `--gpus N`: 0 is the CPU, otherwise the CUDA device number `local`. RunError without it."""
    if gpus == 0:
        return torch.device("cpu")
    if not torch.cuda.is_available():
        raise RunError("no CUDA GPU is available here", hint="--gpus 0 runs on the CPU")
    if gpus > torch.cuda.device_count():
        raise RunError(f"--gpus {gpus}: there are {torch.cuda.device_count()} here")
    return torch.device("cuda", local)
