"""`mfd check-design`: which factors can be told apart with these tracks, before any training.

Two factors move together on the tracks of a pair of levels that always occur with each other (one to one): there,
nothing distinguishes the one from the other. A set of factors is inseparable on the tracks where all its pairs do so.
Cramer's V (0: independent, 1: one determines the other) says how far two factors go together over all tracks.
"""

from __future__ import annotations

from itertools import combinations
from pathlib import Path

from mfd_cli.base.errors import ConfigError
from mfd_cli.base.files import check_output, whole_folder, write_json
from mfd_cli.experiments.confounds import (
    DesignReport,
    Pair,
    describe,
    inseparable_sets,
    levels_of,
    pair_of,
    suggestions,
)
from mfd_cli.experiments.held_out import held_out_tracks
from mfd_cli.settings.project import Project


def check_design(project: Project, *, output: Path | None = None, force: bool = False) -> DesignReport:
    """Look at the project's training tracks and factors; with `output`, write design.tsv, design.json and a picture."""
    from mfd_cli.experiments.sources import read_sources
    from mfd_cli.formats.tables import write_tsv

    factors = project.config.factors
    if not factors:
        raise ConfigError("there are no factors to check", hint="mfd init proposes [factors]")
    if output is not None:
        check_output(output, force)
    table = read_sources(project)
    sources = table.tracks
    held_out = held_out_tracks(project.config, {source.id: source.row for source in sources})
    rows = [source.row for source in sources if source.id not in held_out]
    levels = levels_of(rows, factors)
    pairs = sorted(
        (pair_of(a, b, levels, factors) for a, b in combinations(factors, 2)),
        key=lambda pair: (-pair.together, -pair.cramers_v),
    )
    report = DesignReport(
        len(rows),
        [describe(name, factor, levels[name]) for name, factor in factors.items()],
        pairs,
        inseparable_sets(levels, factors),
        suggestions(levels, pairs),
        output,
    )
    if output is not None:
        from mfd_cli.experiments.confounds_picture import draw_design

        with whole_folder(output) as folder:
            write_json(folder / "design.json", report.to_json())
            write_tsv(folder / "design.tsv", [vars(pair) for pair in pairs], list(Pair.__dataclass_fields__))
            draw_design(folder / "design", list(factors), pairs, levels)
    return report
