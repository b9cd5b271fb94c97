"""`mfd info --card`: the model card of a run, in Markdown with a header that is YAML."""

from __future__ import annotations

import json
import shutil
from pathlib import Path
from typing import Any

import pytest
import yaml

from kit.harm import in_process, trained_project
from mfd_cli.base.errors import MfdError, RunError
from mfd_cli.base.stored_json import read_stored, write_stored
from mfd_cli.runs.card import model_card
from mfd_cli.runs.description import Description

SECTIONS = ["Data", "Factors", "What cannot be told apart", "Training", "Measured accuracy", "Limits"]


@pytest.fixture(scope="module")
def evaluated(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A trained project, evaluated on the test and the validation bins."""
    folder = tmp_path_factory.mktemp("card") / "p"
    trained_project(folder)
    for split in ("test", "validation"):
        done = in_process(["evaluate", "--split", split, "-q", "--gpus", "0", "--threads", "1"], folder)
        assert done.code == 0, done.told
    return folder


@pytest.fixture
def project(evaluated: Path, tmp_path: Path) -> Path:
    """A copy of it that may be changed."""
    return Path(shutil.copytree(evaluated, tmp_path / "p"))


def header_of(card: str) -> dict[str, Any]:
    _, header, _ = card.split("---\n", 2)
    found: dict[str, Any] = yaml.safe_load(header)
    return found


def section(card: str, title: str) -> str:
    return card.split(f"\n## {title}\n", 1)[1].split("\n## ", 1)[0]


def rewritten(run: Path, **entries: Any) -> None:
    """Other entries in model.json, with the digest that belongs to them."""
    stored = read_stored(run / "model.json", Description, RunError, "")
    write_stored(run / "model.json", {**stored, **entries})


def test_a_card_has_a_header_and_every_section_in_order(evaluated: Path) -> None:
    done = in_process(["info", "--card"], evaluated)
    assert done.code == 0 and done.told == ""
    assert [line[3:] for line in done.said.splitlines() if line.startswith("## ")] == SECTIONS
    assert header_of(done.said)["library_name"] == "mfd"
    assert done.said == in_process(["info", "run", "--card"], evaluated).said == model_card(evaluated / "run")


def test_the_numbers_are_those_of_the_evaluations(evaluated: Path) -> None:
    card = model_card(evaluated / "run")
    (model,) = header_of(card)["model-index"]
    assert [result["dataset"]["split"] for result in model["results"]] == ["test", "validation"]
    for result in model["results"]:
        split = result["dataset"]["split"]
        summary = json.loads((evaluated / f"run/evaluation-{split}/summary.json").read_text())
        values = {metric["type"]: metric["value"] for metric in result["metrics"]}
        assert values["auroc"] == summary["training_tracks"]["auroc"] and "pearson" in values
        said = section(card, "Measured accuracy")
        assert f"On the {split} bins ({summary['bins']:,})" in said
        assert f"| AUROC | {summary['training_tracks']['auroc']:.4f} |" in said
        baseline = summary["baselines"]["training_tracks"]["same target"]
        assert f"| same target | {baseline['auroc']:.4f} | {baseline['model_auroc']:.4f} |" in said


def test_the_data_and_the_factors_are_those_of_the_run(evaluated: Path) -> None:
    card = model_card(evaluated / "run")
    data = section(card, "Data")
    assert "3 contigs and 72,000 bp" in data and "4 peak sets and 1 signal, none of which were held out" in data
    assert "trained on chr1. The test bins are on chr2. The validation bins are on chr10." in data
    assert "| target | Target | biological | category | 2: CTCF, GATA1 |" in section(card, "Factors")
    assert "No factor goes with another" in section(card, "What cannot be told apart")


def test_factors_that_go_together_are_named(project: Path) -> None:
    stored = json.loads((project / "run/model.json").read_text())
    tracks = [
        {
            **track,
            "metadata": {
                **track["metadata"],
                "Assay": {"CTCF": "ChIP-seq"}.get(track["metadata"]["Target"], "CUT&RUN"),
            },
        }
        for track in stored["tracks"]
    ]
    rewritten(project / "run", tracks=tracks)
    said = section(model_card(project / "run"), "What cannot be told apart")
    assert "- target and assay cannot be told apart on 5 of 5 tracks." in said


def test_without_an_evaluation_and_with_one_of_other_weights(project: Path) -> None:
    shutil.rmtree(project / "run/evaluation-validation")
    file = project / "run/evaluation-test/summary.json"
    file.write_text(json.dumps({**json.loads(file.read_text()), "model": "0" * 64}))
    card = model_card(project / "run")
    assert "model-index" not in header_of(card)
    assert "No evaluation of these weights is there" in section(card, "Measured accuracy")
    assert "of other weights: evaluation-test." in section(card, "Measured accuracy")
    shutil.rmtree(project / "run/evaluation-test")
    assert "other weights" not in model_card(project / "run")


def test_of_several_seeds_the_first_is_shown_with_the_evaluation_beside_it(project: Path) -> None:
    (project / "run").rename(project / "seed-1")
    (project / "run").mkdir()
    (project / "seed-1").rename(project / "run/seed-1")
    (project / "run/seed-1/evaluation-test").rename(project / "run/evaluation-test")
    shutil.copytree(project / "run/seed-1", project / "run/seed-2")
    done = in_process(["info", "--card"], project)
    assert done.code == 0 and done.told == "run holds 2 runs: the card is of the first, seed-1\n"
    assert "On the test bins" in done.said and "On the validation bins" in done.said


def test_a_name_cannot_break_the_markdown(project: Path) -> None:
    stored = json.loads((project / "run/model.json").read_text())
    levels = ["a|b\n# not a heading", "<b>bold</b>"]
    metadata = {**stored["metadata"], "target": {**stored["metadata"]["target"], "vocabulary": levels}}
    rewritten(project / "run", metadata=metadata)
    said = section(model_card(project / "run"), "Factors")
    assert r"2: a\|b # not a heading, \<b\>bold\</b\> |" in said


@pytest.mark.parametrize(
    ("text", "message"),
    [("{", "is not JSON text"), ("[]", "valid dictionary"), ('{"split": "test", "bins": "x", "model": ""}', "bins: ")],
)
def test_a_broken_evaluation_is_one_line(text: str, message: str, project: Path) -> None:
    (project / "run/evaluation-test/summary.json").write_text(text)
    done = in_process(["info", "--card"], project)
    assert done.code == 2 and done.said == ""
    assert done.told.startswith("mfd: error: run/evaluation-test/summary.json: ") and message in done.told
    assert "hint: mfd evaluate writes it again" in done.told


def test_what_has_no_card(project: Path, tmp_path: Path) -> None:
    with pytest.raises(MfdError, match="is a dataset; a model card is of a run"):
        model_card(project / "dataset")
    done = in_process(["info", "--card"], tmp_path)
    assert done.code == 2 and "there is no trained model here" in done.told
    done = in_process(["info", "--card", "--json"], project)
    assert done.code == 2 and "--card prints Markdown: it goes without --json" in done.told


def test_a_free_head_tells_nothing_apart(project: Path) -> None:
    stored = json.loads((project / "run/model.json").read_text())
    rewritten(project / "run", model={**stored["model"], "head": "free"})
    assert "an ordinary output layer, which does not tell groups of factors apart" in model_card(project / "run")
