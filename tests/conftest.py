"""Fixtures: the tiny world of tests/tiny.py, and a model trained on it once per session."""

from __future__ import annotations

import os

os.environ.setdefault("OMP_NUM_THREADS", "1")  # tests run side by side; one thread each, and the same sums everywhere

from pathlib import Path

import pytest
import torch

from kit import tiny
from mfd_cli.dataset.folder import Dataset
from mfd_cli.runs.folder import Run

torch.set_num_threads(1)


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """Tests marked gpu are skipped where there is no CUDA device."""
    for item in items:
        if "gpu" in item.keywords and not torch.cuda.is_available():
            item.add_marker(pytest.mark.skip(reason="no CUDA device"))


@pytest.fixture
def tiny_dataset(tmp_path: Path) -> Dataset:
    return tiny.dataset(tmp_path / "dataset")


@pytest.fixture(scope="session")
def trained(tmp_path_factory: pytest.TempPathFactory) -> tuple[Run, Dataset]:
    """A run on the tiny world and its dataset; read only."""
    from mfd_cli.training.train import train

    folder = tmp_path_factory.mktemp("trained")
    world = tiny.dataset(folder / "dataset")
    return train(tiny.project(folder, train={"epochs": 40, "batch_size": 32, "lr": 0.01}), gpus=0), world
