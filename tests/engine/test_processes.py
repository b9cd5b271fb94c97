"""Training in two processes: the loss of one process, whichever way it is cut, and one run folder."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import numpy as np
import pytest
import torch

from kit import tiny
from mfd_cli.base.errors import ConfigError
from mfd_cli.engine.processes import Processes, launch


def train(folder: Path, run: str, processes: int, *words: str) -> int:
    """`mfd train` on the CPU in so many processes; its exit code."""
    before = Path.cwd()
    os.chdir(folder)
    try:
        return launch(processes, ["train", "--gpus", "0", "--threads", "1", "-q", "--run", run, *words])
    finally:
        os.chdir(before)


def losses(folder: Path) -> list[dict[str, float]]:
    return [json.loads(line) for line in (folder / "metrics.jsonl").read_text().splitlines()]


@pytest.fixture(scope="module")
def project(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A tiny planted project with every kind of penalty and a dataset."""
    folder: Path = tmp_path_factory.mktemp("processes") / "project"
    mfd = [sys.executable, "-m", "mfd_cli"]
    subprocess.run([*mfd, "simulate", str(folder), "--size", "tiny", "-q"], check=True, capture_output=True)
    subprocess.run([*mfd, "preprocess", "-q"], cwd=folder, check=True, capture_output=True)
    with (folder / "mfd.toml").open("a") as file:
        file.write("\n[objective.penalties.covariance]\nweight = 0.2\n[objective.penalties.predictor]\nweight = 0.1\n")
    return folder


FEW = ("--set", "train.windows_per_validation=32", "--set", "train.max_windows=96")


def test_two_processes_have_the_loss_of_one(project: Path) -> None:
    """Of the first three steps; later ones differ because rounding grows from step to step, as with threads."""
    for run, processes in (("one", 1), ("two", 2)):
        assert train(project, run, processes, *FEW) == 0
    one, two = losses(project / "one"), losses(project / "two")
    assert [line["step"] for line in one] == [line["step"] for line in two] == [1, 2, 3]
    for a, b in zip(one, two):
        for name in ("train_loss", "train_covariance", "train_predictor", "loss"):
            assert a[name] == pytest.approx(b[name], rel=1e-4), name


STOP = "from mfd_cli.engine.processes import launch; import sys; sys.exit(launch(int(sys.argv[1]), sys.argv[2:]))"


def test_a_run_goes_on_with_another_number_of_processes(project: Path) -> None:
    """Stopped in two processes and resumed in one, and the other way round, and where only the launcher was killed: the
    curve of an undisturbed run."""
    words = ("--epochs", "2", "--set", "train.windows_per_validation=160", "--set", "train.patience=1000")
    assert train(project, "whole", 1, *words) == 0
    term, kill = signal.SIGTERM, signal.SIGKILL
    for run, before, after, number in (("down", 2, 1, term), ("up", 1, 2, term), ("orphans", 2, 1, kill)):
        command = [
            sys.executable,
            "-c",
            STOP,
            str(before),
            "train",
            "--gpus",
            "0",
            "--threads",
            "1",
            "--run",
            run,
            *words,
        ]
        child = subprocess.Popen(command, cwd=project, stdout=subprocess.PIPE, stderr=subprocess.DEVNULL)
        until = time.monotonic() + 120
        while not (project / run / "metrics.jsonl").exists() and time.monotonic() < until:
            time.sleep(0.02)
        child.send_signal(number)
        child.communicate(timeout=120)  # their standard output ends with the last of them
        assert child.returncode == (143 if number == term else -kill)
        assert len(losses(project / run)) < len(losses(project / "whole"))
        if number == kill:
            continue  # their state is the same as after a signal of one's own
        assert train(project, run, after, "--resume", *words) == 0
        whole, resumed = losses(project / "whole"), losses(project / run)
        assert [line["step"] for line in whole] == [line["step"] for line in resumed]
        assert np.allclose([x["loss"] for x in whole], [x["loss"] for x in resumed], rtol=0.05)


def test_a_batch_that_cannot_be_shared_is_said(project: Path, capfd: pytest.CaptureFixture[str]) -> None:
    assert train(project, "odd", 2, "--epochs", "1", "--set", "train.batch_size=31") == 2
    assert capfd.readouterr().err.count("cannot be shared by 2 processes") == 1
    assert Processes(1, 4).share(8) == slice(2, 4)
    with pytest.raises(ConfigError, match="shared by 4 processes"):
        Processes(1, 4).share(9)


def test_one_process_is_no_group() -> None:
    alone, values = Processes(), torch.arange(3.0)
    assert alone.gather(values) is values and alone.agree(7) == 7
    backbone = tiny.model().backbone
    assert alone.spread(backbone) is backbone
    assert np.array_equal(np.arange(4)[alone.share(4)], np.arange(4))
