"""The page of `mfd view`: igv.js, what it shows as JSON, and our script that hands the one to the other.

The JSON has, with coordinates that are 0-based and do not include the end:

    genome, has_sequence, lengths   its name, whether its bases are known, length per contig that is shown
    sequences                       contig, start and bases of every region
    tracks                          kind (numbers, variants, features), name, and what view.js makes a track of
    tables                          per table the (contig, start, end) of every row
    first, margin                   the row whose place is shown first, counted over all tables; bases that are shown on both
                                    sides of a place

Numbers are float32 in base64: a page then holds the very numbers of a bigWig in half the room that text takes.
"""

from __future__ import annotations

import base64
import hashlib
import json
from collections.abc import Mapping, Sequence
from importlib import resources
from pathlib import Path
from typing import Any

import numpy as np
from markupsafe import Markup

from mfd_cli.base.arrays import Floats
from mfd_cli.genome.intervals import Interval
from mfd_cli.genome.sequence import Genome
from mfd_cli.report.page import publish, report_script
from mfd_cli.view.igv import igv_script
from mfd_cli.view.shown import NumbersTrack, Runs, Table, Track, VariantsTrack, most_shown, sequence_of

ROOM = "mfd_cli.view"
MARGIN = 150
"""Bases that are shown on both sides of a place, at most."""


def write_page(
    path: Path,
    *,
    title: str,
    lead: str,
    footer: str,
    genome: Genome | None,
    lengths: Mapping[str, int],
    regions: Sequence[Interval],
    tables: Sequence[Table],
    tracks: Sequence[Track],
    flank: int,
) -> None:
    """Write the page: one HTML file that fetches nothing. ConfigError where igv.js is not installed."""
    shown = {
        "genome": genome.source if genome is not None else "without a sequence",
        "has_sequence": genome is not None,
        "lengths": {name: length for name, length in lengths.items() if any(r.contig == name for r in regions)},
        "sequences": [
            {"contig": region.contig, "start": region.start, "bases": sequence_of(genome, region)} for region in regions
        ],
        "tracks": [described(track, genome is not None) for track in tracks],
        "tables": [[(place.contig, place.start, place.end) for place in table.places] for table in tables],
        "first": most_shown([place for table in tables for place in table.places], tracks),
        "margin": min(flank, MARGIN),
    }
    files = resources.files(ROOM)
    igv, own = igv_script(), files.joinpath("view.js").read_text("utf-8")
    publish(
        path,
        ROOM,
        "view.html.j2",
        title=title,
        footer=footer,
        lead=lead,
        tables=tables,
        headings={name: name for table in tables for name in table.rows[0] if name.startswith("MFD_")},
        policy=policy((igv, own, report_script())),
        shown=Markup(json_in_html(shown)),
        igv=Markup(igv),
        own_script=Markup(own),
        own_css=Markup(files.joinpath("view.css").read_text("utf-8")),
    )


def policy(scripts: Sequence[str]) -> str:
    """Return the Content-Security-Policy of a page with these scripts: they alone run, and nothing is fetched.

    The browser holds it, whatever an input brings: igv.js puts texts of a VCF into its popups as HTML. When it starts igv.js
    makes a decoder of WebAssembly from its own bytes, which has to be allowed by name.
    """
    hashes = (base64.b64encode(hashlib.sha256(text.encode()).digest()).decode() for text in scripts)
    allowed = " ".join(f"'sha256-{digest}'" for digest in hashes)
    drawing = "style-src 'unsafe-inline'; img-src data: blob:; connect-src data:"
    return f"default-src 'none'; script-src {allowed} 'wasm-unsafe-eval'; {drawing}"


def json_in_html(value: Any) -> str:
    """Return JSON that may stand in a script element: `<` is escaped, so that no text can end the element."""
    return json.dumps(value, separators=(",", ":"), allow_nan=False).replace("<", "\\u003c")


def described(track: Track, has_sequence: bool) -> dict[str, Any]:
    """Return a track as the page's JSON has it."""
    if isinstance(track, NumbersTrack):
        return {
            "kind": "numbers",
            "name": track.name,
            "label": track.label,
            "about": track.about,
            "facts": [*track.levels.items(), *([("unit", track.unit)] if track.unit else [])],
            "colour": track.colour,
            "letters": track.letters and has_sequence,
            "top": track.top,
            "axis": track.axis,
            "runs": [one for runs in track.runs for one in described_runs(runs, track.letters)],
        }
    if isinstance(track, VariantsTrack):
        return {"kind": "variants", "name": track.name, "vcf": base64.b64encode(track.vcf.encode()).decode()}
    return {"kind": "features", "name": track.name, "features": track.features}


def described_runs(runs: Runs, by_base: bool) -> list[dict[str, Any]]:
    """Return runs as the page's JSON has them: those that are equally long and follow each other together, by the first place
    and the length. `by_base`: a run of several bases becomes as many of one base.
    """
    start, end, value = runs.start, runs.end, runs.value
    if by_base:
        width = end - start
        value = np.repeat(value, width)
        start = np.repeat(start - np.cumsum(width) + width, width) + np.arange(len(value))
        end = start + 1
    result = []
    breaks = np.flatnonzero((start[1:] != end[:-1]) | (np.diff(end - start) != 0)) + 1
    for low, high in zip([0, *breaks.tolist()], [*breaks.tolist(), len(start)]):
        place = {"first": int(start[low]), "step": int(end[low] - start[low])}
        result.append({"contig": runs.contig, **place, "values": in_base64(value[low:high])})
    return result


def in_base64(values: Floats) -> str:
    """Return numbers as the base64 of little-endian float32."""
    return base64.b64encode(np.ascontiguousarray(values, "<f4").tobytes()).decode()
