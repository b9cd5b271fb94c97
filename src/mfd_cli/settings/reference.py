"""Every setting of mfd.toml in words: what `mfd settings` prints and the page Settings of the documentation shows."""

from __future__ import annotations

import inspect
import json
import re
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import Annotated, Any, Literal, get_args, get_origin

from pydantic import BaseModel
from pydantic.fields import FieldInfo

from mfd_cli.base.errors import ConfigError, nearest
from mfd_cli.settings.config import Config

NAMES = {"factors.NAME": "assay", "objective.penalties.NAME": "distance"}
"""What stands for NAME in an example."""


@dataclass(frozen=True)
class Setting:
    """One setting: the `section` of mfd.toml and its `key` there, and in words, as TOML, what may be set.

    `default` is empty where there is none, `required` where the setting must be there; `example` is a value.
    """

    section: str
    key: str
    values: str
    default: str
    meaning: str
    example: str

    @property
    def name(self) -> str:
        """The dotted name, as --set takes it."""
        return f"{self.section}.{self.key}"

    @property
    def option(self) -> str:
        """An example as an option of the command line."""
        section = NAMES.get(self.section)
        name = f"{self.section.removesuffix('NAME')}{section}.{self.key}" if section else self.name
        text = self.example.strip('"')  # what is no TOML is taken as a text
        return f"--set {name}={text}" if re.fullmatch(r"[\w.-]+", text) else f"--set '{name}={self.example}'"


def settings(prefix: str = "") -> list[Setting]:
    """Return every setting whose dotted name begins with `prefix` (`train`, `train.lr`), in the order of the configuration.

    Raises ConfigError, with the nearest name, where there is none.
    """
    every = [setting for section, node in sections() for setting in settings_of(section, node)]
    chosen = [each for each in every if f"{each.name}.".startswith(f"{prefix}." if prefix else "")]
    if not chosen:
        names = [*dict.fromkeys(each.section for each in every), *(each.name for each in every)]
        raise ConfigError(f"there is no setting {prefix!r}{nearest(prefix, names)}")
    return chosen


def sections(root: type[BaseModel] = Config) -> Iterator[tuple[str, type[BaseModel]]]:
    """Yield every table of mfd.toml, or of a file with another root, by name, each before those inside it."""
    for name, field in root.model_fields.items():
        yield from _tables(name, field)


def _tables(name: str, field: FieldInfo) -> Iterator[tuple[str, type[BaseModel]]]:
    """The tables that a field is, or holds: NAME.x and those in it; of a mapping of names, NAME.NAME."""
    mapped = get_args(field.annotation)[1] if get_origin(field.annotation) is dict else None
    if inspect.isclass(mapped) and issubclass(mapped, BaseModel):
        yield f"{name}.NAME", mapped
    elif inspect.isclass(field.annotation) and issubclass(field.annotation, BaseModel):
        yield name, field.annotation
        for key, inner in field.annotation.model_fields.items():
            yield from _tables(f"{name}.{key}", inner)


def settings_of(section: str, node: type[BaseModel]) -> Iterator[Setting]:
    """Yield the settings of one table."""
    for key, field in node.model_fields.items():
        if inspect.isclass(field.annotation) and issubclass(field.annotation, BaseModel):
            continue  # a table of its own
        default = "required" if field.is_required() else as_toml(field.get_default(call_default_factory=True))
        values = values_of(field.annotation)
        yield Setting(section, key, values, default, field.description or "", example_of(field, default))


def example_of(field: FieldInfo, default: str) -> str:
    """Return a value of a setting as TOML: one that is written beside it, or else its default."""
    return as_toml(field.examples[0]) if field.examples else default


def as_toml(value: Any) -> str:
    """Return a value as TOML; nothing for None, which mfd.toml says by leaving the setting out.

    >>> as_toml({"weight": 0.4}), as_toml(("a", "b")), as_toml(True)
    ('{weight = 0.4}', '["a", "b"]', 'true')
    """
    if value is None:
        return ""
    if isinstance(value, BaseModel):
        return as_toml(value.model_dump(exclude_defaults=True))
    if isinstance(value, Mapping):
        return f"{{{', '.join(f'{key} = {as_toml(each)}' for key, each in value.items())}}}"
    if isinstance(value, list | tuple):
        return f"[{', '.join(map(as_toml, value))}]"
    return json.dumps(value)


def values_of(kind: Any) -> str:
    """Return the values that a setting takes, in words."""
    plain = {str: "text", int: "whole number", float: "number", bool: "true, false", tuple: "list", dict: "table"}
    if get_origin(kind) is Literal:
        return ", ".join(json.dumps(value) for value in get_args(kind))
    if kind in plain or get_origin(kind) in plain:
        return plain[kind if kind in plain else get_origin(kind)]
    inner = [argument for argument in get_args(kind) if argument is not type(None)]
    if get_origin(kind) is Annotated:
        return values_of(inner[0])
    return " or ".join(dict.fromkeys(values_of(argument) for argument in inner))
