"""One run, one result: a command holds the names of its results while it works, and tidies what a killed run left of them.

A name is held by a lock (flock) on a file in the machine's temporary folder, which the system releases when the process
ends, however it ends. Runs on two machines that share a disk do not see each other; results still appear whole there, and
the last one stays.
"""

from __future__ import annotations

import contextlib
import fcntl
import os
import re
import shutil
from collections.abc import Iterator
from pathlib import Path

from mfd_cli.base.errors import OutputError

_held: dict[Path, int] | None = None
"""Descriptors of the locks of this process by the path that they stand for; None outside `claims`."""


@contextlib.contextmanager
def claims() -> Iterator[None]:
    """Inside the block names that are claimed stay so until it ends. Elsewhere (a notebook) `claim` does nothing."""
    global _held
    before, _held = _held, {}
    try:
        yield
    finally:
        for path, descriptor in _held.items():
            with contextlib.suppress(OSError):
                _lock_file(path).unlink()
            os.close(descriptor)
        _held = before


def claim(path: Path) -> None:
    """Hold the name of a result, and tidy up behind runs that were killed while they wrote it.

    OutputError where another process holds it.
    """
    path = path.absolute()
    if _held is None or path in _held:
        return
    descriptor = _lock(path)
    if descriptor is not None:
        _held[path] = descriptor
    tidy(path)


def _lock(path: Path) -> int | None:
    """Descriptor of the lock for a path; None where there is no place for locks. OutputError where it is taken."""
    file = _lock_file(path)
    while True:
        try:
            file.parent.mkdir(mode=0o700, exist_ok=True)
            descriptor = os.open(file, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600)
        except OSError:
            return None
        try:
            fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            told = os.read(descriptor, 20).decode("ascii", "replace")
            os.close(descriptor)
            raise OutputError(
                f"is being written by another mfd (process {told or 'unknown'})",
                path=path,
                hint="wait for it, or give another output",
            ) from None
        except OSError:  # a file system without locks
            os.close(descriptor)
            return None
        if _is_there(file, descriptor):
            os.ftruncate(descriptor, 0)
            os.write(descriptor, str(os.getpid()).encode())
            return descriptor
        os.close(descriptor)  # its last holder removed it between our two steps: once more


def _is_there(file: Path, descriptor: int) -> bool:
    """Whether a descriptor still is the file of that name."""
    try:
        return os.path.samestat(os.fstat(descriptor), file.stat())
    except FileNotFoundError:
        return False


def _lock_file(path: Path) -> Path:
    import hashlib  # here, as tempfile: they take long to load, and `mfd --help` needs neither
    import tempfile

    name = hashlib.sha256(os.fsencode(os.path.realpath(path))).hexdigest()[:32]
    return Path(tempfile.gettempdir()) / f"mfd-{os.getuid()}" / name


def mark_of_process() -> str:
    """What tells temporary files of this process from those of others, on this and on other machines."""
    return f"{_machine()}-{os.getpid()}"


def _machine() -> str:
    return re.sub(r"[^A-Za-z0-9]", "", os.uname().nodename)[:24] or "here"


def tidy(path: Path) -> None:
    """Remove the temporary siblings of a result whose processes, on this machine, are gone. An older result that was moved
    aside, and not replaced, gets its name back."""
    if not path.parent.is_dir():
        return
    for other, name, kind in orphans(path.parent):
        if name != path.name:
            continue
        if kind == "old" and not path.exists():
            other.replace(path)
        else:
            _remove(other)


def tidy_inside(folder: Path) -> None:
    """Remove every temporary file of processes that are gone from a folder in which we write several results."""
    if folder.is_dir():
        for other, _, kind in orphans(folder):
            if kind == "tmp":
                _remove(other)


def orphans(folder: Path) -> list[tuple[Path, str, str]]:
    """Temporary files and folders whose processes, on this machine, are gone: path, name of the result, tmp or old."""
    pattern = re.compile(rf"\.(.+)\.(tmp|old)-{_machine()}-(\d+)")
    found = [(other, pattern.fullmatch(other.name)) for other in sorted(folder.iterdir())]
    return [(other, match[1], match[2]) for other, match in found if match and not _alive(int(match[3]))]


def _remove(path: Path) -> None:
    if path.is_dir() and not path.is_symlink():
        shutil.rmtree(path, ignore_errors=True)
        return
    with contextlib.suppress(OSError):
        path.unlink()


def _alive(process: int) -> bool:
    if process == os.getpid():
        return True
    try:
        os.kill(process, 0)
    except ProcessLookupError:
        return False
    except OSError:
        return True
    return True
