"""Work in pieces that takes no time: squares of numbers, with ways to fail that other machines have."""

from __future__ import annotations

import os
import signal
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from mfd_cli.base.errors import RunError
from mfd_cli.engine.jobs import Piece
from mfd_cli.engine.parts import Columns


@dataclass(frozen=True)
class Squares:
    """Squares of the numbers of a piece. `worker` makes a worker, and not this process, fail at the piece that holds 13."""

    power: int = 2
    worker: str = ""
    note: Path | None = None

    @property
    def plan(self) -> Mapping[str, Any]:
        return {"power": self.power, "number of threads": 1}

    def start(self, device: str) -> Callable[[Any], Columns]:
        if self.worker == "no start":
            raise RunError("cannot be opened here")
        return self.elsewhere

    def elsewhere(self, numbers: list[int]) -> Columns:
        if 13 in numbers and self.worker == "killed" and self.note is not None and not self.note.exists():
            self.note.touch()
            os.kill(os.getpid(), signal.SIGKILL)
        if 13 in numbers and self.worker == "error":
            raise RunError("thirteen", hint="another number")
        return self.here(numbers)

    def here(self, numbers: list[int]) -> Columns:
        array = np.array(numbers)
        return {"number": array, "power": array**self.power, "name": [f"n{number}" for number in numbers]}


def pieces(count: int = 7, size: int = 3) -> list[Piece]:
    """Runs of numbers from 0."""
    runs = [list(range(low, low + size)) for low in range(0, count * size, size)]
    return [Piece(run, str(run), f"numbers {run[0]}-{run[-1]}", size) for run in runs]
