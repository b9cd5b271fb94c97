"""One run, one result: a command holds the names of its results while it works, and tidies what a killed run left of them.

A *claim* is a lock (filelock, that is flock) on a hidden file beside the result, `.NAME.mfd-lock`. The system releases it when
the process ends, however it ends; on a shared disk it holds between machines, and between containers, which share neither
process numbers nor a folder for temporary files. The file is removed when the command ends.

A *lease* tells whether somebody is still building a temporary file, `.NAME.tmp-WHERE-PROCESS-START`. A process that can be
looked up (WHERE is here: the same host, boot and namespace of processes) holds it until it ends. Of any other only the file's
time of change is known, which its process renews every `BEAT` seconds: the lease ends `LEASE` seconds after the last.
"""

from __future__ import annotations

import contextlib
import os
import re
import shutil
import threading
import time
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from mfd_cli.base.errors import OutputError

if TYPE_CHECKING:
    from filelock import BaseFileLock

BEAT = 20.0
"""Seconds between two renewals of a lease."""
LEASE = 600.0
"""Seconds without a renewal after which a process elsewhere counts as gone. Many beats: a shared disk may stall for minutes."""
_PATIENCE = 0.3
"""Seconds to wait for a lock: its holder may be just about to remove the file."""
_TEMPORARY = re.compile(r"\.(?P<name>.+)\.(?P<kind>tmp|old)-(?P<where>[0-9a-f]{12})-(?P<process>\d+)-(?P<start>\d+)")


# -- claims ------------------------------------------------------------------------------------------------------------


@dataclass(frozen=True)
class _Claim:
    """A lock that is held, and the folders that were made for its file."""

    lock: BaseFileLock
    made: list[Path]

    def end(self) -> None:
        """Release the lock, and remove its file first: who opened it before finds that it is no longer there."""
        with contextlib.suppress(OSError):
            Path(self.lock.lock_file).unlink()
        self.lock.release()
        _remove_empty(self.made)


def _remove_empty(folders: list[Path]) -> None:
    """Remove folders, from the innermost to the outermost, as far as they are empty: those that got a result stay."""
    with contextlib.suppress(OSError):
        for folder in folders:
            folder.rmdir()


_held: dict[Path, _Claim | None] | None = None
"""What this process has claimed, links resolved (None: there is no place for locks); None outside `claims`."""


@contextlib.contextmanager
def claims() -> Iterator[None]:
    """Keep what is claimed inside the block until it ends. Elsewhere (a notebook) `claim` does nothing."""
    global _held
    before, _held = _held, {}
    try:
        yield
    finally:
        for held in reversed(_held.values()):
            if held is not None:
                held.end()
        _held = before


def claim(path: Path) -> None:
    """Hold the name of a result, and tidy up behind runs that were killed while they wrote it.

    Makes the folder of the result; one that is still empty when the claim ends is removed. Raises OutputError where another
    process holds the name.
    """
    resolved = Path(os.path.realpath(path))
    if _held is None or resolved in _held:
        return
    _held[resolved] = _claimed(resolved, path)
    tidy(path)


@contextlib.contextmanager
def held(path: Path) -> Iterator[None]:
    """Hold the name of a result inside the block, in a notebook too. Raises OutputError where another process holds it."""
    own = _claimed(Path(os.path.realpath(path)), path)
    try:
        yield
    finally:
        if own is not None:
            own.end()


def _claimed(resolved: Path, path: Path) -> _Claim | None:
    """Claim a result: beside it, or, where nothing can be written there, for this machine alone; None where that fails too.

    Raises OutputError, which shows `path`, where another process holds the name.
    """
    from filelock import FileLock, Timeout  # here: it takes long to load, and `mfd --help` does without

    for file in (resolved.with_name(f".{resolved.name}.mfd-lock"), _lock_of_machine(resolved)):
        made = [folder for folder in file.parents if not folder.exists()]
        # Members of a group share a folder of results: each must be able to open the lock of another.
        lock = FileLock(file, mode=0o666, thread_local=False, fallback_to_soft=False)
        try:
            file.parent.mkdir(mode=0o777 if file.parent == resolved.parent else 0o700, parents=True, exist_ok=True)
            lock.acquire(timeout=_PATIENCE)
        except Timeout:
            raise OutputError(
                f"is being written by another mfd (process {_holder(file)})",
                path=path.absolute(),
                hint="wait for it, or give another output",
            ) from None
        except OSError:  # read-only, or a file system without locks
            _remove_empty(made)
            continue
        with contextlib.suppress(OSError):  # a full disk: the lock holds all the same
            file.write_text(f"{os.getpid()}\n", "ascii")
        return _Claim(lock, made)
    return None


def _holder(file: Path) -> str:
    """Return the number of the process that holds a lock, as it wrote it into the file."""
    try:
        return file.read_bytes()[:20].decode("ascii", "replace").strip() or "unknown"
    except OSError:
        return "unknown"


def _lock_of_machine(path: Path) -> Path:
    """Return the lock file of a result in this machine's folder for temporary files."""
    import hashlib  # here, as tempfile: they take long to load, and `mfd --help` needs neither
    import tempfile

    name = hashlib.sha256(os.fsencode(path)).hexdigest()[:32]
    return Path(tempfile.gettempdir()) / f"mfd-{os.getuid()}" / name


# -- leases ------------------------------------------------------------------------------------------------------------


@contextlib.contextmanager
def renewed(path: Path) -> Iterator[None]:
    """Renew the lease of a temporary file or folder inside the block, in a thread; it need not be there yet."""
    done = threading.Event()

    def renew() -> None:
        while not done.wait(BEAT):
            with contextlib.suppress(OSError):
                os.utime(path)

    threading.Thread(target=renew, daemon=True).start()
    try:
        yield
    finally:
        done.set()


def mark_of_process(process: int | None = None) -> str:
    """Return what tells the temporary files of a process (default: this one) from those of all others, on a shared disk too.

    WHERE-PROCESS-START: the host, boot and namespace in which the process has its number, the number, and when it started,
    since numbers are used again.
    """
    number = os.getpid() if process is None else process
    return f"{_where()}-{number}-{_state_and_start(number)[1]}"


def _where() -> str:
    """Return a name of the world in which numbers of processes are those that this process sees: twelve hexadecimal digits.

    Containers may have one host name, machines one number of their first namespace (it is the same in every Linux): the
    boot of the kernel tells the latter apart.
    """
    import hashlib

    parts = [os.uname().nodename]
    with contextlib.suppress(OSError):
        parts.append(Path("/proc/sys/kernel/random/boot_id").read_text("ascii"))
        parts.append(os.readlink("/proc/self/ns/pid"))
    return hashlib.sha256("\n".join(parts).encode()).hexdigest()[:12]


def _state_and_start(process: int) -> tuple[str, int]:
    """Return the state of a process, a letter, and the tick of the clock at which it started; empty and 0 where unknown."""
    try:
        if os.readlink("/proc/self") != str(os.getpid()):  # what is mounted there belongs to another namespace
            return "", 0
        stat = Path(f"/proc/{process}/stat").read_text("ascii", "replace")
    except OSError:
        return "", 0
    fields = stat[stat.rfind(")") + 2 :].split()  # the name, in brackets, may hold anything
    return fields[0], int(fields[19])


def _alive(process: int, start: int) -> bool:
    """Return whether a process of this namespace that started then still runs."""
    try:
        os.kill(process, 0)
    except ProcessLookupError:
        return False
    except OSError:  # somebody else's
        pass
    state, started = _state_and_start(process)
    # A zombie has ended: nobody has asked how yet, and in a container perhaps nobody ever will.
    return state not in ("Z", "X") and (started == start or 0 in (started, start))


def _expired(path: Path) -> bool:
    """Return whether the lease of a temporary file has ended, by the clock of the disk that it is on."""
    import tempfile

    try:
        renewal = path.stat().st_mtime
        with tempfile.TemporaryFile(dir=path.parent) as probe:
            now = os.fstat(probe.fileno()).st_mtime
    except FileNotFoundError:
        return False  # it has just got its name
    except OSError:
        now = time.time()
    return now - renewal > LEASE


# -- what killed runs left ---------------------------------------------------------------------------------------------


def tidy(path: Path) -> None:
    """Remove the temporary siblings of a result whose leases have ended. An older result that was moved aside, and not
    replaced, gets its name back."""
    if not path.parent.is_dir():
        return
    for orphan, name, kind in orphans(path.parent):
        if name != path.name:
            continue
        if kind == "old" and not path.exists():
            orphan.replace(path)
        else:
            _remove(orphan)


def tidy_inside(folder: Path) -> None:
    """Remove every temporary file whose lease has ended from a folder in which we write several results."""
    if folder.is_dir():
        for orphan, _, kind in orphans(folder):
            if kind == "tmp":
                _remove(orphan)


def orphans(folder: Path) -> list[tuple[Path, str, str]]:
    """Return the temporary files and folders whose leases have ended: path, name of the result, tmp or old."""
    here, result = _where(), []
    for path in sorted(folder.iterdir()):
        mark = _TEMPORARY.fullmatch(path.name)
        if mark is None:
            continue
        known = mark["where"] == here
        if not _alive(int(mark["process"]), int(mark["start"])) if known else _expired(path):
            result.append((path, mark["name"], mark["kind"]))
    return result


def _remove(path: Path) -> None:
    if path.is_dir() and not path.is_symlink():
        shutil.rmtree(path, ignore_errors=True)
        return
    with contextlib.suppress(OSError):
        path.unlink()
