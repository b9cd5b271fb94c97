"""A Ray cluster on this machine: the bytes of one process, also where a node is killed in the middle."""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
import tempfile
import threading
import time
from collections.abc import Iterator
from pathlib import Path
from types import ModuleType
from typing import Any

import pytest

from kit import ray_driver
from kit.harm import SOAK, in_process, snapshot, trained_project
from kit.needed import Later, needs
from kit.places import TESTS
from kit.toy_job import Squares, pieces
from mfd_cli.base.errors import ConfigError
from mfd_cli.engine import on_ray
from mfd_cli.engine.jobs import Workplace, at_work
from mfd_cli.engine.on_ray import ray_actors
from mfd_cli.engine.parts import parts_folder
from mfd_cli.predictions import predict
from mfd_cli.variants import records

pytestmark = needs("ray")
cluster_utils = Later("ray.cluster_utils")
CPU = ["--gpus", "0", "--threads", "1", "-q"]
LINES = {
    "predict": ["predict", "-r", "all", "-o", "predictions", *CPU],
    "score-variants": ["score-variants", "input.vcf", *CPU],
}
LIMIT = 600
"""Seconds that work on the cluster may take: on busy cores a minute to start, and another to see that a machine is gone."""


def on_cluster(cluster: Any, folder: Path, *words: str) -> subprocess.CompletedProcess[str]:
    """Run kit/ray_driver.py in a folder to its end, or for LIMIT seconds.

    What it says goes to files: a pipe would be waited for as long as any process of Ray's holds its other end.
    """
    driver = [sys.executable, ray_driver.__file__, cluster.address, *words]
    with tempfile.TemporaryFile("w+") as said, tempfile.TemporaryFile("w+") as told:
        done = subprocess.run(driver, cwd=folder, stdout=said, stderr=told, timeout=LIMIT)
        for file in (said, told):
            file.seek(0)
        return subprocess.CompletedProcess(driver, done.returncode, said.read(), told.read())


@pytest.fixture(scope="module")
def cluster() -> Iterator[Any]:
    os.environ["PYTHONPATH"] = str(TESTS)  # of the workers, for kit.toy_job
    made = cluster_utils.Cluster(
        initialize_head=True,
        head_node_args={"num_cpus": 1, "object_store_memory": 80_000_000, "include_dashboard": False},
    )
    made.add_node(num_cpus=1, object_store_memory=80_000_000)
    yield made
    made.shutdown()
    del os.environ["PYTHONPATH"]


@pytest.fixture(scope="module")
def template(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("ray") / "p"
    trained_project(folder)
    return folder


@pytest.mark.slow
def test_the_parts_of_a_cluster_are_those_of_this_process(cluster: Any, tmp_path: Path) -> None:
    made = on_cluster(cluster, tmp_path, "squares")
    expected = [" ".join(str(number**2) for number in piece.what) for piece in pieces()]
    assert made.stdout.splitlines() == expected, made.stderr
    failed = on_cluster(cluster, tmp_path, "squares", "error")
    assert failed.returncode == 1 and "RunError: thirteen" in failed.stderr


@pytest.mark.parametrize("name", list(LINES) if SOAK else ["score-variants"])
@pytest.mark.slow
def test_a_node_that_is_killed_changes_no_byte(
    name: str, cluster: Any, template: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(predict, "PREDICTED_AT_ONCE", ray_driver.PREDICTED_AT_ONCE)  # sums of as many at once, as there
    monkeypatch.setattr(records, "CHUNK", ray_driver.CHUNK)
    alone, elsewhere = (Path(shutil.copytree(template, tmp_path / where)) for where in ("alone", "elsewhere"))
    assert in_process(LINES[name], alone).code == 0
    doomed = cluster.add_node(num_cpus=1, object_store_memory=80_000_000)
    parts = parts_folder(elsewhere / ("predictions" if name == "predict" else "input.mfd.vcf.gz"))
    killed: list[int] = []

    def kill() -> None:
        while len(list(parts.glob("*.part"))) < 4:
            time.sleep(0.01)
        killed.append(len(list(parts.glob("*.part"))))
        cluster.remove_node(doomed, allow_graceful=False)

    thread = threading.Thread(target=kill, daemon=True)
    thread.start()
    done = on_cluster(cluster, elsewhere, "mfd", *LINES[name])
    thread.join(30)
    assert done.returncode == 0, done.stderr
    assert killed and snapshot(elsewhere) == snapshot(alone)


def test_no_cluster_and_no_ray_are_told(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    job = Squares()
    with pytest.raises(ConfigError, match=r"there is no Ray cluster at 127\.0\.0\.1:1"):
        with at_work(job, job.here, None, Workplace(start=ray_actors("127.0.0.1:1", 1, False))):
            pass

    def missing(name: str) -> None:
        raise ImportError(name)

    monkeypatch.setattr(on_ray, "import_module", missing)
    with pytest.raises(ConfigError, match="needs the package ray") as raised:
        with at_work(job, job.here, None, Workplace(start=ray_actors("auto", 1, False))):
            pass
    assert raised.value.hint == "pip install 'mfd-cli[ray]'"


def test_a_cluster_that_does_not_let_go_is_left_to_itself(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(on_ray, "LAST_ANSWERS", 0.2)
    asked, never = threading.Event(), threading.Event()

    def shutdown() -> None:
        asked.set()
        never.wait(60)

    ray = ModuleType("ray")
    ray.shutdown = shutdown  # type: ignore[attr-defined]
    on_ray.shut_down(ray)
    assert asked.is_set()
    never.set()
