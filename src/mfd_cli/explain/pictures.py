"""Pictures of an explanation, as PNG and SVG: directions, shares of variance, logos, an embedding of the tracks.

Colours are safe for colour-blind readers (Okabe and Ito), sizes are those at which the report shows them.
"""

from __future__ import annotations

import re
from collections.abc import Collection, Mapping, Sequence
from pathlib import Path
from typing import Any

import matplotlib

matplotlib.use("Agg")
import matplotlib.pyplot as plt
import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.font_manager import FontProperties
from matplotlib.patches import PathPatch
from matplotlib.path import Path as Outline
from matplotlib.textpath import TextPath
from matplotlib.transforms import Affine2D

from mfd_cli.base.arrays import Doubles
from mfd_cli.explain.results import Explanation, OnDna
from mfd_cli.genome.grid import BIN
from mfd_cli.report.style import BASE_COLOURS, COLOURS, STYLE, plain, save
from mfd_cli.settings.names import RESIDUAL

MOST_LOGOS, MOST_MOTIFS = 3, 6
"""Regions, and motifs, that are drawn of a direction."""
LOGO_WIDTH = 60
"""Bases of a region that are drawn as letters."""
FAINT = 0.005
"""A share of the variance that nobody can see in a bar."""
MOST_WORDS = 24
"""Columns of the fingerprint."""
PREFERENCE = "Which composition each prefers: 4-mers, G+C and CpG"


def draw_pictures(folder: Path, result: Explanation) -> dict[str, list[tuple[str, str]]]:
    """Draw everything into `folder`, and return section -> (file stem, caption), in the order in which the page shows them."""
    pictures: dict[str, list[tuple[str, str]]] = {"overview": [], "levels": []}
    with plt.rc_context(STYLE):
        for stem, caption, figure in (
            ("shares", "What the tracks' logits are made of", draw_shares(result)),
            ("directions", "Direction of every level over the latents", draw_level_directions(result)),
            ("fingerprint", PREFERENCE, draw_fingerprint(result.fingerprint, f"the levels of {result.factor} go with")),
            ("tracks", "Tracks by their weights (first two principal components)", draw_embedding(result)),
        ):
            save(figure, folder / stem)
            pictures["overview"].append((stem, caption))
        for number, level in enumerate(result.shown, start=1):
            caption = f"{result.factor} = {level.name}"
            pictures["levels"] += draw_one(folder, f"level-{number:02d}", level, caption, f"tracks with {caption}")
    return pictures


def draw_one(folder: Path, stem: str, one: OnDna, caption: str, own: str) -> list[tuple[str, str]]:
    """Draw logos of a direction, and its strongest region as a genome browser shows it; return (file stem, caption) of each.

    `own` says whose data are shown against all others'.
    """
    save(draw_logos(one), folder / stem)
    drawn = [(stem, caption)]
    if one.around is not None:
        from mfd_cli.explain.browser_picture import draw_browser

        save(draw_browser(one, own), folder / f"{stem}-region")
        drawn.append((f"{stem}-region", f"{caption}: its strongest region, and what the data say there"))
    return drawn


HATCHES = (None, "//", "..", "xx")
"""Patterns of the first eight factors, the next eight, and so on: a colour alone would stand for several."""


def draw_shares(result: Explanation) -> Figure:
    """Return stacked bars: the mean share of logit variance of the shared part and every factor, per level."""
    names = ["shared", *result.decomposition.factors]
    rows = [str(row["level"]) for row in result.levels[:12]]
    members = {level: result.decomposition.tracks_of(result.factor, level) for level in rows}
    shares = {row["track"]: [row[f"share_{name}"] for name in names] for row in result.tracks}
    ids = np.array([track.id for track in result.run.tracks])
    of_levels = np.array([np.mean([shares[name] for name in ids[members[level]]], 0) for level in rows])
    names, of_levels = faint_together(names, of_levels, ["shared", *result.run.model.factors, RESIDUAL])
    # As high as the legend needs: a factor a line, and products of factors.
    height = max(1.5 + 0.36 * len(rows), 0.9 + 0.21 * len(names))
    figure, axes = plt.subplots(figsize=(8.4, height), layout="constrained")
    for place, values in enumerate(of_levels):
        left, right = 0.0, 0.0
        for number, value in enumerate(values):
            start = left if value >= 0 else right
            axes.barh(
                place,
                value,
                left=start,
                color=COLOURS[number % 8],
                height=0.7,
                edgecolor="white",
                linewidth=0.5,
                hatch=HATCHES[number // 8 % len(HATCHES)],
            )
            left, right = (left + value, right) if value >= 0 else (left, right + value)
    axes.set_yticks(range(len(rows)), [plain(level) for level in rows])
    axes.invert_yaxis()
    axes.set_xlabel("share of the variance of the logit (sums to 1)")
    axes.set_ylabel(result.factor)
    handles = [
        plt.Rectangle((0, 0), 1, 1, facecolor=COLOURS[i % 8], edgecolor="white", hatch=HATCHES[i // 8 % len(HATCHES)])
        for i in range(len(names))
    ]
    figure.legend(handles, [plain(n) for n in names], loc="outside right center", frameon=False)
    axes.set_title("What the logits are made of, mean over the tracks of each level", loc="left")
    return figure


def faint_together(names: Sequence[str], shares: Doubles, kept: Collection[str]) -> tuple[list[str], Doubles]:
    """Return names and their shares (levels, names) with those that nobody could see, of at most FAINT in every level, summed
    to one; names that are `kept` stay."""
    faint = np.array([name not in kept for name in names]) & (np.abs(shares).max(0, initial=0) <= FAINT)
    if faint.sum() < 2:
        return list(names), shares
    shown = [name for name, hidden in zip(names, faint) if not hidden]
    return [*shown, "other products"], np.column_stack([shares[:, ~faint], shares[:, faint].sum(1)])


def draw_level_directions(result: Explanation) -> Figure:
    """Return a heatmap of levels against the latents of the group; latents in the order of the level that they follow."""
    rows = [str(row["level"]) for row in result.levels[:20]]
    matrix = np.stack([result.decomposition.direction(result.factor, level) for level in rows])
    order = np.lexsort((-np.abs(matrix).max(0), np.abs(matrix).argmax(0)))
    limit = float(np.abs(matrix).max()) or 1.0
    figure, axes = plt.subplots(figsize=(7.6, 1.6 + 0.26 * len(rows)), layout="constrained")
    image = axes.imshow(matrix[:, order], aspect="auto", cmap="PuOr_r", vmin=-limit, vmax=limit, interpolation="none")
    axes.set_yticks(range(len(rows)), [plain(level) for level in rows])
    axes.set_xticks([])
    whose = "that all groups share" if result.run.config.groups_share_latents else f"of the group {result.group}"
    axes.set_xlabel(f"{matrix.shape[1]} latents {whose}, by the level that they follow most")
    figure.colorbar(image, ax=axes, label="weight", shrink=0.9)
    axes.set_title(f"Directions of the levels of {result.factor}", loc="left")
    return figure


def draw_fingerprint(rows: Sequence[Mapping[str, Any]], what: str) -> Figure:
    """Return a heatmap of levels against the compositions (and profiles) that any of them goes with most."""
    levels = list(dict.fromkeys(row["level"] for row in rows))
    strongest: dict[str, float] = {}
    for row in rows:
        strongest[row["feature"]] = max(strongest.get(row["feature"], 0.0), np.nan_to_num(abs(row["correlation"])))
    first = [name for name in strongest if not re.fullmatch("[ACGT]{4}", name)]
    rest = sorted((name for name in strongest if name not in first), key=lambda name: -strongest[name])
    features = [*first, *rest[: MOST_WORDS - len(first)]]
    table = np.full((len(levels), len(features)), np.nan)
    for row in rows:
        if row["feature"] in features:
            table[levels.index(row["level"]), features.index(row["feature"])] = row["correlation"]
    figure, axes = plt.subplots(figsize=(7.6, 1.9 + 0.26 * len(levels)), layout="constrained")
    axes.set_facecolor("#eeeeee")
    image = axes.imshow(table, aspect="auto", cmap="PuOr_r", vmin=-1, vmax=1, interpolation="none")
    axes.set_yticks(range(len(levels)), [plain(level) for level in levels])
    axes.set_xticks(
        range(len(features)), [plain(name, 14) for name in features], rotation=90, family="DejaVu Sans Mono", fontsize=8
    )
    figure.colorbar(image, ax=axes, label="correlation with the score", shrink=0.9)
    axes.set_title(f"Composition that {what} (grey: not among the strongest, or none)", loc="left")
    return figure


def draw_embedding(result: Explanation) -> Figure:
    """Return the first two principal components of the tracks' centred weights in the factor's group, coloured by level."""
    from mfd_cli.core.predictor import Predictor

    trained = result.decomposition.trained
    weights = Predictor(result.run.model).head.groups[result.group][trained]
    centred = weights - weights.mean(0)
    _, spread, axes_of = np.linalg.svd(centred, full_matrices=False)
    points = centred @ axes_of[:2].T
    if points.shape[1] < 2:
        points = np.pad(points, ((0, 0), (0, 2 - points.shape[1])))
    share = spread**2 / max((spread**2).sum(), 1e-12)
    figure, axes = plt.subplots(figsize=(7.6, 4.0), layout="constrained")
    shown = [str(row["level"]) for row in result.levels[:8]]
    rest = np.ones(len(points), bool)
    for number, level in enumerate(shown):
        mine = result.decomposition.tracks_of(result.factor, level)[trained]
        rest &= ~mine
        axes.scatter(
            points[mine, 0],
            points[mine, 1],
            s=26,
            color=COLOURS[number],
            marker="osD^vP*X"[number],
            label=plain(level),
            alpha=0.8,
            linewidths=0,
        )
    if rest.any():
        axes.scatter(points[rest, 0], points[rest, 1], s=10, color="#999999", label="other levels", linewidths=0)
    axes.set_xlabel(f"first component ({share[0]:.0%} of the variance)")
    axes.set_ylabel(f"second component ({share[1] if len(share) > 1 else 0:.0%})")
    axes.set_title(f"Tracks by their {result.group} weights, coloured by {result.factor}", loc="left")
    figure.legend(loc="outside right center", frameon=False)
    return figure


def draw_logos(level: OnDna) -> Figure:
    """Return the motifs of a direction, and logos of the strongest stretch of its strongest regions."""
    shown, motifs = level.strongest_first[:MOST_LOGOS], list(zip(level.motifs, level.matches))[:MOST_MOTIFS]
    count = len(shown) + max(len(motifs), 1)
    figure, grid = plt.subplots(count, 1, figsize=(7.6, 1.45 * count + 0.3), layout="constrained", squeeze=False)
    if not motifs:
        grid[0, 0].text(0.5, 0.5, "no sequence recurs in the strongest stretches", ha="center", va="center")
        grid[0, 0].set_axis_off()
    for axes, (motif, match) in zip(grid[:, 0], motifs):
        draw_logo(axes, motif.contribution)
        where = f"{motif.count} of {motif.total} stretches, aligned on {motif.sequence}"
        if motif.found_by == "modisco":
            where = f"{motif.count} of {motif.total} seqlets of TF-MoDISco"
        known = f"; nearest known: {plain(match.name, 20)} (E {match.e_value:.1g})" if match is not None else ""
        axes.set_title(f"{plain(level.name, 28)}: mean contribution in {where}{known}", loc="left", fontsize=9)
    for number, axes in zip(shown, grid[max(len(motifs), 1) :, 0]):
        region, values = level.regions[number], level.contributions[number]
        low = strongest_stretch(values, LOGO_WIDTH)
        letters = np.zeros((4, LOGO_WIDTH))
        for column, (base, value) in enumerate(
            zip(region.codes[low : low + LOGO_WIDTH], values[low : low + LOGO_WIDTH])
        ):
            if base < 4:
                letters[base, column] = value
        draw_logo(axes, letters)
        left = (len(values) - BIN) // 2
        start = region.start - left + low
        first, last = max(start, 0) + 1, min(start + LOGO_WIDTH, region.contig_length)
        axes.set_title(f"{plain(region.contig)}:{first:,}-{last:,}", loc="left")
    for axes in grid[:, 0]:  # in every lane: a label of the whole figure is laid over the numbers
        axes.set_ylabel("contribution", fontsize=8)
    figure.align_ylabels()
    return figure


def strongest_stretch(values: np.ndarray, width: int) -> int:
    """Return the start of the stretch with the largest sum of absolute contributions, those in its middle counting most."""
    return int(np.convolve(np.abs(values), np.bartlett(width), "valid").argmax())


_FONT = FontProperties(family="DejaVu Sans Mono", weight="bold")
_LETTERS = {base: TextPath((0, 0), base, size=1, prop=_FONT) for base in "ACGT"}
_BOXES = {base: letter.get_extents() for base, letter in _LETTERS.items()}


def draw_logo(axes: Axes, heights: np.ndarray | Sequence[Sequence[float]]) -> None:
    """Draw letters stacked by height (4, positions): positive ones upwards from zero, negative ones downwards."""
    table = np.asarray(heights, float)
    letters: dict[str, list[Outline]] = {base: [] for base in "ACGT"}
    for position in range(table.shape[1]):
        up = down = 0.0
        for base in np.argsort(np.abs(table[:, position])):
            height = table[base, position]
            if height == 0:
                continue
            bottom = up if height > 0 else down + height
            letters["ACGT"[base]].append(_letter("ACGT"[base], position, bottom, abs(height)))
            up, down = (up + height, down) if height > 0 else (up, down + height)
    for base, paths in letters.items():  # one patch a base: a patch a letter takes a second for some logos
        if paths:
            # As an artist: a patch would be asked for the extents of all its curves, and the limits are set below.
            axes.add_artist(PathPatch(Outline.make_compound_path(*paths), color=BASE_COLOURS[base], linewidth=0))
    tops, bottoms = np.maximum(table, 0).sum(0), np.minimum(table, 0).sum(0)
    span = max(float(tops.max() - bottoms.min()), 1e-9)
    axes.set_xlim(-0.5, table.shape[1] - 0.5)
    axes.set_ylim(min(bottoms.min(), 0) - 0.05 * span, tops.max() + 0.05 * span)
    axes.axhline(0, color="#444444", linewidth=0.6)
    axes.set_xticks([])


def _letter(base: str, position: int, bottom: float, height: float) -> Outline:
    """Return the outline of one letter of a logo, stretched to a height."""
    path, box = _LETTERS[base], _BOXES[base]
    scale = Affine2D().translate(-box.x0, -box.y0).scale(0.9 / box.width, height / box.height)
    return path.transformed(scale.translate(position - 0.45, bottom))
