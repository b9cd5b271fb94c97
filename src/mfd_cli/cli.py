"""The shell: every command is a few lines over a plain function. Heavy libraries are imported inside commands."""

from __future__ import annotations

import os
import sys
from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from mfd_cli import __version__
from mfd_cli.cli_ending import ended
from mfd_cli.cli_explain import explain_command
from mfd_cli.cli_predictions import embed_command, predict_command, qc_command
from mfd_cli.cli_shared import (
    BatchSize,
    ConfigFile,
    DatasetFolder,
    DryRun,
    Fasta,
    Force,
    Gpus,
    Json,
    Metadata,
    Quiet,
    RunFolder,
    Seed,
    Sets,
    Threads,
    folders,
    gpus_or_default,
    load,
    one_of,
    open_run,
    rank,
    say_all,
    say_json,
    set_threads,
    split_named,
)  # fmt: skip
from mfd_cli.cli_variants import background_command, enrich_command, score_variants_command
from mfd_cli.errors import ConfigError

if TYPE_CHECKING:
    from mfd_cli.project import Project

app = typer.Typer(
    name="mfd", add_completion=False, no_args_is_help=True, pretty_exceptions_enable=False, rich_markup_mode=None,
    context_settings={"help_option_names": ["-h", "--help"]},
    help="Predict epigenomic tracks from DNA while telling biology from technique.",
)  # fmt: skip


@app.command("init")
def init_command(
    fasta: Annotated[Path, typer.Option("--fasta", help="Reference genome.")],
    metadata: Annotated[Path, typer.Option("--metadata", help="Table of tracks, as ENCODE gives it or your own.")],
    output: Annotated[Path, typer.Option("-o", "--output", help="Project file to write.")] = Path("mfd.toml"),
    assembly: Annotated[str | None, typer.Option(help="Assembly to take [default: the genome's].")] = None,
    force: Force = False,
) -> None:
    """Write mfd.toml from a metadata table: choose files, propose factors, report what was left out and why."""
    from mfd_cli.init import init_project

    report = init_project(fasta, metadata, output, assembly=assembly, force=force)
    say_all(report.lines())


@app.command("check-design")
def check_design_command(
    config: ConfigFile = None, sets: Sets = None, metadata: Metadata = None,
    output: Annotated[Path | None, typer.Option("-o", "--output", help="Folder for the table and the picture.")] = None,
    force: Force = False, as_json: Json = False,
) -> None:  # fmt: skip
    """Show which factors can be told apart with these tracks, before any training."""
    from mfd_cli.design import check_design

    project = load(config, sets, {"data.metadata": metadata})
    report = check_design(project, output=output, force=force)
    say_json(report.to_json()) if as_json else say_all(report.lines())


@app.command("simulate")
def simulate_command(
    output: Annotated[Path, typer.Argument(help="Project folder to write.")] = Path("planted"),
    size: Annotated[str, typer.Option(help="tiny, small or medium.")] = "small",
    seed: Annotated[int, typer.Option("--seed", min=0)] = 1,
    correlation: Annotated[
        float | None, typer.Option(help="Biological and technical causes coincide, 0 to 1 [default: what the size says]")
    ] = None,
    overlap: Annotated[
        float | None, typer.Option(help="Motifs of targets overlap, 0 to 1 [default: what the size says]")
    ] = None,
    saturating: Annotated[bool, typer.Option("--saturating", help="Biological causes saturate.")] = False,
    depth: Annotated[float, typer.Option(help="Peak calling depends on depth, 0 to 1.")] = 0.0,
    hidden_batch: Annotated[bool, typer.Option("--hidden-batch", help="A batch that no column names.")] = False,
    mislabelled: Annotated[float, typer.Option(help="Share of tracks with a wrong target.")] = 0.0,
    complete_confounding: Annotated[
        bool, typer.Option("--complete-confounding", help="One lab and one year per assay.")
    ] = False,
    force: Force = False, quiet: Quiet = False,
) -> None:  # fmt: skip
    """Plant known causes in a genome and write a whole project, with the truth beside it."""
    from mfd_cli.console import Display
    from mfd_cli.simulate import SimulateOptions, simulate

    options = SimulateOptions(
        correlation=correlation, overlap=overlap, saturating=saturating, depth=depth, hidden_batch=hidden_batch,
        mislabelled=mislabelled, complete_confounding=complete_confounding,
    )  # fmt: skip
    with Display(quiet) as display:
        report = simulate(output, size=size, seed=seed, options=options, force=force, progress=display)
    say_all(report.lines())


@app.command("preprocess")
def preprocess_command(
    config: ConfigFile = None, sets: Sets = None, fasta: Fasta = None, metadata: Metadata = None,
    dataset: DatasetFolder = None, seed: Seed = None, threads: Threads = None, force: Force = False,
    dry_run: DryRun = False, quiet: Quiet = False,
) -> None:  # fmt: skip
    """Turn FASTA, BED and bigWig files into the dataset folder (Arrow shards)."""
    from mfd_cli.console import Display
    from mfd_cli.preprocess import plan, preprocess

    flags = {"data.fasta": fasta, "data.metadata": metadata, "data.dataset": dataset, "train.seed": seed}
    project = load(config, sets, flags)
    if dry_run:
        say_all(plan(project, force=force).lines())
        return
    with Display(quiet) as display:
        summary = preprocess(project, force=force, threads=threads, progress=display)
    say_all([*summary.lines(), f"dataset: {project.dataset}"])


@app.command("train")
def train_command(
    config: ConfigFile = None, sets: Sets = None, gpus: Gpus = None, dataset: DatasetFolder = None,
    run: RunFolder = None,
    epochs: Annotated[int | None, typer.Option("--epochs", min=1)] = None,
    seed: Seed = None,
    head: Annotated[str | None, typer.Option("--head", help="conditioned, or free for the twin.")] = None,
    deterministic: Annotated[
        bool, typer.Option("--deterministic", help="Only operations that give the same bits each time (GPU: slower).")
    ] = False,
    resume: Annotated[bool, typer.Option("--resume", help="Go on where an interrupted training stopped.")] = False,
    sweep: Annotated[
        str | None, typer.Option("--sweep", metavar="A.B=V1,V2", help="Train once per value; recommend one at the end.")
    ] = None,
    seeds: Annotated[str | None, typer.Option("--seeds", help="Train one run per seed, such as 1,2,3, in RUN/seed-N.")] = None,
    tolerance: Annotated[float, typer.Option("--tolerance", min=0, help="AUROC that the recommended value may lose.")] = 0.003,
    threads: Threads = None, force: Force = False, dry_run: DryRun = False, quiet: Quiet = False,
) -> None:  # fmt: skip
    """Train a model on the dataset; the best weights are in the run folder at any time."""
    from mfd_cli.console import Display, note, warn
    from mfd_cli.train import plan, train

    flags = {
        "data.dataset": dataset, "data.run": run, "train.epochs": epochs, "train.seed": seed, "model.head": head,
        "train.deterministic": deterministic or None,
    }  # fmt: skip
    project = load(config, sets, flags)
    several = int(os.environ.get("WORLD_SIZE", "1")) > 1
    if sweep is not None and (several or (gpus or 0) > 1):
        raise ConfigError("the trainings of a sweep use one GPU each", hint="--gpus 1")
    if dry_run and sweep is not None:
        raise ConfigError("--dry-run is for one training", hint="without --sweep; times the number of its trainings")
    if dry_run and (gpus or 0) > 1:
        raise ConfigError(
            "--dry-run measures on one GPU", hint="--gpus 1; with more the time is divided by little less"
        )
    if (gpus or 0) > 1 and not several:
        from mfd_cli.core.predict import device_of
        from mfd_cli.processes import launch

        device_of(gpus or 0)  # says so where there are not as many
        raise typer.Exit(launch(gpus or 0, sys.argv[1:]))
    set_threads(threads)
    if sweep is not None:
        _sweep(project, sweep, seeds, tolerance, gpus, resume, force, quiet, _overrides(sets, flags))
        return
    for one in _seeded(project, seeds, several, _overrides(sets, flags)):
        if dry_run:
            say_all([f"{one.run}: {plan(one, gpus=gpus, resume=resume, force=force).line()}"])
            continue
        with Display(quiet) as display:
            trained = train(
                one, gpus=gpus, resume=resume, force=force, progress=display, warn=warn, note=None if quiet else note
            )
        if rank():  # of several processes, the first one speaks
            continue
        best = trained.about["validation"]
        figures = ", ".join(
            f"{name} {best[name]:.4f}" for name in ("auroc_median", "auprc_mean", "loss") if name in best
        )
        say_all([f"run: {trained.path}", f"best validation, after {trained.about['windows']:,} windows: {figures}"])


def _seeded(project: Project, seeds: str | None, several: bool, overrides: list[str]) -> list[Project]:
    """The project, or one per seed with its run in RUN/seed-N."""
    from mfd_cli.project import load_project

    if seeds is None:
        return [project]
    if several:
        raise ConfigError("--seeds trains one after the other with one process", hint="--gpus 1, or --seed N for each")
    result = []
    for seed in _numbers(seeds):
        flags = {"data.dataset": project.dataset, "data.run": project.run / f"seed-{seed}", "train.seed": seed}
        result.append(load_project(project.file, overrides, flags))
    return result


def _numbers(seeds: str) -> list[int]:
    """`1,2,3` as numbers."""
    parts = [part.strip() for part in seeds.split(",")]
    if not all(part.isdigit() for part in parts) or len(set(parts)) < len(parts):
        raise ConfigError(f"--seeds {seeds}: expected different whole numbers with commas, such as 1,2,3")
    return [int(part) for part in parts]


def _sweep(
    project: Project, text: str, seeds: str | None, tolerance: float, gpus: int | None, resume: bool, force: bool,
    quiet: bool, overrides: list[str],
) -> None:  # fmt: skip
    """`mfd train --sweep`: every value and seed, the table, the recommendation."""
    from mfd_cli.console import Display, note, table, warn
    from mfd_cli.sweep import describe, sweep

    with Display(quiet) as display:
        result = sweep(
            project, text, seeds=_numbers(seeds) if seeds else [], tolerance=tolerance, gpus=gpus,
            resume=resume, force=force, overrides=overrides, progress=display, warn=warn, say=None if quiet else note,
        )  # fmt: skip
    table(list(result.means[0]), [list(row.values()) for row in result.means])
    say_all(describe(result, project.run))


def _overrides(sets: list[str] | None, flags: Mapping[str, object]) -> list[str]:
    """--set options and flags as --set options."""
    given = {key: str(value.absolute()) if isinstance(value, Path) else value for key, value in flags.items()}
    return [*(sets or []), *(f"{key}={value}" for key, value in given.items() if value is not None)]


@app.command("evaluate")
def evaluate_command(
    config: ConfigFile = None, sets: Sets = None, dataset: DatasetFolder = None, run: RunFolder = None,
    split: Annotated[str, typer.Option("--split", help="test, validation or train.")] = "test",
    beside: Annotated[
        list[Path] | None, typer.Option("--beside", help="Another run on the same dataset, as a baseline; repeatable.")
    ] = None,
    kmer: Annotated[bool, typer.Option("--kmer", help="Fit a k-mer model as a baseline.")] = False,
    probes: Annotated[bool, typer.Option("--probes/--no-probes", help="Measure independence with fresh probes.")] = True,
    output: Annotated[Path | None, typer.Option("-o", "--output", help="[default: RUN/evaluation-SPLIT]")] = None,
    gpus: Gpus = None, threads: Threads = None, batch_size: BatchSize = 256, force: Force = False,
    quiet: Quiet = False, as_json: Json = False,
) -> None:  # fmt: skip
    """Measure a model per track, by factor level and overall, and say what its predictions are made of."""
    from mfd_cli.console import Display, table
    from mfd_cli.core.predict import device_of
    from mfd_cli.data.dataset import open_dataset
    from mfd_cli.evaluate import evaluate
    from mfd_cli.run_folder import load_run

    project = load(config, sets, {"data.dataset": dataset, "data.run": run})
    trained = open_run(project, threads)
    folder = output or project.run / f"evaluation-{split}"
    with Display(quiet) as display:
        result = evaluate(
            trained, open_dataset(project.dataset), split=split_named(split), output=folder, force=force or output is None,
            beside={path.name: load_run(path) for path in beside or []}, kmer=kmer, probes=probes,
            device=device_of(gpus_or_default(gpus)), batch_size=batch_size, progress=display,
        )  # fmt: skip
    if as_json:
        say_json(result.summary)
        return
    shown = ["factor", "level", "tracks", "auroc", "auprc", "prevalence", "pearson"]
    shares = [name for name in result.levels[0] if name.startswith("share_")] if result.levels else []
    levels = sorted(result.levels, key=lambda row: -row["tracks"])[:20]
    if levels:
        table(shown + shares, [[row[name] for name in shown + shares] for row in levels])
    overall = result.summary.get("training_tracks", {})
    figures = [f"{name} {value:.4f}" for name, value in overall.items() if isinstance(value, float)]
    say_all([f"{split}, {result.bins:,} bins, {overall.get('rated_tracks', 0)} rated tracks: {', '.join(figures)}"])
    for name, baselines in result.summary["baselines"].items():
        shown = ["tracks", "auroc", "model_auroc", "auroc_occupied", "model_auroc_occupied"]
        table(["baseline, " + name.replace("_", " "), *shown],
              [[baseline, *(row[key] for key in shown)] for baseline, row in baselines.items()])  # fmt: skip
    if result.probes:
        shown = ["of", "measure", "probe", "from", "to", "value", "low", "high", "chance"]
        table(shown, [[row[key] for key in shown] for row in result.probes])
    say_all([f"tables: {folder}"])


@app.command("impute")
def impute_command(
    config: ConfigFile = None, sets: Sets = None, dataset: DatasetFolder = None, run: RunFolder = None,
    metadata: Annotated[
        Path | None, typer.Option("--metadata", help="Table of experiments [default: the held-out tracks].")
    ] = None,
    unseen: Annotated[str, typer.Option("--unseen", help="An unknown level is an error, or counts as the mean one.")] = "error",
    split: Annotated[str, typer.Option("--split", help="test, validation or train.")] = "test",
    output: Annotated[Path | None, typer.Option("-o", "--output", help="[default: impute]")] = None,
    gpus: Gpus = None, threads: Threads = None, batch_size: BatchSize = 256, force: Force = False,
    quiet: Quiet = False, as_json: Json = False,
) -> None:  # fmt: skip
    """Predict experiments that were held out or never done, say how far the data back them, and score what can be."""
    from mfd_cli.console import Display, table
    from mfd_cli.core.predict import device_of
    from mfd_cli.data.dataset import open_dataset
    from mfd_cli.impute import impute

    project = load(config, sets, {"data.dataset": dataset, "data.run": run})
    trained = open_run(project, threads)
    folder = output or project.folder / "impute"
    with Display(quiet) as display:
        result = impute(
            trained, open_dataset(project.dataset), metadata=metadata, unseen=one_of("--unseen", unseen, ("error", "mean")),
            split=split_named(split), output=folder, force=force,
            device=device_of(gpus_or_default(gpus)), batch_size=batch_size, progress=display,
        )  # fmt: skip
    if as_json:
        say_json(result.summary)
        return
    shown = ["experiment", "support", *trained.model.metadata.columns, "prevalence", "auroc", "auprc", "pearson"]
    table(shown, [[row[name] for name in shown] for row in result.experiments[:20]])
    for name, row in result.summary.get("baselines", {}).items():
        say_all(
            [f"{name}: AUROC {row['auroc']:.3f}, model {row['model_auroc']:.3f} ({row['experiments']} experiments)"]
        )
    say_all([f"tables: {folder}"])


app.command("score-variants")(score_variants_command)
app.command("background")(background_command)
app.command("enrich")(enrich_command)
app.command("predict")(predict_command)
app.command("embed")(embed_command)
app.command("qc")(qc_command)


app.command("explain")(explain_command)


@app.command("info")
def info_command(
    path: Annotated[Path | None, typer.Argument(help="Dataset or run folder [default: the project's].")] = None,
    config: ConfigFile = None, sets: Sets = None, as_json: Json = False,
) -> None:  # fmt: skip
    """Say what is in a dataset or a run."""
    from mfd_cli.inspect import describe, lines_of

    for folder in [path] if path else folders(load(config, sets)):
        description = describe(folder)
        say_json(description) if as_json else say_all(lines_of(description))


@app.command("verify")
def verify_command(
    path: Annotated[Path | None, typer.Argument(help="Dataset or run folder [default: the project's].")] = None,
    config: ConfigFile = None, sets: Sets = None,
) -> None:  # fmt: skip
    """Compare every file of a dataset or run with its checksum."""
    from mfd_cli.inspect import verify

    for folder in [path] if path else folders(load(config, sets)):
        say_all([verify(folder)])


@app.callback(invoke_without_command=True)
def main_options(
    version: Annotated[bool, typer.Option("--version", help="Print the version.")] = False,
    debug: Annotated[bool, typer.Option("--debug", help="Show the traceback of an error.")] = False,
) -> None:
    """Predict epigenomic tracks from DNA while telling biology from technique."""
    global _debug
    _debug = debug
    if version:
        print(f"mfd {__version__}")
        raise typer.Exit


_debug = False


def main() -> None:
    """Run the command line; see cli_ending.py for how it ends."""
    ended(app, lambda: _debug)


if __name__ == "__main__":
    main()
