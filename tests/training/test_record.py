"""What a training writes after each validation: metrics.jsonl, the picture of its curves, and TensorBoard if that is wanted."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

import pytest

from kit import tiny
from kit.harm import in_process
from mfd_cli.base.errors import RunError
from mfd_cli.engine.curve import read_curve
from mfd_cli.engine.loop import Interrupted
from mfd_cli.evaluation import curves_picture
from mfd_cli.evaluation.curves_picture import PANELS, draw_curves, write_curves
from mfd_cli.report.style import plt
from mfd_cli.training import record
from mfd_cli.training import train as training
from mfd_cli.training.record import BOARD, CURVES

OFTEN = {"epochs": 1, "batch_size": 32, "windows_per_validation": 96}
BOARDED = {**OFTEN, "tensorboard": True}


def stopped_at(step: int) -> Any:
    """A progress that ends the training in the middle, after so many steps."""

    def terminate(what: str, done: int, total: int) -> None:
        if done == step:
            os.kill(os.getpid(), signal.SIGTERM)

    return terminate


@pytest.mark.parametrize("takes", ["no time", "long"])
def test_the_curves_are_drawn_as_often_as_time_allows_and_at_every_end(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, takes: str
) -> None:
    drawn: list[int] = []
    before = curves_picture.draw_curves
    monkeypatch.setattr(curves_picture, "draw_curves", lambda lines: (drawn.append(len(lines)), before(lines))[1])
    monkeypatch.setattr(record, "DRAWING", 0.0 if takes == "no time" else 1e9)
    monkeypatch.setattr(record, "SHARE", 1e9 if takes == "no time" else 1.0)
    project = tiny.project(tmp_path, train=OFTEN)
    tiny.dataset(project.dataset)
    with pytest.raises(Interrupted):
        training.train(project, gpus=0, progress=stopped_at(7))
    of_half = len(read_curve(project.run / "metrics.jsonl"))
    half = (project.run / CURVES).read_bytes()
    training.train(project, gpus=0, resume=True)
    lines = read_curve(project.run / "metrics.jsonl")
    every = list(range(1, len(lines) + 1))
    assert len(lines) > of_half > 1 and drawn == (every if takes == "no time" else [of_half, len(lines)])
    write_curves(tmp_path / "again-curves.png", lines)
    assert (tmp_path / "again-curves.png").read_bytes() == (project.run / CURVES).read_bytes() != half
    training.train(project, gpus=0, force=True)
    assert (project.run / CURVES).read_bytes() == (
        tmp_path / "again-curves.png"
    ).read_bytes()  # the same training once more


def test_a_training_goes_on_where_the_curves_cannot_be_drawn(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def broken(*_: object) -> None:
        raise ZeroDivisionError("no\nink")

    monkeypatch.setattr(curves_picture, "draw_curves", broken)
    project, warnings = tiny.project(tmp_path, train=OFTEN), list[str]()
    tiny.dataset(project.dataset)
    training.train(project, gpus=0, warn=warnings.append)
    about = [text for text in warnings if CURVES in text]
    assert about == [f"{project.run / CURVES} is not written, and training goes on: no ink"]
    assert len(read_curve(project.run / "metrics.jsonl")) > 2 and not list(project.run.glob("*curves*"))


def test_the_picture_has_the_numbers_of_the_lines() -> None:
    lines = [
        {"step": 1, "windows": 32, "train_loss": 0.5, "loss": 0.6, "auroc_mean": 0.7, "best": True},
        {"step": 2, "windows": 64, "train_loss": 0.4, "loss": 0.8, "best": False},
    ]
    figure = draw_curves(lines)
    loss, auroc, *empty = figure.axes
    curves = {line.get_label(): (list(line.get_xdata()), list(line.get_ydata())) for line in loss.get_lines()[:2]}
    assert curves == {"training": ([32, 64], [0.5, 0.4]), "validation": ([32, 64], [0.6, 0.8])}
    assert list(loss.get_lines()[2].get_xdata()) == [32, 32]  # the kept weights
    assert (
        list(auroc.get_lines()[0].get_xdata()) == [32]
        and [axis.get_title(loc="left") for axis in (loss, auroc)] == [*PANELS][:2]
    )
    assert not any(axis.get_lines() for axis in empty)
    plt.close(figure)


def test_drawing_takes_less_than_a_second(tmp_path: Path, whole_pictures: None) -> None:
    names = [name for names in PANELS.values() for name in names]
    lines = [{"step": n, "windows": 32 * n, **dict.fromkeys(names, 1 / n)} for n in range(1, 300)]
    took = []
    for _ in range(3):
        started = time.process_time()
        write_curves(tmp_path / "curves.png", lines)
        took.append(time.process_time() - started)
    assert min(took) < 1


def test_nothing_that_draws_is_loaded_before_the_first_validation() -> None:
    script = "import sys, mfd_cli.training.train; print('matplotlib' in sys.modules, 'tensorboard' in sys.modules)"
    done = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True, check=True)
    assert done.stdout.split() == ["False", "False"]


# -- TensorBoard -------------------------------------------------------------------------------------------------------


def events_of(run: Path) -> dict[str, list[tuple[int, float]]]:
    """What TensorBoard would show of a run: name -> (step, value) of every point."""
    accumulator = pytest.importorskip("tensorboard.backend.event_processing.event_accumulator")
    found = accumulator.EventAccumulator(str(run / BOARD), size_guidance={accumulator.SCALARS: 0})
    found.Reload()
    return {
        name: [(each.step, each.value) for each in found.Scalars(name)] for name in found.Tags()[accumulator.SCALARS]
    }


def check_board(run: Path) -> None:
    """TensorBoard has every number of metrics.jsonl, each once."""
    lines, events = read_curve(run / "metrics.jsonl"), events_of(run)
    names = {name for line in lines for name in line} - {"step"}
    assert set(events) == names and {"loss", "train_loss", "auroc_mean", "windows"} <= names
    for name in names:
        points = [(line["step"], float(line[name])) for line in lines if name in line]
        assert [step for step, _ in events[name]] == [step for step, _ in points]
        assert [value for _, value in events[name]] == pytest.approx([value for _, value in points], rel=1e-6)


def test_tensorboard_has_the_numbers_of_metrics(tmp_path: Path) -> None:
    pytest.importorskip("tensorboard")
    project = tiny.project(tmp_path, train=BOARDED)
    tiny.dataset(project.dataset)
    training.train(project, gpus=0)
    check_board(project.run)
    training.train(project, gpus=0, force=True)
    check_board(project.run)  # nothing is left of the run before


@pytest.mark.parametrize("stop_at", [2, 7])
def test_a_resumed_training_doubles_no_point(stop_at: int, tmp_path: Path) -> None:
    pytest.importorskip("tensorboard")
    project = tiny.project(tmp_path, train=BOARDED)
    tiny.dataset(project.dataset)
    with pytest.raises(Interrupted):
        training.train(project, gpus=0, progress=stopped_at(stop_at))
    training.train(project, gpus=0, resume=True)
    check_board(project.run)


def test_points_of_a_future_that_was_lost_are_replaced(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A training that is killed between a validation and the state that belongs to it validates there again."""
    pytest.importorskip("tensorboard")
    project, kept = tiny.project(tmp_path, train=BOARDED), training.save_state
    tiny.dataset(project.dataset)

    def killed(trainer: Any, folder: Path) -> None:
        if trainer.step == 9:
            raise KeyboardInterrupt
        kept(trainer, folder)

    monkeypatch.setattr(training, "save_state", killed)
    with pytest.raises(KeyboardInterrupt):
        training.train(project, gpus=0)
    assert [step for step, _ in events_of(project.run)["loss"]] == [3, 6, 9]
    monkeypatch.setattr(training, "save_state", kept)
    training.train(project, gpus=0, resume=True)
    check_board(project.run)


def test_it_may_be_asked_for_when_a_training_goes_on(tmp_path: Path) -> None:
    pytest.importorskip("tensorboard")
    project = tiny.project(tmp_path, train=OFTEN)
    tiny.dataset(project.dataset)
    with pytest.raises(Interrupted):
        training.train(project, gpus=0, progress=stopped_at(7))
    assert not (project.run / BOARD).exists()
    training.train(tiny.project(tmp_path, train=BOARDED), gpus=0, resume=True)
    steps = [line["step"] for line in read_curve(project.run / "metrics.jsonl")]
    assert [step for step, _ in events_of(project.run)["loss"]] == [step for step in steps if step > 7]


@pytest.mark.parametrize("more", [[], ["--dry-run"]])
def test_without_the_package_it_is_refused_before_training(
    more: list[str], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    project = tiny.written_project(tmp_path / "p")
    for name in [name for name in sys.modules if name.startswith(("torch.utils.tensorboard", "tensorboard"))]:
        monkeypatch.delitem(sys.modules, name)
    monkeypatch.setitem(sys.modules, "tensorboard", None)  # what an import of a missing package meets
    words = ["train", "--gpus", "0", "--threads", "1", "-q", "--set", "train.tensorboard=true", *more]
    done = in_process(words, project)
    assert done.code == 2 and done.told.splitlines() == [
        "mfd: error: train.tensorboard needs the package tensorboard, which is not installed here, or does not work",
        "hint: pip install 'mfd-cli[tensorboard]', or train without it",
    ]
    assert not (project / "run/model.json").exists() and not (project / "run/last").exists()


def test_a_damaged_curve_is_told_of_before_a_training_goes_on(tmp_path: Path) -> None:
    project, begun = tiny.project(tmp_path, train=OFTEN), list[str]()
    tiny.dataset(project.dataset)
    with pytest.raises(Interrupted):
        training.train(project, gpus=0, progress=stopped_at(4))
    (project.run / "metrics.jsonl").write_text("{\n")
    with pytest.raises(RunError, match=r"metrics\.jsonl:1: is not JSON text"):
        training.train(project, gpus=0, resume=True, progress=lambda what, *_: begun.append(what))
    assert not begun
