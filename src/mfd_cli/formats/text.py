"""Text files as they come: plain, gzip or bgzip, in whole lines, with limits on what a line or a bomb may hold."""

from __future__ import annotations

import gzip
import shutil
import sys
import tempfile
import zlib
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from mfd_cli.base.errors import MfdError

BGZF_EOF = bytes.fromhex("1f8b08040000000000ff0600424302001b0003000000000000000000")
BLOCK = 1 << 24
"""Bytes of text that are read together."""
LONGEST_LINE = 1 << 24
"""No line of a table, and no header line, has more bytes; a sequence may be on one line, however long."""
_BOMB, _SMALL = 200, 1 << 26
"""Real files shrink a few times, runs of N apart. More than 64 MiB (in bytes) that shrank 200 times would fill the memory."""


@contextmanager
def standard_input_as_file(error: type[MfdError]) -> Iterator[Path]:
    """Yield a temporary file that holds all of standard input, for readers that look at a file more than once.

    An `error` that names the file is raised again with the name that the user knows.
    """
    with tempfile.TemporaryDirectory(prefix="mfd-") as folder:
        path = Path(folder) / "standard input"
        with path.open("wb") as file:
            shutil.copyfileobj(sys.stdin.buffer, file)
        try:
            yield path
        except error as problem:
            if str(problem.path) != str(path):
                raise
            raise error(problem.message, path=path.name, line=problem.line, hint=problem.hint) from problem


def read_blocks(path: Path, error: type[MfdError], size: int = BLOCK) -> Iterator[bytes]:
    """Yield the text of a plain, gzip or bgzip file, about `size` bytes at a time; `error` where it is damaged or no text.

    LF and CRLF are line ends, and come as LF; a UTF-8 byte order mark at the start is dropped.
    """
    read = 0
    try:
        with path.open("rb") as raw:
            magic = raw.read(18)
            raw.seek(0)
            packed = magic[:2] == b"\x1f\x8b"
            if packed and magic[12:14] == b"BC":
                check_bgzf_end(path, error)
            file = gzip.GzipFile(fileobj=raw) if packed else raw
            while block := file.read(size):
                if block.endswith(b"\r"):  # the other half of a line end may come next
                    block += file.read(1)
                read += len(block)
                if read > max(_SMALL, _BOMB * raw.tell()):
                    raise error(
                        f"its first {raw.tell():,} bytes unpack to {read:,}: this is no real data",
                        path=path,
                        hint="if it is, unpack it first (gzip -d)",
                    )
                yield _as_text(block, read - len(block), path, error)
    except (EOFError, zlib.error, gzip.BadGzipFile) as problem:
        raise error("is damaged or was cut short (gzip)", path=path) from problem
    except OSError as problem:
        raise error(f"cannot be read ({problem.strerror})", path=path) from problem


def _as_text(block: bytes, before: int, path: Path, error: type[MfdError]) -> bytes:
    """Return a block, `before` bytes from the start, with LF for all line ends; `error` where it is no text."""
    if not before:
        if block[:2] in (b"\xff\xfe", b"\xfe\xff"):
            raise error("is UTF-16 text", path=path, hint="save it as plain text")
        block = block.removeprefix(b"\xef\xbb\xbf")
    zero = block.find(b"\0")
    if zero >= 0:
        raise error(f"is not text, or damaged: byte {before + zero + 1:,} is zero", path=path)
    if b"\r" not in block:
        return block
    text = block.replace(b"\r\n", b"\n")
    if b"\r" in text:
        raise error(
            "has a carriage return (CR) that ends no line",
            path=path,
            hint="lines must end as on Unix or Windows, not as on an old Macintosh",
        )
    return text


def whole_lines(path: Path, error: type[MfdError], size: int = BLOCK) -> Iterator[bytes]:
    """Yield the text of a file in blocks that end where a line ends, see `read_blocks`; the last line may have no end."""
    rest = b""
    for block in read_blocks(path, error, size):
        end = block.rfind(b"\n") + 1
        if end:
            yield rest + block[:end]
            rest = block[end:]
        else:
            rest += block
            check_length(rest, path, error)
    if rest:
        yield rest


def read_lines(path: Path, error: type[MfdError]) -> Iterator[tuple[int, bytes]]:
    """Yield the numbered lines (1-based, without their ends) of a file, see `read_blocks`."""
    number = 0
    for block in whole_lines(path, error, 1 << 20):
        for line in block.removesuffix(b"\n").split(b"\n"):
            number += 1
            yield number, line


def check_length(line: bytes, path: Path, error: type[MfdError], number: int | None = None) -> None:
    """Raise `error` where a line is so long that it is none."""
    if len(line) > LONGEST_LINE:
        raise error(f"a line has more than {LONGEST_LINE:,} bytes", path=path, line=number)


def check_bgzf_end(path: Path, error: type[MfdError]) -> None:
    """Raise `error` where a bgzip file does not end with the empty block that tells that it was not cut short."""
    with path.open("rb") as file:
        file.seek(max(path.stat().st_size - len(BGZF_EOF), 0))
        if file.read() != BGZF_EOF:
            raise error("was cut short (the end mark of bgzip is missing)", path=path)
