"""Reading a file elsewhere, from any place in it. This is the only module that reaches for the network.

fsspec speaks to http, https, s3 and gs. What can go wrong is of two sorts: `Interrupted` is worth another try, and an
InputError, in one sentence, is not.
"""

from __future__ import annotations

import asyncio
import contextlib
import logging
import re
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import Any

from mfd_cli.base.errors import ConfigError, InputError, MfdError
from mfd_cli.base.urls import has_secret, scheme_of, without_secrets

PIECE = 8 << 20
"""Bytes that a store is asked for at once."""
_CONNECT, _SILENCE = 30, 60
"""Seconds until a host counts as not there, and until a connection on which nothing comes counts as broken."""
_LATER = (408, 425, 429)
"""Answers of a server, besides those from 500 on, that may be others a little later."""
_AFTER_THE_END = 416
_ANSWERS = {401: "it wants a name and a password (401)", 403: "it may not be read (403)", 404: "no such file (404)"}


_TALKATIVE = ("fsspec", "s3fs", "gcsfs", "botocore", "aiobotocore", "google", "asyncio")
"""Libraries that write tracebacks to the terminal, URLs in them, of what they raise as well."""


class Interrupted(Exception):
    """A connection ended, or did not come about: another try may go on."""


@dataclass(frozen=True)
class Version:
    """What tells one version of a remote file from another, as far as it is known: bytes, tag, time of change."""

    size: int | None = None
    tag: str | None = None
    modified: str | None = None

    def same(self, other: Version) -> bool:
        """Return whether both are known to be the same version."""
        return self == other and self != Version()


Begin = Callable[[Version, int], bool]
"""Is told the version of a file, and at which byte reading begins; returns whether it should."""
Take = Callable[[bytes], None]
"""Takes the next bytes."""


def receive(url: str, start: int, begin: Begin, take: Take) -> bool:
    """Read a remote file from byte `start` on, or from its beginning where a server cannot begin elsewhere.

    Returns whether it was read: False where `begin` did not want it. Raises Interrupted, InputError and what `take` raises.
    """
    with _faults(url):
        system = _file_system(url)
        if scheme_of(url) not in ("http", "https"):
            return _receive_object(system, url, start, begin, take)
        # All of it runs in the thread of fsspec's event loop: bytes that wait in a buffer when a connection breaks are lost.
        job = asyncio.run_coroutine_threadsafe(_receive_http(system, url, start, begin, take), system.loop)
        try:
            return job.result()
        finally:
            job.cancel()  # where we were interrupted


def version_of(url: str) -> Version:
    """Return what is known of a remote file without reading it. Raises Interrupted and InputError."""
    with _faults(url):
        return _version(_file_system(url).info(url))


def _file_system(url: str) -> Any:
    """Return fsspec's file system for a URL. ConfigError where a package is not installed."""
    scheme = scheme_of(url)
    for name in _TALKATIVE:
        if not (logger := logging.getLogger(name)).handlers:
            logger.addHandler(logging.NullHandler())
    try:
        import fsspec

        if scheme not in ("http", "https"):
            return fsspec.filesystem(scheme)
        import aiohttp
    except ImportError as error:
        raise ConfigError(
            f"fetching {scheme}:// needs packages that are not installed ({str(error)[:100]})",
            hint="pip install 'mfd-cli[remote]'",
        ) from error
    client = {
        "timeout": aiohttp.ClientTimeout(total=None, sock_connect=_CONNECT, sock_read=_SILENCE),
        "auto_decompress": False,  # what is fetched are the bytes of the file, packed or not
        "trust_env": True,  # proxies, and passwords of ~/.netrc
    }
    return fsspec.filesystem("http", client_kwargs=client, encoded="%" in url)


async def _receive_http(system: Any, url: str, start: int, begin: Begin, take: Take) -> bool:
    """Read the answer of a web server."""
    headers = {"Accept-Encoding": "identity", **({"Range": f"bytes={start}-"} if start else {})}
    session = await system.set_session()
    async with session.get(system.encode_url(url), headers=headers) as answer:
        if not (start and answer.status == _AFTER_THE_END):
            answer.raise_for_status()
            part = re.match(r"bytes (\d+)-\d+/(\d+|\*)", answer.headers.get("Content-Range", ""))
            size = (part[2] if part[2] != "*" else None) if part else answer.headers.get("Content-Length")
            tag, modified = (answer.headers.get(name) for name in ("ETag", "Last-Modified"))
            if not begin(Version(int(size) if size else None, tag, modified), int(part[1]) if part else 0):
                return False
            async for piece in answer.content.iter_any():
                take(piece)
            return True
    return await _receive_http(system, url, 0, begin, take)  # the file has become shorter


def _receive_object(system: Any, url: str, start: int, begin: Begin, take: Take) -> bool:
    """Read an object of a store, in pieces."""
    if not begin(_version(system.info(url)), start):
        return False
    with system.open(url, "rb", block_size=PIECE, cache_type="readahead") as file:
        file.seek(start)
        while piece := file.read(PIECE):
            take(piece)
    return True


def _version(info: dict[str, Any]) -> Version:
    """Return what fsspec says of a file, whose names differ from store to store."""
    names = (("size",), ("ETag", "etag"), ("Last-Modified", "LastModified", "updated", "mtime"))
    size, tag, modified = (next((info[name] for name in known if info.get(name)), None) for known in names)
    return Version(size, *(str(value) if value is not None else None for value in (tag, modified)))


@contextlib.contextmanager
def _faults(url: str) -> Iterator[None]:
    """Turn what fsspec and the libraries behind it raise into Interrupted, or one sentence that names the URL."""
    try:
        yield
    except (MfdError, Interrupted):
        raise
    except Exception as error:
        shown_cause = None if has_secret(url) else error  # `mfd --debug` shows it, and it may hold the URL
        cause = error.__cause__ if isinstance(error, FileNotFoundError) and error.__cause__ is not None else error
        status = getattr(cause, "status", None)
        if isinstance(status, int) and status:
            if status >= 500 or status in _LATER:
                raise Interrupted(f"the server answers {status}") from shown_cause
            raise InputError(_ANSWERS.get(status, f"the server answers {status}"), path=url) from shown_cause
        message, again = _in_words(cause)
        if again:
            raise Interrupted(message) from shown_cause
        raise InputError(message, path=url) from shown_cause


def _in_words(error: BaseException) -> tuple[str, bool]:
    """Return what an error says, and whether another try may help."""
    names = {kind.__name__ for kind in type(error).__mro__}
    reason = without_secrets(" ".join(str(error).split()))[:200] or type(error).__name__
    if "ClientConnectorDNSError" in names or "gaierror" in names:
        return "no such host is known, or there is no network", False
    if "InvalidURL" in names or "InvalidUrlClientError" in names:
        return "is no URL that can be read", False
    if names & {"ClientConnectorCertificateError", "ClientSSLError", "SSLError"}:
        return f"no safe connection ({reason})", False
    if "FileNotFoundError" in names or "NoSuchBucket" in reason:
        return _ANSWERS[404], False
    if "PermissionError" in names:
        return _ANSWERS[403], False
    if "NoCredentialsError" in names:
        return "no account is set up; FSSPEC_S3_ANON=true reads what is public", False
    if "ClientPayloadError" in names or "ServerDisconnectedError" in names:
        return "the connection ended early", True
    if "ClientConnectorError" in names:
        return "the host takes no connection", True
    if names & {"EndpointConnectionError", "ConnectTimeoutError", "ConnectionClosedError"}:
        return "the store takes no connection, or there is no network", True
    if isinstance(error, TimeoutError) or "FSTimeoutError" in names:
        return f"nothing came for {_SILENCE} s", True
    if isinstance(error, OSError) or "ClientError" in names:
        return f"the connection failed ({reason})", True
    return f"cannot be read ({type(error).__name__}: {reason})", False
