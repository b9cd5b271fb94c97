"""The Parquet table of scores."""

from __future__ import annotations

import json

from mfd_cli import __version__
from mfd_cli.variants.background import Background
from mfd_cli.variants.effects import Scorer


def table_metadata(scorer: Scorer, background: Background | None = None) -> dict[str, str]:
    """What the Parquet file says of itself."""
    counts, settings = {}, scorer.settings
    if scorer.decomposition is not None:
        for name in scorer.level_names:
            factor, _, level = name.removeprefix("level.").partition("=")
            counts[name] = int(scorer.decomposition.tracks_of(factor, level).sum())
    return {
        "mfd_version": __version__,
        "mfd_model": ",".join(run.digest for run in scorer.runs),
        "mfd_genome": str(scorer.run.about["genome_digest"]),
        "mfd_tracks_per_level": json.dumps(counts),
        "mfd_settings": json.dumps(
            {
                "placement": settings.placement,
                "precision": settings.precision,
                "tracks": settings.tracks,
                "fix": list(settings.fixes),
            }
        ),
        "mfd_support": json.dumps(dict(zip(scorer.panel.ids.tolist(), scorer.panel.support))),
        "mfd_background": json.dumps(
            {"digest": background.digest, "variants": background.count, "smallest_p": background.smallest_p}
            if background
            else None
        ),
    }
