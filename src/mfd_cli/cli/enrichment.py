"""mfd enrich."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from mfd_cli.cli.shared import Force, Json, Quiet, one_of, say_all, say_json


def enrich_command(
    scores: Annotated[Path, typer.Argument(metavar="SCORES", help="Parquet table of score-variants.")],
    labels: Annotated[Path, typer.Option("--labels", help="Table of variants: chrom, pos, ref, alt, label.")],
    output: Annotated[Path, typer.Option("-o", "--output", help="Folder to write.")] = Path("enrichment"),
    label_column: Annotated[
        str | None, typer.Option("--label-column", help="[default: label, or the only one with two values]")
    ] = None,
    positive: Annotated[
        str | None, typer.Option("--positive", help="Label of the positive class [default: 1, true, rare ...]")
    ] = None,
    match_column: Annotated[
        str | None, typer.Option("--match-column", help="Id of each variant's set, in a matched design.")
    ] = None,
    features: Annotated[
        list[str] | None, typer.Option("--features", metavar="PATTERN", help="Such as 'level.*'; repeatable.")
    ] = None,
    direction: Annotated[
        str, typer.Option("--direction", help="both: scores have a sign; absolute: only their size counts.")
    ] = "both",
    fdr: Annotated[float, typer.Option("--fdr", help="False discovery rate of what is called enriched.")] = 0.05,
    blocks: Annotated[
        Path | None, typer.Option("--blocks", help="BED file of independent blocks, such as those of linkage.")
    ] = None,
    block_size: Annotated[
        int | None, typer.Option("--block-size", min=1, help="Or blocks of so many bp [default: 1000000].")
    ] = None,
    fasta: Annotated[
        Path | None, typer.Option("--fasta", help="Genome: compares variants of the same trinucleotide change, too.")
    ] = None,
    force: Force = False,
    quiet: Quiet = False,
    as_json: Json = False,
) -> None:
    """Tell which scores differ between two classes of variants: writes features.tsv, quantiles.tsv, selected.parquet, ..."""
    from mfd_cli.cli.console import Display, warn
    from mfd_cli.enrichment.enrich import enrich
    from mfd_cli.enrichment.features import DIRECTIONS

    with Display(quiet) as display:
        result = enrich(
            scores,
            labels,
            output,
            label_column=label_column,
            positive=positive,
            match_column=match_column,
            features=features,
            direction=one_of("--direction", direction, DIRECTIONS),
            fdr=fdr,
            blocks=blocks,
            block_size=block_size,
            fasta=fasta,
            force=force,
            progress=display,
        )
    for text in [] if quiet else result.warnings:
        warn(text)
    if as_json:
        say_json(result.summary)
    else:
        say_all(result.lines())
