"""Killed at any moment and run again: nothing torn under a final name, the same bytes in the end, nothing left lying about.

Every command is killed before each of its moments of truth (a sync, a rename; see crash_at.py) and at random times, by SIGKILL
and SIGTERM: a few of them here, all of them in `make soak`.
"""

from __future__ import annotations

import json
import os
import re
import shutil
import signal
import subprocess
import sys
import threading
import time
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import pytest

from kit import harm, warm
from kit.places import TESTS
from mfd_cli.base.errors import OutputError
from mfd_cli.base.files import whole_folder
from mfd_cli.base.locks import claim, claims, mark_of_process
from mfd_cli.dataset.folder import open_dataset
from mfd_cli.runs.folder import load_run
from mfd_cli.runs.info import verify

AT = str(TESTS / "kit" / "crash_at.py")
ENVIRONMENT = {**os.environ, "OMP_NUM_THREADS": "1"}


@dataclass(frozen=True)
class Command:
    """What is run, which words are added when it is run again after a crash, and what it makes."""

    words: tuple[str, ...]
    more: tuple[str, ...]
    outputs: tuple[str, ...]

    @property
    def again(self) -> tuple[str, ...]:
        return self.words + self.more


CPU = ("--gpus", "0", "--threads", "1", "-q")
COMMANDS = {
    "preprocess": Command(("preprocess", "-q", "--threads", "2"), ("--force",), ("dataset",)),
    "train": Command(("train", *CPU, "--epochs", "5"), ("--resume",), ("run",)),
    "score-variants": Command(
        ("score-variants", "input.vcf", *CPU),
        ("--force",),
        ("input.mfd.vcf.gz", "input.mfd.vcf.gz.tbi", "input.mfd.parquet", "input.mfd.skipped.tsv"),
    ),
    "explain": Command(("explain", *CPU, "--factor", "assay", "--top", "3"), ("--force",), ("explain/assay",)),
}


@pytest.fixture(scope="module")
def template(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("crashes") / "template"
    harm.trained_project(folder)
    return folder


@dataclass(frozen=True)
class Reference:
    """What a command makes when nothing happens, how long it takes, and how many moments of truth it has."""

    made: dict[str, bytes]
    seconds: float
    moments: int


@pytest.fixture(scope="module")
def references(template: Path, tmp_path_factory: pytest.TempPathFactory) -> dict[str, Reference]:
    return {}


def reference(name: str, template: Path, folder: Path, known: dict[str, Reference]) -> Reference:
    if name not in known:
        command, project = COMMANDS[name], fresh(template, folder / "reference", COMMANDS[name])
        started = time.monotonic()
        done = run(0, command.words, project)
        assert done.returncode == 0, done.stderr
        moments = int(re.findall(r"moments (\d+)", done.stderr)[-1])
        known[name] = Reference(made(project, command), time.monotonic() - started, moments)
    return known[name]


def fresh(template: Path, folder: Path, command: Command) -> Path:
    """A copy of the project without what the command makes."""
    shutil.copytree(template, folder)
    for output in command.outputs:
        path = folder / output
        shutil.rmtree(path) if path.is_dir() else path.unlink(missing_ok=True)
    return folder


def run(moment: int, words: tuple[str, ...], project: Path) -> subprocess.CompletedProcess[str]:
    return warm.run([AT, str(moment), *words], project)


def killed_after(seconds: float, number: int, words: tuple[str, ...], project: Path) -> tuple[int, bytes]:
    """How a command ends that gets a signal after a while: its exit code, and what it said on standard error."""
    process = warm.start([AT, "0", *words], project)
    time.sleep(seconds)
    process.send_signal(number)
    _, said = process.communicate(timeout=60)
    assert process.returncode is not None
    return process.returncode, said


def made(project: Path, command: Command) -> dict[str, bytes]:
    """Every file that the command made, without what tells the time."""
    found = {}
    for output in command.outputs:
        root = project / output
        for path in [root] if root.is_file() else sorted(p for p in root.rglob("*") if p.is_file()):
            raw = path.read_bytes()
            if path.name == "metrics.jsonl":
                raw = b"".join(
                    re.sub(rb'"(seconds|windows_per_second)": [0-9.e+-]+', b"", line) for line in raw.splitlines()
                )
            if path.name in ("model.json", "state.json", "report.html"):
                raw = re.sub(rb'"(seconds|sha256|digest|windows_per_second)": [^,}\n]+', b"", raw)
            found[str(path.relative_to(project))] = raw
    return found


def check_whole(name: str, project: Path, told: Reference) -> None:
    """After a crash: what has its final name is complete."""
    if name == "preprocess" and (project / "dataset").exists():
        verify(project / "dataset")
        open_dataset(project / "dataset")
    elif name == "train" and (project / "run/model.json").exists():
        load_run(project / "run")
    elif name in ("score-variants", "explain"):
        for file, raw in made(project, COMMANDS[name]).items():
            assert raw == told.made[file], f"{file} is torn"


def check_again(name: str, project: Path, told: Reference) -> None:
    """Run again, the result is that of a run to which nothing happened, and nothing else lies about."""
    if name == "score-variants":  # whose chunks crash_at.py makes small
        again = run(0, COMMANDS[name].again, project)
        assert again.returncode == 0, again.stderr
    else:
        done = harm.in_process(COMMANDS[name].again, project)
        assert done.code == 0, done.told
    now = made(project, COMMANDS[name])
    assert sorted(now) == sorted(told.made)
    assert [file for file in now if now[file] != told.made[file]] == []
    left = [str(path.relative_to(project)) for path in project.rglob(".*") if path.name != ".mfd-folder"]
    assert left == []


MOMENTS = {"preprocess": [0.5, 1.0], "train": [0.2, 1.0], "score-variants": [0.6], "explain": [0.8]}
"""Shares of the moments of a command, of which a few are tried."""


@pytest.mark.parametrize("name", list(COMMANDS))
def test_killed_before_a_moment_of_truth(
    name: str, template: Path, references: dict[str, Reference], tmp_path: Path
) -> None:
    told = reference(name, template, tmp_path, references)
    assert told.moments >= 2
    chosen = (
        range(1, told.moments + 1)
        if harm.SOAK
        else sorted({round(share * told.moments) or 1 for share in MOMENTS[name]})
    )
    for moment in chosen:
        project = fresh(template, tmp_path / f"at-{moment}", COMMANDS[name])
        killed = run(moment, COMMANDS[name].words, project)
        assert killed.returncode == -signal.SIGKILL, killed.stderr
        check_whole(name, project, told)
        check_again(name, project, told)
        shutil.rmtree(project)


@pytest.mark.parametrize("name", list(COMMANDS) if harm.SOAK else ["preprocess", "train"])
def test_killed_at_any_time(name: str, template: Path, references: dict[str, Reference], tmp_path: Path) -> None:
    """SIGTERM leaves nothing behind but what is needed to go on (exit 143), SIGKILL nothing torn."""
    told = reference(name, template, tmp_path, references)
    rng = np.random.default_rng(len(name))
    for turn in range(30 if harm.SOAK else 1):
        number = (signal.SIGTERM, signal.SIGKILL)[turn % 2]
        project = fresh(template, tmp_path / f"time-{turn}", COMMANDS[name])
        seconds = told.seconds * rng.uniform(0.35, 1.0)
        code, said = killed_after(seconds, number, COMMANDS[name].words, project)
        assert code in (0, -number, 128 + number), said
        assert b"Traceback" not in said
        check_whole(name, project, told)
        check_again(name, project, told)
        shutil.rmtree(project)


def test_workers_end_with_a_killed_command(template: Path, tmp_path: Path) -> None:
    """They share its standard error, which comes to an end with the last of them."""
    script = (
        "import os, signal; from mfd_cli.cli import app as cli; from mfd_cli.dataset import parse_tracks\n"
        "wait = parse_tracks.as_completed\n"
        "parse_tracks.as_completed = lambda jobs: (next(wait(jobs)), os.kill(os.getpid(), signal.SIGKILL))\n"
        "cli.main()"
    )
    command = COMMANDS["preprocess"]
    project = fresh(template, tmp_path / "p", command)
    killed = subprocess.run(
        [sys.executable, "-c", script, *command.words],
        cwd=project,
        env=ENVIRONMENT,
        stdout=subprocess.DEVNULL,
        stderr=subprocess.PIPE,
        timeout=30,
    )
    assert killed.returncode == -signal.SIGKILL and b"Traceback" not in killed.stderr


def test_scores_of_an_interrupted_run_are_taken_over(template: Path, tmp_path: Path) -> None:
    project = fresh(template, tmp_path / "p", COMMANDS["score-variants"])
    killed = run(5, COMMANDS["score-variants"].words, project)
    assert killed.returncode == -signal.SIGKILL
    parts = [path for path in (project / ".input.mfd.vcf.gz.parts").iterdir() if not path.name.startswith(".")]
    assert parts
    parts[0].write_bytes(harm.flipped(parts[0].read_bytes(), 1000))  # a damaged one is scored again
    again = run(0, tuple(word for word in COMMANDS["score-variants"].words if word != "-q"), project)
    assert again.returncode == 0
    told = re.search(r"(\d+) taken over from a run that was interrupted", again.stderr)
    assert (int(told[1]) if told else 0) == 4 * (len(parts) - 1)
    assert not (project / ".input.mfd.vcf.gz.parts").exists()


# -- two at once, and what others left ---------------------------------------------------------------------------------


def test_a_second_run_into_one_output_is_told_so(tmp_path: Path) -> None:
    script = (
        "import sys, time; from pathlib import Path; from mfd_cli.base.locks import claim, claims\n"
        "with claims():\n    claim(Path(sys.argv[1])); print('held', flush=True); time.sleep(60)"
    )
    other = subprocess.Popen([sys.executable, "-c", script, str(tmp_path / "run")], stdout=subprocess.PIPE)
    assert other.stdout is not None and other.stdout.readline() == b"held\n"
    with claims():
        claim(tmp_path / "another")
        with pytest.raises(OutputError, match=f"is being written by another mfd \\(process {other.pid}\\)"):
            claim(tmp_path / "run")
        (tmp_path / "link").symlink_to(tmp_path)
        with pytest.raises(OutputError, match="another mfd"):
            claim(tmp_path / "link" / "run")  # the same place by another way
    other.kill()
    other.wait()
    with claims():
        claim(tmp_path / "run")  # the system has released it
        claim(tmp_path / "run")
    claim(tmp_path / "run")  # outside the command line nothing is held
    assert sorted(path.name for path in tmp_path.iterdir()) == ["link"]


def test_what_dead_processes_left_is_removed_and_what_they_moved_aside_comes_back(tmp_path: Path) -> None:
    with whole_folder(tmp_path / "out") as place:
        assert place.name == f".out.tmp-{mark_of_process()}"
        (place / "new").touch()
    dead = subprocess.Popen([sys.executable, "-c", "input()"], stdin=subprocess.PIPE)
    mark = mark_of_process(dead.pid)
    dead.communicate()
    shutil.move(tmp_path / "out", tmp_path / f".out.old-{mark}")  # killed between two renames
    others = [f".out.tmp-{'0' * 12}-{dead.pid}-7", f".out.tmp-{mark_of_process(os.getppid())}"]
    for name in (f".out.tmp-{mark}", *others):
        (tmp_path / name).mkdir()
    with claims():
        claim(tmp_path / "out")
    assert (tmp_path / "out/new").exists()
    # Other machines' and living processes' are not ours to remove.
    assert sorted(path.name for path in tmp_path.glob(".*")) == sorted(others)


def test_the_curve_of_a_resumed_training_has_no_line_twice(
    template: Path, references: dict[str, Reference], tmp_path: Path
) -> None:
    """Killed between the line of a validation and the state that goes with it."""
    command = COMMANDS["train"]
    project = fresh(template, tmp_path / "p", command)
    moments = reference("train", template, tmp_path, references).moments
    assert run(moments // 2, command.words, project).returncode == -signal.SIGKILL
    for moment in (7, 5):
        assert run(moment, command.again, project).returncode == -signal.SIGKILL
    assert run(0, command.again, project).returncode == 0
    steps = [json.loads(line)["step"] for line in (project / "run/metrics.jsonl").read_text().splitlines()]
    assert steps == sorted(set(steps)) and len(steps) == 5


def test_weights_get_their_name_after_a_kill_between_two_renames(template: Path, tmp_path: Path) -> None:
    """model.json has its name, the weights that it describes wait in the folder of a process that is gone."""
    run = shutil.copytree(template / "run", tmp_path / "run")
    good = (run / "model.safetensors").read_bytes()
    dead = subprocess.Popen([sys.executable, "-c", ""])
    dead.wait()
    waiting = run / f".model.safetensors.tmp-{mark_of_process(dead.pid)}"
    waiting.mkdir()
    shutil.move(run / "model.safetensors", waiting)
    (run / "model.safetensors").write_bytes(b"of the validation before")
    assert load_run(run).digest == load_run(template / "run").digest
    assert (run / "model.safetensors").read_bytes() == good


def test_a_reader_waits_for_weights_that_are_being_replaced(template: Path, tmp_path: Path) -> None:
    run = shutil.copytree(template / "run", tmp_path / "run")
    good = (run / "model.safetensors").read_bytes()
    (run / "model.safetensors").write_bytes(b"of the validation before")
    (run / f".model.safetensors.tmp-{mark_of_process()}").mkdir()  # somebody who lives is at it
    later = threading.Timer(0.5, (run / "model.safetensors").write_bytes, (good,))
    later.start()
    assert load_run(run).digest == load_run(template / "run").digest
    later.join()
