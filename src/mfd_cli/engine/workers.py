"""What a worker does, whichever engine started it."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

from mfd_cli.engine.jobs import Job, Piece
from mfd_cli.engine.parts import Columns, Parts


class PartMaker:
    """A job at work on one device: makes parts and writes them, whole, where `mfd` looks for them.

    What goes wrong at the start is raised by `make`: an engine says of a worker that did not start only that it ended.
    """

    def __init__(self, job: Job, folder: Path, device: str) -> None:
        self.parts, self.problem = Parts(folder, job.plan), None
        try:
            self.made: Callable[[Any], Columns] = job.start(device)
        except Exception as error:
            self.problem = error

    def make(self, piece: Piece) -> str:
        """Make the part of a piece and return its digest; one that is there, as after a lost answer, is not made again."""
        if self.problem is not None:
            raise self.problem
        return self.parts.digest_of(piece.key) or self.parts.write(piece.key, self.made(piece.what))

    def ready(self) -> None:
        """Answer: a worker that answers has begun."""
