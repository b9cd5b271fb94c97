"""Packages that some tests need and not everybody has. They are imported when a test asks for them, and not by every process
that only reads which tests there are."""

from __future__ import annotations

from importlib import import_module
from importlib.util import find_spec
from types import ModuleType
from typing import Any

import pytest


def needs(package: str, extra: str = "") -> pytest.MarkDecorator:
    """A mark that skips tests where a package is not installed."""
    reason = f"the extra {extra} is not installed" if extra else f"{package} is not installed"
    return pytest.mark.skipif(find_spec(package) is None, reason=reason)


class Later(ModuleType):
    """A package that is imported when something of it is first asked for."""

    def __getattr__(self, name: str) -> Any:
        return getattr(import_module(self.__name__), name)
