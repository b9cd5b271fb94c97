"""What a command takes, with all the processes that it starts: seconds by the clock, processor seconds, memory.

Worker processes are children of a server that ends by itself, so that nobody else would count them. The command therefore runs
below a process that takes over all orphans (prctl, Linux) and waits for them.
"""

from __future__ import annotations

import json
import os
import subprocess
import sys
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

ABOVE = """
import ctypes, json, os, resource, subprocess, sys, time
ctypes.CDLL(None).prctl(36, 1, 0, 0, 0)  # PR_SET_CHILD_SUBREAPER
started = time.monotonic()
code = subprocess.Popen(sys.argv[2:], stdout=subprocess.DEVNULL, stderr=subprocess.PIPE, text=True)
told = code.communicate()[1]
wall = time.monotonic() - started
try:
    while True:
        os.wait()
except ChildProcessError:
    pass
used = resource.getrusage(resource.RUSAGE_CHILDREN)
said = [code.returncode, told[-2000:], wall, used.ru_utime + used.ru_stime, used.ru_maxrss * 1024]
open(sys.argv[1], "w").write(json.dumps(said))
"""
"""The process above a command: sys.argv[1] is the file that it writes, the words of the command follow."""


@dataclass(frozen=True)
class Spent:
    """Seconds by the clock, seconds of processors, and the resident memory of the largest process in bytes."""

    wall: float
    cpu: float
    memory: int


def spent(words: Sequence[str], folder: Path, temporary: Path, variables: Mapping[str, str] | None = None) -> Spent:
    """Run `mfd words` in a folder and return what it took; end this program with its message where it fails."""
    file = temporary / "spent.json"
    command = [sys.executable, "-c", ABOVE, str(file), sys.executable, "-m", "mfd_cli", *words]
    subprocess.run(command, cwd=folder, check=True, env={**os.environ, **(variables or {})})
    code, told, wall, cpu, memory = json.loads(file.read_text())
    if code:
        sys.exit(f"mfd {' '.join(words)}\n{told}")
    return Spent(wall, cpu, memory)
