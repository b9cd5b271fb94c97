"""Fetching remote files into the folder of fetched inputs (see fetched.py): whole, once, checked, and gone on with.

What has come of a file lies in `partial/`, with the version of the file that it is of. A later attempt goes on where that one
ended, if the file is still the same and the server can begin there.
"""

from __future__ import annotations

import contextlib
import json
import os
import re
import shutil
import time
from collections.abc import Callable, Iterator, Sequence
from dataclasses import asdict, dataclass
from functools import partial
from pathlib import Path
from typing import Any

from mfd_cli.base.errors import ConfigError, InputError, InputErrors, MfdError, OutputError
from mfd_cli.base.fetched import PLACE, Fetched, entry_of, fetched, inputs_folder
from mfd_cli.base.files import digests_of, disk_errors, existing_parent, sync, write_json
from mfd_cli.base.locks import held
from mfd_cli.base.progress import Progress
from mfd_cli.base.remote_streams import Interrupted, Version, receive, version_of
from mfd_cli.base.urls import SCHEMES, is_url, key_of, name_of, scheme_of, shown

ATTEMPTS = 5
"""Attempts, one after the other, that bring nothing new, until a file is given up."""
PAUSE = 1.0
"""Seconds before the second attempt; before each of the next twice as many."""
MB = 1_000_000


@dataclass(frozen=True)
class Remote:
    """A file to fetch: its URL, and its md5 (hexadecimal) and bytes where a table tells them."""

    url: str
    md5: str | None = None
    bytes: int | None = None


@dataclass(frozen=True)
class FetchSummary:
    """What a fetch has come to: the URLs of what was fetched, and of what was there before, with the files, and the folder."""

    folder: Path
    fetched: Sequence[tuple[str, Fetched]]
    present: Sequence[tuple[str, Fetched]]

    def lines(self) -> list[str]:
        """Return it in words."""
        if not self.fetched and not self.present:
            return ["no input is named by a URL: there is nothing to fetch"]
        size = sum(file.bytes for _, file in self.fetched) / MB
        lines = [f"fetched {url} ({file.bytes / MB:,.1f} MB)" for url, file in self.fetched]
        lines.append(f"fetched: {_files(self.fetched)}, {size:,.1f} MB; there already: {_files(self.present)}")
        if self.folder.absolute() == inputs_folder().absolute():
            return [*lines, f"they lie in {self.folder}; other commands find them by their URLs"]
        return [*lines, f"they lie in {self.folder}; other commands find them with {PLACE}={self.folder.absolute()}"]

    def to_json(self) -> dict[str, Any]:
        """Return it as plain values."""
        both = {"fetched": self.fetched, "present": self.present}
        return {
            "folder": str(self.folder),
            **{name: [{"url": url, **asdict(file)} for url, file in files] for name, files in both.items()},
        }


@dataclass(frozen=True)
class FetchPlan:
    """What there is to fetch: the URLs of missing files with their bytes (None: unknown), and of what is there already."""

    folder: Path
    missing: Sequence[tuple[str, int | None]]
    present: Sequence[str]

    def lines(self) -> list[str]:
        """Return it in words."""
        sizes = [size for _, size in self.missing if size is not None]
        unknown = len(self.missing) - len(sizes)
        return [
            *(
                f"would fetch {url} ({'unknown size' if size is None else f'{size / MB:,.1f} MB'})"
                for url, size in self.missing
            ),
            f"to fetch: {_files(self.missing)}, {sum(sizes) / MB:,.1f} MB"
            f"{f' without {unknown:,} of unknown size' if unknown else ''}; there already: {_files(self.present)}",
            f"into {self.folder}",
        ]


def plan_fetch(wanted: Sequence[Remote], *, folder: Path | None = None, again: bool = False) -> FetchPlan:
    """Return what `fetch` would do. Servers are asked for sizes that are not known, and nothing is read or written.

    Raises InputError or InputErrors for files that cannot be fetched.
    """
    folder = folder or inputs_folder()
    missing, present = _sorted_out(wanted, folder, again)
    sized, errors = _with_sizes(missing, PAUSE)
    _raise_all(errors)
    return FetchPlan(folder, [(shown(remote.url), remote.bytes) for remote in sized], [url for url, _ in present])


def fetch(
    wanted: Sequence[Remote],
    *,
    folder: Path | None = None,
    limit: int | None = None,
    again: bool = False,
    progress: Progress | None = None,
    pause: float = PAUSE,
) -> FetchSummary:
    """Fetch files that are not in the folder of fetched inputs (or `folder`) yet; with `again` all of them.

    Nothing is read where the sizes add up to more than `limit` bytes; where a size is unknown, reading stops there. A file that
    cannot be fetched does not keep the others: InputError or InputErrors name every such file in the end. `pause` is in
    seconds. Raises OutputError for the limit, and where the disk is too small.
    """
    folder = folder or inputs_folder()
    missing, present = _sorted_out(wanted, folder, again)
    missing, errors = _with_sizes(missing, pause)
    total = sum(max((remote.bytes or 0) - Partial.of(remote.url, folder).bytes(), 0) for remote in missing)
    _check_room(total, limit, folder)
    meter, files = Meter(total, limit, progress), list[tuple[str, Fetched]]()
    for remote in missing:
        try:
            files.append((shown(remote.url), fetch_one(remote, folder, meter, again, pause)))
        except InputError as error:
            errors.append(error)
    _raise_all(errors)
    return FetchSummary(folder, files, present)


def _files(some: Sequence[Any]) -> str:
    """Return how many files there are, in words."""
    return f"{len(some):,} file{'' if len(some) == 1 else 's'}"


def bytes_of(size: str) -> int:
    """Return the bytes of a size as people write it. ConfigError where it is none.

    >>> bytes_of("50GB"), bytes_of("1.5 MiB"), bytes_of("700")
    (50000000000, 1572864, 700)
    """
    match = re.fullmatch(r"([0-9]{1,15}(?:\.[0-9]{1,9})?)\s*([kmgt]?)(i?)b?", size.strip(), re.IGNORECASE)
    if match is None:
        raise ConfigError(f"--limit {size[:40]!r} is no size", hint="for example 500MB, 50GB or 2TiB")
    power = " kmgt".index(match[2].lower() or " ")
    return int(float(match[1]) * (1024 if match[3] else 1000) ** power)


# -- before the first byte ---------------------------------------------------------------------------------------------


def _sorted_out(wanted: Sequence[Remote], folder: Path, again: bool) -> tuple[list[Remote], list[tuple[str, Fetched]]]:
    """Return what has to be fetched, each file once, and what is there already. InputError for what is no URL of ours.

    What is there with another md5 than a table now tells is fetched again.
    """
    missing, present = dict[str, Remote](), dict[str, tuple[str, Fetched]]()
    for remote in wanted:
        if not is_url(remote.url) or scheme_of(remote.url) not in SCHEMES:
            known = ", ".join(f"{scheme}://" for scheme in SCHEMES)
            raise InputError("is no URL that can be fetched", path=remote.url, hint=f"URLs begin with {known}")
        found = None if again else fetched(remote.url, folder)
        if found is not None and remote.md5 in (None, found.md5):
            present[key_of(remote.url)] = (shown(remote.url), found)
        else:
            missing.setdefault(key_of(remote.url), remote)
    return list(missing.values()), list(present.values())


def _with_sizes(missing: Sequence[Remote], pause: float) -> tuple[list[Remote], list[MfdError]]:
    """Return the files with the sizes that servers tell where no table does, and the errors of those that are not there."""
    sized, errors = list[Remote](), list[MfdError]()
    for remote in missing:
        try:
            size = remote.bytes
            if size is None:
                size = patiently(partial(version_of, remote.url), remote.url, pause).size
            sized.append(Remote(remote.url, remote.md5, size))
        except InputError as error:
            errors.append(error)
    return sized, errors


def _check_room(total: int, limit: int | None, folder: Path) -> None:
    """Raise OutputError where more bytes are to come than the limit allows, or than the disk has room for."""
    if limit is not None and total > limit:
        raise OutputError(
            f"{total / MB:,.1f} MB are to be fetched, more than the limit of {limit / MB:,.1f} MB", hint="raise --limit"
        )
    free = shutil.disk_usage(existing_parent(folder / "files")).free
    if total > free:
        raise OutputError(
            f"{total / MB:,.1f} MB are to be fetched, and the disk has {free / MB:,.1f} MB free",
            path=folder,
            hint=f"--cache FOLDER, or {PLACE}=FOLDER, names a folder on another disk",
        )


def _raise_all(errors: list[MfdError]) -> None:
    """Raise the one error, or all of them together, if there are any."""
    if errors:
        raise errors[0] if len(errors) == 1 else InputErrors(errors)


# -- one file ----------------------------------------------------------------------------------------------------------


@dataclass
class Meter:
    """Bytes that have come in all, of how many (as far as it is known), and how many may come."""

    total: int
    limit: int | None
    progress: Progress | None
    come: int = 0

    def add(self, count: int) -> None:
        """Count bytes that came, or (below 0) that were dropped. OutputError where they are more than may come."""
        self.come += count
        if self.limit is not None and self.come > self.limit:
            raise OutputError(
                f"more than the limit of {self.limit / MB:,.1f} MB came; reading was stopped",
                hint="raise --limit; what came is kept, and the next fetch goes on from there",
            )
        if self.progress:
            done, total = max(self.come, 0) // MB, -(-max(self.total, self.come, 1) // MB)
            self.progress("fetching, MB", done, total)


@dataclass(frozen=True)
class Partial:
    """What has come of a file: its bytes so far, and a note that says of which version of the file they are."""

    file: Path
    note: Path

    @classmethod
    def of(cls, url: str, folder: Path) -> Partial:
        """Return where what has come from a URL lies."""
        key = key_of(url)
        return cls(folder / "partial" / f"{key}.part", folder / "partial" / f"{key}.json")

    def bytes(self) -> int:
        """Return how many bytes have come."""
        return self.file.stat().st_size if self.file.is_file() else 0

    def version(self) -> Version:
        """Return the version that the bytes are of; one of which nothing is known where there is no note."""
        try:
            return Version(**json.loads(self.note.read_text("utf-8")))
        except (OSError, ValueError, TypeError):
            return Version()

    def start(self) -> int:
        """Return where reading goes on: at the last byte, which comes again, so that a whole file needs no other case."""
        return max(self.bytes() - 1, 0) if self.version() != Version() else 0

    def begin(self, version: Version) -> None:
        """Drop what has come, and note the version of what comes next."""
        self.file.write_bytes(b"")
        write_json(self.note, asdict(version))

    def remove(self) -> None:
        """Remove the bytes and the note."""
        self.file.unlink(missing_ok=True)
        self.note.unlink(missing_ok=True)


def fetch_one(remote: Remote, folder: Path, meter: Meter, again: bool, pause: float) -> Fetched:
    """Fetch a file, going on from what has come of it, and give it its place. Another process must not be at it.

    Raises InputError where it cannot be fetched or has another md5 than the table tells, OutputError as `fetch` does.
    """
    part = Partial.of(remote.url, folder)
    with _writing(part), _alone(remote.url, part):
        found = None if again else fetched(remote.url, folder)
        if found is not None and remote.md5 in (None, found.md5):  # another process has just brought it
            return found
        patiently(partial(_read_rest, remote.url, part, meter), remote.url, pause, part.bytes)
        return _placed(remote, part, folder)


@contextlib.contextmanager
def _alone(url: str, part: Partial) -> Iterator[None]:
    """Keep other processes from a file inside the block. InputError where one is at it."""
    with contextlib.ExitStack() as stack:
        part.file.parent.mkdir(parents=True, exist_ok=True)
        try:
            stack.enter_context(held(part.file))
        except OutputError as error:
            hint = "wait for it; then mfd fetch-inputs finds the file"
            raise InputError("is being fetched by another mfd", path=url, hint=hint) from error
        yield


def patiently(attempt: Callable[[], Any], url: str, pause: float, reached: Callable[[], int] = lambda: 0) -> Any:
    """Return what an attempt returns, made again, after ever longer pauses, where it is interrupted.

    `reached` tells how far it has come: an attempt that comes further than all before it does not count. InputError after
    ATTEMPTS others.
    """
    furthest, failures = reached(), 0
    while True:
        try:
            return attempt()
        except Interrupted as interruption:
            failures = failures + 1 if reached() <= furthest else 1
            furthest = max(furthest, reached())
            if failures == ATTEMPTS:
                message = f"given up after {ATTEMPTS} attempts: {interruption}"
                hint = "what came is kept, and the next fetch goes on from there" if furthest else None
                raise InputError(message, path=url, hint=hint) from interruption
            time.sleep(pause * 2 ** (failures - 1))


def _read_rest(url: str, part: Partial, meter: Meter) -> None:
    """Read what is missing of a file, or all of it where what has come is of another version. Raises Interrupted."""
    start, size = part.start(), None

    def begin(version: Version, place: int) -> bool:
        nonlocal size
        have, size = part.bytes(), version.size
        if place and not part.version().same(version):
            return False
        with _writing(part):
            # A server that cannot begin elsewhere begins at 0.
            os.truncate(part.file, place) if place else part.begin(version)
        meter.add(place - have)
        return True

    with part.file.open("ab", buffering=0) as file:  # what came is on its way to the disk, whenever we are killed

        def take(piece: bytes) -> None:
            with _writing(part):
                file.write(piece)
            meter.add(len(piece))

        if not receive(url, start, begin, take):
            receive(url, 0, begin, take)
    if size is not None and part.bytes() < size:
        raise Interrupted(f"the connection ended after {part.bytes():,} of {size:,} bytes")


@contextlib.contextmanager
def _writing(part: Partial) -> Iterator[None]:
    """Turn every error of writing into an OutputError: as an OSError it would look like a fault of the connection."""
    try:
        with disk_errors(part.file):
            yield
    except OSError as problem:
        raise OutputError(f"cannot be written ({problem.strerror})", path=part.file) from problem


def _placed(remote: Remote, part: Partial, folder: Path) -> Fetched:
    """Check a whole file, and give it its place and its entry. InputError where it is not what the table says."""
    sha256, md5 = digests_of(part.file)
    size, name = part.file.stat().st_size, name_of(remote.url)
    if remote.md5 is not None and md5 != remote.md5:
        part.remove()
        raise InputError(
            f"its md5 is {md5}, and the table tells {remote.md5}; it was removed",
            path=remote.url,
            hint="fetch it again; if it comes like this again, the file or the table has changed",
        )
    place = folder / "files" / sha256 / name
    place.parent.mkdir(parents=True, exist_ok=True)
    sync(part.file)
    for same in [] if place.exists() else sorted(place.parent.iterdir())[:1]:
        with contextlib.suppress(
            OSError
        ):  # the same content under another name takes no room, where the disk has links
            os.link(same, place)
    if not place.exists() or digests_of(place)[0] != sha256:
        part.file.replace(place)
    write_json(
        entry_of(remote.url, folder),
        {"url": shown(remote.url), "name": name, "sha256": sha256, "md5": md5, "bytes": size},
    )
    part.remove()
    return Fetched(place, sha256, md5, size)
