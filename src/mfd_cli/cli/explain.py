"""The shell of `mfd explain`."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from mfd_cli.base.errors import ConfigError
from mfd_cli.cli.completion import factors_or_all, level_names, part_names, track_ids, words
from mfd_cli.cli.shared import (
    BatchSize,
    ConfigFile,
    DatasetFolder,
    Force,
    Json,
    Quiet,
    RunFolder,
    Sets,
    Threads,
    fields_of,
    one_of,
    opened,
    parse_named_file,
    say_all,
    say_json,
)
from mfd_cli.cli.workplace import Address, AllGpus, EngineName, Shard, Workers, threads_of, workplace_of

if TYPE_CHECKING:
    from mfd_cli.explain.results import ExplainSummary


def explain_command(
    context: typer.Context,
    factors: Annotated[
        list[str] | None,
        typer.Option(
            "--factor",
            help="Factor to explain; repeatable. all: what each one contributes.",
            autocompletion=factors_or_all,
        ),
    ] = None,
    levels: Annotated[
        list[str] | None,
        typer.Option(
            "--level",
            help="Levels to show on DNA; repeatable [default: those with most tracks].",
            autocompletion=level_names,
        ),
    ] = None,
    latents: Annotated[
        list[str] | None,
        typer.Option("--latent", metavar="NAME.N", help="Latents to explain, as in latents.tsv; repeatable."),
    ] = None,
    tracks: Annotated[
        list[str] | None,
        typer.Option("--track", metavar="ID", help="Track to explain; repeatable.", autocompletion=track_ids),
    ] = None,
    parts: Annotated[
        list[str] | None,
        typer.Option(
            "--part",
            help="With --track: total, shared, debiased, a group, or a mixed head's residual [default: all].",
            autocompletion=part_names,
        ),
    ] = None,
    regions: Annotated[
        Path | None,
        typer.Option("-R", "--regions-file", help="BED, all of it [default: the strongest test bins of each]."),
    ] = None,
    top: Annotated[int, typer.Option("--top", min=1, help="Regions of each.")] = 20,
    method: Annotated[
        str,
        typer.Option(
            "--method",
            help="input-x-gradient, integrated-gradients or mutagenesis.",
            autocompletion=words("input-x-gradient", "integrated-gradients", "mutagenesis"),
        ),
    ] = "input-x-gradient",
    motifs: Annotated[Path | None, typer.Option("--motifs", help="Known motifs (JASPAR or MEME) to match.")] = None,
    modisco: Annotated[
        bool, typer.Option("--modisco", help="Also run TF-MoDISco (pip install 'mfd-cli[motifs]').")
    ] = False,
    gtf: Annotated[
        Path | None, typer.Option("--gtf", help="Genes (GTF or GFF3) to draw beside the contributions.")
    ] = None,
    bigwig: Annotated[
        list[str] | None,
        typer.Option(
            "--bigwig", metavar="NAME=FILE", help="A profile for the fingerprint, such as mappability; repeatable."
        ),
    ] = None,
    config: ConfigFile = None,
    sets: Sets = None,
    dataset: DatasetFolder = None,
    run: RunFolder = None,
    output: Annotated[Path | None, typer.Option("-o", "--output", help="[default: explain/WHAT]")] = None,
    workers: Workers = None,
    engine: EngineName = "local",
    address: Address = "auto",
    shard: Shard = None,
    gpus: AllGpus = None,
    threads: Threads = None,
    batch_size: BatchSize = 256,
    force: Force = False,
    quiet: Quiet = False,
    as_json: Json = False,
) -> None:
    """Show what a factor (a latent, a track) is made of: tables, attributions on DNA, pictures, one report.html.

    With --json: a list with an object for each thing that is explained."""
    from mfd_cli.base.files import names_of_files
    from mfd_cli.cli.console import Display
    from mfd_cli.core.attribute import METHODS
    from mfd_cli.explain.direction import explain_latents, explain_track
    from mfd_cli.explain.factor import explain
    from mfd_cli.explain.overview import explain_all
    from mfd_cli.explain.results import Look
    from mfd_cli.settings.names import ALL

    if not (factors or latents or tracks):
        raise ConfigError("what is to be explained?", hint="--factor NAME, --factor all, --latent NAME.N or --track ID")
    if levels and (len(factors or ()) != 1 or factors == [ALL]):
        raise ConfigError("--level is a level of one factor: it goes with one --factor")
    if parts and not tracks:
        raise ConfigError("--part is a part of a track: it goes with --track")
    if output is not None and len(factors or ()) + len(tracks or ()) + bool(latents) > 1:
        raise ConfigError("-o takes the folder of one thing", hint="without -o each has its own in explain/")
    profiles = dict(parse_named_file(text) for text in bigwig or ())
    look = Look(regions, top, one_of("--method", method, METHODS), motifs, modisco, gtf, profiles)
    workplace, gpus = workplace_of(context, workers, engine, address, shard, gpus)
    if workplace.shard is not None and (len(factors or ()) + len(tracks or ()) + bool(latents) > 1 or factors == [ALL]):
        raise ConfigError("--shard goes with one factor or track, or with latents", hint="a command for each of them")
    model = opened(config, sets, dataset, run, threads_of(workplace, threads), gpus)
    data = model.dataset()
    summaries: list[ExplainSummary] = []
    common: dict[str, Any] = {"device": model.device, "batch_size": batch_size, "force": force}

    def show(what: str, verb: Callable[..., ExplainSummary], *subject: Any, **options: Any) -> None:
        folder = output or Path("explain") / names_of_files([what])[0]
        with Display(quiet) as display:
            summary = verb(model.run, data, *subject, folder, progress=display, **common, **options)
        summaries.append(summary)
        say_all([] if as_json else summary.lines())

    for factor in factors or ():
        if factor == ALL:
            show(ALL, explain_all)
        else:
            show(factor, explain, factor, levels=levels or (), look=look, workplace=workplace)
    if latents:
        show("latents", explain_latents, latents, look=look, workplace=workplace)
    for track in tracks or ():
        show(track, explain_track, track, parts or (), look=look, workplace=workplace)
    if as_json:
        say_json([fields_of(summary) for summary in summaries])
