"""Processes of this machine, each with the model at work on a device of its own."""

from __future__ import annotations

import multiprocessing
from collections.abc import Iterator, Sequence
from concurrent.futures import Future, ProcessPoolExecutor
from concurrent.futures.process import BrokenProcessPool
from contextlib import contextmanager
from multiprocessing import forkserver, get_context, resource_tracker
from multiprocessing.context import ForkServerContext
from multiprocessing.queues import SimpleQueue
from pathlib import Path

from mfd_cli.base.errors import ConfigError, few
from mfd_cli.base.os_signals import end_with_parent, without_interrupts
from mfd_cli.engine.jobs import Job, Piece, Start, WorkerLost
from mfd_cli.engine.parts import Parts
from mfd_cli.engine.workers import PartMaker

AHEAD = 2
"""Pieces under way or waiting, for each worker, so that none has to wait for the next."""
_maker: PartMaker
"""In a worker: what makes parts."""


class LocalProcesses:
    """A pool of processes; a piece goes to whichever is free."""

    def __init__(self, pool: ProcessPoolExecutor, workers: int) -> None:
        self.pool, self.at_once = pool, AHEAD * workers
        self.under_way: dict[int, str] = {}
        self.count = 0

    def submit(self, piece: Piece) -> Future[str]:
        """Hand a piece to the pool. What is returned raises WorkerLost, which names what was under way, if a process ends."""
        result: Future[str] = Future()
        self.count += 1
        number = self.count
        self.under_way[number] = piece.name

        def finish(future: Future[str]) -> None:
            if future.cancelled():
                return
            error = future.exception()
            if error is None:
                del self.under_way[number]
                result.set_result(future.result())
            else:
                result.set_exception(self.lost() if isinstance(error, BrokenProcessPool) else error)

        try:
            self.pool.submit(make_part, piece).add_done_callback(finish)
        except BrokenProcessPool:
            result.set_exception(self.lost())
        return result

    def lost(self) -> WorkerLost:
        """Return the error that says what was under way when a process ended without a word."""
        return WorkerLost(
            f"a worker was killed, perhaps for want of memory, while these were made: {few(self.under_way.values())}",
            hint="the parts that were made are kept: the same command goes on from them; --workers 1 takes less memory",
        )


def fork_server(module: str) -> ForkServerContext:
    """Start what workers are forked from, with a module loaded so that they are there at once, and return its context.

    Ctrl-C does not reach it: the command decides. ConfigError where the folder for temporary files has too long a name.
    """
    context = get_context("forkserver")
    context.set_forkserver_preload([module])
    resource_tracker.ensure_running()  # first: starting it lets interrupts through again
    try:
        with without_interrupts():
            forkserver.ensure_running()
    except OSError as problem:
        if "AF_UNIX" not in str(problem):
            raise
        raise ConfigError(
            "the folder for temporary files has too long a name for what processes talk through",
            hint="TMPDIR=/tmp mfd ... names another",
        ) from None
    return context


def local_processes(devices: Sequence[str]) -> Start:
    """Return what starts a process for each device (`cpu` as often as there are processes, `cuda:0` ...)."""

    @contextmanager
    def start(job: Job, parts: Parts) -> Iterator[LocalProcesses]:
        context = fork_server(type(job).__module__)
        free: SimpleQueue[str] = context.SimpleQueue()
        for device in devices:
            free.put(device)
        before = set(multiprocessing.active_children())
        pool = ProcessPoolExecutor(len(devices), context, start_worker, (job, parts.folder, free))
        try:
            yield LocalProcesses(pool, len(devices))
        except BaseException:
            for process in set(multiprocessing.active_children()) - before:
                process.kill()  # what a worker is at is of no use any more, and may take minutes
            raise
        finally:
            pool.shutdown(cancel_futures=True)

    return start


def start_worker(job: Job, folder: Path, free: SimpleQueue[str]) -> None:
    """Make this process a worker, on a device that no other has taken."""
    global _maker
    end_with_parent()
    _maker = PartMaker(job, folder, free.get())


def make_part(piece: Piece) -> str:
    """Make the part of a piece in a worker and return its digest."""
    return _maker.make(piece)
