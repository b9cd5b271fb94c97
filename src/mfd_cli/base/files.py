"""Files appear whole: written to a temporary sibling, then renamed. Inputs are checked before any library sees them."""

from __future__ import annotations

import contextlib
import errno
import json
import os
import re
import shutil
import stat
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

from mfd_cli.base.errors import InputError, MfdError, OutputError
from mfd_cli.base.fetched import fetched
from mfd_cli.base.locks import claim, mark_of_process, renewed
from mfd_cli.base.urls import SCHEMES, is_url, scheme_of

MARK = ".mfd-folder"
"""A file in every folder that may be replaced by a later result: we wrote it, and all that is in it."""


_LIBRARY_BLOCK = 1 << 16
"""Bytes that htslib writes together (a block of BGZF): a disk with less space than that is full for it."""


def sha256_of(path: Path) -> str:
    """Return the sha256 of a file's bytes, in hexadecimal."""
    import hashlib  # here: it takes long to load, and `mfd --help` does without

    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


def digests_of(path: Path) -> tuple[str, str]:
    """Return the sha256 and the md5 of a file's bytes, in hexadecimal, reading it once.

    The md5 is what tables tell, and guards no secret.
    """
    import hashlib

    both = hashlib.sha256(), hashlib.md5(usedforsecurity=False)
    with path.open("rb") as file:
        while piece := file.read(1 << 20):
            for digest in both:
                digest.update(piece)
    return both[0].hexdigest(), both[1].hexdigest()


def check_input(path: Path, error: type[MfdError] = InputError, piped: str | None = None) -> Path:
    """Return the path, if it is a regular, readable, non-empty file; otherwise raise an error of this class.

    Of a URL this is the path of what was fetched from it. `piped` is the hint for a pipe, where the command reads one in
    another way. A URL, a folder, a FIFO or a device would make the libraries behind us hang or reach for the network.
    """
    path = local(path, error)
    text = os.fspath(path)
    try:
        info = path.stat()
    except FileNotFoundError:
        raise error("no such file", path=text) from None
    except OSError as problem:
        raise error(f"cannot be opened ({problem.strerror})", path=text) from problem
    if stat.S_ISDIR(info.st_mode):
        raise error("is a folder, not a file", path=text)
    if not stat.S_ISREG(info.st_mode):
        raise error("is not a regular file (pipes and devices are not read)", path=text, hint=piped)
    if info.st_size == 0:
        raise error("is empty", path=text)
    if not os.access(path, os.R_OK):
        raise error("may not be read (permission denied)", path=text)
    return path


def local(path: Path, error: type[MfdError] = InputError) -> Path:
    """Return a path as it is, and of a URL where its content lies. An error of this class where it has not been fetched.

    Nothing is ever fetched here: `mfd fetch-inputs` does so, when it is asked to.
    """
    if not is_url(path):
        return path
    if scheme_of(path) not in SCHEMES:
        known = ", ".join(SCHEMES)
        raise error(f"is a URL that is not read (known: {known})", path=path, hint="give the path of a local file")
    found = fetched(path)
    if found is None:
        hint = "mfd fetch-inputs fetches what mfd.toml and its table name, mfd fetch-inputs URL any other file"
        raise error("is a URL, and has not been fetched", path=path, hint=hint)
    return found.path


def check_output(path: Path, force: bool) -> Path:
    """Claim a path, and return it, if it may be written: it does not exist yet, or `force` is set.

    Raises OutputError otherwise, and where another command is about to write it.
    """
    claim(path)
    return check_free(path, force)


def check_free(path: Path, force: bool) -> Path:
    """Return the path if it may be written, as `check_output` does, for a result that this process does not write itself."""
    if path.exists() and not force:
        raise OutputError("exists already", path=path, hint="--force replaces it")
    if path.is_dir() and not (path / MARK).is_file() and any(path.iterdir()):
        raise OutputError("is a folder that mfd did not write; it is not replaced", path=path, hint="-o FOLDER")
    if not os.access(existing_parent(path), os.W_OK):
        raise OutputError("cannot be written (permission denied)", path=path)
    return path


def existing_parent(path: Path) -> Path:
    """Return the folder in which a path lies, or will lie: the nearest one that is there already."""
    parent = path.absolute().parent
    while not parent.exists():
        parent = parent.parent
    return parent


def temporary_sibling(path: Path) -> Path:
    """Return where a result is built before it takes its name: in the same folder, so that the rename is atomic."""
    return path.with_name(f".{path.name}.tmp-{mark_of_process()}")


@contextlib.contextmanager
def whole_file(path: Path) -> Iterator[Path]:
    """Yield a temporary sibling to write to; it becomes `path` if the block succeeds and disappears if it fails.

    Raises OutputError when the disk is full.
    """
    path.parent.mkdir(parents=True, exist_ok=True)
    temporary = temporary_sibling(path)
    try:
        with disk_errors(path), renewed(temporary):
            yield temporary
            sync(temporary)
            temporary.replace(path)
    finally:
        temporary.unlink(missing_ok=True)


@contextlib.contextmanager
def whole_folder(path: Path) -> Iterator[Path]:
    """Yield a temporary sibling folder to fill; it becomes `path` if the block succeeds and disappears if it fails.

    An older folder of that name is replaced when the new one is complete. Raises OutputError when the disk is full.
    """
    path.parent.mkdir(parents=True, exist_ok=True)
    temporary = temporary_sibling(path)
    shutil.rmtree(temporary, ignore_errors=True)
    mark_folder(temporary)
    try:
        with disk_errors(path), renewed(temporary):
            yield temporary
            publish_folder(temporary, path)
    finally:
        shutil.rmtree(temporary, ignore_errors=True)


def mark_folder(folder: Path) -> None:
    """Make a folder, if it is not there, and say in it that it is ours."""
    if not (folder / MARK).is_file():
        folder.mkdir(exist_ok=True)
        (folder / MARK).write_text("Written by mfd; --force replaces this folder with all that is in it.\n", "utf-8")


def publish_folder(temporary: Path, path: Path) -> None:
    """Give a complete folder its name. An older one is moved aside first and removed last."""
    old = path.with_name(f".{path.name}.old-{mark_of_process()}")
    if path.exists():
        os.utime(path)  # from here on its time of change is its lease
        path.replace(old)
    temporary.replace(path)
    shutil.rmtree(old, ignore_errors=True)


def sync(path: Path) -> None:
    """Make sure that a file's bytes are on the disk before it is renamed."""
    descriptor = os.open(path, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)


def is_full(problem: BaseException) -> bool:
    """Return whether an error says that the disk is full; libraries that are not written in Python say it in words."""
    known = isinstance(problem, OSError) and problem.errno in (errno.ENOSPC, errno.EDQUOT)
    return known or os.strerror(errno.ENOSPC) in str(problem)


def check_space(path: Path, problem: BaseException) -> None:
    """Raise OutputError where a library that says only that it failed to write `path` has met a full disk."""
    free = shutil.disk_usage(path.absolute().parent).free
    if free < _LIBRARY_BLOCK:
        raise OutputError(f"no space left ({free:,} bytes free)", path=path) from problem


@contextlib.contextmanager
def disk_errors(path: Path) -> Iterator[None]:
    """Turn a full disk or a forbidden folder into one plain line."""
    try:
        yield
    except Exception as problem:
        if is_full(problem):
            free = shutil.disk_usage(path.absolute().parent).free
            raise OutputError(f"no space left ({free:,} bytes free)", path=path) from problem
        if isinstance(problem, OSError) and problem.errno in (errno.EACCES, errno.EPERM, errno.EROFS):
            raise OutputError(f"cannot be written ({problem.strerror})", path=path) from problem
        raise


def names_of_files(names: Sequence[str]) -> list[str]:
    """Return any texts as names of files, each once: letters, digits, dot, dash, equals and comma; the rest becomes an
    underscore."""
    taken: set[str] = set()
    result = []
    for name in names:
        plain = re.sub(r"[^A-Za-z0-9.=,-]+", "_", name).strip("._")[:100] or "unnamed"
        number, chosen = 1, plain
        while chosen.lower() in taken:  # some file systems take upper and lower case for the same
            number += 1
            chosen = f"{plain}_{number}"
        taken.add(chosen.lower())
        result.append(chosen)
    return result


def write_json(path: Path, value: Any) -> None:
    """Write a JSON file whole, indented, in the order given."""
    with whole_file(path) as temporary:
        temporary.write_text(json.dumps(value, indent=1, ensure_ascii=False, allow_nan=False) + "\n", "utf-8")


@contextlib.contextmanager
def whole_files(*paths: Path) -> Iterator[list[Path]]:
    """Yield a temporary path for each of several files that belong together.

    Those that were written get their names when all are complete, and none does if the block fails. A temporary file has the
    final file's name, in a folder of its own, for libraries that look at the name.
    """
    folders = [temporary_sibling(path) for path in paths]
    try:
        with contextlib.ExitStack() as leases, disk_errors(paths[0] if paths else Path()):
            for folder in folders:
                shutil.rmtree(folder, ignore_errors=True)
                folder.mkdir(parents=True)
                leases.enter_context(renewed(folder))
            temporaries = [folder / path.name for folder, path in zip(folders, paths)]
            yield temporaries
            for temporary, path in zip(temporaries, paths):
                if temporary.exists():
                    sync(temporary)
                    temporary.replace(path)
    finally:
        for folder in folders:
            shutil.rmtree(folder, ignore_errors=True)
