"""The inputs that `mfd fetch-inputs` has fetched, found by their URLs. Nothing here reaches for the network.

    urls/KEY.json        what a URL led to: its sha256, md5 and bytes; KEY is a digest of the URL
    files/SHA256/NAME    the content, whole, in a folder named by its digest; NAME is the one that the URL ends with
    partial/KEY.part     what has come of a file so far, with KEY.json, which says of which version of it

One content is there once, whatever leads to it. The folder may be shared: see `inputs_folder`.
"""

from __future__ import annotations

import json
import os
import re
from dataclasses import dataclass
from pathlib import Path

from mfd_cli.base.errors import ConfigError
from mfd_cli.base.urls import SCHEMES, key_of, scheme_of

PLACE = "MFD_INPUTS"
"""The environment variable that names the folder of fetched inputs."""


@dataclass(frozen=True)
class Fetched:
    """A file that was fetched: where it lies, the digests of its content (hexadecimal), and its bytes."""

    path: Path
    sha256: str
    md5: str
    bytes: int


def inputs_folder() -> Path:
    """Return the folder of fetched inputs: what MFD_INPUTS names, or `mfd/inputs` in the user's folder for caches.

    ConfigError where there is neither.
    """
    if os.environ.get(PLACE):
        return Path(os.environ[PLACE])
    try:
        return Path(os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache") / "mfd" / "inputs"
    except RuntimeError:
        raise ConfigError(
            "there is no home folder in which fetched inputs could lie", hint=f"{PLACE}=FOLDER names another"
        ) from None


def entry_of(url: str | Path, folder: Path) -> Path:
    """Return the file that says what a URL led to."""
    return folder / "urls" / f"{key_of(url)}.json"


def fetched(url: str | Path, folder: Path | None = None) -> Fetched | None:
    """Return the file that was fetched from a URL; None where there is none, or it is no longer whole.

    A URL of a scheme that is not fetched has none.
    """
    if scheme_of(url) not in SCHEMES:
        return None
    folder = folder or inputs_folder()
    try:
        entry = json.loads(entry_of(url, folder).read_text("utf-8"))
        name, digest, md5, size = entry["name"], entry["sha256"], entry["md5"], entry["bytes"]
        if not re.fullmatch("[0-9a-f]{64}", digest) or Path(name).name != name:
            return None
        path = folder / "files" / digest / name
        return Fetched(path, digest, md5, size) if path.stat().st_size == size else None
    except (OSError, ValueError, TypeError, KeyError):  # not there, or not what we wrote: it is fetched again
        return None
