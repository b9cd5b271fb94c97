"""Every kind of file, changed in every way that harm_*.py lists, through the real commands.

In this process for speed, and one of each kind in a process of its own; `make soak` runs all of them there.
"""

from __future__ import annotations

import importlib
from pathlib import Path

import pytest

from kit import harm
from kit.places import TESTS

MODULES = sorted(path.stem for path in (TESTS / "kit").glob("harm_*.py"))
KINDS = {kind.name: kind for module in MODULES for kind in importlib.import_module(f"kit.{module}").KINDS}
CASES = [
    pytest.param(kind, change, id=f"{kind.name}-{change.name}") for kind in KINDS.values() for change in kind.changes
]
FIRST = [pytest.param(kind, kind.changes[0], id=kind.name) for kind in KINDS.values()]


@pytest.fixture(scope="session")
def templates(tmp_path_factory: pytest.TempPathFactory) -> dict[bool, Path]:
    """A good project, and a trained one."""
    folder = tmp_path_factory.mktemp("templates")
    harm.good_project(folder / "good")
    harm.trained_project(folder / "trained")
    return {False: folder / "good", True: folder / "trained"}


@pytest.mark.parametrize("kind", [pytest.param(kind, id=name) for name, kind in KINDS.items()])
def test_the_good_file_is_read(kind: harm.Kind, templates: dict[bool, Path], tmp_path: Path) -> None:
    unchanged = harm.Change("nothing", lambda path: None, "read")
    assert harm.tried(kind, unchanged, templates[kind.trained], tmp_path / "p", harm.in_process) == ""


@pytest.mark.parametrize(("kind", "change"), CASES)
def test_changes(kind: harm.Kind, change: harm.Change, templates: dict[bool, Path], tmp_path: Path) -> None:
    run = harm.in_subprocess if harm.SOAK else harm.in_process
    assert harm.tried(kind, change, templates[kind.trained], tmp_path / "p", run) == ""


@pytest.mark.parametrize(("kind", "change"), FIRST)
def test_in_a_process_of_its_own(
    kind: harm.Kind, change: harm.Change, templates: dict[bool, Path], tmp_path: Path
) -> None:
    assert harm.tried(kind, change, templates[kind.trained], tmp_path / "p", harm.in_subprocess) == ""


@pytest.mark.parametrize("kind", [pytest.param(kind, id=name) for name, kind in KINDS.items()])
def test_there_are_enough_changes(kind: harm.Kind) -> None:
    names = [change.name for change in kind.changes]
    assert len(names) >= 60 and len(set(names)) == len(names)
