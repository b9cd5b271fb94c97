"""Signals that wait: for the end of a step of training, or until the processes that are being started are known; and the end
of processes whose parent got one that does not wait."""

from __future__ import annotations

import multiprocessing
import os
import signal
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager


@contextmanager
def stop_signals() -> Iterator[Callable[[], int]]:
    """Remember SIGINT and SIGTERM inside the block instead of acting on them.

    Yields a function that returns the number of the one that came last (0: none). Outside the main thread, where Python
    handles no signals, nothing is remembered.
    """
    caught = [0]
    if threading.current_thread() is not threading.main_thread():
        yield lambda: caught[0]
        return

    def remember(number: int, _: object) -> None:
        caught[0] = number

    before = {number: signal.signal(number, remember) for number in (signal.SIGINT, signal.SIGTERM)}
    try:
        yield lambda: caught[0]
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)


@contextmanager
def without_interrupts() -> Iterator[None]:
    """Keep SIGINT from what is started inside the block: Ctrl-C reaches all processes of a terminal, and the first decides."""
    before = signal.pthread_sigmask(signal.SIG_BLOCK, {signal.SIGINT})
    try:
        yield
    finally:
        signal.pthread_sigmask(signal.SIG_SETMASK, before)


def end_with_parent() -> None:
    """End this worker when the process that started it is gone. A pool's own workers wait for work for ever after SIGKILL."""
    parent = multiprocessing.parent_process()
    assert parent is not None, "this is no worker"

    def wait() -> None:
        parent.join()
        os._exit(1)

    threading.Thread(target=wait, daemon=True).start()


def stop_with(parent: int) -> None:
    """Get SIGTERM when the process that started this one, `parent`, is gone: a training then saves its state."""

    def wait() -> None:
        while os.getppid() == parent:
            time.sleep(1)
        os.kill(os.getpid(), signal.SIGTERM)

    threading.Thread(target=wait, daemon=True).start()
