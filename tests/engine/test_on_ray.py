"""A Ray cluster on this machine: the bytes of one process, also where a node is killed in the middle."""

from __future__ import annotations

import os
import shutil
import threading
import time
from collections.abc import Iterator
from pathlib import Path
from types import ModuleType
from typing import Any

import pytest

from kit import harm
from kit.harm import SOAK, in_process, snapshot, trained_project
from kit.places import TESTS
from kit.toy_job import Squares, pieces
from mfd_cli.base.errors import ConfigError, RunError
from mfd_cli.engine import on_ray
from mfd_cli.engine.jobs import Workplace, at_work
from mfd_cli.engine.on_ray import ray_actors
from mfd_cli.engine.parts import parts_folder
from mfd_cli.predictions import predict
from mfd_cli.variants import records

cluster_utils = pytest.importorskip("ray.cluster_utils")
CPU = ["--gpus", "0", "--threads", "1", "-q"]
LINES = {
    "predict": ["predict", "-r", "all", "-o", "predictions", *CPU],
    "score-variants": ["score-variants", "input.vcf", *CPU],
}


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


def test_the_parts_of_a_cluster_are_those_of_this_process(cluster: Any, tmp_path: Path) -> None:
    job = Squares()
    with at_work(job, job.here, tmp_path / "out", Workplace(start=ray_actors(cluster.address, 2, False))) as work:
        made = [columns["power"].tolist() for _, columns in work.parts_of((piece, piece) for piece in pieces())]
    assert made == [[number**2 for number in piece.what] for piece in pieces()]
    job = Squares(worker="error")
    with pytest.raises(RunError, match="thirteen"):
        with at_work(job, job.here, tmp_path / "out", Workplace(start=ray_actors(cluster.address, 2, False))) as work:
            list(work.parts_of((piece, piece) for piece in pieces()))


@pytest.mark.parametrize("name", list(LINES) if SOAK else ["score-variants"])
def test_a_node_that_is_killed_changes_no_byte(
    name: str, cluster: Any, template: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(predict, "PREDICTED_AT_ONCE", 8)
    monkeypatch.setattr(records, "CHUNK", 1)
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

    monkeypatch.setattr(harm, "LIMIT", 240)  # on busy cores Ray takes a minute to see that a machine is gone
    thread = threading.Thread(target=kill, daemon=True)
    thread.start()
    done = in_process([*LINES[name], "--engine", "ray", "--address", cluster.address, "--workers", "3"], elsewhere)
    thread.join(30)
    assert done.code == 0, done.told
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
