"""The picture of attributions: mean |attribution| of every variant along the genome, a control's mirrored below."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import matplotlib.pyplot as plt
import numpy as np

from mfd_cli.report.style import COLOURS, STYLE, plain, save_png

NAMED = 6
"""Variants, the first of their blocks, whose names are written."""


def draw_attribution(path: Path, rows: Sequence[Mapping[str, Any]], run: str) -> None:
    """Write the picture as PNG, of rows of attribution.tsv, in genome order; what is no variant comes after it, by modality."""
    order = sorted(
        range(len(rows)), key=lambda number: (_number(group_of(rows[number])), rows[number]["position"] or 0)
    )
    ordered = [rows[number] for number in order]
    chromosomes = list(dict.fromkeys(group_of(row) for row in ordered))
    shade = np.array([chromosomes.index(group_of(row)) % 2 for row in ordered])
    places = np.arange(len(ordered))
    strength = np.array([row["mean_abs"] for row in ordered])
    control = np.array([np.nan if row["control"] is None else row["control"] for row in ordered])
    with plt.rc_context(STYLE):
        figure, axis = plt.subplots(figsize=(7.5, 3.2), layout="constrained")
        for number, colour in enumerate((COLOURS[0], COLOURS[4])):
            own = shade == number
            axis.vlines(places[own], 0, strength[own], color=colour, linewidth=1.2)
            if np.isfinite(control).any():
                axis.vlines(places[own], 0, -control[own], color="#999999", linewidth=1.2)
        axis.axhline(0, color="black", linewidth=0.8)
        firsts: dict[tuple[str, int], int] = {}
        for place in sorted(places.tolist(), key=lambda place: -ordered[place]["mean_abs"]):
            firsts.setdefault((ordered[place]["modality"], ordered[place]["block"]), place)
        for place in list(firsts.values())[:NAMED]:
            text = plain(str(ordered[place]["feature"]), 16)
            axis.annotate(text, (place, strength[place]), ha="center", va="bottom", fontsize=7, rotation=35)
        low = float(np.nanmax(control)) if np.isfinite(control).any() else 0.0
        axis.set_ylim(-1.1 * low, 1.3 * float(strength.max(initial=1e-9)))  # room for the names
        middles = [places[[group_of(row) == name for row in ordered]].mean() for name in chromosomes]
        axis.set_xticks(middles, chromosomes)
        variants = all(row["effect_allele"] for row in ordered)
        axis.set_xlabel("chromosome" if variants else "chromosome, or modality")
        below = "; below: shuffled pairs" if np.isfinite(control).any() else ""
        axis.set_ylabel("mean |attribution|, nats")
        axis.set_title(
            f"{plain(run)}: what fits a person's {'variants' if variants else 'data'} to the picture{below}", loc="left"
        )
        save_png(figure, path)


def group_of(row: Mapping[str, Any]) -> str:
    """Return where an input stands in the picture: at its chromosome if it is a variant, else in its modality."""
    return str(row["chromosome"] if row["effect_allele"] else row["modality"])


def _number(chromosome: str) -> tuple[int, str]:
    """What chromosomes are ordered by."""
    bare = str(chromosome).removeprefix("chr")
    return (int(bare), "") if bare.isdecimal() else (99, bare)
