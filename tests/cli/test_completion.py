"""What the Tab key offers, asked as a shell asks it: through the entry point, and by bash itself."""

from __future__ import annotations

import json
import os
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

from house.test_architecture import HEAVY
from kit.harm import in_process
from kit.places import FIXTURES, SOURCE

FACTORS = "".join(f'[factors.{name}]\ncolumn = "{name.title()}"\n' for name in ("target", "tissue", "assay", "lab"))


@pytest.fixture
def project(tmp_path: Path) -> Path:
    """The least that completion reads: mfd.toml, and a run's model.json."""
    folder = tmp_path / "project"
    (folder / "run").mkdir(parents=True)
    shutil.copy(FIXTURES / "trained/model.json", folder / "run")
    (folder / "mfd.toml").write_text(FACTORS)
    return folder


def offered(folder: Path, monkeypatch: pytest.MonkeyPatch, *words: str) -> list[str]:
    """What bash is offered for the last of the words, which are given as it cuts them."""
    for name, value in (("_MFD_COMPLETE", "complete_bash"), ("COMP_CWORD", str(len(words)))):
        monkeypatch.setenv(name, value)
    monkeypatch.setenv("COMP_WORDS", "\n".join(["mfd", *words]))
    done = in_process([], folder)
    assert (done.code, done.told) == (0, "")
    return done.said.splitlines()


def test_of_a_mixed_head_the_residual_is_a_part_too(project: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    file = project / "run/model.json"
    described = json.loads(file.read_text("utf-8"))
    described["model"]["head"] = "mixed"
    file.write_text(json.dumps(described), "utf-8")
    assert offered(project, monkeypatch, "explain", "--part", "r") == ["residual"]


@pytest.mark.parametrize(
    ("words", "expected"),
    [
        (["expl"], ["explain"]),
        (["explain", "--factor", ""], ["target", "tissue", "assay", "lab", "all"]),
        (["explain", "--factor", "t"], ["target", "tissue"]),
        (["explain", "--factor", "=", "as"], ["assay"]),
        (["qc", "--factor", "l"], ["lab"]),
        (["explain", "--factor", "assay", "--level", ""], [r"CUT\&RUN", "ChIP-seq"]),
        (["explain", "--factor", "assay", "--level", r"CUT\&R"], [r"CUT\&RUN"]),
        (["explain", "--level", "GA"], ["GATA1"]),
        (["explain", "--track", "P0"], ["P0"]),
        (["explain", "--part", "t"], ["total", "technical"]),
        (["explain", "--part", "r"], []),
        (["predict", "--fix", "t"], ["target=", "tissue=", "technical="]),
        (["predict", "--fix", "as"], [r"assay=CUT\&RUN", "assay=ChIP-seq", "assay=average"]),
        (["predict", "--fix", "assay", "="], [r"CUT\&RUN", "ChIP-seq", "average"]),
        (["predict", "--fix", "assay", "=", "Ch"], ["ChIP-seq"]),
        (["predict", "--fix", "=", "assay", "=", "Ch"], ["ChIP-seq"]),
        (["predict", "--experiment", "lab", "=", "A", "--experiment", "tissue", "=", "l"], ["liver"]),
        (["predict", "--run", ""], ["run"]),
        (["info", ""], ["run"]),
        (["evaluate", "--split", "v"], ["validation"]),
        (["train", "--set", "train.lr"], ["train.lr=0.004"]),
        (["settings", "model.pre"], ["model.preset"]),
    ],
    ids=lambda value: " ".join(value) if value and value[0][:1].islower() else "",
)
def test_the_names_of_the_project_are_offered(
    words: list[str], expected: list[str], project: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    assert offered(project, monkeypatch, *words) == expected


def test_another_run_and_another_project_can_be_named(project: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    here = project.parent
    assert offered(here, monkeypatch, "explain", "-c", "project/mfd.toml", "--factor", "a") == ["assay", "all"]
    assert offered(here, monkeypatch, "predict", "--run", "project/run", "--experiment", "la") == [
        r"lab=\(missing\)", "lab=A", "lab=B",
    ]  # fmt: skip


def test_runs_of_several_seeds_are_offered(project: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (project / "run").rename(project / "seed-1")
    (project / "run").mkdir()
    (project / "seed-1").rename(project / "run/seed-1")
    assert offered(project, monkeypatch, "predict", "--run", "") == ["run", "run/seed-1"]
    assert offered(project, monkeypatch, "explain", "--track", "P0") == ["P0"]


PROJECT_WORDS = (["explain", "--factor", ""], ["predict", "--fix", "a"], ["explain", "--track", ""], ["info", ""])


@pytest.mark.parametrize("words", PROJECT_WORDS, ids=" ".join)
def test_it_is_silent_where_there_is_no_project(
    words: list[str], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    assert offered(tmp_path, monkeypatch, *words) == []


@pytest.mark.parametrize("text", ["", "[factors", '{"metadata": 3, "tracks": [1], "model": []}', "\0\xff"])
@pytest.mark.parametrize("words", PROJECT_WORDS[:3], ids=" ".join)
def test_it_is_silent_where_the_project_cannot_be_read(
    words: list[str], text: str, project: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (project / "mfd.toml").write_text(text, "latin-1")
    (project / "run/model.json").write_text(text, "latin-1")
    assert offered(project, monkeypatch, *words) == []


def test_it_loads_nothing_heavy(project: Path) -> None:
    script = (
        "import atexit, sys; atexit.register(lambda: print("
        f"'loaded', *({set(HEAVY) | {'numpy'}!r} & {{m.split('.')[0] for m in sys.modules}}))); "
        "sys.argv = ['mfd']; from mfd_cli.cli.app import main; main()"
    )
    asked = {"_MFD_COMPLETE": "complete_bash", "COMP_WORDS": "mfd\npredict\n--fix\nlab\n=\n", "COMP_CWORD": "5"}
    done = subprocess.run(
        [sys.executable, "-c", script], cwd=project, env={**os.environ, **asked}, capture_output=True, text=True
    )
    assert done.stdout.splitlines() == [r"\(missing\)", "A", "B", "average", "loaded"] and done.stderr == ""


@pytest.mark.skipif(shutil.which("bash") is None, reason="there is no bash here")
def test_bash_itself_gets_its_answer(project: Path, tmp_path: Path) -> None:
    """The script of --show-completion, run by bash on the words that it has cut itself."""
    program = tmp_path / "mfd"
    program.write_text(f'#!/bin/sh\nexec "{sys.executable}" -m mfd_cli "$@"\n')
    program.chmod(0o755)
    lines = [
        'eval "$(mfd --show-completion bash)"',
        "COMP_WORDS=(mfd predict --fix assay = C) COMP_CWORD=5",
        '_mfd_completion mfd; printf "%s\\n" "${COMPREPLY[@]}"',
        'COMP_WORDS=(mfd explain --factor "") COMP_CWORD=3',
        '_mfd_completion mfd; printf "%s\\n" "${COMPREPLY[@]}"',
    ]
    environment = {**os.environ, "PATH": f"{tmp_path}:{os.environ['PATH']}", "PYTHONPATH": str(SOURCE.parent)}
    done = subprocess.run(
        ["bash", "--norc", "-c", "\n".join(lines)], cwd=project, env=environment, capture_output=True, text=True
    )
    expected = [r"CUT\&RUN", "ChIP-seq", "target", "tissue", "assay", "lab", "all"]
    assert done.stdout.splitlines() == expected, done.stderr


@pytest.mark.parametrize(
    ("shell", "answer"),
    [
        ("zsh", """_arguments '*: :(("assay=CUT&RUN"\n"assay=ChIP-seq"\n"assay=average"))'"""),
        ("fish", "assay=CUT&RUN\nassay=ChIP-seq\nassay=average"),
    ],
)
def test_other_shells_get_theirs(shell: str, answer: str, project: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("_MFD_COMPLETE", f"complete_{shell}")
    monkeypatch.setenv("_TYPER_COMPLETE_ARGS", "mfd predict --fix assay=")
    monkeypatch.setenv("_TYPER_COMPLETE_FISH_ACTION", "get-args")
    assert in_process([], project).said.strip() == answer


def test_completion_is_installed_where_the_shell_looks(tmp_path: Path) -> None:
    environment = {**os.environ, "HOME": str(tmp_path), "_TYPER_COMPLETE_TEST_DISABLE_SHELL_DETECTION": "1"}
    words = [sys.executable, "-m", "mfd_cli", "--install-completion", "bash"]
    done = subprocess.run(words, cwd=tmp_path, env=environment, capture_output=True, text=True)
    assert done.returncode == 0 and "bash completion installed" in done.stdout, done.stderr
    script = tmp_path / ".bash_completions/mfd.sh"
    assert "_MFD_COMPLETE=complete_bash" in script.read_text() and str(script) in (tmp_path / ".bashrc").read_text()
