"""The pictures of a GWAS show every variant that the eye can tell from others, at heights that can be read."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as some

from mfd_cli.contig.gwas import picture
from mfd_cli.contig.gwas.picture import compressed, draw_manhattan, draw_qq, expanded, layout_of


@given(some.lists(some.floats(0, 1e5), min_size=1), some.floats(0, 1e5))
def test_a_compressed_scale_keeps_order_and_comes_back(values: list[float], one: float) -> None:
    heights = np.array([*values, one])
    assert np.allclose(expanded(compressed(heights)), heights, rtol=1e-9)
    assert (np.diff(compressed(np.sort(heights))) >= 0).all() and (compressed(heights) <= heights + 1e-9).all()


def test_chromosomes_stand_side_by_side() -> None:
    layout = layout_of(["2", "X", "2", "10"], np.array([500, 7, 100, 1000]))
    assert layout.names == ["2", "10", "X"]
    assert layout.place[2] == 0 and layout.place[0] == 400  # a chromosome begins with its first variant
    assert layout.place[0] < layout.place[3] < layout.place[1]


def test_points_that_hide_each_other_are_drawn_once() -> None:
    """What stands out is always drawn."""
    rng = np.random.default_rng(0)
    x, y = rng.uniform(0, 1, 500_000), np.abs(rng.standard_normal(500_000))
    y[[7, 77]] = 90, 9
    shown = picture._one_per_cell(x, y)
    assert {7, 77} <= set(shown.tolist()) and len(shown) < 150_000
    assert picture._one_per_cell(x[:0], y[:0]).tolist() == []


@pytest.mark.parametrize("top", [0.0, 6.0, 3000.0])
@pytest.mark.parametrize("below", [False, True])
def test_pictures_of_any_height_are_drawn(tmp_path: Path, top: float, below: bool) -> None:
    values = np.array([0.5, np.nan, top, 1.0])
    layout = layout_of(["1", "1", "2", "X"], np.array([1, 2, 3, 4]))
    other = ("a $control", np.array([3000.0, 0, np.nan, 1])) if below else None
    draw_manhattan(tmp_path / "m", layout, values, {"P": 7.3, "Q": 4.0}, {2: "rs_$1"}, "run", other)
    draw_qq(tmp_path / "q", np.stack([values, values], axis=1), values, [1.0, 1.1])
    assert {path.name for path in tmp_path.iterdir()} == {"m.png", "m.svg", "q.png", "q.svg"}
