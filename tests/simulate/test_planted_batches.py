"""Batches that are nested, crossed or mostly confounded, counted."""

from __future__ import annotations

from collections import Counter
from dataclasses import replace

import numpy as np
import pytest

from mfd_cli.simulate.batches import with_batches
from mfd_cli.simulate.options import SIZES, SimulateOptions
from mfd_cli.simulate.planted import batch_slope
from mfd_cli.simulate.world import design_experiments, make_world


def rows_of(kind: str, size: str = "small") -> list[dict[str, str]]:
    rng = np.random.default_rng(1)
    return with_batches(design_experiments(SIZES[size], SimulateOptions(), rng)[0], kind, rng)


def test_a_crossed_batch_has_half_of_every_level() -> None:
    rows = [row for row in rows_of("crossed") if row["target"] != "BAS1"]  # which one assay mostly measures
    assert {row["batch"] for row in rows} == {"batch 1", "batch 2"}
    for factor in ("target", "biosample", "assay"):
        counts = Counter((row[factor], row["batch"]) for row in rows)
        for level in {row[factor] for row in rows}:
            assert abs(counts[level, "batch 1"] - counts[level, "batch 2"]) <= (factor != "target")


def test_a_nested_batch_lies_within_a_target_and_every_target_has_both_slopes() -> None:
    rows = rows_of("nested", "medium")
    for batch in {row["batch"] for row in rows}:
        assert len({row["target"] for row in rows if row["batch"] == batch}) == 1
    for target in {row["target"] for row in rows}:
        slopes = [batch_slope(row["batch"], 0.5) for row in rows if row["target"] == target]
        assert sum(slopes) == 0 and set(slopes) == {0.5, -0.5}


@pytest.mark.parametrize("size", ["tiny", "small", "medium"])
def test_a_confounded_batch_is_the_assays_but_for_a_fifth_of_its_tracks(size: str) -> None:
    rows = rows_of("confounded", size)
    for assay, usual in (("ChIP-seq", "batch 1"), ("CUT&RUN", "batch 2")):
        own = [row["batch"] for row in rows if row["assay"] == assay]
        assert len(own) - own.count(usual) == max(1, round(0.2 * len(own)))


@pytest.mark.parametrize("kind", ["nested", "crossed", "confounded"])
@pytest.mark.parametrize("size", ["tiny", "small", "apart"])
def test_training_sees_every_batch(kind: str, size: str) -> None:
    for seed in range(5):
        scale = replace(SIZES[size], bins_per_contig=2)
        options = SimulateOptions(batch=kind).resolved(scale)
        world = make_world(scale, options, np.random.default_rng(seed))
        rows = world.tracks.rows
        assert {row["batch"] for row in world.tracks.only(world.trained).rows} == {row["batch"] for row in rows}
