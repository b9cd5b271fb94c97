"""Plain values made into a configuration, or what is wrong with them: in the words of TOML, with the nearest right key."""

from __future__ import annotations

import json
import re
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, TypeVar, get_args

from pydantic import BaseModel, ValidationError

from mfd_cli.base.errors import ConfigError, nearest
from mfd_cli.settings.config import Config, PenaltyName
from mfd_cli.settings.node import Node

Root = TypeVar("Root", bound=Node)
"""The class of a whole file of settings."""


def parse_config(
    tree: Mapping[str, Any],
    path: Path = Path("configuration"),
    lines: Sequence[str] = (),
    options: Mapping[str, str] | None = None,
) -> Config:
    """Return the configuration that plain values make: those of mfd.toml, or as stored in a manifest or a model; see
    `parse_settings`."""
    return parse_settings(Config, tree, path, lines, options)


def parse_settings(
    root: type[Root],
    tree: Mapping[str, Any],
    path: Path = Path("configuration"),
    lines: Sequence[str] = (),
    options: Mapping[str, str] | None = None,
) -> Root:
    """Return the tree of settings, of the class `root`, that plain values make.

    `path` and `lines` are the file they come from and its lines, which an error names; `options` are those values that were
    set on the command line, see `option_of`. Raises ConfigError.
    """
    try:
        return root.model_validate(dict(tree))
    except ValidationError as error:
        keys, message, missing = _fault(error, tree, root)
        present = keys[:-1] if missing else keys
        option = option_of(present, options or {})
        if option is not None:
            raise ConfigError(f"{option}: {message}" if option else message) from error
        raise ConfigError(message, path=path, line=_line_of(present, lines)) from error


def option_of(keys: Sequence[str], options: Mapping[str, str]) -> str | None:
    """Return how a setting was written on the command line, the last time; None where it was not.

    `options` maps dotted keys to what was written, empty for a flag of its own. A section is set by any of its keys.

    >>> option_of(["split", "test"], {"split.test": "--set split.test=chr1"})
    '--set split.test=chr1'
    """
    for key, written in reversed(list(options.items())) if keys else ():
        own = _names_in(key)
        if own[: len(keys)] == list(keys[: len(own)]):
            return written
    return None


_PLAINER = {
    "model_type": "Input should be a section", "dict_type": "Input should be a section",
    "tuple_type": 'Input should be a list, such as ["a", "b"]', "string_too_short": "Input should not be empty",
    "float_parsing": "Input should be a number", "int_parsing": "Input should be a whole number",
}  # fmt: skip
"""What pydantic says, by type, in the words of TOML."""


def _fault(error: ValidationError, tree: Mapping[str, Any], root: type[Node]) -> tuple[list[str], str, bool]:
    """Return the keys that an error is about, what is wrong with them in words, and whether the last of them is missing."""
    faults = [(_keys_of(each, tree), each) for each in error.errors()]
    # A misspelt key also leaves the right one missing: the misspelling is what the user can see.
    keys, first = next((pair for pair in faults if pair[1]["type"] == "extra_forbidden"), faults[0])
    kind, dotted, missing = first["type"], ".".join(keys)[:120], first["type"] == "missing"
    if kind == "extra_forbidden":
        return keys, f"unknown key {dotted}{nearest(keys[-1], _known_keys(root, keys[:-1]))}", missing
    if kind == "literal_error" and first["loc"][-1] == "[key]":
        return keys, f"unknown key {dotted}{nearest(keys[-1], get_args(PenaltyName))}", missing
    alternatives = [_PLAINER.get(e["type"], e["msg"].removeprefix("Value error, ")) for own, e in faults if own == keys]
    others = [alternative.removeprefix("Input should ") for alternative in alternatives[1:]]
    message = " or ".join(dict.fromkeys([alternatives[0], *others]))
    if not keys:  # found by the root's own check, whose message begins with the key
        return message.split(" ")[0].rstrip(":").split("."), message, missing
    value = first.get("input")
    shown = "" if isinstance(value, (dict, Node)) else f" ({json.dumps(value, default=str)[:80]})"
    return keys, f"{dotted}: {message}{shown}", missing


def _keys_of(error: Any, tree: Any) -> list[str]:
    """Return the keys of the file that lead to an error, without indices of lists and pydantic's names of alternatives."""
    keys = []
    for part in error["loc"]:
        if isinstance(tree, Mapping) and part in tree:
            keys.append(str(part))
            tree = tree[part]
        elif isinstance(tree, Sequence) and isinstance(part, int):
            tree = tree[part]
    return [*keys, str(error["loc"][-1])] if error["type"] == "missing" else keys


def _known_keys(root: type[Node], parents: Sequence[str]) -> list[str]:
    """Return the keys that may stand under a dotted name."""
    node: type[BaseModel] = root
    for index, parent in enumerate(parents):
        field = node.model_fields.get(parent)
        if field is None:
            return list(node.model_fields)
        for candidate in (field.annotation, *get_args(field.annotation)):
            if isinstance(candidate, type) and issubclass(candidate, BaseModel):
                node = candidate
        if get_args(field.annotation) and index + 1 < len(parents):
            return list(node.model_fields)
    return list(node.model_fields)


def _line_of(keys: Sequence[str], lines: Sequence[str]) -> int | None:
    """Return the line of a key in the file: the last line that assigns it inside its section, or the section's header."""
    section, best = list[str](), None
    for number, line in enumerate(lines, start=1):
        if header := re.match(r"\s*\[+([^\]]+)\]", line):
            section = _names_in(header[1])
            if section == keys:
                return number
        elif assigned := re.match(r"\s*([^=#\[\]]+)=", line):
            whole = [*section, *_names_in(assigned[1])]
            if whole == keys[: len(whole)]:
                best = number
    return best


def _names_in(dotted: str) -> list[str]:
    """Return the parts of a dotted name such as `factors."my lab"`, without quotes."""
    return [part.strip().strip("\"'") for part in dotted.split(".")]
