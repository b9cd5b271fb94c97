"""A project: `mfd.toml`, what the command line changes in it, and the folder that its paths are relative to."""

from __future__ import annotations

import os
import re
import tomllib
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from pydantic import Field

from mfd_cli.base.errors import ConfigError
from mfd_cli.base.fetched import fetched
from mfd_cli.base.files import check_input
from mfd_cli.base.notebook import one_line
from mfd_cli.base.urls import is_url, written
from mfd_cli.settings.config import Config
from mfd_cli.settings.node import Node
from mfd_cli.settings.parse import option_of, parse_config

_LARGEST = 1 << 20
"""Bytes of mfd.toml."""
_LONG_KEY = re.compile(r"(?<![^\s=,\[{])(?:[^\s.=,#\[\]{}]++[ \t]*+\.[ \t]*+){100}")
"""A key of so many names, over which tomllib would take for ever."""


class Project(Node):
    """A configuration and the folder that its paths are relative to."""

    config: Config
    folder: Path
    file: Path | None = None
    options: dict[str, str] = Field(default_factory=dict)
    """What the command line sets, by dotted key, as it was written there (empty for a flag of its own)."""

    def __repr__(self) -> str:
        return one_line(self, f"{str(self.file or self.folder)!r}: factors {', '.join(self.config.factors) or 'none'}")

    def path(self, value: str) -> Path:
        """Return a path of the configuration as seen from the current folder."""
        return located(self.folder, value)

    @property
    def dataset(self) -> Path:
        """The dataset folder, as seen from the current folder."""
        return self.path(self.config.data.dataset)

    @property
    def run(self) -> Path:
        """The run folder, as seen from the current folder."""
        return self.path(self.config.data.run)


def located(folder: Path, name: str) -> Path:
    """Return a path that is relative to a folder; of a URL where its content lies.

    A URL that has not been fetched stays as it is, so that `check_input` can say so.
    """
    if not is_url(name):
        return folder / name
    found = fetched(name)
    return found.path if found is not None else Path(name)


@contextmanager
def errors_name(project: Project) -> Iterator[None]:
    """Name the option of the command line, or else the project's file, in an error that a setting does not fit the data."""
    try:
        yield
    except ConfigError as error:
        option = option_of(error.message.split(" ")[0].rstrip(":").split("."), project.options)
        if error.path is None and option is None:
            error.path = project.file
        elif error.path is None and option:
            error.message = f"{option}: {error.message}"
        raise


def load_project(
    file: str | Path | None = None, overrides: Sequence[str] = (), flags: Mapping[str, Any] | None = None
) -> Project:
    """Read `mfd.toml` (default: the one in the current folder), then apply `--set a.b=c` and flags, in that order.

    `flags` maps dotted names to values; those that are None are ignored. Paths given as flags are relative to the
    current folder, those in the file to the file. Raises ConfigError with the file, the line and the nearest key.
    """
    read = read_settings(file, "mfd.toml", overrides, flags, hint="mfd init writes one")
    config = parse_config(read.tree, read.path, read.lines, read.options)
    return Project(config=config, folder=read.path.parent, file=read.file, options=read.options)


@dataclass(frozen=True)
class ReadSettings:
    """What a file of settings and the command line say: the tree of plain values, where it lies and its lines, and what the
    command line set, by dotted key, as it was written there (empty for a flag of its own)."""

    tree: dict[str, Any]
    path: Path
    lines: list[str]
    options: dict[str, str]

    @property
    def file(self) -> Path | None:
        """The file, where there is one."""
        return self.path if self.path.is_file() else None


def read_settings(
    file: str | Path | None, default: str, overrides: Sequence[str], flags: Mapping[str, Any] | None, hint: str
) -> ReadSettings:
    """Read a file of settings (default: `default` in the current folder, if it is there), then apply what the command line
    sets, see `load_project`. `hint` says what makes such a file. ConfigError with the file and the line."""
    path = Path(file or default)
    tree: dict[str, Any] = {}
    lines: list[str] = []
    if os.path.lexists(path):
        text = _read_text(path)
        tree, lines = _read_toml(text, path), text.split("\n")
    elif file is not None:
        raise ConfigError("no such configuration file", path=path, hint=hint)
    settings = [_key_and_value(override) for override in overrides]
    _make_way(tree, [key for key, _ in settings])
    for key, value in settings:
        _put(tree, key, value)
    options = {key: f"--set {override}" for (key, _), override in zip(settings, overrides)}
    for key, value in (flags or {}).items():
        if value is not None:
            _put(tree, key, _as_text(value) if isinstance(value, Path) else value)
            options[key] = ""
    return ReadSettings(tree, path, lines, options)


def _as_text(path: Path) -> str:
    """Return a path of the command line as it may stand in a file elsewhere."""
    return written(path) if is_url(path) else str(path.absolute())


def _read_text(path: Path) -> str:
    """Read a file of settings as text. ConfigError where it is too large or no UTF-8."""
    size = check_input(path, ConfigError).stat().st_size
    if size > _LARGEST:
        raise ConfigError(f"is too large for a file of settings ({size:,} bytes)", path=path)
    try:
        return path.read_bytes().decode("utf-8-sig")
    except UnicodeDecodeError as error:
        raise ConfigError("is not UTF-8 text", path=path) from error


def _read_toml(text: str, path: Path) -> dict[str, Any]:
    """Return the tree of values of a TOML text. ConfigError with the line where it is none."""
    if long := _LONG_KEY.search(text):
        before = text.count("\n", 0, long.start())
        raise ConfigError("is no file of settings: a key has more than 100 names", path=path, line=before + 1)
    try:
        return tomllib.loads(text)
    except RecursionError as error:
        raise ConfigError("is not TOML: too many brackets in each other", path=path) from error
    except ValueError as error:  # not always a TOMLDecodeError: a number may have too many digits
        position = re.search(r"at line (\d+)", str(error))
        line = int(position[1]) if position else None
        raise ConfigError(f"is not TOML: {str(error).split(' (at')[0]}", path=path, line=line) from error


def _toml_value(text: str) -> Any:
    """Return the value of KEY=VALUE: TOML where it parses (numbers, lists, true), otherwise the text itself."""
    try:
        return tomllib.loads(f"value = {text}")["value"]
    except (ValueError, RecursionError):
        return text


REPLACED = {"split.folds": "split.test"}
"""What a setting of the command line takes the place of in the file, where the two contradict each other."""


def _key_and_value(override: str) -> tuple[str, Any]:
    """Return the dotted key and the value of `KEY=VALUE`. ConfigError where it is something else."""
    key, separator, text = override.partition("=")
    if not separator or not key.strip():
        raise ConfigError(f"--set {override}: expected KEY=VALUE", hint="for example --set train.epochs=5")
    return key.strip(), _toml_value(text.strip())


def _make_way(tree: dict[str, Any], keys: Sequence[str]) -> None:
    """Take the settings away that those of the command line replace, unless these are set there too."""
    for key in set(keys) & set(REPLACED):
        section, _, name = REPLACED[key].partition(".")
        if REPLACED[key] not in keys and isinstance(tree.get(section), dict):
            tree[section].pop(name, None)


def _put(tree: dict[str, Any], dotted: str, value: Any) -> None:
    """Set a value in a tree of sections by its dotted name. ConfigError where a value is in the way of a section."""
    *parents, last = dotted.split(".")
    for parent in parents:
        child = tree.setdefault(parent, {})
        if not isinstance(child, dict):
            raise ConfigError(f"--set {dotted}: {parent} is a value, not a section")
        tree = child
    tree[last] = value
