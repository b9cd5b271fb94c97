"""`--json`: every command has it, stdout is then one JSON document, and an error one JSON object, the last line of stderr."""

from __future__ import annotations

import json
import os
import pty
import re
import shutil
import signal
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

import pytest

from kit import harm
from kit.harm import in_process, trained_project
from mfd_cli.cli.app import COMMANDS
from mfd_cli.evaluation import qc

CPU = ["--gpus", "0", "--threads", "1", "-q"]
LINES = {
    "doctor": [],
    "init": ["--fasta", "genome.fa", "--metadata", "metadata.tsv", "-o", "new.toml"],
    "fetch-inputs": ["-q"],
    "settings": ["train"],
    "check-design": [],
    "simulate": ["planted", "--size", "tiny", "-q"],
    "preprocess": ["--dataset", "again", "--threads", "1", "-q"],
    "train": ["--run", "again", *CPU],
    "add-tracks": ["more", "--dataset", "new-dataset", *CPU],
    "evaluate": CPU,
    "report": ["run"],
    "score-variants": ["input.vcf", *CPU],
    "background": ["-n", "100", *CPU],
    "enrich": ["input.mfd.parquet", "--labels", "labels.tsv", "-q"],
    "explain": ["--factor", "assay", "--factor", "all", "--top", "3", *CPU],
    "predict": ["-r", "chr1:1-2000", *CPU],
    "view": ["run"],
    "impute": ["--metadata", "wanted.tsv", *CPU],
    "embed": ["chr1:1001-2000", *CPU],
    "qc": CPU,
    "info": [],
    "verify": [],
    "gather": ["shared.vcf", "-q"],
}
"""Words that each command is called with."""
MORE_LINES = [
    ["fetch-inputs", "--from-metadata", "metadata.tsv", "--dry-run"],
    ["preprocess", "--dry-run", "--force"],
    ["train", "--dry-run", "--force", *CPU],
    ["train", "--seeds", "1,2", "--run", "seeds", *CPU],
    ["train", "--sweep", "train.lr=0.001,0.004", "--run", "sweeping", *CPU],
    ["score-variants", "input.vcf", "--dry-run", "-o", "other.vcf", *CPU],
    ["score-variants", "--saturate", "chr1:1001-1003", *CPU],
    ["verify", "run"],
]


@pytest.fixture(scope="module")
def project(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("json") / "p"
    trained_project(folder)
    (folder / "wanted.tsv").write_text("Target\tAssay\nCTCF\tChIP-seq\n")
    harm.new_dataset(folder)
    return folder


def strict(text: str) -> Any:
    """One JSON document, in which there is no NaN."""

    def refuse(constant: str) -> None:
        raise AssertionError(f"{constant} is no JSON")

    return json.loads(text, parse_constant=refuse)


def prepared(name: str, project: Path) -> None:
    """What a command reads that others write."""
    if name == "gather":
        assert (
            in_process(["score-variants", "input.vcf", "-o", "shared.vcf", "--shard", "1/1", *CPU], project).code == 0
        )
    if name != "enrich":
        return
    if not (project / "input.mfd.parquet").exists():
        assert in_process(["score-variants", "input.vcf", *CPU], project).code == 0
    rows = [line.split("\t") for line in (project / "input.vcf").read_text().splitlines() if line[0] != "#"]
    cells = [(row[0], row[1], row[3], row[4], str(number % 2)) for number, row in enumerate(rows)]
    lines = ["\t".join(row) for row in [("chrom", "pos", "ref", "alt", "label"), *cells]]
    (project / "labels.tsv").write_text("\n".join(lines) + "\n")


def test_every_command_is_tried() -> None:
    assert set(LINES) == set(COMMANDS)


@pytest.mark.parametrize("name", list(COMMANDS))
def test_every_command_prints_one_document(name: str, project: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(qc, "FEWEST_IN_BLOCK", 1)  # the project has a small test contig
    monkeypatch.setattr(qc, "STEPS", 40)  # which level fits best is test_qc's
    prepared(name, project)
    done = in_process([name, *LINES[name], "--json"], project)
    assert done.code == 0, done.told
    assert strict(done.said)


@pytest.mark.parametrize("words", MORE_LINES, ids=" ".join)
def test_so_does_every_form_of_a_command(words: list[str], project: Path) -> None:
    done = in_process([*words, "--json"], project)
    assert done.code == 0, done.told
    assert strict(done.said)


def test_the_documents_say_what_was_done(project: Path, tmp_path: Path) -> None:
    folder = tmp_path / "p"
    shutil.copytree(project, folder)
    plan = strict(in_process(["preprocess", "--dry-run", "--force", "--json"], folder).said)
    assert plan["tracks"] == {"peaks": 4, "signal": 1} and plan["contigs"]["test"] == ["chr2"]
    made = strict(in_process(["preprocess", "--force", "-q", "--threads", "1", "--json"], folder).said)
    assert made["folder"] == "dataset" and made["tracks"] == plan["tracks"]
    trained = strict(in_process(["train", "--force", "--json", *CPU], folder).said)
    assert trained["folder"] == "run" and trained["weights_sha256"] and "loss" in trained["validation"]
    scored = strict(in_process(["score-variants", "input.vcf", "--force", "--json", *CPU], folder).said)
    assert scored["scored"] == scored["alleles"] > 0 and "input.mfd.vcf.gz" in scored["outputs"]
    explained = strict(in_process(["explain", "--factor", "all", "--force", "--json", *CPU], folder).said)
    assert [each["subject"] for each in explained] and explained[0]["folder"] == "explain/all"
    assert strict(in_process(["verify", "run", "--json"], folder).said)["folder"] == "run"
    init = ["init", "--fasta", "genome.fa", "--metadata", "metadata.tsv", "-o", "one.toml", "--json"]
    assert strict(in_process(init, folder).said)["factors"]["target"]["group"] == "biological"


# -- errors ------------------------------------------------------------------------------------------------------------


def fault(done: harm.Outcome) -> dict[str, Any]:
    """The JSON object that stderr ends with."""
    assert done.said == "" and "Traceback" not in done.told
    found: dict[str, Any] = strict(done.told.splitlines()[-1])
    assert set(found) == {"exit_code", "errors"} and found["exit_code"] == done.code
    assert all(set(each) == {"message", "path", "line", "hint"} for each in found["errors"])
    return found


def test_an_error_is_one_object(tmp_path: Path) -> None:
    (tmp_path / "mfd.toml").write_text("[train]\nepochz = 3\n")
    done = in_process(["check-design", "--json"], tmp_path)
    (error,) = fault(done)["errors"]
    assert done.code == 2 and error["path"] == "mfd.toml" and error["line"] == 2 and "epochs" in error["message"]
    assert len(done.told.splitlines()) == 1


def test_several_faulty_inputs_are_one_object(project: Path, tmp_path: Path) -> None:
    folder = tmp_path / "p"
    shutil.copytree(project, folder)
    for name in ("one.narrowPeak", "three.bed"):
        (folder / "tracks" / name).unlink()
    done = in_process(["preprocess", "--force", "--json"], folder)
    errors = fault(done)["errors"]
    assert done.code == 2 and [Path(each["path"]).name for each in errors] == ["one.narrowPeak", "three.bed"]


@pytest.mark.parametrize(
    ("words", "message"),
    [
        (["info", "--jsonn", "--json"], "No such option"),
        (["evaluate", "--gpus", "x", "--json"], "--gpus"),
        (["init", "--json"], "Missing option"),
        (["danse", "--json"], "No such command"),
        (["score-variants", "-", "--json"], "--json and the VCF would both go to standard output"),
        (["score-variants", "input.vcf", "-o", "-", "--json"], "--json and the VCF would both go to standard output"),
    ],
    ids=lambda value: " ".join(value) if isinstance(value, list) else "",
)
def test_so_is_a_wrong_command_line(words: list[str], message: str, tmp_path: Path) -> None:
    done = in_process(words, tmp_path)
    assert done.code == 2 and message in fault(done)["errors"][0]["message"]


def test_so_is_a_fault_of_ours(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def broken(*_: object) -> None:
        raise ZeroDivisionError("by nothing")

    monkeypatch.setattr("mfd_cli.settings.reference.settings", broken)
    done = in_process(["settings", "--json"], tmp_path)
    (error,) = fault(done)["errors"]
    assert done.code == 1 and error["message"] == "internal error: ZeroDivisionError: by nothing"
    report = re.search(r"with the file (.*)$", error["hint"])
    assert report is not None and "ZeroDivisionError" in Path(report[1]).read_text()
    Path(report[1]).unlink()


def test_without_json_errors_are_lines(tmp_path: Path) -> None:
    done = in_process(["info"], tmp_path)
    assert done.code == 2 and done.told.startswith("mfd: error: there is neither a dataset nor a run here\nhint: ")
    done = in_process(["info", "--nonsense"], tmp_path)
    assert done.code == 2 and done.told.startswith("Usage: mfd info ")


def test_an_interrupted_command_says_so_in_json(tmp_path: Path) -> None:
    words = [sys.executable, "-m", "mfd_cli", "simulate", "planted", "--size", "medium", "--json"]
    running = subprocess.Popen(words, cwd=tmp_path, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True)
    assert running.stderr is not None and running.stderr.readline().startswith("planting")
    time.sleep(0.2)
    running.send_signal(signal.SIGINT)
    said, told = running.communicate(timeout=60)
    done = harm.Outcome(running.returncode, told, said)
    assert done.code == 130 and fault(done)["errors"][0]["message"] == "stopped"


def test_an_interrupted_training_keeps_its_exit_code(project: Path) -> None:
    words = ["train", "--run", "interrupted", "--json", "--epochs", "1000", "--gpus", "0", "--threads", "1"]
    command = [sys.executable, "-m", "mfd_cli", *words, "--set", "train.windows_per_validation=64"]
    running = subprocess.Popen(command, cwd=project, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True)
    until = time.monotonic() + 60
    while not (project / "interrupted/metrics.jsonl").exists() and time.monotonic() < until:
        time.sleep(0.02)
    running.send_signal(signal.SIGTERM)
    said, told = running.communicate(timeout=60)
    done = harm.Outcome(running.returncode, told, said)
    assert done.code == 143 and "--resume" in str(fault(done)["errors"][0]["hint"])


# -- colours -----------------------------------------------------------------------------------------------------------


def on_terminal(words: list[str], folder: Path, **environment: str) -> str:
    """What a command writes to a terminal of its own."""
    ours, its = pty.openpty()
    own = {**os.environ, "TERM": "xterm-256color", "COLORTERM": "truecolor", **environment}
    running = subprocess.Popen([sys.executable, "-m", "mfd_cli", *words], cwd=folder, stdout=its, stderr=its, env=own)
    os.close(its)
    shown = b""
    while True:
        try:
            shown += (piece := os.read(ours, 1 << 16))
        except OSError:  # how Linux says that the other end is closed
            break
        if not piece:
            break
    os.close(ours)
    assert running.wait() == 0, shown
    return shown.decode()


COLOUR = re.compile(r"\x1b\[(?:\d+;)*(?:3[0-8]|4[0-8]|9[0-7]|10[0-7])[;m]")


@pytest.mark.parametrize("words", [["simulate", "planted", "--size", "tiny"], ["--install-completion", "bash"]])
def test_no_color_is_respected(words: list[str], tmp_path: Path) -> None:
    own = {"HOME": str(tmp_path), "_TYPER_COMPLETE_TEST_DISABLE_SHELL_DETECTION": "1", "NO_COLOR": ""}
    assert COLOUR.search(on_terminal(words, tmp_path, **own))  # the test can see colours
    shutil.rmtree(tmp_path / "planted", ignore_errors=True)
    assert not COLOUR.search(on_terminal(words, tmp_path, **{**own, "NO_COLOR": "1"}))
