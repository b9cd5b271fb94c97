"""Every kind of file, changed in every way that harm_*.py lists, through the real commands.

In this process for speed, and one of each kind in a process of its own; `make soak` runs all of them there.
"""

from __future__ import annotations

import importlib
import pickle
from collections.abc import Callable
from concurrent.futures import Executor, Future
from pathlib import Path
from typing import Any

import pytest

from kit import harm
from kit.places import TESTS
from mfd_cli.dataset import parse_tracks

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


class Here(Executor):
    """A pool of processes without processes: what goes in and what comes out is packed as on its way to one and back."""

    def __init__(self, *_: object) -> None:
        pass

    def submit(self, function: Callable[..., Any], /, *words: Any, **named: Any) -> Future[Any]:
        future: Future[Any] = Future()
        try:
            function, words = pickle.loads(pickle.dumps((function, words)))
            future.set_result(pickle.loads(pickle.dumps(function(*words, **named))))
        except Exception as error:
            future.set_exception(pickle.loads(pickle.dumps(error)))
        return future


@pytest.fixture
def no_pool(monkeypatch: pytest.MonkeyPatch) -> None:
    """Tracks are read in this process: starting others is most of what preprocess takes here."""
    if not harm.SOAK:
        monkeypatch.setattr(parse_tracks, "ProcessPoolExecutor", Here)
        monkeypatch.setattr(parse_tracks, "fork_server", lambda module: None)


@pytest.mark.parametrize("kind", [pytest.param(kind, id=name) for name, kind in KINDS.items()])
def test_the_good_file_is_read(kind: harm.Kind, templates: dict[bool, Path], tmp_path: Path) -> None:
    unchanged = harm.Change("nothing", lambda path: None, "read")
    assert harm.tried(kind, unchanged, templates[kind.trained], tmp_path / "p", harm.in_process) == ""


@pytest.mark.parametrize(("kind", "change"), CASES)
def test_changes(
    kind: harm.Kind, change: harm.Change, templates: dict[bool, Path], tmp_path: Path, no_pool: None
) -> None:
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
