"""`python apart.py BEFORE AFTER words...` runs `mfd words` in namespaces of its own: its mounts are its own, and no network.

BEFORE and AFTER are lines for a shell. There is no HOME, and the working folder is entered again after BEFORE, which may have
mounted something on it.
"""

from __future__ import annotations

import ctypes
import os
import runpy
import subprocess
import sys
from pathlib import Path

NEW_MOUNTS, NEW_USER, NEW_NETWORK = 0x00020000, 0x10000000, 0x40000000
PRIVATE = (1 << 14) | (1 << 18)
"""Of mount(2): what is mounted below a place is no longer shared with others."""


def leave() -> None:
    """Leave the namespaces of all others, as `unshare -rmn` does."""
    user, group = os.getuid(), os.getgid()
    system = ctypes.CDLL(None, use_errno=True)
    if system.unshare(NEW_USER | NEW_MOUNTS | NEW_NETWORK) or system.mount(b"none", b"/", None, PRIVATE, None):
        raise OSError(ctypes.get_errno(), "no namespaces of our own")
    for name, text in (("setgroups", "deny"), ("uid_map", f"0 {user} 1"), ("gid_map", f"0 {group} 1")):
        Path("/proc/self", name).write_text(text)


def main() -> None:
    """Run the lines before, the command, and the lines after; end with the command's exit code."""
    before, after, *words = sys.argv[1:]
    leave()
    subprocess.run(["sh", "-c", before], check=True)
    os.chdir(os.getcwd())
    os.environ.pop("HOME", None)
    sys.argv = ["mfd", *words]
    try:
        runpy.run_module("mfd_cli", run_name="__main__", alter_sys=True)
    finally:
        sys.stdout.flush()
        subprocess.run(["sh", "-c", after], check=True)


if __name__ == "__main__":
    main()
