"""Explaining projects of unusual shapes: what contributes nothing is said to, and no NaN passes for a number."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pandas as pd
import pytest

from kit import tiny
from kit.odd_projects import SHAPES, factors_of, planted, project_of, said_by, tracks_of
from mfd_cli.dataset.folder import Dataset
from mfd_cli.explain.factor import explain
from mfd_cli.explain.overview import explain_all
from mfd_cli.explain.results import Look
from mfd_cli.explain.shares import share_remarks
from mfd_cli.runs.folder import Run
from mfd_cli.training.train import train

NOTHING = {"biological alone": "technical", "technical alone": "biological", "one factor": "technical"}
"""Shapes in which a group has no factors: that group."""
TOLD = ("biological alone", "one track", "one level left")
"""Shapes of which there is something to say in words; whole/test_shapes.py has every command on many more."""
ALIKE = ("one track", "one level left")
"""Shapes in which a group's factors are the same in all training tracks: the first is so for both groups."""

BEYOND = "A share below 0% is that of a part that works against the rest of the prediction"
ONE_TECHNIQUE = ("one track", "two of one target", "a peak track and a signal")
"""Shapes whose tracks have the same assay, lab and year, as far as these are factors."""


@pytest.fixture(scope="module")
def source(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return planted(tmp_path_factory.mktemp("planted"))


@pytest.mark.parametrize("name", TOLD)
def test_every_shape_is_explained(name: str, source: Path, tmp_path: Path) -> None:
    place = project_of(SHAPES[name], source, tmp_path)
    overview = said_by("explain --factor all", place)
    parts = pd.read_csv(place / "explain/all/factors.tsv", sep="\t")[["share", "low", "high"]].fillna(0)
    assert (BEYOND in overview) == bool(((parts < -0.0005) | (parts > 1.0005)).any(axis=None))
    if name in NOTHING:
        assert f"The group {NOTHING[name]} has no factors: it contributes nothing." in overview
    if name == "one track":
        assert "The group biological contributes nothing: all tracks have the same weights there." in overview
    explained = [said_by(f"explain --factor {factor} --top 2", place) for factor in factors_of(place)[-1:]]
    if name in ALIKE:
        said = explained[0] if name == "one track" else said_by("explain --factor assay --top 2", place)
        assert "in all training tracks: it contributes nothing." in said and "G+C correlation" not in said
    assert said_by("explain --latent latent.0 --latent latent.1 --top 2", place)
    track = said_by(f"explain --track {tracks_of(place)[-1]} --part technical --top 2", place)
    assert ("technical: contributes nothing" in track) == (NOTHING.get(name) == "technical" or name in ONE_TECHNIQUE)


def test_signals_alone_are_explained(tmp_path: Path) -> None:
    world = tiny.dataset(tmp_path / "dataset", tracks=0, signals=3)
    run: Run = train(tiny.project(tmp_path), gpus=0)
    dataset: Dataset = world
    overview = explain_all(run, dataset, tmp_path / "all")
    factor = explain(run, dataset, "target", tmp_path / "target", look=Look(top=2))
    for text in (*overview.sentences, *factor.sentences):
        assert "nan" not in text.lower().split(), text
    assert "over 3 tracks" in overview.sentences[0] and "agreement" in "\n".join(factor.sentences)


@pytest.mark.parametrize(
    ("shares", "odd"),
    [
        ([0.2, 0.8], False),
        ([0.0, 1.0, np.nan], False),
        ([-0.0004, 1.0004], False),
        ([-0.01], True),
        ([0.5, 1.01], True),
    ],
)
def test_shares_beyond_the_whole_are_explained(shares: list[float], odd: bool) -> None:
    """Only where one is shown: 0.0% and 100.0% are not."""
    assert [BEYOND in remark for remark in share_remarks(shares)] == [True] * odd
