"""One way to say that a value is missing, for every type of factor; and check-design, init and preprocess agree on a table."""

from __future__ import annotations

import csv
import json
from pathlib import Path

import pyarrow.parquet as pq
import pytest

from kit.harm import METADATA, TOML, good_project, in_process
from kit.odd import TRAIN

PREPROCESS = ["preprocess", "-q", "--threads", "1"]
FACTORS = """[factors.age]
column = "Age"
group = "biological"
type = "number"

[factors.sex]
column = "Sex"
group = "biological"

[factors.tags]
column = "Tags"
group = "technical"
type = "multilabel"

[factors.date]
column = "Date"
group = "technical"
type = "year"

[model]
"""
CELLS = [
    ("3", "f", "a,b", "2015-01-01"),
    ("", "", "", ""),
    ("NA", "NA", "NA", "NA"),
    ("(missing)", "(missing)", "(missing)", "(missing)"),
    ("8.5", "m", "b,NA", "2017-02-03"),
]
"""Age, Sex, Tags, Date of the five tracks of the good project."""


def project(folder: Path, cells: list[tuple[str, ...]] = CELLS) -> Path:
    """The good project with four more factors, one of each type."""
    good_project(folder)
    header = (*METADATA[0], "Age", "Sex", "Tags", "Date")
    rows = [header, *((*row, *more) for row, more in zip(METADATA[1:], cells))]
    (folder / "metadata.tsv").write_text("\n".join("\t".join(row) for row in rows) + "\n")
    (folder / "mfd.toml").write_text(TOML.replace("[model]\n", FACTORS))
    return folder


def done(folder: Path, *words: str) -> str:
    outcome = in_process(words, folder)
    assert outcome.code == 0 and "Traceback" not in outcome.told, outcome.told
    return outcome.said


def refusal(folder: Path, *words: str) -> str:
    outcome = in_process(words, folder)
    assert outcome.code == 2 and "Traceback" not in outcome.told, outcome.told
    return outcome.told


def test_every_way_of_saying_that_a_value_is_missing_is_one_level(tmp_path: Path) -> None:
    folder = project(tmp_path / "p")
    factors = {row["factor"]: row for row in json.loads(done(folder, "check-design", "--json"))["factors"]}
    levels = {name: (factors[name]["missing"], factors[name]["levels"]) for name in ("age", "sex", "tags", "date")}
    assert levels == {"age": (3, 3), "sex": (3, 3), "tags": (3, 3), "date": (3, 3)}
    done(folder, *PREPROCESS)
    done(folder, *TRAIN)
    stored = json.loads((folder / "run/model.json").read_text())["metadata"]
    assert stored["sex"]["vocabulary"] == ["(missing)", "f", "m"] and stored["tags"]["vocabulary"] == [
        "(missing)",
        "a",
        "b",
    ]
    done(folder, "evaluate", "--gpus", "0", "-q", "--no-probes")
    with (folder / "run/evaluation-test/tracks.tsv").open(newline="") as file:
        rows = list(csv.DictReader(file, delimiter="\t"))
    shown = [tuple(row[name] for name in ("age", "sex", "tags", "date")) for row in rows]
    assert shown == [("3", "f", "a,b", "2015"), *[("(missing)",) * 4] * 3, ("8.5", "m", "b", "2017")]


@pytest.mark.parametrize("factor", ["age", "sex", "tags", "date"])
def test_held_out_takes_any_of_them(tmp_path: Path, factor: str) -> None:
    folder = project(tmp_path / "p")
    for word in ("(missing)", "NA", "", "nan"):
        held_out = f'train.held_out=[{{{factor} = "{word}"}}]'
        assert done(folder, "check-design", "--set", held_out).startswith("2 tracks\n"), word


def test_an_experiment_can_be_asked_for_with_any_of_them(tmp_path: Path) -> None:
    folder = project(tmp_path / "p")
    done(folder, *PREPROCESS)
    done(folder, *TRAIN)
    predicted = []
    for number, word in enumerate(("(missing)", "NA", "n/a")):
        words = [text for name in ("age", "sex", "date") for text in ("--experiment", f"{name}={word}")]
        done(folder, "predict", "-r", "chr1:1001-3000", "--gpus", "0", "-q", "--no-bigwig", "-o", f"p{number}", *words)
        table = pq.read_table(folder / f"p{number}/predictions.parquet")
        predicted.append([table.column(place).to_pylist() for place in range(table.num_columns)])
    assert predicted[0] == predicted[1] == predicted[2] and len(predicted[0][0]) > 10


@pytest.mark.parametrize(
    ("row", "cells", "more", "message"),
    [
        (3, ("many", "f", "a", "2015"), (), "metadata.tsv:5: track 'T4': no number in 'many', for factors.age"),
        (0, ("inf", "f", "a", "2015"), (), "metadata.tsv:2: track 'T1': no finite number in 'inf', for factors.age"),
        (4, ("3", "f", "a", "spring"), (), "metadata.tsv:6: track 'T5': no year in 'spring', for factors.date"),
        (
            2,
            CELLS[2],
            ("--set", "factors.sex.missing=error", "--set", 'train.held_out=["T2"]'),
            "metadata.tsv:4: track 'T3': has no value in the column 'Sex', for factors.sex",
        ),
        (1, CELLS[1], ("--set", "tracks.strand=Tags"), "metadata.tsv:2: track 'T1': the strand 'a,b' is neither"),
        (4, ("3", "maybe", "a", "2015"), ("--set", "tracks.counts=Sex"), "metadata.tsv:6: track 'T5': tracks.counts"),
    ],
)
def test_check_design_refuses_what_preprocess_refuses(
    tmp_path: Path, row: int, cells: tuple[str, ...], more: tuple[str, ...], message: str
) -> None:
    folder = project(tmp_path / "p", [cells if number == row else own for number, own in enumerate(CELLS)])
    told = refusal(folder, *PREPROCESS, *more)
    assert message in told
    assert refusal(folder, "check-design", *more) == told
    assert not (folder / "dataset").exists()


def test_init_and_check_design_agree_on_levels_with_one_track(tmp_path: Path) -> None:
    folder = tmp_path / "p"
    good_project(folder)
    header = ("File accession", "File path", "Target", "Organ", "Date", "Assay")
    rows = [
        ("CTCF", "liver,lung", "2015-01-01", "ChIP-seq"),
        ("CTCF", "lung", "2015-03-04", "ChIP-seq"),
        ("NA", "liver, lung", "2016-01-01", "CUT&RUN"),
        ("", "heart", "2016-09-01", "CUT&RUN"),
        ("GATA1", "heart", "2016-09-02", "DNase-seq"),
    ]
    table = [header, *((*own[:2], *row) for own, row in zip(METADATA[1:], rows))]
    (folder / "metadata.tsv").write_text("\n".join("\t".join(row) for row in table) + "\n")
    said = done(folder, "init", "--fasta", "genome.fa", "--metadata", "metadata.tsv", "--force")
    design = done(folder, "check-design")
    assert "target: 1 of 3 levels have one track only" in said
    assert "organ:" not in said and "year:" not in said  # liver and lung are on two tracks or more, and so is each year
    factors = json.loads(done(folder, "check-design", "--json"))["factors"]
    assert {row["factor"]: (row["levels"], row["single"]) for row in factors} == {
        "target": (3, 1),
        "organ": (3, 0),
        "assay": (3, 1),
        "year": (2, 0),
    }
    for row in factors:
        assert f"{row['factor']:<13} {row['group']:<11}" in said and f"{row['levels']:>4} levels   column" in said
        assert f"{row['levels']:>4} levels, {row['single']} with one track" in design
