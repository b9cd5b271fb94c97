"""Pictures and the page of the overview over all factors."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import numpy as np
from matplotlib.figure import Figure

from mfd_cli.explain.results import Overview
from mfd_cli.genome.grid import evenly
from mfd_cli.report.page import pictures_in, publish
from mfd_cli.report.style import COLOURS, STYLE, plain, plt, save
from mfd_cli.runs.near_chance import near_chance

MOST_BARS = 300
"""Tracks that the picture of all tracks shows, evenly spaced by the size of their shared part."""


def draw_overview(folder: Path, result: Overview) -> list[tuple[str, str]]:
    """Draw everything into the folder, and return (file stem, caption) of each picture."""
    drawn = []
    with plt.rc_context(STYLE):
        pictures = [
            (
                "parts",
                "What the tracks' logits are made of, mean over tracks, with 95 % intervals over stretches of bins",
                draw_parts(result),
            )
        ]
        groups = [row["part"] for row in result.factors if row["kind"] == "group"]
        if len(groups) > 1:
            caption = f"The share of the {groups[0]} part against that of the {groups[1]} part, track by track"
            pictures.append(("groups", caption, draw_groups(result, groups[0], groups[1])))
        caption = (
            "What each track's logit is made of, track by track, by the size of the shared part (all are in tracks.tsv)"
        )
        pictures.append(("tracks", caption, draw_tracks(result)))
        for stem, caption, made in pictures:
            save(made, folder / stem)
            drawn.append((stem, caption))
    return drawn


OF_GROUP = ("factor", "product")
"""Kinds of parts that belong to a group."""


def draw_parts(result: Overview) -> Figure:
    """Return bars with intervals: the shared part, groups, factors, and what else a mixed head has."""
    kinds = dict.fromkeys(["shared", "group", "factor", *(row["kind"] for row in result.factors)])
    order = {kind: number for number, kind in enumerate(kinds)}
    rows = sorted(result.factors, key=lambda row: (order[row["kind"]], -row["share"]))
    figure, axes = plt.subplots(figsize=(7.6, 1.0 + 0.34 * len(rows)), layout="constrained")
    for place, row in enumerate(rows):
        axes.barh(place, row["share"], color=COLOURS[order[row["kind"]]], height=0.7)
        axes.plot([row["low"], row["high"]], [place, place], color="#222222", linewidth=1.2)
        end = max(row["high"], row["share"], 0)
        axes.text(end + 0.01, place, f"{row['share']:z.1%}", va="center", fontsize=8)
    labels = [plain(row["part"]) + (f" ({plain(row['group'], 14)})" if row["kind"] in OF_GROUP else "") for row in rows]
    axes.set_yticks(range(len(rows)), labels)
    axes.invert_yaxis()
    axes.axvline(0, color="#444444", linewidth=0.6)
    axes.set_xlim(right=axes.get_xlim()[1] * 1.08)
    axes.set_xlabel("share of the variance of the logit")
    handles = [plt.Rectangle((0, 0), 1, 1, color=COLOURS[number]) for number in order.values()]
    axes.legend(handles, list(order), frameon=False, loc="lower right")
    axes.set_title(
        "What the logits are made of, mean over tracks\nLines: 95 % intervals over stretches of bins", loc="left"
    )
    return figure


def draw_tracks(result: Overview) -> Figure:
    """Return stacked bars, one per track: the shared part and every factor; above MOST_BARS tracks, evenly spaced ones."""
    names = ["shared", *result.decomposition.factors]
    rows = sorted(result.tracks, key=lambda row: -row["share_shared"])
    rows = [rows[i] for i in evenly(len(rows), MOST_BARS)]
    figure, axes = plt.subplots(figsize=(7.6, 3.4), layout="constrained")
    above, below = np.zeros(len(rows)), np.zeros(len(rows))
    for number, name in enumerate(names):
        values = np.nan_to_num(np.array([row[f"share_{name}"] for row in rows]))
        bottom = np.where(values >= 0, above, below)
        axes.bar(
            np.arange(len(rows)),
            values,
            bottom=bottom,
            width=1.0,
            color=COLOURS[number % 8],
            linewidth=0,
            hatch="//" if number >= 8 else None,
            label=plain(name),
        )
        above, below = above + np.maximum(values, 0), below + np.minimum(values, 0)
    axes.axhline(0, color="#444444", linewidth=0.6)
    axes.set_xlim(-0.5, len(rows) - 0.5)
    axes.set_ylim(max(float(below.min()), -1.5), min(float(above.max()), 2.5))
    axes.set_xticks([])
    axes.set_xlabel(
        f"{len(rows)} of {len(result.tracks)} tracks" if len(rows) < len(result.tracks) else f"{len(rows)} tracks"
    )
    axes.set_ylabel("share of the variance of the logit")
    axes.set_title("What each track's logit is made of (sums to 1)", loc="left")
    figure.legend(loc="outside right center", frameon=False)
    return figure


def draw_groups(result: Overview, one: str, other: str) -> Figure:
    """Return a scatter, one dot per track: the share of one group against that of another, by the factor with most variance."""
    group_of = result.decomposition.group_of
    shares = {
        group: np.array([sum(row[f"share_{n}"] for n in group_of if group_of[n] == group) for row in result.tracks])
        for group in (one, other)
    }
    strongest = max((row for row in result.factors if row["kind"] == "factor"), key=lambda row: row["share"])["part"]
    levels = [str(row[strongest]) for row in result.tracks]
    shown = sorted(set(levels), key=lambda level: (-levels.count(level), level))[:7]
    figure, axes = plt.subplots(figsize=(7.6, 4.2), layout="constrained")
    for number, level in enumerate([*shown, None]):
        chosen = np.array([own == level if level is not None else own not in shown for own in levels])
        if chosen.any():
            axes.scatter(
                shares[one][chosen],
                shares[other][chosen],
                s=24,
                linewidths=0,
                alpha=0.8,
                color=COLOURS[number] if level is not None else "#999999",
                marker="osD^vP*X"[number],
                label=plain(level) if level else "(missing)" if level == "" else "other levels",
            )
    axes.axhline(0, color="#bbbbbb", linewidth=0.6)
    axes.axvline(0, color="#bbbbbb", linewidth=0.6)
    axes.set_xlabel(f"share of the {one} part")
    axes.set_ylabel(f"share of the {other} part")
    axes.set_title(f"Tracks by what their logits are made of, coloured by {plain(strongest)}", loc="left")
    figure.legend(loc="outside right center", frameon=False)
    return figure


def write_overview(path: Path, result: Overview, sentences: Sequence[str], pictures: Sequence[tuple[str, str]]) -> None:
    """Write report.html from the tables and from the pictures that lie beside it, (file stem, caption)."""
    publish(
        path,
        "mfd_cli.explain",
        "overview.html.j2",
        title="all factors",
        footer=f"model {result.run.digest[:12]}",
        sentences=sentences,
        warning=near_chance(result.run),
        parts=sorted(result.factors, key=lambda row: -np.nan_to_num(row["share"])),
        headings={"low": "95 % from", "high": "to", "share": "share of variance"},
        tracks=result.tracks,
        pictures=pictures_in(path.parent, pictures),
    )
