"""Pictures and the page of latents, or of a track and its parts."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

from mfd_cli.explain.pictures import PREFERENCE, draw_fingerprint, draw_one
from mfd_cli.explain.results import Directions
from mfd_cli.explain.write_on_dna import motif_rows
from mfd_cli.report.page import pictures_in, publish
from mfd_cli.report.style import STYLE, plt, save
from mfd_cli.runs.near_chance import near_chance


def draw_direction_pictures(folder: Path, result: Directions) -> list[tuple[str, str]]:
    """Draw everything into the folder, and return (file stem, caption) of each picture."""
    with plt.rc_context(STYLE):
        save(draw_fingerprint(result.fingerprint, f"{result.subject} go with"), folder / "fingerprint")
        drawn = [("fingerprint", PREFERENCE)]
        for number, one in enumerate(result.shown, start=1):
            drawn += draw_one(folder, f"direction-{number:02d}", one, f"{result.subject}: {one.name}", result.subject)
    return drawn


def write_directions(
    path: Path,
    result: Directions,
    sentences: Sequence[str],
    remarks: Sequence[str],
    pictures: Sequence[tuple[str, str]],
) -> None:
    """Write report.html from the tables, remarks on the inputs, and the pictures that lie beside it, (file stem, caption)."""
    publish(
        path,
        "mfd_cli.explain",
        "directions.html.j2",
        title=result.subject,
        footer=f"model {result.run.digest[:12]}",
        sentences=sentences,
        remarks=remarks,
        warning=near_chance(result.run),
        rows=result.rows,
        headings={"gc_correlation": "G+C correlation", "spread": "spread of score"},
        motifs=motif_rows(result.shown),
        on_dna=pictures_in(path.parent, pictures),
    )
