"""The page of one factor."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from mfd_cli.explain.results import Explanation
from mfd_cli.explain.write_on_dna import motif_rows
from mfd_cli.report.page import pictures_in, publish
from mfd_cli.runs.near_chance import near_chance

HEADINGS = {
    "norm": "length of direction",
    "logit_sd": "spread of score",
    "share_of_variance": "share of variance",
    "share_low": "95 % from",
    "share_high": "to",
    "joint_share": "joint share",
    "strongest_latents": "strongest latents",
    "agreement_own": "agreement of its tracks",
    "agreement_others": "agreement of other tracks",
    "defied_by": "defied by",
    "cannot_be_told_from": "cannot be told apart from",
    "gc_correlation": "G+C correlation",
    "confounded_with": "confounded with",
    "sampling_error": "sampling error",
    "sequence": "strongest sequence",
    "known_motif": "known motif",
}
"""Columns of levels.tsv, and of what the page says first, whose heading is not their name."""
SAID_FIRST = (
    "level",
    "tracks",
    "share_of_variance",
    "share_low",
    "share_high",
    "joint_share",
    "agreement_own",
    "agreement_others",
)
"""Columns of levels.tsv that the page begins with; what letters say and what to beware of follow them."""


def write_factor_page(
    path: Path,
    result: Explanation,
    sentences: Sequence[str],
    remarks: Sequence[str],
    pictures: Mapping[str, Sequence[tuple[str, str]]],
) -> None:
    """Write report.html from the tables, remarks on the inputs, and the pictures that lie beside it.

    The pictures are {section: (file stem, caption)}.
    """
    publish(
        path,
        "mfd_cli.explain",
        "factor.html.j2",
        title=result.factor,
        footer=f"model {result.run.digest[:12]}",
        sentences=sentences,
        remarks=remarks,
        warning=near_chance(result.run),
        about=about(result),
        levels=result.levels,
        summaries=level_summaries(result),
        headings=HEADINGS,
        tracks=result.tracks,
        motifs=motif_rows(result.shown),
        overview=pictures_in(path.parent, pictures["overview"]),
        on_dna=pictures_in(path.parent, pictures["levels"]),
    )


def level_summaries(result: Explanation) -> list[dict[str, Any]]:
    """Return one row per level with what a reader asks first; sequence and motif of those that are shown on DNA."""
    on_dna = {one.name: one for one in result.shown}
    rows = []
    for row in result.levels:
        one = on_dna.get(str(row["level"]))
        rows.append(
            {
                **{name: row[name] for name in SAID_FIRST},
                "joint_share": row["joint_share"] if row["confounded_with"] else None,
                "sequence": one.motif.sequence if one and one.motif else "",
                "known_motif": one.match.name if one and one.match else "",
                "confounded_with": row["confounded_with"],
            }
        )
    return rows


def about(result: Explanation) -> dict[str, Any]:
    """Return what the page says of the model and of the data, as text but for the validation AUROC (or None)."""
    run, model = result.run, result.run.model.settings
    return {
        "tracks": len(run.tracks),
        "window": f"{model.window:,}",
        "latents": run.config.latent_words,
        "auroc": run.about.get("validation", {}).get("auroc_mean"),
        "bins": f"{result.bins:,}",
        "split": result.split,
    }
