"""The loop of every training: steps until the end, a signal, or a validation that says so, for one process or several."""

from __future__ import annotations

from collections.abc import Iterable
from pathlib import Path
from typing import NoReturn, Protocol, TypeVar

from mfd_cli.base.errors import MfdError
from mfd_cli.base.os_signals import stop_signals
from mfd_cli.engine.processes import Processes

Batch = TypeVar("Batch", contravariant=True)


class Interrupted(MfdError):
    """Training was told to stop and has saved what is needed to go on. `verb` is the command that was interrupted."""

    def __init__(self, number: int, folder: Path, verb: str = "mfd train") -> None:
        super().__init__("interrupted; the state is saved", path=folder, hint=f"{verb} --resume goes on from here")
        self.exit_code = 128 + number


class Steps(Protocol[Batch]):
    """What a training does in each turn of the loop."""

    @property
    def processes(self) -> Processes:
        """Which of how many processes this is."""
        ...

    def begin_step(self) -> None:
        """Note that a batch is asked for."""
        ...

    def learn(self, batch: Batch) -> None:
        """Take one step."""
        ...

    def validate_if_due(self) -> bool:
        """Validate if it is time, save the state, and return whether training should end."""
        ...

    def interrupt(self, number: int) -> NoReturn:
        """Save the state and raise Interrupted, after signal `number`."""
        ...


def run_steps(steps: Steps[Batch], batches: Iterable[Batch]) -> None:
    """Take a step for every batch, until training should end. Interrupted on SIGINT and SIGTERM, at a step's end."""
    with stop_signals() as stopped:
        steps.begin_step()
        for batch in batches:
            steps.learn(batch)
            done = steps.validate_if_due()
            # All processes hear of a signal, or of the end, that only one of them knows.
            number = steps.processes.agree(stopped())
            if number:
                steps.interrupt(number)
            if steps.processes.agree(done):
                break
            steps.begin_step()
