"""Pictures and the page of latents, or of a track and its parts."""

from __future__ import annotations

from collections.abc import Sequence
from html import escape
from pathlib import Path
from typing import TYPE_CHECKING

from mfd_cli.explain.on_dna import motif_table
from mfd_cli.explain.pictures import PREFERENCE, draw_fingerprint, draw_one
from mfd_cli.report.page import LETTERS, LIMITS, figure, publish, table
from mfd_cli.report.style import STYLE, plt, save

if TYPE_CHECKING:
    from mfd_cli.explain.results import Directions


HEADINGS = {"gc_correlation": "G+C correlation", "spread": "spread of score"}


def draw_directions(folder: Path, result: Directions) -> list[tuple[str, str]]:
    """(file stem, caption) of what was drawn into the folder."""
    with plt.rc_context(STYLE):
        save(draw_fingerprint(result.fingerprint, f"{result.subject} go with"), folder / "fingerprint")
        drawn = [("fingerprint", PREFERENCE)]
        for number, one in enumerate(result.shown, start=1):
            drawn += draw_one(folder, f"direction-{number:02d}", one, f"{result.subject}: {one.name}", result.subject)
    return drawn


def write_directions(
    path: Path, result: Directions, sentences: Sequence[str], pictures: Sequence[tuple[str, str]]
) -> None:
    """Write report.html from the tables and from the pictures that lie beside it."""
    body = [
        f"<h1>What drives <em>{escape(result.subject)}</em></h1>",
        f'<p class="lead">{escape(sentences[0])}</p>',
        "<ul>" + "".join(f"<li>{escape(text)}</li>" for text in sentences[1:]) + "</ul>",
        table(result.rows, HEADINGS),
        "<h2>On DNA</h2>",
        LETTERS,
        motif_table(result.shown),
        *(figure(path.parent, stem, caption) for stem, caption in pictures),
        LIMITS,
    ]
    publish(path, result.subject, body, f"model {result.run.digest[:12]}")
