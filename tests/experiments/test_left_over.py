"""What technical factors have left once biological ones are known: designs whose answer can be computed by hand."""

from __future__ import annotations

import csv
import json
from collections.abc import Mapping, Sequence
from pathlib import Path

import numpy as np
import pytest
from sklearn.linear_model import LinearRegression
from sklearn.preprocessing import OneHotEncoder

from kit.harm import good_project, in_process
from mfd_cli.experiments.confounds import labels_by_factor, values_by_factor
from mfd_cli.experiments.left_over import LeftOver, left_over, sentences
from mfd_cli.settings.config import FactorConfig


def left(table: Mapping[str, Sequence[str]], **types: str) -> dict[str, LeftOver]:
    """What is left of the columns of a table; those in capitals are biological."""
    factors = {
        name: FactorConfig(
            column=name, group="biological" if name.isupper() else "technical", type=types.get(name, "category")
        )
        for name in table
    }
    rows = [dict(zip(table, cells)) for cells in zip(*table.values())]
    found = left_over(values_by_factor(rows, factors), labels_by_factor(rows, factors), factors, ["technical"])
    return {one.factor: one for one in found}


def test_a_crossed_factor_keeps_all_a_nested_one_nothing() -> None:
    found = left({"TARGET": list("aabbccdd"), "lab": list("xyxyxyxy"), "batch": list("ppppqqqq")})
    assert found["lab"].left == pytest.approx(1) and found["lab"].tracks == 8
    assert found["lab"].effective == pytest.approx(8) and found["lab"].within == ()
    assert (found["batch"].left, found["batch"].tracks, found["batch"].effective) == (0, 0, 0)
    assert found["batch"].within == ("TARGET",) and found["batch"].correlation == pytest.approx(1)
    assert found["lab"].by_chance == pytest.approx(1 - 3 / 7)  # four targets take three of seven degrees of freedom
    assert list(found) == ["batch", "lab"]  # the worst first
    assert found["batch"].sentence() == (
        "batch: its effect cannot be told from the biological factors on any track: each level of TARGET has one batch only"
    )
    assert found["lab"].sentence() == (
        "lab: its effect can be told from the biological factors on 8 of 8 tracks; 1.00 of it is left "
        "(independent of them it would be 0.57)"
    )


def test_halfway() -> None:
    """Of target a, two tracks have lab x and two y; all of b have x and all of c y: half of the variance lies within a.

    The column of x is 1 on six of twelve: 12 / 4 = 3 in all, and within a 4 / 4 = 1, so a third is left, on four tracks.
    """
    found = left({"TARGET": list("aaaabbbbcccc"), "lab": list("xxyyxxxxyyyy")})["lab"]
    assert found.left == pytest.approx(1 / 3) and found.tracks == 4 and found.effective == pytest.approx(4)
    assert found.correlation == pytest.approx(np.sqrt(2 / 3))
    assert "can be told from the biological factors on 4 of 12 tracks; 0.33 of it is left" in found.sentence()
    assert "it moves with TARGET: R = 0.82; the estimate rests on about 4 tracks" in found.sentence()
    # Two crossed halves and two nested ones: exactly a half.
    assert left({"TARGET": list("aabbccdd"), "lab": list("xyxyxxyy")})["lab"].left == pytest.approx(1 / 2)


def test_factors_that_only_together_determine_another() -> None:
    """No target alone says the lab, but target and tissue do so by their sum: lab is 1 where both are."""
    table = {"TARGET": list("0011" * 2), "TISSUE": list("0101" * 2), "reads": list("0112" * 2)}
    found = left(table, reads="number")["reads"]
    assert found.left == 0 and found.correlation == pytest.approx(np.sqrt(0.5)) and found.within == ()
    assert found.sentence() == "reads: its effect cannot be told from the biological factors on any track"


def test_numbers_and_years_are_columns_and_missing_is_one_too() -> None:
    rng = np.random.default_rng(0)
    target = rng.choice(list("abc"), 40).tolist()
    number = rng.normal(size=40) + [{"a": 0.0, "b": 3.0, "c": 6.0}[level] for level in target]
    found = left({"TARGET": target, "reads": [repr(x) for x in number.tolist()]}, reads="number")["reads"]
    columns = OneHotEncoder(sparse_output=False).fit_transform(np.array(target)[:, None])
    explained = LinearRegression().fit(columns, number).score(columns, number)
    assert found.left == pytest.approx(1 - explained) and found.correlation == pytest.approx(np.sqrt(explained))
    assert found.sentence().startswith(f"reads: {found.left:.2f} of it is left once the biological factors are known")
    # As levels, every year would be determined by its own track; as a number, half of it lies within the targets.
    years = ["2011-01-02", "2013", "2012", "2014"]
    assert left({"TARGET": list("aabb"), "year": years}, year="year")["year"].left == pytest.approx(4 / 5)
    missing = left({"TARGET": list("aabb"), "reads": ["", "", "5", "5"]}, reads="number")["reads"]
    assert missing.left == 0 and missing.within == ("TARGET",)  # whether it is known is what the target says


def test_labels_of_several_are_columns_of_their_own() -> None:
    """The label q is crossed with the target, the label r is what the target says: half of the variance is left."""
    found = left({"TARGET": list("aabb"), "flags": ["q", "", "q,r", "r"]}, flags="multilabel")["flags"]
    table = np.array([[0, 1, 0], [1, 0, 0], [0, 1, 1], [0, 0, 1]], float)  # missing, q, r
    table -= table.mean(0)
    within = np.concatenate([half - half.mean(0) for half in (table[:2], table[2:])])
    assert found.left == pytest.approx((within**2).sum() / (table**2).sum())


def test_what_does_not_vary_or_has_nothing_beside_it_is_not_judged() -> None:
    assert left({"TARGET": list("aabb"), "lab": list("xxxx")}) == {}
    assert left({"lab": list("xxyy")}) == {} and left({"TARGET": list("aabb")}) == {}
    assert (
        "no factor of a technical group (technical) stands beside a biological one" in sentences([], ["technical"])[0]
    )
    assert left({"TARGET": list("aaaa"), "lab": list("xxyy")})["lab"].left == pytest.approx(1)


def test_check_design_leads_with_it(tmp_path: Path) -> None:
    folder = tmp_path / "p"
    good_project(folder)
    done = in_process(["check-design", "-o", "design"], folder)
    assert done.code == 0, done.told
    lines = done.said.splitlines()
    start = next(i for i, line in enumerate(lines) if line.startswith("what each technical factor has left"))
    assert start < next(i for i, line in enumerate(lines) if " levels, " in line)
    stored = json.loads((folder / "design/design.json").read_text())["left"]
    with (folder / "design/left.tsv").open() as stream:
        rows = list(csv.DictReader(stream, delimiter="\t"))
    assert [row["factor"] for row in rows] == [one["factor"] for one in stored] and stored
    assert all(0 <= one["left"] <= 1 + 1e-9 and one["tracks"] <= one["all_tracks"] for one in stored)
