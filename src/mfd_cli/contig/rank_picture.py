"""The picture of a retrieval: how many persons are found among the first so many, for each run."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import matplotlib.pyplot as plt
import numpy as np

from mfd_cli.report.style import COLOURS, STYLE, plain, save_png


def draw_ranks(path: Path, rows: Sequence[Mapping[str, Any]]) -> None:
    """Write the picture as PNG: a line per run and modality, of rows with run, modality, rank and candidates."""
    of: dict[tuple[str, str], list[tuple[float, int]]] = {}
    for row in rows:
        of.setdefault((row["run"], row["modality"]), []).append((row["rank"], row["candidates"]))
    with plt.rc_context(STYLE):
        figure, axis = plt.subplots(figsize=(5.2, 3.6), layout="constrained")
        for colour, ((run, modality), pairs) in zip(COLOURS * len(of), of.items()):
            share = np.sort([rank / count for rank, count in pairs])
            label = plain(run if len({name for _, name in of}) == 1 else f"{run}, {modality}")
            axis.step(
                100 * share, 100 * np.arange(1, len(share) + 1) / len(share), where="post", color=colour, label=label
            )
        axis.plot([0, 100], [0, 100], ":", color="#555555", label="guessing")
        axis.set_xlabel("among the first so many per cent of all persons")
        axis.set_ylabel("persons whose genetic data are found there, %")
        axis.set_xlim(0, 100)
        axis.set_ylim(0, 100)
        axis.legend(frameon=False, loc="lower right")
        save_png(figure, path)
