"""`mfd train --force`: the older run stays whole until the new one has its first state, whatever happens on the way."""

from __future__ import annotations

import json
import shutil
import signal
from collections.abc import Callable
from pathlib import Path

import pytest

from kit import harm, tiny, warm
from kit.places import TESTS
from mfd_cli.runs.folder import load_last, load_run

CPU = ("train", "--gpus", "0", "--threads", "1", "-q")


@pytest.fixture(scope="module")
def template(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A project with a trained run."""
    folder = tiny.written_project(tmp_path_factory.mktemp("force") / "project")
    done = harm.in_process(CPU, folder)
    assert done.code == 0, done.told
    return folder


def project(template: Path, folder: Path) -> Path:
    return shutil.copytree(template, folder / "project")


def files(folder: Path) -> dict[str, bytes]:
    """Every file of the run folder."""
    return {str(p.relative_to(folder)): p.read_bytes() for p in sorted((folder / "run").rglob("*")) if p.is_file()}


def replaced_in_toml(old: str, new: str) -> Callable[[Path], None]:
    def change(folder: Path) -> None:
        toml = folder / "mfd.toml"
        assert old in toml.read_text()
        toml.write_text(toml.read_text().replace(old, new))

    return change


@pytest.mark.parametrize(
    ("change", "words", "message"),
    [
        pytest.param(lambda folder: shutil.rmtree(folder / "dataset"), (), "dataset", id="no dataset"),
        pytest.param(lambda folder: None, ("--set", 'train.held_out=["P33"]'), "did you mean P3", id="held out"),
        pytest.param(replaced_in_toml('"Target"', '"Taget"'), (), "did you mean Target", id="column"),
        pytest.param(lambda folder: None, ("--set", "train.batch_size=1"), "train.batch_size is 1", id="setting"),
    ],
)
def test_what_is_refused_leaves_the_older_run(
    template: Path, tmp_path: Path, change: Callable[[Path], None], words: tuple[str, ...], message: str
) -> None:
    folder = project(template, tmp_path)
    before = files(folder)
    change(folder)
    done = harm.in_process([*CPU, "--force", *words], folder)
    assert done.code == 2 and message in done.told and "Traceback" not in done.told
    assert files(folder) == before


def test_what_is_accepted_replaces_the_older_run(template: Path, tmp_path: Path) -> None:
    folder = project(template, tmp_path)
    done = harm.in_process([*CPU, "--force", "--seed", "7"], folder)
    assert done.code == 0, done.told
    assert load_run(folder / "run").config.train.seed == 7
    assert load_run(folder / "run").digest != load_run(template / "run").digest
    assert files(folder).keys() == files(template).keys()
    fresh = tiny.written_project(tmp_path / "fresh")
    assert harm.in_process([*CPU, "--seed", "7"], fresh).code == 0
    assert load_run(folder / "run").digest == load_run(fresh / "run").digest  # nothing of the older run is left in it
    lines = [
        [json.loads(line)["step"] for line in (p / "run/metrics.jsonl").read_text().splitlines()]
        for p in (folder, fresh)
    ]
    assert lines[0] == lines[1]


@pytest.mark.parametrize("name", ["last", "last/state.json", "model.json"])
def test_odd_things_in_the_run_folder_are_replaced_too(template: Path, tmp_path: Path, name: str) -> None:
    folder = project(template, tmp_path)
    path = folder / "run" / name
    if path.is_dir():
        shutil.rmtree(path)
        path.write_text("no folder")
    else:
        path.unlink()
        path.mkdir()
    done = harm.in_process([*CPU, "--force"], folder)
    assert done.code == 0, done.told
    assert load_run(folder / "run").digest == load_run(template / "run").digest


def killed_at(moment: int, folder: Path, *words: str) -> int:
    """`mfd train`, killed before the N-th moment at which something reaches the disk for good; its exit code."""
    return warm.run([str(TESTS / "kit/crash_at.py"), str(moment), *CPU, *words], folder, timeout=120).returncode


@pytest.mark.parametrize("older_state", ["the last", "the first"])
def test_killed_on_the_way_either_run_is_whole(template: Path, tmp_path: Path, older_state: str) -> None:
    """Before each of the moments until the new run has its first model; `the first`: the older run has only its first state,
    whose file would have the same name as the new one's."""
    moments_of_a_state = 4  # two files, each synced and renamed
    start = project(template, tmp_path / "start")
    if older_state == "the first":
        shutil.rmtree(start / "run")
        assert killed_at(moments_of_a_state + 1, start) == -signal.SIGKILL
    whole = {name: raw for name, raw in files(start).items() if "/." not in name}
    seen = set()
    last = moments_of_a_state + 3
    for moment in range(1, last + 1) if harm.SOAK else (moments_of_a_state, moments_of_a_state + 1):
        folder = project(start, tmp_path / f"at-{moment}")
        assert killed_at(moment, folder, "--force", "--seed", "7") == -signal.SIGKILL
        state = load_last(folder / "run")
        assert state is not None
        now = files(folder)
        if state[1]["plan"]["train"]["seed"] == 7:
            seen.add("new")
            assert state[1]["step"] == 0
            assert harm.in_process([*CPU, "--resume", "--seed", "7"], folder).code == 0
            assert load_run(folder / "run").config.train.seed == 7
        else:
            seen.add("old")
            assert {name: now.get(name) for name in whole} == whole
    assert seen == {"old", "new"}
