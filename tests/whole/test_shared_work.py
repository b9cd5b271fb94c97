"""The same bytes, whether one process does all the work, several do, or shards are made one by one and gathered."""

from __future__ import annotations

import shutil
from pathlib import Path

import pytest

from kit.harm import in_process, snapshot, trained_project
from mfd_cli.predictions import embed, predict
from mfd_cli.variants import background, records, saturate

CPU = ["--gpus", "0", "--threads", "1", "-q"]
LINES = {
    "predict": ["predict", "-r", "all", "--part", "total", "--part", "debiased", "-o", "OUT"],
    "predict an experiment": ["predict", "-r", "chr1", "--experiment", "target=CTCF", "--no-bigwig", "-o", "OUT"],
    "embed": ["embed", "regions.bed", "-o", "OUT.parquet", "--h5ad", "OUT.h5ad"],
    "score-variants": ["score-variants", "input.vcf", "-o", "OUT.vcf.gz", "--per-track"],
    "saturate": ["score-variants", "--saturate", "chr2:900-2500", "-o", "OUT.parquet"],
    "saturate to TSV": ["score-variants", "--saturate", "chr2:900-2500", "-o", "OUT.tsv.gz"],
    "saturate to VCF": ["score-variants", "--saturate", "chr2:900-2500", "-o", "OUT.vcf.gz"],
    "saturate to BCF": ["score-variants", "--saturate", "chr2:900-2500", "-o", "OUT.bcf", "--decimals", "3"],
    "saturate to fields": [
        "score-variants",
        "--saturate",
        "chr2",
        "--fields-only",
        "--decimals",
        "3",
        "-o",
        "OUT.parquet",
    ],
    "background": ["background", "-n", "100"],
}
"""Words of each command, and OUT where its result goes."""


@pytest.fixture(scope="module")
def template(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("shared") / "p"
    trained_project(folder)
    lines = [f"chr{1 + n % 2}\t{300 * n}\t{300 * n + 100 + 7 * n}\tr{n}" for n in range(1, 20)]
    (folder / "regions.bed").write_text("\n".join(lines) + "\n")
    return folder


@pytest.fixture(autouse=True)
def small_pieces(monkeypatch: pytest.MonkeyPatch) -> None:
    """Pieces are cut by the command, so that workers need not know of this."""
    monkeypatch.setattr(predict, "PREDICTED_AT_ONCE", 32)
    monkeypatch.setattr(embed, "REGIONS_AT_ONCE", 5)
    monkeypatch.setattr(records, "CHUNK", 4)
    monkeypatch.setattr(background, "CHUNK", 30)
    monkeypatch.setattr(saturate, "PIECE", 3)


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
def test_the_same_bytes_by_one_process_by_two_and_by_shards(name: str, template: Path, tmp_path: Path) -> None:
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
