"""The shell of the commands that apply a model along the genome: predict, embed, qc."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from mfd_cli.base.errors import ConfigError
from mfd_cli.cli.completion import factor_names, levels_of_factors, part_names, words
from mfd_cli.cli.shared import (
    BatchSize,
    ConfigFile,
    DatasetFolder,
    ExperimentKind,
    Fasta,
    Fixed,
    Force,
    Gpus,
    H5adFile,
    Json,
    Quiet,
    RegionsFile,
    RunFolder,
    Seed,
    Sets,
    Threads,
    Tracks,
    kind_or_default,
    note_sole_levels,
    one_of,
    opened,
    say_all,
    say_json,
    say_result,
)
from mfd_cli.cli.workplace import Address, AllGpus, EngineName, Shard, Workers, threads_of, workplace_of


def predict_command(
    context: typer.Context,
    regions: Annotated[
        list[str] | None, typer.Option("-r", "--regions", help="chr1:1001-200000, chr2, or all; repeatable.")
    ] = None,
    regions_file: RegionsFile = None,
    output: Annotated[Path, typer.Option("-o", "--output", help="Folder to write.")] = Path("predictions"),
    tracks: Tracks = None,
    fix: Fixed = None,
    experiment: Annotated[
        list[str] | None,
        typer.Option(
            "--experiment",
            metavar="FACTOR=LEVEL",
            help="Predict one that nobody did; repeatable.",
            autocompletion=levels_of_factors,
        ),
    ] = None,
    kind: ExperimentKind = None,
    part: Annotated[
        list[str] | None,
        typer.Option(
            "--part",
            help="total [default], shared, debiased, a group, or a mixed head's residual; repeatable.",
            autocompletion=part_names,
        ),
    ] = None,
    sd: Annotated[
        bool, typer.Option("--sd", help="Beside each output how sure it is, as OUTPUT.sd (mixed head).")
    ] = False,
    bigwig: Annotated[bool, typer.Option("--bigwig/--no-bigwig", help="A bigWig per output, and a track hub.")] = True,
    hub_genome: Annotated[
        str | None, typer.Option("--hub-genome", help="UCSC's name of the genome, for the hub.")
    ] = None,
    workers: Workers = None,
    engine: EngineName = "local",
    address: Address = "auto",
    shard: Shard = None,
    config: ConfigFile = None,
    sets: Sets = None,
    fasta: Fasta = None,
    dataset: DatasetFolder = None,
    run: RunFolder = None,
    gpus: AllGpus = None,
    threads: Threads = None,
    batch_size: BatchSize = 256,
    force: Force = False,
    quiet: Quiet = False,
    as_json: Json = False,
) -> None:
    """Predict tracks along the genome: writes bigWigs, predictions.parquet and a hub for the UCSC browser."""
    from mfd_cli.cli.console import Display
    from mfd_cli.formats.bed import parse_regions
    from mfd_cli.genome.intervals import Interval
    from mfd_cli.predictions.predict import predict
    from mfd_cli.runs.new_experiment import parse_experiment
    from mfd_cli.settings.names import TOTAL

    if not regions and regions_file is None:
        raise ConfigError("which part of the genome?", hint="-r chr1, -R regions.bed, or -r all")
    if experiment and (tracks or fix):
        raise ConfigError("--experiment takes the place of the tracks: it goes without --tracks and --fix")
    if kind is not None and not experiment:
        raise ConfigError("--kind goes with --experiment", hint="--tracks 'kind == signal' chooses among the tracks")
    workplace, gpus = workplace_of(context, workers, engine, address, shard, gpus)
    model = opened(config, sets, dataset, run, threads_of(workplace, threads), gpus)
    note_sole_levels(model.run, [*(fix or ()), *(experiment or ())], quiet)
    genome, _ = model.genome(fasta)
    if regions == ["all"]:
        chosen = tuple(Interval(name, 0, length) for name, length in genome.lengths.items())
    else:
        chosen = parse_regions(regions or [], regions_file, genome)
    with Display(quiet) as display:
        summary = predict(
            model.run,
            genome,
            chosen,
            output,
            tracks=tracks,
            fixes=fix or (),
            experiment=parse_experiment(model.run, experiment) if experiment else None,
            kind=kind_or_default(kind),
            parts=part or (TOTAL,),
            sd=sd,
            bigwig=bigwig,
            hub_genome=hub_genome,
            device=model.device,
            batch_size=batch_size,
            workplace=workplace,
            force=force,
            progress=display,
        )
    say_result(summary, as_json)


def embed_command(
    context: typer.Context,
    regions: Annotated[
        str, typer.Argument(metavar="REGIONS", help="BED file, - for standard input, or chr1:1001-2000.")
    ],
    output: Annotated[Path, typer.Option("-o", "--output", help="Parquet file to write.")] = Path("latents.parquet"),
    aggregate: Annotated[
        str,
        typer.Option("--aggregate", help="mean or max over the bins of a region.", autocompletion=words("mean", "max")),
    ] = "mean",
    h5ad: H5adFile = None,
    workers: Workers = None,
    engine: EngineName = "local",
    address: Address = "auto",
    shard: Shard = None,
    config: ConfigFile = None,
    sets: Sets = None,
    fasta: Fasta = None,
    dataset: DatasetFolder = None,
    run: RunFolder = None,
    gpus: AllGpus = None,
    threads: Threads = None,
    batch_size: BatchSize = 256,
    force: Force = False,
    quiet: Quiet = False,
    as_json: Json = False,
) -> None:
    """Write the latents of regions, a named column each, for scikit-learn and the like."""
    from mfd_cli.cli.console import Display
    from mfd_cli.formats.h5ad import check_h5ad
    from mfd_cli.predictions.embed import embed

    check_h5ad(h5ad)
    workplace, gpus = workplace_of(context, workers, engine, address, shard, gpus)
    model = opened(config, sets, dataset, run, threads_of(workplace, threads), gpus)
    genome, _ = model.genome(fasta)
    with Display(quiet) as display:
        summary = embed(
            model.run,
            genome,
            regions,
            output,
            aggregate=one_of("--aggregate", aggregate, ("mean", "max")),
            h5ad=h5ad,
            device=model.device,
            batch_size=batch_size,
            workplace=workplace,
            force=force,
            progress=display,
        )
    say_result(summary, as_json)


def qc_command(
    factor: Annotated[
        list[str] | None,
        typer.Option(
            "--factor", help="Factor to judge; repeatable [default: all with levels].", autocompletion=factor_names
        ),
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
    from mfd_cli.evaluation.qc import qc

    model = opened(config, sets, dataset, run, threads, gpus)
    with Display(quiet) as display:
        result = qc(
            model.run,
            model.dataset(),
            output,
            factors=factor or (),
            fdr=fdr,
            seed=seed or 0,
            device=model.device,
            batch_size=batch_size,
            force=force,
            progress=display,
        )
    if as_json:
        say_json(result.summary)
    else:
        say_all(result.lines())
