"""Training in two processes: the loss of one process, whichever way it is cut, and one run folder.

Most of the time goes into starting Python with torch: what one process does is done in this one, and where the start of two is
not what is asked, they are forks of a process that has imported everything.
"""

from __future__ import annotations

import importlib.util
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

from kit import harm, tiny, warm
from kit.places import TESTS
from mfd_cli.base.errors import ConfigError
from mfd_cli.engine.loop import Interrupted
from mfd_cli.engine.processes import Processes, launch
from mfd_cli.runs.folder import load_last, load_run
from mfd_cli.settings.project import load_project
from mfd_cli.training import train as training


def train(folder: Path, run: str, processes: int, *words: str) -> int:
    """`mfd train` on the CPU in so many processes; its exit code."""
    before = Path.cwd()
    os.chdir(folder)
    try:
        return launch(processes, ["train", "--gpus", "0", "--threads", "1", "-q", "--run", run, *words])
    finally:
        os.chdir(before)


def train_warm(folder: Path, run: str, *words: str) -> subprocess.CompletedProcess[str]:
    """The same in two processes that do not import everything again."""
    launcher = str(TESTS / "kit" / "warm_launch.py")
    return warm.run([launcher, "2", "train", "--gpus", "0", "--threads", "1", "-q", "--run", run, *words], folder)


def losses(folder: Path) -> list[dict[str, float]]:
    return [json.loads(line) for line in (folder / "metrics.jsonl").read_text().splitlines()]


TOML = (
    tiny.TOML.replace("[model]", '[model]\nhead = "conditioned"')
    + """
[objective.penalties.covariance]
weight = 0.2

[objective.penalties.predictor]
weight = 0.1
"""
)


@pytest.fixture(scope="module")
def project(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A project of the tiny world with penalties of either kind, one that learns (predictor) and one that does not."""
    return tiny.written_project(tmp_path_factory.mktemp("processes") / "project", TOML)


CPU = ("--gpus", "0", "--threads", "1")
FEW = ("--set", "train.windows_per_validation=32", "--set", "train.max_windows=96")


STRETCHED = ("--set", "model.window=2176", "--set", "train.stretch=4")
DISJOINT = ("--head", "mixed", "--set", "model.subspaces=disjoint")  # which penalties keep apart


def check_same_start(one: Path, two: Path, names: tuple[str, ...]) -> None:
    """The same losses in the first three steps. Rounding grows thirty times from step to step: AdamW divides by gradients that
    are still tiny."""
    curves = losses(one), losses(two)
    assert [line["step"] for line in curves[0]] == [line["step"] for line in curves[1]] == [1, 2, 3]
    for a, b, allowed in zip(*curves, (1e-4, 1e-4, 1e-2)):
        for name in names:
            assert a[name] == pytest.approx(b[name], rel=allowed), name


@pytest.mark.parametrize("words", [(), (*STRETCHED, *DISJOINT)])
def test_two_processes_have_the_loss_of_one(project: Path, tmp_path: Path, words: tuple[str, ...]) -> None:
    """And one of them draws the curves, and writes for TensorBoard where that is installed."""
    board = () if importlib.util.find_spec("tensorboard") is None else ("--set", "train.tensorboard=true")
    alone = harm.in_process(["train", *CPU, "-q", "--run", str(tmp_path / "one"), *FEW, *words], project)
    assert alone.code == 0, alone.told
    if words:
        done = train_warm(project, str(tmp_path / "two"), *FEW, *words, *board)
        assert done.returncode == 0, done.stderr
    else:  # as `mfd train --gpus 2` starts them
        assert train(project, str(tmp_path / "two"), 2, *FEW) == 0
    check_same_start(tmp_path / "one", tmp_path / "two", ("train_loss", "train_covariance", "train_predictor", "loss"))
    assert (tmp_path / "two/curves.png").is_file()
    if board and words:
        assert len(list((tmp_path / "two/tensorboard").iterdir())) == 1


def test_two_processes_start_from_a_run_as_one_does(project: Path, tmp_path: Path) -> None:
    """With a backbone that is frozen at first, and throughout."""
    first = str(tmp_path / "first")
    assert harm.in_process(["train", *CPU, "-q", "--run", first, *FEW], project).code == 0
    for thaw in ("0.5", "1"):
        words = ("--from", first, "--set", f"train.thaw={thaw}", *FEW)
        assert harm.in_process(["train", *CPU, "-q", "--run", str(tmp_path / f"one-{thaw}"), *words], project).code == 0
        done = train_warm(project, str(tmp_path / f"two-{thaw}"), *words)
        assert done.returncode == 0, done.stderr
        check_same_start(tmp_path / f"one-{thaw}", tmp_path / f"two-{thaw}", ("train_loss", "train_covariance", "loss"))
    weights = [load_run(Path(folder)).model.state_dict() for folder in (first, tmp_path / "two-1")]
    assert all(torch.equal(weights[0][name], weights[1][name]) for name in weights[0] if name.startswith("backbone."))


LAUNCH_TWO = "from mfd_cli.engine.processes import launch; import sys; sys.exit(launch(2, sys.argv[1:]))"
LONG = ("--epochs", "2", "--set", "train.windows_per_validation=64", "--set", "train.patience=1000")


@pytest.fixture(scope="module")
def whole(project: Path) -> list[dict[str, float]]:
    """The curve of a training in one process that nobody disturbs."""
    done = harm.in_process(["train", *CPU, "-q", "--run", "whole", *LONG], project)
    assert done.code == 0, done.told
    return losses(project / "whole")


def after_a_validation(folder: Path) -> None:
    """Wait until the run in this folder has been validated."""
    until = time.monotonic() + 120
    while not (folder / "metrics.jsonl").exists() and time.monotonic() < until:
        time.sleep(0.02)


def check_same_curve(whole: list[dict[str, float]], resumed: list[dict[str, float]]) -> None:
    """The same validations; the loss of a training that is summed in another order differs by rounding, which grows."""
    assert [line["step"] for line in whole] == [line["step"] for line in resumed]
    assert np.allclose([x["loss"] for x in whole], [x["loss"] for x in resumed], rtol=0.05)


def test_stopped_in_two_processes_a_run_goes_on_in_one(project: Path, whole: list[dict[str, float]]) -> None:
    launcher = str(TESTS / "kit" / "warm_launch.py")
    started = warm.start([launcher, "2", "train", *CPU, "--run", "down", *LONG], project)
    after_a_validation(project / "down")
    started.send_signal(signal.SIGTERM)
    started.communicate(timeout=120)
    assert started.returncode == 143
    assert len(losses(project / "down")) < len(whole)
    done = harm.in_process(["train", *CPU, "-q", "--run", "down", "--resume", *LONG], project)
    assert done.code == 0, done.told
    check_same_curve(whole, losses(project / "down"))


def test_stopped_in_one_process_a_run_goes_on_in_two(project: Path, whole: list[dict[str, float]]) -> None:
    def stop(what: str, done: int, total: int) -> None:
        if done == 5:
            os.kill(os.getpid(), signal.SIGTERM)

    sets = [word for word in LONG if "=" in word]
    one = load_project(project / "mfd.toml", [*sets, "train.epochs=2"], {"data.run": project / "up"})
    with pytest.raises(Interrupted):
        training.train(one, gpus=0, progress=stop)
    assert len(losses(project / "up")) < len(whole)
    done = train_warm(project, "up", "--resume", *LONG)
    assert done.returncode == 0, done.stderr
    check_same_curve(whole, losses(project / "up"))


@pytest.mark.slow
def test_a_killed_launcher_leaves_no_process_behind(project: Path, whole: list[dict[str, float]]) -> None:
    """They end as after a signal of their own, and have saved the same state."""
    command = [sys.executable, "-c", LAUNCH_TWO, "train", *CPU, "--run", "orphans", *LONG]
    child = subprocess.Popen(command, cwd=project, stdout=subprocess.PIPE, stderr=subprocess.DEVNULL)
    after_a_validation(project / "orphans")
    child.kill()
    child.communicate(timeout=120)  # their standard output ends with the last of them
    assert child.returncode == -signal.SIGKILL
    assert len(losses(project / "orphans")) < len(whole)
    assert load_last(project / "orphans") is not None


def test_a_batch_that_cannot_be_shared_is_said(project: Path) -> None:
    done = train_warm(project, "odd", "--epochs", "1", "--set", "train.batch_size=31")
    assert done.returncode == 2 and done.stderr.count("cannot be shared by 2 processes") == 1
    assert Processes(1, 4).share(8) == slice(2, 4)
    with pytest.raises(ConfigError, match="shared by 4 processes"):
        Processes(1, 4).share(9)


def test_one_process_is_no_group() -> None:
    alone, values = Processes(), torch.arange(3.0)
    assert alone.gather(values) is values and alone.agree(7) == 7
    backbone = tiny.model().backbone
    assert alone.spread(backbone) is backbone
    assert np.array_equal(np.arange(4)[alone.share(4)], np.arange(4))
