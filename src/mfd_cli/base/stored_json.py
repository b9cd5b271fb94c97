"""Our own JSON files (manifest.json, model.json, state.json), read back without trust.

Each is checked for its format and version, against the digest of what it says, and for the type of every entry that is used.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Mapping
from pathlib import Path
from typing import Annotated, Any, NoReturn

import numpy as np
from pydantic import BaseModel, ConfigDict, Field, ValidationError

from mfd_cli.base.errors import MfdError
from mfd_cli.base.files import check_input, write_json

DIGEST = "digest"
"""The entry that holds the digest of all others."""
Natural = Annotated[int, Field(ge=0, lt=1 << 63)]
Sha256 = Annotated[str, Field(pattern="^[0-9a-f]{64}$")]


class Stored(BaseModel):
    """What an object in a file of ours must hold. Other entries are let through."""

    model_config = ConfigDict(strict=True, allow_inf_nan=False, protected_namespaces=())


def write_stored(path: Path, value: Mapping[str, Any]) -> None:
    """Write a JSON file whole, with the digest of what it says."""
    write_json(path, {**value, DIGEST: digest_of(value)})


def digest_of(value: Mapping[str, Any]) -> str:
    """Return the sha256 of plain values, however they are laid out in a file."""
    return hashlib.sha256(json.dumps(value, sort_keys=True).encode()).hexdigest()


def read_stored(
    path: Path, schema: type[Stored], error: type[MfdError], hint: str, version: tuple[str, int] | None = None
) -> dict[str, Any]:
    """Read what `write_stored` wrote, without its digest.

    Raises an `error` that names the entry where it is damaged, or of another format and version than `version`.
    """
    check_input(path, error)
    try:
        stored = json.loads(path.read_text("utf-8"), parse_constant=_not_json)
    except (ValueError, RecursionError) as cause:
        raise error("is not JSON text", path=path, hint=hint) from cause
    if not isinstance(stored, dict):
        raise error("is not a JSON object", path=path, hint=hint)
    own = (stored.get("format"), stored.get("version"))
    if version is not None and (own != version or isinstance(own[1], bool)):  # in JSON true == 1
        shown = f"{str(own[0])[:40]} version {str(own[1])[:20]}"
        raise error(f"is {shown}, not {version[0]} version {version[1]}", path=path, hint=hint)
    if stored.pop(DIGEST, None) != digest_of(stored):
        raise error("is damaged: it says something else than when it was written", path=path, hint=hint)
    check_stored(stored, schema, path, error, hint)
    return stored


def check_stored(value: Any, schema: type[Stored], path: Path, error: type[MfdError], hint: str) -> None:
    """Raise an `error` that names the first entry which is missing, or not what it should be."""
    try:
        schema.model_validate(value, strict=True)
    except ValidationError as cause:
        first = cause.errors(include_url=False)[0]
        where = ".".join(str(part)[:60] for part in first["loc"])[:200]
        what = first["msg"].removeprefix("Value error, ")
        raise error(f"{where + ': ' if where else ''}{what[:300]}", path=path, hint=hint) from cause


def _not_json(constant: str) -> NoReturn:
    raise ValueError(f"{constant} is not JSON")


def without_nan(value: Any) -> Any:
    """Return plain values with None, which JSON knows, in place of NaN, which it does not."""
    if isinstance(value, Mapping):
        return {key: without_nan(item) for key, item in value.items()}
    if isinstance(value, (list, tuple)):
        return [without_nan(item) for item in value]
    return None if isinstance(value, float) and np.isnan(value) else value
