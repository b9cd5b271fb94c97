"""What an evaluation found, in sentences, from its summary."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from mfd_cli.evaluation.calibration import calibration_lines


def finding_lines(summary: Mapping[str, Any]) -> list[str]:
    """Return a line on each of these that the summary has: the spread of the seeds, calibration, and how good the parts are."""
    calibration = calibration_lines(summary["calibration"]) if "calibration" in summary else []
    seeds = [
        f"{name} over {row['runs']:.0f} seeds: {row['mean']:.4f}, standard deviation {row['sd']:.4f}"
        for name, row in summary.get("seeds", {}).items()
    ]
    parts = [
        f"{name} part: estimated correlation with the truth {row['reliability']:.2f}, error {row['error']:.2f} logits"
        for name, row in summary.get("parts", {}).items()
    ]
    return [*seeds, *calibration, *parts]
