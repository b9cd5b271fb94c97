"""mfd contig killed in the middle: nothing torn under a final name, and the same bytes when it is run again."""

from __future__ import annotations

import re
from pathlib import Path

import pytest

from kit import cohorts
from kit.harm import in_process
from mfd_cli.contig.data.cohort import open_cohort
from mfd_cli.contig.run import load_run
from whole.test_crashes import CPU, Command, fresh, made, run

COMMANDS = {
    "prepare": Command(("contig", "prepare", "-q"), ("--force",), ("cohort", "cohort-report")),
    "train": Command(("contig", "train", "--epochs", "3", *CPU), ("--resume",), ("contig-run",)),
    "train a rival": Command(
        ("contig", "train", "--epochs", "3", "--objective", "supervised", "--controls", "simclr-eyes", *CPU),
        ("--resume",),
        ("contig-run",),
    ),
    "finetune": Command(
        ("contig", "finetune", "labels.tsv", "--column", "grade", "--task", "ordinal", "--mode", "full", *CPU)
        + ("--set", "finetune.epochs=2", "--set", "finetune.bootstrap=20"),
        ("--force",),
        ("finetune",),
    ),
}


@pytest.fixture(scope="module")
def template(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("contig-crashes") / "template"
    cohorts.prepared(folder)
    return folder


@pytest.fixture(scope="module")
def trained(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("contig-crashes") / "trained"
    cohorts.trained(folder)
    return folder


CASES = [
    ("prepare", 0.5), ("prepare", 0.95), ("train", 0.2), ("train", 0.8), ("train a rival", 0.3), ("train a rival", 0.9),
    ("finetune", 0.6),
]  # fmt: skip


@pytest.mark.parametrize(("name", "share"), CASES)
def test_killed_before_a_moment_of_truth(
    name: str, share: float, template: Path, trained: Path, tmp_path: Path
) -> None:
    command = COMMANDS[name]
    template = trained if name == "finetune" else template
    whole = fresh(template, tmp_path / "whole", command)
    done = run(0, command.words, whole)
    assert done.returncode == 0, done.stderr
    moments = int(re.findall(r"moments (\d+)", done.stderr)[-1])
    project = fresh(template, tmp_path / "cut", command)
    killed = run(max(1, round(share * moments)), command.words, project)
    assert killed.returncode == -9, killed.stderr
    if (project / "cohort/manifest.json").exists():
        open_cohort(project / "cohort")
    if (project / "contig-run/model.json").exists():
        load_run(project / "contig-run")
    again = in_process(list(command.again), project)
    assert again.code == 0, again.told
    assert made(project, command) == made(whole, command)
    assert [path for path in project.rglob(".*") if path.name != ".mfd-folder"] == []
