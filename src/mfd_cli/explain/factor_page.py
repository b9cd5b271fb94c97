"""The page of one factor."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from html import escape
from pathlib import Path
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from mfd_cli.explain.results import Explanation

from mfd_cli.explain.on_dna import motif_table
from mfd_cli.report.page import HEADINGS, LETTERS, LIMITS, MOST_ROWS, figure, more, publish, table


def write_factor_page(
    path: Path, result: Explanation, sentences: Sequence[str], pictures: Mapping[str, Sequence[tuple[str, str]]]
) -> None:
    """Write report.html from the tables and from the pictures that lie beside it."""
    folder = path.parent
    body = [
        f"<h1>What <em>{escape(result.factor)}</em> contributes</h1>",
        f'<p class="lead">{escape(sentences[0])}</p>',
        about(result),
        "<h2>Level by level</h2><ul>" + "".join(f"<li>{escape(text)}</li>" for text in sentences[1:]) + "</ul>",
        table(result.levels, HEADINGS),
        "<h2>Overview</h2>",
        *(figure(folder, stem, caption) for stem, caption in pictures["overview"]),
        "<h2>On DNA</h2>",
        LETTERS,
        motif_table(result.shown),
        *(figure(folder, stem, caption) for stem, caption in pictures["levels"]),
        "<h2>Tracks</h2>",
        table(result.tracks[:MOST_ROWS], {}),
        more(len(result.tracks)),
        LIMITS,
    ]
    publish(path, result.factor, body, f"model {result.run.digest[:12]}")


def about(result: Explanation) -> str:
    """The model and the data in one line."""
    run, model = result.run, result.run.model.settings
    validation = run.about.get("validation", {})
    score = f", validation AUROC {validation['auroc_mean']:.3f}" if "auroc_mean" in validation else ""
    return (
        f'<p class="about">Model: {len(run.tracks)} tracks, window {model.window:,} bp, {model.latent} latents '
        f"({', '.join(f'{n} {escape(g)}' for g, n in model.groups.items())}){score}. Numbers are from {result.bins:,} "
        f"{escape(result.split)} bins, both strands averaged.</p>"
    )
