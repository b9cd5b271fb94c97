"""`python warm_launch.py COUNT words...` runs `mfd words` in so many processes, as engine.processes.launch does, but that they
are forks of this one: each has a rank, an end and signals of its own, and need not import torch again. See warm.py."""

from __future__ import annotations

import os
import signal
import sys
import weakref
from collections.abc import Mapping, Sequence
from pathlib import Path
from types import SimpleNamespace
from typing import Any

from mfd_cli.engine import processes

sys.path.append(str(Path(__file__).resolve().parents[1]))
from kit.warm import become


class Fork:
    """What `launch` asks of a subprocess.Popen."""

    def __init__(self, command: Sequence[str], env: Mapping[str, str]) -> None:
        self.returncode: int | None = None
        self.pid = os.fork()
        if not self.pid:
            known: Any = weakref.finalize
            for finalizer in list(known._registry):  # temporary folders are the launcher's to remove
                finalizer.atexit = False
            become(command[1:], os.getcwd(), env)

    def poll(self) -> int | None:
        if self.returncode is None:
            process, status = os.waitpid(self.pid, os.WNOHANG)
            self.returncode = os.waitstatus_to_exitcode(status) if process else None
        return self.returncode

    def send_signal(self, number: int) -> None:
        if self.poll() is None:
            os.kill(self.pid, number)

    def kill(self) -> None:
        self.send_signal(signal.SIGKILL)


if __name__ == "__main__":
    processes.subprocess = SimpleNamespace(Popen=Fork)  # type: ignore[assignment]
    sys.exit(processes.launch(int(sys.argv[1]), sys.argv[2:]))
