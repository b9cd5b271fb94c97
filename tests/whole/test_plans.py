"""--dry-run: what would be done is said as it then is, nothing is written, and what would be refused is refused."""

from __future__ import annotations

import json
import re
from pathlib import Path

import pytest

from kit import harm, tiny
from mfd_cli.training import train as training

CPU = ("--gpus", "0", "--threads", "1")


@pytest.fixture(scope="module")
def project(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("plans") / "project"
    harm.good_project(folder)
    return folder


def files(folder: Path) -> dict[Path, bytes]:
    return {path: path.read_bytes() for path in folder.rglob("*") if path.is_file()}


def run(folder: Path, *words: str) -> str:
    """What a command says; it must end well."""
    done = harm.in_process(words, folder)
    assert done.code == 0, done.told
    return done.told + done.said


def planned(folder: Path, *words: str) -> str:
    before = files(folder)
    said = run(folder, *words, "--dry-run")
    assert files(folder) == before
    return said


def test_every_step_is_told_before_it_is_done(project: Path) -> None:
    said = planned(project, "preprocess")
    done = run(project, "preprocess", "-q")
    assert re.search(r"tracks: \d+ with peaks, \d+ with signal", said)[0] == re.search(r"tracks: .* signal", done)[0]  # type: ignore[index]
    most = float(re.search(r"at most ([0-9.]+) MB", said)[1])  # type: ignore[index]
    made = sum(path.stat().st_size for path in (project / "dataset").rglob("*.arrow")) / 1e6
    assert 0 < most < 10 * made  # a tiny dataset is mostly the frame of its files
    said = planned(project, "train", *CPU)
    assert re.search(r"windows in float32 on 1 CPU thread; about \d+ \w+ at most, [0-9.]+ GB of memory", said)
    assert not (project / "run").exists()
    run(project, "train", *CPU, "-q")
    said = planned(project, "score-variants", *CPU, "input.vcf")
    done = run(project, "score-variants", *CPU, "input.vcf")
    counts = r"([0-9,]+) records, ([0-9,]+) alternate alleles: ([0-9,]+) (?:scored|to score).*?([0-9,]+) not scored"
    assert re.search(counts, said).groups() == re.search(counts, done).groups()  # type: ignore[union-attr]
    assert re.findall("would write (.*)", said) == [
        line for line in re.findall("wrote (.*)", done) if "tbi" not in line
    ]
    for words in (("preprocess",), ("train", *CPU), ("score-variants", *CPU, "input.vcf")):
        refused = harm.in_process([*words, "--dry-run"], project)
        assert refused.code == 2 and "--force" in refused.told  # what is there already is in the way
        planned(project, *words, "--force")


def test_the_plan_does_not_disturb_the_training(tmp_path: Path) -> None:
    """Told or quiet, the curve has the same bits; the penalties draw random numbers."""
    tiny.dataset(tmp_path / "dataset")
    curves = []
    for note in (None, lambda line: None):
        project = tiny.project(
            tmp_path, objective={"penalties": {"projections": {"weight": 0.4}, "predictor": {"weight": 0.1}}}
        )
        training.train(project, gpus=0, force=True, note=note)
        lines = [json.loads(line) for line in (tmp_path / "run/metrics.jsonl").read_text().splitlines()]
        curves.append([{k: v for k, v in line.items() if k not in ("seconds", "windows_per_second")} for line in lines])
    assert curves[0] == curves[1] and len(curves[0]) > 1
