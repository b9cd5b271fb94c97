"""The shell of the commands that apply a model along the genome: predict, embed, qc."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from mfd_cli.base.errors import ConfigError
from mfd_cli.cli.shared import (
    BatchSize,
    ConfigFile,
    DatasetFolder,
    ExperimentKind,
    Fasta,
    Force,
    Gpus,
    Json,
    Quiet,
    RunFolder,
    Seed,
    Sets,
    Threads,
    gpus_or_default,
    kind_or_default,
    load,
    one_of,
    open_run,
    say_all,
    say_json,
)
from mfd_cli.cli.variants import Fixed, Tracks


def predict_command(
    regions: Annotated[
        list[str] | None, typer.Option("-r", "--regions", help="chr1:1001-200000, chr2, or all; repeatable.")
    ] = None,
    regions_file: Annotated[Path | None, typer.Option("-R", "--regions-file", help="The same from a BED file.")] = None,
    output: Annotated[Path, typer.Option("-o", "--output", help="Folder to write.")] = Path("predictions"),
    tracks: Tracks = None,
    fix: Fixed = None,
    experiment: Annotated[
        list[str] | None,
        typer.Option("--experiment", metavar="FACTOR=LEVEL", help="Predict one that nobody did; repeatable."),
    ] = None,
    kind: ExperimentKind = None,
    part: Annotated[
        list[str] | None, typer.Option("--part", help="total [default], shared, debiased, or a group; repeatable.")
    ] = None,
    bigwig: Annotated[bool, typer.Option("--bigwig/--no-bigwig", help="A bigWig per output, and a track hub.")] = True,
    hub_genome: Annotated[
        str | None, typer.Option("--hub-genome", help="UCSC's name of the genome, for the hub.")
    ] = None,
    config: ConfigFile = None,
    sets: Sets = None,
    fasta: Fasta = None,
    dataset: DatasetFolder = None,
    run: RunFolder = None,
    gpus: Gpus = None,
    threads: Threads = None,
    batch_size: BatchSize = 256,
    force: Force = False,
    quiet: Quiet = False,
) -> None:
    """Predict tracks along the genome: writes bigWigs, predictions.parquet and a hub for the UCSC browser."""
    from mfd_cli.cli.console import Display
    from mfd_cli.core.device import device_of
    from mfd_cli.formats.bed import parse_regions
    from mfd_cli.genome.intervals import Interval
    from mfd_cli.predictions.predict import predict
    from mfd_cli.runs.choose_genome import choose_genome
    from mfd_cli.runs.panel import parse_experiment
    from mfd_cli.settings.config import TOTAL

    if not regions and regions_file is None:
        raise ConfigError("which part of the genome?", hint="-r chr1, -R regions.bed, or -r all")
    if experiment and (tracks or fix):
        raise ConfigError("--experiment takes the place of the tracks: it goes without --tracks and --fix")
    if kind is not None and not experiment:
        raise ConfigError("--kind goes with --experiment", hint="--tracks 'kind == signal' chooses among the tracks")
    project = load(config, sets, {"data.dataset": dataset, "data.run": run})
    trained = open_run(project, threads)
    genome, _ = choose_genome(project, trained, fasta)
    if regions == ["all"]:
        chosen = tuple(Interval(name, 0, length) for name, length in genome.lengths.items())
    else:
        chosen = parse_regions(regions or [], regions_file, genome)
    with Display(quiet) as display:
        summary = predict(
            trained,
            genome,
            chosen,
            output,
            tracks=tracks,
            fixes=fix or (),
            experiment=parse_experiment(trained, experiment) if experiment else None,
            kind=kind_or_default(kind),
            parts=part or (TOTAL,),
            bigwig=bigwig,
            hub_genome=hub_genome,
            device=device_of(gpus_or_default(gpus)),
            batch_size=batch_size,
            force=force,
            progress=display,
        )
    say_all(summary.lines())


def embed_command(
    regions: Annotated[
        str, typer.Argument(metavar="REGIONS", help="BED file, - for standard input, or chr1:1001-2000.")
    ],
    output: Annotated[Path, typer.Option("-o", "--output", help="Parquet file to write.")] = Path("latents.parquet"),
    aggregate: Annotated[str, typer.Option("--aggregate", help="mean or max over the bins of a region.")] = "mean",
    config: ConfigFile = None,
    sets: Sets = None,
    fasta: Fasta = None,
    dataset: DatasetFolder = None,
    run: RunFolder = None,
    gpus: Gpus = None,
    threads: Threads = None,
    batch_size: BatchSize = 256,
    force: Force = False,
    quiet: Quiet = False,
) -> None:
    """Write the latents of regions, a named column each, for scikit-learn and the like."""
    from mfd_cli.cli.console import Display
    from mfd_cli.core.device import device_of
    from mfd_cli.predictions.embed import embed
    from mfd_cli.runs.choose_genome import choose_genome

    project = load(config, sets, {"data.dataset": dataset, "data.run": run})
    trained = open_run(project, threads)
    genome, _ = choose_genome(project, trained, fasta)
    with Display(quiet) as display:
        summary = embed(
            trained,
            genome,
            regions,
            output,
            aggregate=one_of("--aggregate", aggregate, ("mean", "max")),
            device=device_of(gpus_or_default(gpus)),
            batch_size=batch_size,
            force=force,
            progress=display,
        )
    say_all(summary.lines())


def qc_command(
    factor: Annotated[
        list[str] | None, typer.Option("--factor", help="Factor to judge; repeatable [default: all with levels].")
    ] = None,
    output: Annotated[Path, typer.Option("-o", "--output", help="Folder to write.")] = Path("qc"),
    fdr: Annotated[float, typer.Option("--fdr", help="False discovery rate of what disagrees.")] = 0.01,
    config: ConfigFile = None,
    sets: Sets = None,
    dataset: DatasetFolder = None,
    run: RunFolder = None,
    seed: Seed = None,
    gpus: Gpus = None,
    threads: Threads = None,
    batch_size: BatchSize = 256,
    force: Force = False,
    quiet: Quiet = False,
    as_json: Json = False,
) -> None:
    """Find tracks whose data disagree with their metadata: swapped, mislabelled and failed experiments."""
    from mfd_cli.cli.console import Display
    from mfd_cli.core.device import device_of
    from mfd_cli.dataset.folder import open_dataset
    from mfd_cli.evaluation.qc import qc

    project = load(config, sets, {"data.dataset": dataset, "data.run": run})
    trained = open_run(project, threads)
    with Display(quiet) as display:
        result = qc(
            trained,
            open_dataset(project.dataset),
            output,
            factors=factor or (),
            fdr=fdr,
            seed=seed or 0,
            device=device_of(gpus_or_default(gpus)),
            batch_size=batch_size,
            force=force,
            progress=display,
        )
    if as_json:
        say_json(result.summary)
    else:
        say_all(result.lines())
