"""The picture of a design: Cramer's V of every pair of factors, and the levels of the worst pair."""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING

import matplotlib.pyplot as plt
import numpy as np

from mfd_cli.report.style import STYLE, plain, save

if TYPE_CHECKING:
    from mfd_cli.experiments.confounds import Levels, Pair


MOST = 12


def draw_design(stem: Path, factors: Sequence[str], pairs: Sequence[Pair], levels: Levels) -> None:
    """Write STEM.png and STEM.svg."""
    with plt.rc_context(STYLE):
        figure, (left, right) = plt.subplots(1, 2, figsize=(11, 4.6), layout="constrained")
        matrix = np.eye(len(factors))
        for pair in pairs:
            i, j = factors.index(pair.first), factors.index(pair.second)
            matrix[i, j] = matrix[j, i] = pair.cramers_v
        image = left.imshow(matrix, cmap="cividis", vmin=0, vmax=1)
        left.set_xticks(range(len(factors)), factors, rotation=45, ha="right")
        left.set_yticks(range(len(factors)), factors)
        for i, j in np.ndindex(matrix.shape):
            left.text(
                j,
                i,
                f"{matrix[i, j]:.2f}",
                ha="center",
                va="center",
                fontsize=7,
                color="black" if matrix[i, j] > 0.5 else "white",
            )
        left.set_title("Cramer's V (1: cannot be told apart)", loc="left")
        figure.colorbar(image, ax=left, shrink=0.8)
        if pairs:
            a, b = pairs[0].first, pairs[0].second
            rows = [level for level, _ in Counter(levels[a]).most_common(MOST)]
            columns = [level for level, _ in Counter(levels[b]).most_common(MOST)]
            seen = Counter(zip(levels[a], levels[b]))
            counts = np.array([[seen[x, y] for y in columns] for x in rows], float)
            right.imshow(np.log1p(counts), cmap="Blues", aspect="auto")
            right.set_xticks(range(len(columns)), [plain(c, 18) for c in columns], rotation=45, ha="right")
            right.set_yticks(range(len(rows)), [plain(r, 18) for r in rows])
            for i, j in np.ndindex(counts.shape):
                if counts[i, j]:
                    dark = counts[i, j] > 0.2 * counts.max()
                    right.text(
                        j,
                        i,
                        f"{counts[i, j]:.0f}",
                        ha="center",
                        va="center",
                        fontsize=7,
                        color="white" if dark else "black",
                    )
            right.set_title(f"Tracks per level of {a} and {b} (the {MOST} most common)", loc="left")
        save(figure, stem)
