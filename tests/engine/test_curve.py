"""metrics.jsonl: its lines are read and added to, and one that is not of numbers is named."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from mfd_cli.base.errors import RunError
from mfd_cli.engine.curve import add_to_curve, read_curve


def test_lines_of_a_future_that_is_not_reached_yet_are_dropped(tmp_path: Path) -> None:
    file = tmp_path / "metrics.jsonl"
    for step in (1, 2, 3):
        add_to_curve(file, {"step": step, "windows": 10 * step, "loss": 1.0})
    again = add_to_curve(file, {"step": 2, "windows": 20, "loss": 0.5})
    assert again == read_curve(file) and [line["loss"] for line in again] == [1.0, 0.5]


@pytest.mark.parametrize(
    ("line", "message"),
    [
        ("{", "is not JSON text"),
        ("[1]", "is not a JSON object"),
        ('{"windows": 3, "loss": 1}', "step is not a number"),
        ('{"step": 3, "windows": 3, "loss": "low"}', "loss is not a number"),
        ('{"step": true, "windows": 3}', "step is not a number"),
    ],
)
def test_a_line_that_is_none_is_named(line: str, message: str, tmp_path: Path) -> None:
    file = tmp_path / "metrics.jsonl"
    file.write_text(json.dumps({"step": 1, "windows": 2}) + "\n" + line + "\n")
    with pytest.raises(RunError, match=message) as caught:
        read_curve(file)
    assert str(caught.value) == f"{file}:2: {message}"
