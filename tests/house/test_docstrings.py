"""The examples in docstrings give what they say."""

from __future__ import annotations

import doctest
from importlib import import_module

import pytest

from kit.places import SOURCE

SHOWN = [
    ".".join(file.relative_to(SOURCE.parent).with_suffix("").parts)
    for file in sorted(SOURCE.rglob("*.py"))
    if ">>> " in file.read_text()
]


@pytest.mark.parametrize("module", SHOWN)
def test_examples(module: str) -> None:
    failed, tried = doctest.testmod(import_module(module))
    assert tried and not failed
