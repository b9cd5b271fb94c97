"""Fixtures: the tiny world of kit/tiny.py, and a model that was trained on it."""

from __future__ import annotations

import faulthandler
import gc
import os
import sys

# Tests run side by side: one thread each. `make test-isa` asks for two, which is another machine: sums come in another order.
os.environ.setdefault("OMP_NUM_THREADS", "1")

import shutil
from pathlib import Path

import pytest
import torch

from kit import tiny
from kit.places import FIXTURES
from kit.sketch import AS_EVER, EVERY, sketch
from mfd_cli.dataset.folder import Dataset
from mfd_cli.runs.folder import Run, load_run

torch.set_num_threads(int(os.environ["OMP_NUM_THREADS"]))
sketch()
# What one process has compiled, the many that tests start need not compile again.
os.environ.pop("PYTHONDONTWRITEBYTECODE", None)
sys.dont_write_bytecode = False


# Long pauses between collections of garbage: what libraries keep for ever would be looked through again and again.
gc.set_threshold(20_000, 20, 20)

LONG_FILES = (
    "test_bad_inputs", "test_shapes", "test_cli", "test_disentangling", "test_explain", "test_processes", "test_on_ray",
    "test_shared_work", "test_json_results", "test_train", "test_small_worlds", "test_qc", "test_run_report", "test_crashes",
    "test_odd_explanations", "test_record", "test_start", "test_mixed_training", "test_add_tracks", "test_strands",
    "test_workflow", "test_tutorial_notebook", "test_help", "test_force", "test_stretched_training", "test_sweep",
    "test_odd_evaluations", "test_part_deviations", "test_kinds_of_projects", "test_documentation", "test_packaging",
    "test_simulate", "test_odd_projects", "test_enhancers", "test_resources",
)  # fmt: skip
"""Files that take longest of all, longest first."""
LONG_ROOMS = ("whole", "training", "engine", "cli", "view", "evaluation", "explain", "simulate")
"""Rooms of tests whose other files take longest, longest first. `make test` deals whole files to its workers in this order,
so that what a file sets up is set up once, and no worker is left with a long file at the end."""


LAST_MINUTES = 300
"""Seconds that the end may take when all tests have been run."""


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """Tests of the files and rooms that take longest come first; those marked gpu are skipped without a CUDA device."""
    rank = {name: number for number, name in enumerate((*LONG_FILES, *LONG_ROOMS))}
    items.sort(key=lambda item: rank.get(item.path.stem, rank.get(item.path.parent.name, len(rank))))
    for item in items:
        if "gpu" in item.keywords and not torch.cuda.is_available():
            item.add_marker(pytest.mark.skip(reason="no CUDA device"))


@pytest.hookimpl(tryfirst=True)
def pytest_sessionfinish(session: pytest.Session) -> None:
    """Whatever keeps a process of the tests from ending is told, with the stacks of its threads, and ended."""
    capture = session.config.pluginmanager.getplugin("capturemanager")
    if capture is not None:
        capture.suspend_global_capture()
    faulthandler.dump_traceback_later(LAST_MINUTES, exit=True, file=sys.__stderr__)


def pytest_unconfigure() -> None:
    """Nothing keeps it."""
    faulthandler.cancel_dump_traceback_later()


@pytest.fixture
def whole_pictures(monkeypatch: pytest.MonkeyPatch) -> None:
    """Pictures are drawn as a user gets them, and not as sketches."""
    monkeypatch.setattr("matplotlib.figure.Figure.savefig", AS_EVER)


@pytest.fixture
def tiny_dataset(tmp_path: Path) -> Dataset:
    return tiny.dataset(tmp_path / "dataset")


@pytest.fixture
def every_sketch(monkeypatch: pytest.MonkeyPatch) -> None:
    """Pictures are drawn as sketches, however often that was done in this file."""
    monkeypatch.setenv(EVERY, "1")


@pytest.fixture(scope="session")
def trained(tmp_path_factory: pytest.TempPathFactory) -> tuple[Run, Dataset]:
    """A run on the tiny world and its dataset; read only. Its weights are stored (see kit/make_trained.py): what tests say of
    it does not depend on where a training ends on this processor."""
    folder = tmp_path_factory.mktemp("trained")
    shutil.copytree(FIXTURES / "trained", folder / "run")
    return load_run(folder / "run"), tiny.dataset(folder / "dataset")
