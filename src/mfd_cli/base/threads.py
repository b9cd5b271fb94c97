"""How many things at once, and doing two at once in order: reading ahead, and writing behind."""

from __future__ import annotations

import os
import queue
import threading
from collections.abc import Callable, Iterable, Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from contextlib import contextmanager
from typing import Any, TypeVar

T = TypeVar("T")
SPINS = "10000"
"""How often a thread of OpenMP looks whether there is work before it sleeps: some ten microseconds."""


def usable_cores() -> int:
    """Return how many threads to use where nobody says: OMP_NUM_THREADS, else the cores that this process may run on.

    A scheduler such as Slurm gives a job some of a machine's cores: with a thread for each core that the machine has, they
    would wait for each other.
    """
    wished = os.environ.get("OMP_NUM_THREADS", "").split(",")[0].strip()
    return int(wished) if wished.isdigit() and int(wished) else len(os.sched_getaffinity(0))


def sleep_soon() -> None:
    """Let threads of OpenMP that wait for each other sleep after some microseconds, unless the user has said how they wait.

    It has to be called before torch is loaded. By default they spin for longer, which takes the cores of other programs, and
    of each other where cores are shared: two threads on two busy cores took five times as long as one. Sleeping at once costs
    a fifth on idle cores.
    """
    if "OMP_WAIT_POLICY" not in os.environ:
        os.environ.setdefault("GOMP_SPINCOUNT", SPINS)


def ahead(items: Iterable[T], depth: int = 2) -> Iterator[T]:
    """Yield the items, made in a thread of their own, at most `depth` of them before they are asked for.

    What goes wrong there is raised here, in its place. Closing the iterator ends the thread.
    """
    ready: queue.Queue[tuple[T | None, BaseException | None, bool]] = queue.Queue(depth)
    stop = threading.Event()

    def put(entry: tuple[T | None, BaseException | None, bool]) -> None:
        while not stop.is_set():
            try:
                ready.put(entry, timeout=0.1)
            except queue.Full:
                continue
            return

    def run() -> None:
        try:
            for item in items:
                put((item, None, False))
                if stop.is_set():
                    return
            put((None, None, True))
        except BaseException as error:
            put((None, error, True))

    thread = threading.Thread(target=run, daemon=True)
    thread.start()
    try:
        while True:
            item, error, end = ready.get()
            if error is not None:
                raise error
            if end:
                return
            yield item  # type: ignore[misc]
    finally:
        stop.set()
        thread.join()


@contextmanager
def in_background() -> Iterator[Callable[..., None]]:
    """Yield a function that calls others one after the other in a thread, one waiting at most.

    All are done when the block ends; what goes wrong in one is raised by the next call, or at the end.
    """
    running: list[Future[Any]] = []
    with ThreadPoolExecutor(1) as pool:

        def later(function: Callable[..., Any], *arguments: Any) -> None:
            if len(running) > 1:
                running.pop(0).result()
            running.append(pool.submit(function, *arguments))

        yield later
        for future in running:
            future.result()
