"""CITATION.cff: it is read as YAML, and says of the program what pyproject.toml says."""

from __future__ import annotations

import tomllib
from typing import Any

import pytest
import yaml

from kit.places import ROOT
from mfd_cli import __version__
from mfd_cli.runs.card import METHOD

PROJECT = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]


@pytest.fixture(scope="module")
def citation() -> dict[str, Any]:
    found: dict[str, Any] = yaml.safe_load((ROOT / "CITATION.cff").read_text("utf-8"))
    return found


def test_it_has_what_the_format_asks_for(citation: dict[str, Any]) -> None:
    assert citation["cff-version"] == "1.2.0" and citation["type"] == "software"
    assert {"message", "title", "authors"} <= set(citation)
    assert all(isinstance(each, dict) and each for each in citation["authors"])
    assert all({"type", "title", "authors"} <= set(each) for each in citation["references"])


def test_it_agrees_with_the_project(citation: dict[str, Any]) -> None:
    assert citation["version"] == PROJECT["version"] == __version__
    assert citation["license"] == PROJECT["license"] and citation["abstract"] in PROJECT["description"]
    assert (ROOT / "LICENSE").read_text().startswith(f"{citation['license']} License")


def test_the_paper_is_the_one_that_cards_name(citation: dict[str, Any]) -> None:
    (paper,) = citation["references"]
    first, year, doi = paper["authors"][0]["family-names"], paper["year"], paper["doi"]
    assert f"({first} et al., {paper['journal']} {year}, doi {doi})" in METHOD
    assert paper["title"].lower() in f"{METHOD.partition(' (')[0]} for functional genomics".lower()
