"""`mfd check-design`: which factors can be told apart with these tracks, before any training.

First comes what each technical factor has left once the biological ones are known; see left_over.py.

Two factors move together on the tracks of a pair of levels that always occur with each other (one to one): there,
nothing distinguishes the one from the other. A set of factors is inseparable on the tracks where all its pairs do so.
How far two factors go together over all tracks is measured by Cramer's V, the correlation ratio or a rank correlation,
as their types ask (0: independent, 1: one determines the other). A factor is nested within another one if each of its levels
occurs with one level of that only.
"""

from __future__ import annotations

from collections.abc import Collection, Mapping, Sequence
from dataclasses import replace
from pathlib import Path

from mfd_cli.base.errors import ConfigError
from mfd_cli.base.files import check_output, whole_folder, write_json
from mfd_cli.core.inseparable import inseparable_sets
from mfd_cli.experiments.check_table import check_table
from mfd_cli.experiments.confounds import (
    DesignReport,
    Pair,
    describe_factors,
    labels_by_factor,
    levels_by_factor,
    pairs_of,
    suggestions,
    values_by_factor,
)
from mfd_cli.experiments.left_over import LeftOver, left_over
from mfd_cli.experiments.sources import read_sources
from mfd_cli.settings.config import FactorConfig
from mfd_cli.settings.project import Project


def check_design(project: Project, *, output: Path | None = None, force: bool = False) -> DesignReport:
    """Look at the project's training tracks and factors; with `output`, write left.tsv, design.tsv, design.json and a picture.

    Raises ConfigError where the project has no factors, MetadataError where its table is wrong, OutputError where something
    is in the way of `output` and `force` is not set.
    """
    factors = project.config.factors
    if not factors:
        raise ConfigError("there are no factors to check", hint="mfd init proposes [factors]")
    if output is not None:
        check_output(output, force)
    sources = read_sources(project)
    held_out = check_table(project.config, sources)
    rows = [source.row for source in sources.tracks if source.id not in held_out]
    report = replace(
        design_of(rows, factors, project.config.resolved_model().technical),
        controls=sources.controls,
        control_column=project.config.tracks.control,
        folder=output,
    )
    if output is not None:
        from mfd_cli.experiments.confounds_picture import draw_design
        from mfd_cli.formats.tables import write_tsv

        with whole_folder(output) as folder:
            write_json(folder / "design.json", report.to_json())
            rows_left = [{**vars(one), "within": ",".join(one.within)} for one in report.left]
            write_tsv(folder / "left.tsv", rows_left, list(LeftOver.__dataclass_fields__))
            write_tsv(folder / "design.tsv", [vars(pair) for pair in report.pairs], list(Pair.__dataclass_fields__))
            draw_design(folder / "design", list(factors), report.pairs, values_by_factor(rows, factors))
    return report


def design_of(
    rows: Sequence[Mapping[str, str]], factors: Mapping[str, FactorConfig], technical: Collection[str]
) -> DesignReport:
    """Return what some metadata rows, those of training tracks, say of their factors; `technical` are the technical groups.

    Raises MetadataError for a cell that is not of its factor's type.
    """
    levels, values = levels_by_factor(rows, factors), values_by_factor(rows, factors)
    pairs = pairs_of(values, factors)
    return DesignReport(
        len(rows),
        left_over(values, labels_by_factor(rows, factors), factors, technical),
        list(technical),
        describe_factors(rows, factors),
        pairs,
        inseparable_sets(levels, factors),
        suggestions(values, pairs),
    )
