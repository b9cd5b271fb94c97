"""The labels of a simulated cohort: the latents, and a grade that follows them and comes from random numbers of its own."""

from __future__ import annotations

import csv
from pathlib import Path

import numpy as np
import pytest

from mfd_cli.contig.config import load_contig
from mfd_cli.contig.simulate.labels import CUTS, GRADER, grades
from mfd_cli.contig.simulate.simulate import simulate


def test_grades_follow_the_latents_and_have_the_shares_of_their_cuts() -> None:
    latents = np.random.default_rng(1).standard_normal((40_000, 3))
    given = grades(latents, np.random.default_rng(2))
    shares = np.bincount(given, minlength=5) / len(given)
    assert shares == pytest.approx([0.5, 0.288, 0.115, 0.061, 0.036], abs=0.01)
    seen = latents.sum(1) / np.sqrt(3)
    # With the grader's noise taken out of account, a border is passed where the severity passes it on average.
    for grade, cut in enumerate(CUTS):
        near = np.abs(np.sqrt(1 - GRADER) * seen - cut) < 0.05
        assert (given[near] > grade).mean() == pytest.approx(0.5, abs=0.06)
    for latent in latents.T:
        assert 0.4 < np.corrcoef(latent, given)[0, 1] < 0.6


def test_the_table_is_there_and_the_project_names_it(tmp_path: Path) -> None:
    simulate(tmp_path / "p", size="tiny", seed=7)
    tables = {}
    for name in ("labels.tsv", "truth/latents.tsv"):
        with (tmp_path / "p" / name).open() as file:
            tables[name] = list(csv.DictReader(file, delimiter="\t"))
    labels, latents = tables.values()
    assert [{name: row[name] for name in latents[0]} for row in labels] == latents
    assert {row["grade"] for row in labels} == set("01234")
    objective = load_contig(tmp_path / "p" / "contig.toml").config.objective
    assert objective.labels == "labels.tsv" and objective.label_columns == tuple(latents[0])[1:]
