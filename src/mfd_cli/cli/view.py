"""The shell of `mfd view`."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from mfd_cli.cli.shared import (
    ConfigFile,
    DatasetFolder,
    Fasta,
    Force,
    Json,
    RegionsFile,
    RunFolder,
    Sets,
    Threads,
    Tracks,
    load,
    parse_named_file,
    say_result,
    set_threads,
)


def view_command(
    paths: Annotated[
        list[Path] | None,
        typer.Argument(
            metavar="PATH",
            help="A scored VCF, a folder of mfd predict, one of mfd explain, a run; any of them [default: the run].",
        ),
    ] = None,
    output: Annotated[Path, typer.Option("-o", "--output", help="HTML file to write.")] = Path("view.html"),
    regions: Annotated[
        list[str] | None,
        typer.Option("-r", "--regions", help="chr1:1001-2000, in place of the strongest; repeatable."),
    ] = None,
    regions_file: RegionsFile = None,
    variants: Annotated[int, typer.Option("--variants", min=1, help="Variants of a VCF to list: the strongest.")] = 20,
    by: Annotated[str, typer.Option("--by", metavar="FIELD", help="What is strong in a VCF.")] = "MFD_MAX_DLOGIT",
    top: Annotated[
        int, typer.Option("--top", min=1, help="Bins to list: of each level, of each output, of a run.")
    ] = 5,
    flank: Annotated[int, typer.Option("--flank", min=1, help="Bases to keep on both sides of a place.")] = 1000,
    gtf: Annotated[Path | None, typer.Option("--gtf", help="Genes (GTF or GFF3) to draw.")] = None,
    bed: Annotated[
        list[str] | None, typer.Option("--bed", metavar="NAME=FILE", help="Elements to draw; repeatable.")
    ] = None,
    tracks: Tracks = None,
    write_regions: Annotated[
        Path | None,
        typer.Option("--write-regions", metavar="FILE", help="Also write the shown places, as BED, for -R of others."),
    ] = None,
    config: ConfigFile = None,
    sets: Sets = None,
    fasta: Fasta = None,
    dataset: DatasetFolder = None,
    run: RunFolder = None,
    threads: Threads = None,
    force: Force = False,
    as_json: Json = False,
) -> None:
    """Write one HTML page with a genome browser: variants, predictions, parts and contributions of some regions."""
    from mfd_cli.view.view import Wanted, view

    elements = dict(parse_named_file(text) for text in bed or ())
    wanted = Wanted(regions or (), regions_file, variants, by, top, tracks, flank, gtf, elements, write_regions)
    set_threads(threads)
    project = load(config, sets, {"data.dataset": dataset, "data.run": run})
    summary = view(paths or (), output, project=project, fasta=fasta, wanted=wanted, force=force)
    say_result(summary, as_json)
