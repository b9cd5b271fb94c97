"""Arrays that are kept in a file say what those in memory say, and leave nothing on the disk."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from mfd_cli.base import long_array as module
from mfd_cli.base.errors import OutputError
from mfd_cli.base.long_array import LongArray, long_array

VALUES = np.random.default_rng(0).normal(size=(100, 7)).astype(np.float32)


def pieces(values: np.ndarray, *cuts: int) -> list[np.ndarray]:
    return np.split(values, cuts)


@pytest.mark.parametrize("most", [0, 2**30])
def test_what_is_written_in_blocks_is_read_in_other_blocks(
    most: int, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(module, "MOST_IN_MEMORY", most)
    monkeypatch.setattr(module, "NUMBERS_AT_ONCE", 7 * 9)
    with long_array((100, 7), iter(pieces(VALUES, 1, 40, 40)), tmp_path) as found:
        assert (found.file is None) == (most > 0) and len(found) == 100
        for _ in range(2):  # as often as somebody asks
            blocks = list(found.blocks())
            assert [part for part, _ in blocks][-1] == slice(99, 100) and len(blocks[0][1]) == 9
            assert np.array_equal(np.concatenate([block for _, block in blocks]), VALUES)
        assert np.array_equal(found.rows(np.array([99, 0, 3])), VALUES[[99, 0, 3]])
        assert not list(tmp_path.iterdir())  # the file has no name: nobody has to remove it


def test_a_failure_on_the_way_leaves_nothing(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(module, "MOST_IN_MEMORY", 0)

    def failing() -> list[np.ndarray]:
        raise KeyError("in the middle")

    with pytest.raises(KeyError), long_array((100, 7), (failing()[0] for _ in range(1)), tmp_path):
        pass
    assert not list(tmp_path.iterdir())


def test_too_little_room_is_said_before_anything_is_computed(tmp_path: Path) -> None:
    def never() -> np.ndarray:
        raise AssertionError("computed")

    with (
        pytest.raises(OutputError, match="has too little room: 4000000"),
        long_array((10**9, 10**6), (never() for _ in range(1)), tmp_path),
    ):
        pass


def test_an_array_in_memory_is_one_too() -> None:
    assert np.array_equal(LongArray.of(VALUES).rows(np.arange(3)), VALUES[:3])
    assert [block.shape for _, block in LongArray.of(VALUES[:, :0]).blocks()] == [(100, 0)]
