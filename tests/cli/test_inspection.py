"""`mfd info` and `mfd verify`: one JSON document, whatever there is, and runs of several seeds."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from kit.harm import in_process, trained_project


@pytest.fixture(scope="module")
def project(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A trained project, and runs of the seeds 1 and 2 in the folder `seeds`."""
    folder = tmp_path_factory.mktemp("inspected") / "p"
    trained_project(folder)
    words = ["train", "-q", "--gpus", "0", "--threads", "1", "--seeds", "1,2", "--run", "seeds"]
    done = in_process(words, folder)
    assert done.code == 0, done.told
    return folder


def test_all_of_a_project_is_one_document(project: Path) -> None:
    done = in_process(["info", "--json"], project)
    assert done.code == 0, done.told
    described = json.loads(done.said)
    assert [(each["what"], each["folder"]) for each in described] == [
        ("dataset", "dataset"),
        ("run", "run"),
    ]
    assert described[0]["peak_tracks"] == 4 and described[1]["tracks"] == 5


@pytest.mark.parametrize(("path", "what"), [("dataset", "dataset"), ("run", "run"), ("seeds/seed-2", "run")])
def test_one_folder_is_one_object(project: Path, path: str, what: str) -> None:
    described = json.loads(in_process(["info", path, "--json"], project).said)
    assert described["what"] == what and described["folder"] == path


def test_a_run_is_named_as_elsewhere_too(project: Path) -> None:
    for words in (["info", "--json"], ["verify"], ["info", "--card"]):
        assert in_process([*words, "--run", "run"], project).said == in_process([*words, "run"], project).said != ""
    both = in_process(["info", "dataset", "--run", "run"], project)
    assert both.code == 2 and "dataset and --run run name two folders" in both.told
    done = in_process(["report", "--run", "seeds/seed-2", "-q"], project)
    assert done.code == 0 and (project / "seeds/seed-2/report.html").exists(), done.told


def test_runs_of_several_seeds_are_described_one_by_one(project: Path) -> None:
    expected = ["dataset", "seed-1", "seed-2"]
    described = json.loads(in_process(["info", "--json", "--set", "data.run=seeds"], project).said)
    assert [Path(each["folder"]).name for each in described] == expected
    assert [each["folder"] for each in json.loads(in_process(["info", "seeds", "--json"], project).said)] == [
        "seeds/seed-1",
        "seeds/seed-2",
    ]
    words = in_process(["info", "seeds"], project)
    assert words.code == 0 and words.said.count("run: seeds/seed-") == 2, words.told


def test_runs_of_several_seeds_are_verified_one_by_one(project: Path) -> None:
    done = in_process(["verify", "seeds"], project)
    assert done.code == 0, done.told
    assert [line.partition(":")[0] for line in done.said.splitlines()] == ["seeds/seed-1", "seeds/seed-2"]
    done = in_process(["verify", "--set", "data.run=seeds"], project)
    assert done.code == 0 and len(done.said.splitlines()) == 3, done.told
    weights = project / "seeds/seed-2/model.safetensors"
    whole = weights.read_bytes()
    try:
        weights.write_bytes(whole[:-1] + bytes([whole[-1] ^ 1]))
        done = in_process(["verify", "seeds"], project)
        assert done.code == 2 and "seeds/seed-2" in done.told
    finally:
        weights.write_bytes(whole)


def test_a_folder_that_is_neither_says_so(project: Path) -> None:
    done = in_process(["info", "tracks"], project)
    assert done.code == 2 and "tracks: is neither a dataset" in done.told


def test_one_run_and_runs_of_several_seeds_do_not_hide_each_other(project: Path) -> None:
    train = ["train", "-q", "--gpus", "0", "--threads", "1"]
    done = in_process([*train, "--seeds", "1,2", "--force"], project)
    assert done.code == 2 and "run: holds a run already, which would hide those of several seeds" in done.told
    done = in_process([*train, "--run", "seeds", "--force"], project)
    assert done.code == 2 and "seeds: holds runs of several seeds (seed-1, seed-2)" in done.told
    assert not (project / "run/seed-1").exists() and not (project / "seeds/model.json").exists()
    done = in_process(["score-variants", "input.vcf", "--ensemble", "--gpus", "0"], project)
    assert done.code == 2 and "mfd train --seeds 1,2,3 --run FOLDER makes them; name the same --run" in done.told
    words = ["score-variants", "input.vcf", "--ensemble", "--run", "seeds", "--gpus", "0", "-o", "s.vcf", "-q"]
    assert in_process(words, project).code == 0
