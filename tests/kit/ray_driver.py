"""A process that works on a Ray cluster: `python ray_driver.py ADDRESS squares [error]`, or `... mfd WORDS`.

Ray is never started in the process of a test: after the loss of a machine it may wait for ever, and then this process is ended
and the test fails, instead of all tests waiting.
"""

from __future__ import annotations

import sys
from pathlib import Path

from kit.toy_job import Squares, pieces
from mfd_cli.cli import app
from mfd_cli.engine.jobs import Workplace, at_work
from mfd_cli.engine.on_ray import ray_actors
from mfd_cli.predictions import predict
from mfd_cli.variants import records

PREDICTED_AT_ONCE, CHUNK = 8, 1
"""So few bins and records in a piece that a machine can be lost between pieces."""


def squares(address: str, worker: str) -> None:
    """Print the columns of a job that two actors make."""
    job = Squares(worker=worker)
    with at_work(job, job.here, Path("out"), Workplace(start=ray_actors(address, 2, False))) as work:
        for _, columns in work.parts_of((piece, piece) for piece in pieces()):
            print(*columns["power"])


def command(address: str, words: list[str]) -> None:
    """Run `mfd` on the cluster, in small pieces."""
    predict.PREDICTED_AT_ONCE, records.CHUNK = PREDICTED_AT_ONCE, CHUNK
    sys.argv = ["mfd", *words, "--engine", "ray", "--address", address, "--workers", "3"]
    app.main()


if __name__ == "__main__":
    _, at, what, *rest = sys.argv
    squares(at, *rest or [""]) if what == "squares" else command(at, rest)
