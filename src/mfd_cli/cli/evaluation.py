"""mfd evaluate, report and impute."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from mfd_cli.base.errors import ConfigError
from mfd_cli.cli.completion import runs
from mfd_cli.cli.shared import (
    BatchSize,
    ConfigFile,
    DatasetFolder,
    ExperimentKind,
    Force,
    Gpus,
    Json,
    Quiet,
    RunFolder,
    Sets,
    Split,
    Threads,
    kind_or_default,
    load,
    named_folder,
    one_of,
    opened,
    say_all,
    say_json,
    say_result,
    split_named,
)
from mfd_cli.cli.workplace import Address, AllGpus, EngineName, Shard, Workers, threads_of, workplace_of


def evaluate_command(
    context: typer.Context,
    config: ConfigFile = None,
    sets: Sets = None,
    dataset: DatasetFolder = None,
    run: RunFolder = None,
    split: Split = "test",
    beside: Annotated[
        list[Path] | None,
        typer.Option(
            "--beside", help="Another run on the same dataset, as a baseline; repeatable.", autocompletion=runs
        ),
    ] = None,
    kmer: Annotated[bool, typer.Option("--kmer", help="Fit a k-mer model as a baseline.")] = False,
    probes: Annotated[
        bool, typer.Option("--probes/--no-probes", help="Measure independence with fresh probes.")
    ] = True,
    output: Annotated[Path | None, typer.Option("-o", "--output", help="[default: RUN/evaluation-SPLIT]")] = None,
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
    """Measure a model per track, by factor level and overall, and say what its predictions are made of."""
    from mfd_cli.cli.console import Display, table
    from mfd_cli.evaluation.evaluate import evaluate
    from mfd_cli.runs.folder import load_run, shortest_names

    workplace, gpus = workplace_of(context, workers, engine, address, shard, gpus)
    model = opened(config, sets, dataset, run, threads_of(workplace, threads), gpus)
    folder = output or model.project.run / f"evaluation-{split}"
    with Display(quiet) as display:
        result = evaluate(
            model.run,
            model.dataset(),
            split=split_named(split),
            output=folder,
            force=force or output is None,
            beside={name: load_run(path) for name, path in shortest_names(beside or []).items()},
            kmer=kmer,
            probes=probes,
            device=model.device,
            batch_size=batch_size,
            workplace=workplace,
            progress=display,
        )
    if as_json:
        say_json(result.summary)
        return
    shown = ["factor", "level", "tracks", "auroc", "auprc", "prevalence", "pearson"]
    shares = [name for name in result.levels[0] if name.startswith("share_")] if result.levels else []
    levels = sorted(result.levels, key=lambda row: -row["tracks"])[:20]
    if levels:
        table(shown + shares, [[row[name] for name in shown + shares] for row in levels])
        if len(levels) < len(result.levels):
            say_all([f"{len(levels)} of {len(result.levels)} levels, those with most tracks; levels.tsv has all"])
    say_all(result.lines())
    for name, baselines in result.summary["baselines"].items():
        shown = ["tracks", "auroc", "model_auroc", "auroc_occupied", "model_auroc_occupied", "pearson", "model_pearson"]
        shown = [key for key in shown if any(row[key] is not None for row in baselines.values())]
        table(
            ["baseline, " + name.replace("_", " "), *shown],
            [[baseline, *(row[key] for key in shown)] for baseline, row in baselines.items()],
        )
    if result.probes:
        shown = ["of", "measure", "probe", "from", "to", "value", "low", "high", "chance"]
        table(shown, [[row[key] for key in shown] for row in result.probes])
    say_all([f"tables: {folder}"])


def report_command(
    path: Annotated[
        Path | None,
        typer.Argument(
            help="Run folder, or one of several seeds' runs: the first [default: the project's].", autocompletion=runs
        ),
    ] = None,
    output: Annotated[
        Path | None, typer.Option("-o", "--output", help="HTML file to write [default: RUN/report.html].")
    ] = None,
    explanations: Annotated[
        list[Path] | None,
        typer.Option("--explanations", help="Folder of mfd explain, or a page of it, to link to; repeatable."),
    ] = None,
    config: ConfigFile = None,
    sets: Sets = None,
    run: RunFolder = None,
    force: Force = False,
    quiet: Quiet = False,
    as_json: Json = False,
) -> None:
    """Write one HTML page of a run: curves, accuracy, calibration, what the design can tell, and what to trust."""
    from mfd_cli.cli.console import note
    from mfd_cli.evaluation.run_report import report
    from mfd_cli.runs.folder import run_folders

    folder = named_folder(path, run) or load(config, sets).run
    seeds = run_folders(folder)
    if len(seeds) > 1 and not quiet:
        note(f"{folder} holds {len(seeds)} runs: the page is of the first, {seeds[0].name}")
    say_result(report(seeds[0], output, explanations=explanations or (), force=force), as_json)


def impute_command(
    config: ConfigFile = None,
    sets: Sets = None,
    dataset: DatasetFolder = None,
    run: RunFolder = None,
    metadata: Annotated[
        Path | None, typer.Option("--metadata", help="Table of experiments [default: the held-out tracks].")
    ] = None,
    kind: ExperimentKind = None,
    unseen: Annotated[
        str, typer.Option("--unseen", help="An unknown level is an error, or counts as the mean one.")
    ] = "error",
    split: Split = "test",
    output: Annotated[Path, typer.Option("-o", "--output", help="Folder to write.")] = Path("impute"),
    gpus: Gpus = None,
    threads: Threads = None,
    batch_size: BatchSize = 256,
    force: Force = False,
    quiet: Quiet = False,
    as_json: Json = False,
) -> None:
    """Predict experiments that were held out or never done, say how far the data back them, and score what can be."""
    from mfd_cli.cli.console import Display, table
    from mfd_cli.evaluation.impute import impute

    if kind is not None and metadata is None:
        raise ConfigError("--kind goes with --metadata", hint="held-out tracks have the kind that they have")
    model = opened(config, sets, dataset, run, threads, gpus)
    with Display(quiet) as display:
        result = impute(
            model.run,
            model.dataset(),
            metadata=metadata,
            kind=kind_or_default(kind),
            unseen=one_of("--unseen", unseen, ("error", "mean")),
            split=split_named(split),
            output=output,
            force=force,
            device=model.device,
            batch_size=batch_size,
            progress=display,
        )
    if as_json:
        say_json(result.summary)
        return
    shown = ["experiment", "support", *model.run.model.metadata.columns, "prevalence", "auroc", "auprc", "pearson"]
    table(shown, [[row[name] for name in shown] for row in result.experiments[:20]])
    say_all([*result.lines(), f"tables: {output}"])
