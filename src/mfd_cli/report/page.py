"""The report: one HTML file that needs no network. Every value from the metadata is escaped."""

from __future__ import annotations

import base64
from collections.abc import Mapping, Sequence
from html import escape
from importlib import resources
from pathlib import Path
from typing import Any

from mfd_cli import __version__
from mfd_cli.base.files import whole_file

MOST_ROWS = 500
HEADINGS = {
    "level": "level", "tracks": "tracks", "norm": "length of direction", "logit_sd": "spread of score",
    "share_of_variance": "share of variance", "share_low": "95 % from", "share_high": "to", "joint_share": "joint share",
    "strongest_latents": "strongest latents", "agreement_own": "agreement of its tracks",
    "agreement_others": "agreement of other tracks", "defied_by": "defied by",
    "cannot_be_told_from": "cannot be told apart from", "gc_correlation": "G+C correlation",
    "confounded_with": "confounded with", "sampling_error": "sampling error",
}  # fmt: skip


def publish(path: Path, title: str, body: Sequence[str], footer: str) -> None:
    """Write one HTML file with everything in it; `footer` says what made it."""
    assets = resources.files("mfd_cli.report")
    css = assets.joinpath("report.css").read_text("utf-8")
    script = assets.joinpath("report.js").read_text("utf-8")
    html = (
        '<!doctype html><html lang="en"><head><meta charset="utf-8">'
        '<meta name="viewport" content="width=device-width, initial-scale=1">'
        '<link rel="icon" href="data:,">'
        f"<title>mfd: {escape(title)}</title><style>{css}</style></head><body><main>"
        + "\n".join([*body, f"<footer>mfd {__version__}, {escape(footer)}</footer>"])
        + f"</main><script>{script}</script></body></html>\n"
    )
    with whole_file(path) as temporary:
        temporary.write_text(html, "utf-8")


def figure(folder: Path, stem: str, caption: str) -> str:
    """A picture, inside the page; a click enlarges it."""
    data = base64.b64encode((folder / f"{stem}.png").read_bytes()).decode("ascii")
    return (
        f'<figure><img alt="{escape(caption, quote=True)}" src="data:image/png;base64,{data}">'
        f"<figcaption>{escape(caption)} (also as {escape(stem)}.svg)</figcaption></figure>"
    )


def table(rows: Sequence[Mapping[str, Any]], headings: Mapping[str, str]) -> str:
    """A sortable, searchable table."""
    if not rows:
        return "<p>(none)</p>"
    names = list(rows[0])
    head = "".join(f'<th tabindex="0">{escape(headings.get(name, name.replace("_", " ")))}</th>' for name in names)
    body = "".join("<tr>" + "".join(cell(row[name]) for name in names) + "</tr>" for row in rows)
    return (
        '<div class="table"><input type="search" placeholder="search" aria-label="search the table">'
        f"<div class=scroll><table><thead><tr>{head}</tr></thead><tbody>{body}</tbody></table></div></div>"
    )


def cell(value: Any) -> str:
    if isinstance(value, float):
        text = "" if value != value else f"{value:.1g}" if 0 < abs(value) < 0.0005 else f"{value:.3f}"
        return f'<td class="number">{text}</td>'
    if isinstance(value, int):
        return f'<td class="number">{value}</td>'
    return f"<td>{'' if value is None else escape(str(value))}</td>"


def more(count: int) -> str:
    """What the page leaves out."""
    return f"<p>The first {MOST_ROWS} of {count} tracks; all are in tracks.tsv.</p>" if count > MOST_ROWS else ""


LETTERS = (
    "<p>Above: what the strongest stretches have in common. Below: the strongest regions. A letter that points up raises the "
    "score, one that points down lowers it.</p>"
)
LIMITS = """<h2>What this does not say</h2><ul>
<li>Where levels of two factors always occur together, their separate credit is not identifiable: the numbers split it, but
only the sum is meaningful. The column <em>confounded with</em> names the strongest case per level.</li>
<li>The shared part is what all tracks have in common; it is not thereby biological. Promoters are in it, and so are
G+C content and mappability.</li>
<li>A negative share of variance means that a part works against the rest of the prediction; often the level was not
learnt, or shares its sequence with others.</li>
<li>Contributions are of the model. They show which sequence the model uses, not that the sequence causes anything.</li>
<li>Combinations of levels that nobody measured are extrapolated.</li></ul>"""
