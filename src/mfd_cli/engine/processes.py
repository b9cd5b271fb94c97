"""Training with several processes: one per GPU, on one machine or many, started by `mfd train --gpus N` or by torchrun.

The batch is one batch, whatever the number of processes. Each process carries its share of the windows through the backbone;
batch norms there see the statistics of all windows; the features of all are then gathered, and from the last norm on
(head, loss, penalties, adversaries) every process computes the same numbers from the whole batch. So a penalty is one
of the global batch, not a mean of penalties of small ones, which would be biased by the share's size; and the loss is that of
one process up to rounding. What is computed more than once costs little: the head is a thousandth of the backbone.
"""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import tempfile
import time
from collections.abc import Sequence
from contextlib import suppress
from dataclasses import dataclass
from datetime import timedelta
from pathlib import Path
from typing import Any

import torch
import torch.distributed as dist
import torch.nn.functional as F
from torch import Tensor, nn

from mfd_cli.base.errors import ConfigError
from mfd_cli.base.os_signals import stop_with
from mfd_cli.core.backbones import ChannelNorm
from mfd_cli.core.trunks import TrunkBackbone

LONGEST_WAIT = timedelta(hours=6)
"""How long a process waits for another, which may be validating."""
MEETING = "MFD_MEETING_FILE"
"""Environment variable with the file through which processes that `launch` started find each other."""
LAUNCHER = "MFD_LAUNCHER"
"""Environment variable with the number of the process that `launch` runs in."""
GRACE = 30.0
"""Seconds that the others get to end by themselves after one process has failed."""
POLL = 0.05
"""Seconds between two looks at whether processes still run."""


@dataclass(frozen=True)
class Processes:
    """Which of how many processes this is; the first one writes and speaks."""

    rank: int = 0
    world: int = 1
    local: int = 0  # number on its own machine, and so of its GPU

    @property
    def first(self) -> bool:
        """Whether this is the process that writes and speaks."""
        return self.rank == 0

    def share(self, count: int) -> slice:
        """Return the rows of a batch of `count` that are this process's. ConfigError where they cannot be shared evenly."""
        if count % self.world:
            raise ConfigError(
                f"a batch of {count} windows cannot be shared by {self.world} processes",
                hint=f"make train.batch_size a multiple of {self.world}, and not larger than the number of training bins",
            )
        size = count // self.world
        return slice(self.rank * size, (self.rank + 1) * size)

    def agree(self, number: int) -> int:
        """Return the largest of the numbers that the processes bring; all of them must call it."""
        if self.world == 1:
            return number
        value = torch.tensor([number])
        dist.all_reduce(value, dist.ReduceOp.MAX)
        return int(value)

    def gather(self, features: Tensor) -> Tensor:
        """Return the rows of all processes, in order of rank, in every process."""
        return features if self.world == 1 else _Gather.apply(features, self.rank, self.world)

    def spread(self, backbone: nn.Module) -> nn.Module:
        """Return the backbone with global batch norms, its gradients averaged over the processes as they are made."""
        if self.world == 1:
            return backbone
        for module in backbone.modules():
            if type(module) in (ChannelNorm, nn.BatchNorm1d, nn.SyncBatchNorm):
                module.__class__ = GlobalBatchNorm  # same parameters and buffers under the same names
        # A trunk that is held has weights without a gradient, for which nobody must wait.
        return nn.parallel.DistributedDataParallel(backbone, find_unused_parameters=isinstance(backbone, TrunkBackbone))

    def leave(self) -> None:
        """Leave the group; afterwards none of its processes can be reached any more."""
        if self.world > 1 and dist.is_initialized():
            dist.destroy_process_group()


ALONE = Processes()


def join_processes() -> Processes:
    """Join the group that the environment names (torchrun's variables) and return this process's part; ALONE without one."""
    world = int(os.environ.get("WORLD_SIZE", "1"))
    if world == 1:
        return ALONE
    if not dist.is_initialized():
        backend = "cpu:gloo,cuda:nccl" if torch.cuda.is_available() else "gloo"
        meeting = os.environ.get(MEETING)
        address = Path(meeting).as_uri() if meeting else "env://"
        if launcher := os.environ.get(LAUNCHER):
            stop_with(int(launcher))
        dist.init_process_group(backend, address, LONGEST_WAIT, world, int(os.environ["RANK"]))
    return Processes(dist.get_rank(), world, int(os.environ.get("LOCAL_RANK", "0")))


class _Gather(torch.autograd.Function):
    """Gather rows; backwards, each process takes the gradient of its own rows.

    Every process computes the same loss from the gathered rows, so each has the whole gradient of them. Gradients of the
    backbone are averaged afterwards where a sum is due: hence the factor.

    torch.distributed.nn.functional has the like, with the same numbers, but its functions are deprecated (torch 2.13), their
    successors live in a private module, and they would send gradients around that every process has already.
    """

    @staticmethod
    def forward(ctx: Any, features: Tensor, rank: int, world: int) -> Tensor:
        pieces = [torch.empty_like(features) for _ in range(world)]
        dist.all_gather(pieces, features.contiguous())
        ctx.rank, ctx.world = rank, world
        return torch.cat(pieces)

    @staticmethod
    def backward(ctx: Any, *gradients: Tensor) -> tuple[Tensor, None, None]:
        own = gradients[0].chunk(ctx.world)[ctx.rank]
        return own * ctx.world, None, None


class _Sum(torch.autograd.Function):
    """Sum over processes; so is its gradient, as every process's loss depends on every process's addend.

    Not torch's own for the reason that `_Gather` gives.
    """

    @staticmethod
    def forward(ctx: Any, x: Tensor) -> Tensor:
        total = x.clone()
        dist.all_reduce(total)
        return total

    @staticmethod
    def backward(ctx: Any, *gradients: Tensor) -> Tensor:
        total = gradients[0].clone()
        dist.all_reduce(total)
        return total


class GlobalBatchNorm(ChannelNorm):
    """ChannelNorm of (batch, channels, length) whose statistics are those of all processes, which bring equal shares."""

    def forward(self, x: Tensor) -> Tensor:
        """(batch, channels, length) to the same shape, normalised by the mean and variance over the batch of all processes."""
        if not self.training:
            return super().forward(x)
        assert self.running_mean is not None and self.running_var is not None and self.momentum is not None
        wide = x.to(self.running_mean.dtype)  # under autocast x is bf16, in which sums of many squares go wrong
        count = x.shape[0] * x.shape[2] * dist.get_world_size()
        mean = _Sum.apply(wide.sum((0, 2))) / count
        centred = wide - mean[:, None]  # squares of these, not of x: E[x^2] - E[x]^2 cancels where the mean is large
        variance = _Sum.apply(centred.pow(2).sum((0, 2))) / count
        own, extra = self.num_features, x.shape[1] - self.num_features  # channels of zeros behind its own
        with torch.no_grad():
            self.running_mean.lerp_(mean[:own], self.momentum)
            self.running_var.lerp_(variance[:own] * (count / max(count - 1, 1)), self.momentum)
            if self.num_batches_tracked is not None:
                self.num_batches_tracked += 1
        scale, shift = F.pad(self.weight, (0, extra)), F.pad(self.bias, (0, extra))
        return (centred * (torch.rsqrt(variance + self.eps) * scale)[:, None] + shift[:, None]).to(x.dtype)


# -- starting them -----------------------------------------------------------------------------------------------------


def launch(count: int, arguments: Sequence[str]) -> int:
    """Run `mfd ARGUMENTS` in `count` processes on this machine, wait, and return the exit code of the first that failed.

    0 where none did. SIGINT and SIGTERM are passed on; killed, it leaves none behind. Where one fails, the others get GRACE
    seconds to end.
    """
    with tempfile.TemporaryDirectory() as folder:
        common = {MEETING: f"{folder}/meeting", LAUNCHER: str(os.getpid()), "WORLD_SIZE": str(count)}
        return _run_children(count, arguments, common)


def _run_children(count: int, arguments: Sequence[str], common: dict[str, str]) -> int:
    """Start the processes with their numbers beside the `common` environment, and wait for all; see `launch`."""
    children = [
        subprocess.Popen(
            [sys.executable, "-m", "mfd_cli", *arguments],
            env={**os.environ, **common, "RANK": str(rank), "LOCAL_RANK": str(rank)},
        )
        for rank in range(count)
    ]

    def pass_on(number: int, _: object) -> None:
        for child in children:
            with suppress(ProcessLookupError):
                child.send_signal(number)

    before = {number: signal.signal(number, pass_on) for number in (signal.SIGINT, signal.SIGTERM)}
    try:
        return _wait(children)
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)


def _wait(children: Sequence[subprocess.Popen[bytes]]) -> int:
    """Wait for all processes, and return the exit code of the one that failed first, as a shell has it (128 + signal)."""
    failed, since = 0, 0.0
    while any(child.poll() is None for child in children):
        codes = [child.returncode for child in children if child.returncode]
        if codes and not failed:
            failed, since = codes[0], time.monotonic()
        if failed and time.monotonic() - since > GRACE:
            for child in children:
                child.kill()
        time.sleep(POLL)
    codes = [child.returncode for child in children if child.returncode]
    code = failed or (codes[0] if codes else 0)
    return 128 - code if code < 0 else code
