"""Held-out tracks: by name, by level, by combination of levels, and always by experiment and library."""

from __future__ import annotations

from typing import Any

import pytest

from mfd_cli.base.errors import ConfigError
from mfd_cli.experiments.held_out import held_out_tracks
from mfd_cli.settings.parse import parse_config

ROWS = {
    "A1": {
        "Target": "CTCF",
        "Assay": "ChIP-seq",
        "Organs": "liver, gut",
        "Experiment accession": "E1",
        "Date": "2014-02-01",
    },
    "A2": {
        "Target": "CTCF",
        "Assay": "ChIP-seq",
        "Organs": "liver",
        "Experiment accession": "E1",
        "Date": "2014-02-01",
    },
    "B1": {"Target": "CTCF", "Assay": "ATAC-seq", "Organs": "brain", "Experiment accession": "E2", "Date": "2018"},
    "C1": {"Target": "", "Assay": "ATAC-seq", "Organs": "liver", "Experiment accession": "", "Library accession": "L1"},
    "C2": {"Target": "", "Assay": "RNA-seq", "Organs": "gut", "Experiment accession": "", "Library accession": "L1"},
}
FACTORS = {
    "target": {"column": "Target", "group": "biological"},
    "assay": {"column": "Assay", "group": "technical"},
    "organ": {"column": "Organs", "group": "biological", "type": "multilabel"},
    "year": {"column": "Date", "group": "technical", "type": "year"},
}


def held(*items: Any, **tracks: Any) -> set[str]:
    config = parse_config({"factors": FACTORS, "train": {"held_out": items}, "tracks": tracks})
    return held_out_tracks(config, ROWS)


def test_tracks_levels_and_combinations() -> None:
    assert held() == set()
    assert held("B1") == {"B1"}
    assert held({"target": "CTCF"}) == {"A1", "A2", "B1"}
    assert held({"target": "CTCF", "assay": "ATAC-seq"}) == {"B1"}
    assert held({"organ": "brain"}, "C1") == {"B1", "C1", "C2"}
    assert held({"year": "2018"}) == {"B1"}
    assert held({"target": "(missing)", "assay": "RNA-seq"}, experiment=[]) == {"C2"}


def test_files_of_one_experiment_or_library_go_together_and_empty_cells_do_not() -> None:
    assert held("A1") == {"A1", "A2"}
    assert held("A1", experiment=[]) == {"A1"}
    assert held("C1") == {"C1", "C2"}  # by library; their empty experiment is no experiment


@pytest.mark.parametrize(
    ("item", "message"),
    [
        ("A3", "which is no track; did you mean A"),
        ({"targt": "CTCF"}, "did you mean target"),
        ({"target": "CTFC"}, "has no level 'CTFC'; did you mean CTCF"),
        ({"organ": "brain", "assay": "ChIP-seq"}, "no track has organ = brain, assay = ChIP-seq"),
    ],
)
def test_what_is_not_there_is_an_error(item: Any, message: str) -> None:
    with pytest.raises(ConfigError, match=message.replace("(", ".")):
        held(item)


def test_where_somebody_is_told_what_is_not_there_holds_nothing_out() -> None:
    items = ["B1", "A3", {"target": "CTFC"}, {"organ": "brain", "assay": "ChIP-seq"}]
    config, told = parse_config({"factors": FACTORS, "train": {"held_out": items}}), list[str]()
    assert held_out_tracks(config, ROWS, told.append) == {"B1"}
    assert [sentence.split("would refuse it: ")[1] for sentence in told] == [
        "train.held_out names 'A3', which is no track; did you mean A2?",
        "train.held_out: target has no level 'CTFC'; did you mean CTCF?",
        "train.held_out: no track has organ = brain, assay = ChIP-seq",
    ]
    with pytest.raises(ConfigError, match="did you mean target"):
        held_out_tracks(parse_config({"factors": FACTORS, "train": {"held_out": [{"targt": "CTCF"}]}}), ROWS, print)


def test_something_must_be_left() -> None:
    with pytest.raises(ConfigError, match="leaves no track"):
        held("A1", "B1", "C1")
