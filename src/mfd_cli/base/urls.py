"""URLs of inputs as text: what is one, how it is shown, and the key that its content is found by. Nothing here is opened.

Passwords and tokens are never shown nor stored. What is shown of a URL has no user and no password, and of its query only that
there is one; a key is a digest, without what a signature adds to a URL, so that a file that is signed anew is the same file.
"""

from __future__ import annotations

import hashlib
import os
import re
from collections.abc import Mapping
from pathlib import Path
from typing import Any

SCHEMES = ("http", "https", "s3", "gs")
"""What URLs of inputs begin with."""
_BEGINNING = re.compile(r"[A-Za-z][A-Za-z0-9+.-]+:")
_PARTS = re.compile(
    r"(?P<scheme>[^:/]+):/+(?:[^/?#]*@)?(?P<host>[^/?#]*)(?P<path>[^?#]*)(?P<query>\?[^#]*)?", re.DOTALL
)
_IN_TEXT = re.compile(r"\b[A-Za-z][A-Za-z0-9+.-]+://[^\s'\"<>]+")
_SIGNATURE = re.compile(
    r"x-(amz|goog|ms)-.*|awsaccesskeyid|googleaccessid|signature|expires|key-pair-id|policy|"
    r"sig|s[etvrpk]|spr|sip|skoid|sktid|sk[tesv]",
    re.IGNORECASE,
)
"""Names in the query of a URL that Amazon, Google or Microsoft has signed: they differ whenever a file is signed."""
_SECRET = re.compile(r"token|secret|passw|pwd|auth|credential|session|signature|^sig$|key", re.IGNORECASE)
"""What the name of a secret in a query holds."""
_LONGEST_NAME = 120
"""Letters of a file's name, of which the last ones tell its format."""


def is_url(path: str | Path) -> bool:
    """Return whether a path begins as a URL does: `https:`, `s3:`, `file:`, but not `C:`.

    >>> is_url("https://x.org/a.bed"), is_url(Path("s3://bucket/a.bw")), is_url("tracks/a.bed")
    (True, True, False)
    """
    return _BEGINNING.match(os.fspath(path)) is not None


def written(path: str | Path) -> str:
    """Return a URL as it was written: a Path has lost slashes.

    >>> written(Path("https://x.org/a.bed")), written(Path("file:///a.bed"))
    ('https://x.org/a.bed', 'file:///a.bed')
    """
    text = os.fspath(path)
    return re.sub("^([^/]+):/+", r"\1:///" if text.lower().startswith("file:") else r"\1://", text)


def scheme_of(url: str | Path) -> str:
    """Return what a URL begins with, in small letters: `https`."""
    return os.fspath(url).partition(":")[0].lower()


def shown(url: str | Path) -> str:
    """Return a URL as it may be printed and stored: without user, password, query and fragment.

    >>> shown("https://me:secret@x.org/a.bed?token=1")
    'https://x.org/a.bed?...'
    """
    text = re.sub(r"^([^:/]+://)[^/]*@", r"\1", written(url))  # a password may hold letters that it should not
    parts = _PARTS.match(text)
    if parts is None or scheme_of(text) == "file":
        return text
    return f"{parts['scheme']}://{parts['host']}{parts['path']}{'?...' if parts['query'] else ''}"


def has_secret(url: str) -> bool:
    """Return whether a URL holds a password, or a query with the name of a secret."""
    return re.match(r"[^:/]+://[^/]*@", url) is not None or any(
        _SECRET.search(name) for name, _ in _query(url.partition("?")[2])
    )


def without_secrets(value: Any) -> Any:
    """Return plain values (texts, lists, mappings of them) in which every URL that holds a secret is as it may be shown.

    >>> without_secrets({"a": "see https://x.org/a?sig=1 and https://x.org/b?c=2"})
    {'a': 'see https://x.org/a?... and https://x.org/b?c=2'}
    """
    if isinstance(value, str):
        if ":/" not in value:
            return value
        if is_url(value) and has_secret(value):  # a name in it may hold a blank
            return shown(value)
        return _IN_TEXT.sub(lambda match: shown(match[0]) if has_secret(match[0]) else match[0], value)
    if isinstance(value, Mapping):
        return {name: without_secrets(item) for name, item in value.items()}
    return [without_secrets(item) for item in value] if isinstance(value, (list, tuple)) else value


def key_of(url: str | Path) -> str:
    """Return the digest that the content of a URL is found by: the same for one file, however its URL is signed.

    >>> key_of("https://me:secret@x.org//a.bed?X-Amz-Signature=1") == key_of(Path("https://x.org/a.bed"))
    True
    """
    parts = _PARTS.match(written(url))
    assert parts is not None, "no URL"
    kept = [f"{name}={value}" for name, value in _query((parts["query"] or "")[1:]) if not _SIGNATURE.fullmatch(name)]
    path = re.sub("/+", "/", parts["path"])
    text = f"{parts['scheme'].lower()}://{parts['host'].lower()}{path}?{'&'.join(kept)}"
    return hashlib.sha256(text.encode("utf-8", "surrogateescape")).hexdigest()


def name_of(path: str | Path) -> str:
    """Return the name of a file, of a URL without its query, and made of letters that any disk takes.

    >>> name_of("https://x.org/files/a%20b.bed.gz?token=1"), name_of("tracks/a b.bed")
    ('a_20b.bed.gz', 'a b.bed')
    """
    if not is_url(path):
        return Path(path).name
    parts = _PARTS.match(written(path))
    last = parts["path"].rstrip("/").rpartition("/")[2] if parts else ""
    return re.sub(r"[^A-Za-z0-9.=,_-]+", "_", last)[-_LONGEST_NAME:].lstrip(".-_") or "input"


def _query(text: str) -> list[tuple[str, str]]:
    """Return the names and values of a query, in order."""
    pairs = (part.partition("=") for part in text.partition("#")[0].split("&") if part)
    return [(name, value) for name, _, value in pairs]
