"""Peaks to bins: by hand, against a plain loop, and against bedtools."""

from __future__ import annotations

import shutil
import subprocess
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from mfd_cli.genome.grid import BinGrid, expand, inside_bins, labelled_bins, touched_bins

peak = st.tuples(st.integers(0, 1400), st.integers(1, 600)).map(lambda pair: (pair[0], pair[0] + pair[1]))
peaks = st.lists(peak, max_size=30)


def arrays(pairs: list[tuple[int, int]]) -> tuple[np.ndarray, np.ndarray]:
    table = np.array(pairs, np.int64).reshape(-1, 2)
    return table[:, 0], table[:, 1]


def plain(pairs: list[tuple[int, int]], bins: int, least: int) -> tuple[list[int], int]:
    found, lost = set(), 0
    for start, end in pairs:
        mine = [b for b in range(bins) if min(end, b * 128 + 128) - max(start, b * 128) >= least]
        if not mine:
            mine = [(start + end) // 2 // 128]
        lost += mine[0] >= bins
        found |= {b for b in mine if b < bins}
    return sorted(found), lost


@pytest.mark.parametrize(
    ("start", "end", "expected"),
    [
        (0, 128, [0]),
        (64, 192, [0, 1]),
        (65, 192, [1]),
        (64, 191, [0]),
        (0, 1000, [0, 1, 2, 3, 4, 5, 6, 7]),
        (100, 101, [0]),
        (127, 129, [1]),
        (128, 129, [1]),  # narrow: the bin of the midpoint
        (78, 178, [1]),  # 50 bp in each of two bins: the midpoint 128 decides
        (1280, 1290, []),
        (1000, 1279, [8, 9]),  # ten whole bins: what lies beyond them is lost
    ],
)
def test_by_hand(start: int, end: int, expected: list[int]) -> None:
    index, lost = labelled_bins(*arrays([(start, end)]), 10, 64)
    assert index.tolist() == expected
    assert lost == (not expected)


@given(peaks, st.integers(1, 128))
def test_as_a_plain_loop(pairs: list[tuple[int, int]], least: int) -> None:
    index, lost = labelled_bins(*arrays(pairs), 12, least)
    assert (index.tolist(), lost) == plain(pairs, 12, least)


@given(peaks)
def test_masks_as_a_plain_loop(pairs: list[tuple[int, int]]) -> None:
    covered = np.zeros(2100, bool)
    for start, end in pairs:
        covered[start:end] = True
    per_bin = covered[: 12 * 128].reshape(12, 128)
    assert touched_bins(*arrays(pairs), 12).tolist() == per_bin.any(1).tolist()
    assert inside_bins(*arrays(pairs), 12).tolist() == per_bin.all(1).tolist()


@pytest.mark.skipif(not shutil.which("bedtools"), reason="bedtools is not installed")
def test_as_bedtools(tmp_path: Path) -> None:
    rng = np.random.default_rng(0)
    start = np.sort(rng.integers(0, 90_000, 500))
    end = start + rng.integers(64, 900, 500)
    bins = 800
    for name, table in (("peaks", zip(start, end)), ("bins", ((b * 128, b * 128 + 128) for b in range(bins)))):
        (tmp_path / f"{name}.bed").write_text("".join(f"c\t{a}\t{b}\n" for a, b in table))
    words = ["bedtools", "intersect", "-a", "bins.bed", "-b", "peaks.bed", "-f", "0.5", "-u"]
    told = subprocess.run(words, cwd=tmp_path, capture_output=True, text=True, check=True).stdout
    expected = {int(line.split("\t")[1]) // 128 for line in told.splitlines()}
    split = [
        (s, e)
        for s, e in zip(start, end)
        if not any(min(e, b * 128 + 128) - max(s, b * 128) >= 64 for b in range(s // 128, e // 128 + 1))
    ]
    expected |= {int(s + e) // 2 // 128 for s, e in split}  # bedtools has no rule for these
    assert set(labelled_bins(start, end, bins, 64)[0].tolist()) == expected


def test_expand_and_grid() -> None:
    assert expand(np.array([3, 4, 9]), np.array([5, 4, 9])).tolist() == [3, 4, 5, 9]
    grid = BinGrid({"a": 300, "b": 100, "c": 128})
    assert grid.counts == {"a": 2, "b": 0, "c": 1}
    assert grid.offsets == {"a": 0, "b": 2, "c": 2}
    contig, start = grid.positions(np.arange(grid.total))
    assert contig.tolist() == [0, 0, 2] and start.tolist() == [0, 128, 0]
