"""The same bytes, whether one process does all the work, several do, or shards are made one by one and gathered."""

from __future__ import annotations

import contextlib
import os
import shutil
import signal
import subprocess
import sys
import time
from multiprocessing import forkserver, get_context
from pathlib import Path

import pytest

from kit.harm import in_process, snapshot, trained_project
from mfd_cli.engine.parts import parts_folder
from mfd_cli.explain import attributions
from mfd_cli.predictions import embed, predict
from mfd_cli.runs import at_work
from mfd_cli.variants import background, records, saturate

CPU = ["--gpus", "0", "--threads", "1", "-q"]
LINES = {
    "predict": ["predict", "-r", "all", "--part", "total", "--part", "debiased", "-o", "OUT"],
    "predict an experiment": ["predict", "-r", "chr1", "--experiment", "target=CTCF", "--no-bigwig", "-o", "OUT"],
    "embed": ["embed", "regions.bed", "-o", "OUT.parquet", "--h5ad", "OUT.h5ad"],
    "score-variants": ["score-variants", "input.vcf", "-o", "OUT.vcf.gz", "--per-track"],
    "saturate": ["score-variants", "--saturate", "chr2:900-1900", "-o", "OUT.parquet"],
    "saturate to TSV": ["score-variants", "--saturate", "chr2:900-1900", "-o", "OUT.tsv.gz"],
    "saturate to VCF": ["score-variants", "--saturate", "chr2:900-1900", "-o", "OUT.vcf.gz"],
    "saturate to BCF": ["score-variants", "--saturate", "chr2:900-1900", "-o", "OUT.bcf", "--decimals", "3"],
    "saturate to fields": [
        "score-variants",
        "--saturate",
        "chr2:900-3900",
        "--fields-only",
        "--decimals",
        "3",
        "-o",
        "OUT.parquet",
    ],
    "background": ["background", "-n", "100"],
    "explain": ["explain", "--factor", "assay", "--method", "mutagenesis", "--top", "3", "-o", "OUT"],
    "evaluate": ["evaluate", "--beside", "other", "--kmer", "-o", "OUT"],
}
"""Words of each command, and OUT where its result goes."""


@pytest.fixture(scope="module")
def template(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("shared") / "p"
    trained_project(folder)
    assert in_process(["train", "--run", "other", "--seed", "2", *CPU], folder).code == 0
    lines = [f"chr{1 + n % 2}\t{300 * n}\t{300 * n + 100 + 7 * n}\tr{n}" for n in range(1, 20)]
    (folder / "regions.bed").write_text("\n".join(lines) + "\n")
    return folder


@pytest.fixture(scope="module", autouse=True)
def loaded_forks() -> None:
    """Workers are forked from a process that has loaded what all commands need. One that preprocess started in this process
    has not, and each worker of each test would load torch again."""
    forkserver._forkserver._stop()  # type: ignore[attr-defined]
    get_context("forkserver").set_forkserver_preload(
        ["mfd_cli.explain.factor", "mfd_cli.variants.score", "mfd_cli.evaluation.evaluate"]
    )
    forkserver.ensure_running()


@pytest.fixture(autouse=True)
def small_pieces(monkeypatch: pytest.MonkeyPatch) -> None:
    """Pieces are cut by the command, so that workers need not know of this."""
    monkeypatch.setattr(predict, "PREDICTED_AT_ONCE", 32)
    monkeypatch.setattr(embed, "REGIONS_AT_ONCE", 5)
    monkeypatch.setattr(records, "CHUNK", 4)
    monkeypatch.setattr(background, "CHUNK", 30)
    monkeypatch.setattr(saturate, "PIECE", 2)
    monkeypatch.setattr(attributions, "WINDOWS_AT_ONCE", 2)
    monkeypatch.setattr(at_work, "PIECE", 20)


def copied(template: Path, folder: Path) -> Path:
    shutil.copytree(template, folder)
    return folder


def result_of(name: str, folder: Path) -> str:
    """What `mfd gather` is told."""
    if name == "background":
        (parts,) = (folder / "run" / "background").glob(".*.parts")
        return f"run/background/{parts.name[1:].removesuffix('.parts')}"
    return next(word for word in LINES[name] if word.startswith("OUT"))


@pytest.mark.parametrize("name", list(LINES))
def test_the_same_bytes_by_one_process_by_two_and_by_shards(
    name: str, template: Path, tmp_path: Path, every_sketch: None
) -> None:
    words = [*LINES[name], *CPU]
    alone = copied(template, tmp_path / "alone")
    assert in_process(words, alone).code == 0
    expected = snapshot(alone)
    assert expected != snapshot(template)

    two = copied(template, tmp_path / "two")
    done = in_process([*words, "--workers", "2"], two)
    assert done.code == 0, done.told
    assert snapshot(two) == expected

    shards = copied(template, tmp_path / "shards")
    for number in (3, 1):
        done = in_process([*words, "--shard", f"{number}/3"], shards)
        assert done.code == 0, done.told
    result = result_of(name, shards)
    done = in_process(["gather", result, "-q"], shards)
    assert done.code == 2 and "parts are missing" in done.told and "have not finished: 2" in done.told
    assert in_process([*words, "--shard", "2/3"], shards).code == 0
    done = in_process(["gather", result, "-q"], shards)
    assert done.code == 0, done.told
    assert snapshot(shards) == expected


def test_track_files_are_read_by_shards(template: Path, tmp_path: Path) -> None:
    folder = copied(template, tmp_path / "p")
    words = ["preprocess", "--dataset", "again", "-q"]
    assert in_process([*words, "--shard", "3/3"], folder).code == 0
    assert in_process([*words, "--shard", "1/3"], folder).code == 0
    done = in_process(["gather", "again"], folder)
    assert done.code == 2 and "2 tracks have not been read: two.narrowPeak, five.bw" in done.told
    assert in_process([*words, "--shard", "2/3"], folder).code == 0
    done = in_process([*words, "--set", "bins.min_overlap=100", "--shard", "2/3"], folder)
    assert done.code == 2 and "another bins.min_overlap" in done.told
    done = in_process(["gather", "again"], folder)
    assert done.code == 0, done.told
    assert snapshot(folder / "again") == snapshot(template / "dataset") and not (folder / ".again.parts").exists()


def test_a_gathering_is_told_what_does_not_fit(template: Path, tmp_path: Path) -> None:
    folder = copied(template, tmp_path / "p")
    words = ["predict", "-r", "chr1", "-o", "OUT", *CPU]
    done = in_process(["gather", "OUT"], folder)
    assert done.code == 2 and "there are no parts to gather" in done.told
    assert in_process([*words, "--shard", "1/1"], folder).code == 0
    done = in_process([*words, "--batch-size", "8", "--shard", "1/1"], folder)
    assert done.code == 2 and "another batch size (batch size: 256, now 8)" in done.told
    (folder / "OUT").mkdir()
    done = in_process(["gather", "OUT"], folder)
    assert done.code == 2 and "OUT: exists already" in done.told
    done = in_process(["gather", "OUT", "--force", "-q", "--json"], folder)
    assert done.code == 0 and '"bins"' in done.said and (folder / "OUT" / "predictions.parquet").is_file()
    assert not (folder / ".OUT.parts").exists()


@pytest.mark.parametrize(
    ("words", "says"),
    [
        (["--shard", "0/3"], "--shard '0/3' is not I/N"),
        (["--shard", "4/3"], "is not I/N"),
        (["--shard", "a"], "is not I/N"),
        (["--engine", "slurm"], "--engine is 'slurm', not one of local, ray"),
        (["--workers", "3", "--gpus", "2"], "each GPU has a worker of its own"),
        (["--shard", "1/2", "-o", "-"], "--shard goes with an output file"),
    ],
)
def test_wrong_words_are_told(words: list[str], says: str, template: Path) -> None:
    before = snapshot(template)
    done = in_process(["score-variants", "input.vcf", "-o", "x.vcf", *words, "--threads", "1", "-q"], template)
    assert done.code == 2 and says in done.told, done.told
    assert snapshot(template) == before


def test_another_model_than_at_the_beginning_is_noticed(template: Path, tmp_path: Path) -> None:
    """A run that is trained anew between two shards is another model: its parts are not mixed with the others."""
    folder = copied(template, tmp_path / "p")
    words = ["score-variants", "input.vcf", *CPU, "--shard"]
    assert in_process([*words, "1/2"], folder).code == 0
    assert in_process(["train", "--force", "--seed", "5", *CPU], folder).code == 0
    done = in_process([*words, "2/2"], folder)
    assert done.code == 2 and "parts that were made with another model (model: " in done.told


@pytest.mark.parametrize("number", [signal.SIGKILL, signal.SIGTERM])
@pytest.mark.slow
def test_workers_end_with_their_command(number: int, template: Path, tmp_path: Path) -> None:
    """And the same command goes on from the parts that were made."""
    folder = copied(template, tmp_path / "p")
    words = ["predict", "-r", "all", "--no-bigwig", "-o", "OUT", *CPU]
    # The command gets the signal when it takes the fourth part, while its workers are at later ones.
    script = (
        "import os, sys; from mfd_cli.predictions import predict; from mfd_cli.cli import app as cli\n"
        "from mfd_cli.engine.parts import Parts; expect, taken = Parts.expect, []\n"
        "def counted(*words):\n"
        f"    taken.append(len(taken) == 3 and os.kill(os.getpid(), {int(number)}))\n"
        "    return expect(*words)\n"
        f"Parts.expect, predict.PREDICTED_AT_ONCE = counted, 4; sys.argv = ['mfd', *{[*words, '--workers', '2']!r}]\n"
        "cli.main()"
    )
    main = subprocess.Popen([sys.executable, "-c", script], cwd=folder, stderr=subprocess.PIPE, text=True)
    parts = parts_folder(folder / "OUT")
    assert main.wait(120) == (-number if number == signal.SIGKILL else 128 + number)
    end = time.monotonic() + 20
    while (left := processes_in(folder)) and time.monotonic() < end:
        time.sleep(0.1)
    assert not left and not (folder / "OUT").exists()
    assert main.stderr is not None and "Traceback" not in main.stderr.read()
    made = len(list(parts.glob("*.part")))
    assert (made >= 3 and not list(folder.glob(".OUT.tmp*"))) or number == signal.SIGKILL
    whole = copied(template, tmp_path / "whole")
    predict_in_fours(words, whole)
    predict_in_fours([*words, "--json"], folder)
    assert snapshot(folder) == snapshot(whole)


def processes_in(folder: Path) -> list[str]:
    """The processes whose working folder this is."""
    found = []
    for process in Path("/proc").glob("[0-9]*"):
        with contextlib.suppress(OSError):
            if Path(os.readlink(process / "cwd")) == folder.resolve():
                found.append((process / "cmdline").read_bytes().decode("utf-8", "replace"))
    return found


def predict_in_fours(words: list[str], folder: Path) -> None:
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(predict, "PREDICTED_AT_ONCE", 4)
        done = in_process(words, folder)
    assert done.code == 0, done.told
