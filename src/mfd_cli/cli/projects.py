"""mfd init, fetch-inputs, check-design, simulate, preprocess: from a metadata table to a dataset."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from mfd_cli.base.errors import ConfigError
from mfd_cli.cli.completion import setting_names, words
from mfd_cli.cli.shared import (
    ConfigFile,
    DatasetFolder,
    DryRun,
    Fasta,
    Force,
    Json,
    Metadata,
    Quiet,
    Seed,
    Sets,
    Threads,
    load,
    say_all,
    say_json,
    say_result,
)
from mfd_cli.cli.workplace import Shard, workplace_of

if TYPE_CHECKING:
    from mfd_cli.settings.project import Project


def init_command(
    fasta: Annotated[Path, typer.Option("--fasta", help="Reference genome.")],
    metadata: Annotated[Path, typer.Option("--metadata", help="Table of tracks, as ENCODE gives it or your own.")],
    output: Annotated[Path, typer.Option("-o", "--output", help="Project file to write.")] = Path("mfd.toml"),
    assembly: Annotated[str | None, typer.Option(help="Assembly to take [default: the genome's].")] = None,
    force: Force = False,
    as_json: Json = False,
) -> None:
    """Write mfd.toml from a metadata table: choose files, propose factors, report what was left out and why."""
    from mfd_cli.experiments.init import init_project

    say_result(init_project(fasta, metadata, output, assembly=assembly, force=force), as_json)


def fetch_inputs_command(
    urls: Annotated[
        list[str] | None,
        typer.Argument(metavar="URL", help="Files to fetch [default: what mfd.toml and its table name by URLs]."),
    ] = None,
    from_metadata: Annotated[
        Path | None,
        typer.Option(
            "--from-metadata", metavar="TABLE", help="Fetch the files that mfd init chooses from a table of ENCODE's."
        ),
    ] = None,
    assembly: Annotated[str | None, typer.Option(help="Assembly to take from it [default: the most common].")] = None,
    limit: Annotated[
        str | None, typer.Option("--limit", metavar="SIZE", help="Fetch no more than this, such as 50GB.")
    ] = None,
    cache: Annotated[
        Path | None,
        typer.Option("--cache", help="Folder for what is fetched [default: MFD_INPUTS, or ~/.cache/mfd/inputs]."),
    ] = None,
    config: ConfigFile = None,
    sets: Sets = None,
    force: Annotated[bool, typer.Option("--force", help="Fetch again what is there already.")] = False,
    dry_run: DryRun = False,
    quiet: Quiet = False,
    as_json: Json = False,
) -> None:
    """Fetch inputs that are named by URLs (https, s3, gs), whole and checked. No other command uses the network."""
    from mfd_cli.base.fetch import Remote, bytes_of, fetch, plan_fetch
    from mfd_cli.cli.console import Display
    from mfd_cli.dataset.remote_inputs import chosen_inputs, fetch_inputs, plan_fetch_inputs

    most = bytes_of(limit) if limit is not None else None
    if not urls and from_metadata is None:
        project = project_to_fetch(config, sets)
        if dry_run:
            say_result(plan_fetch_inputs(project, folder=cache, again=force), as_json)
            return
        with Display(quiet) as display:
            done = fetch_inputs(project, folder=cache, limit=most, again=force, progress=display)
    else:
        wanted = [Remote(url) for url in urls or ()]
        wanted += chosen_inputs(from_metadata, assembly) if from_metadata is not None else []
        if dry_run:
            say_result(plan_fetch(wanted, folder=cache, again=force), as_json)
            return
        with Display(quiet) as display:
            done = fetch(wanted, folder=cache, limit=most, again=force, progress=display)
    say_result(done, as_json)


def project_to_fetch(config: Path | None, sets: list[str] | None) -> Project:
    """Return the project whose inputs are fetched. ConfigError where there is none, and nothing is set."""
    project = load(config, sets)
    if project.file is None and not sets:
        raise ConfigError(
            "there is no mfd.toml here that names inputs",
            hint="mfd fetch-inputs URL fetches a file, --from-metadata metadata.tsv what ENCODE's table names",
        )
    return project


def settings_command(
    name: Annotated[
        str,
        typer.Argument(
            help="A table or a key of mfd.toml, such as train or train.lr [default: all].", autocompletion=setting_names
        ),
    ] = "",
    as_json: Json = False,
) -> None:
    """Print every key that mfd.toml may hold, with its type, default, meaning and an example."""
    from dataclasses import asdict

    from mfd_cli.settings.reference import settings

    chosen = settings(name)
    if as_json:
        say_json([{**asdict(setting), "name": setting.name} for setting in chosen])
        return
    for setting in chosen:
        default = f"default {setting.default}" if setting.default not in ("", "required") else setting.default
        say_all(
            [
                setting.name,
                f"    {setting.meaning}",
                f"    {setting.values}{f'; {default}' if default else ''}",
                f"    {setting.option}",
            ]
        )


def check_design_command(
    config: ConfigFile = None,
    sets: Sets = None,
    metadata: Metadata = None,
    output: Annotated[Path | None, typer.Option("-o", "--output", help="Folder for the table and the picture.")] = None,
    force: Force = False,
    as_json: Json = False,
) -> None:
    """Show which factors can be told apart with these tracks, before any training."""
    from mfd_cli.experiments.check_design import check_design

    project = load(config, sets, {"data.metadata": metadata})
    say_result(check_design(project, output=output, force=force), as_json)


def simulate_command(
    output: Annotated[Path, typer.Argument(help="Project folder to write.")] = Path("planted"),
    size: Annotated[
        str | None,
        typer.Option(
            help="tiny, small, medium or apart [default: the world's, or small].",
            autocompletion=words("tiny", "small", "medium", "apart"),
        ),
    ] = None,
    seed: Annotated[int, typer.Option("--seed", min=0)] = 1,
    world: Annotated[
        str | None, typer.Option(help="A world by name, with its own size and options below: apart.")
    ] = None,
    correlation: Annotated[
        float | None,
        typer.Option(help="Biological and technical causes coincide, 0 to 1 [default: what the size says]"),
    ] = None,
    overlap: Annotated[
        float | None, typer.Option(help="Motifs of targets overlap, 0 to 1 [default: what the size says]")
    ] = None,
    shared_letters: Annotated[
        float | None, typer.Option(help="Share of technical motifs that is letters of biological ones, 0 to 1.")
    ] = None,
    gc_correlated: Annotated[float | None, typer.Option(help="Motifs stand where there is G+C, 0 to 1.")] = None,
    distance: Annotated[int | None, typer.Option(help="Motifs act on bins up to this far away, 0 to 500 bp.")] = None,
    saturating: Annotated[bool | None, typer.Option("--saturating", help="Biological causes saturate.")] = None,
    interaction: Annotated[
        float | None, typer.Option(help="Share of a target's effect that depends on the tissue, 0 to 1.")
    ] = None,
    technique_interaction: Annotated[
        float | None, typer.Option(help="A target's effect depends on the assay, 0 to 1.")
    ] = None,
    residual: Annotated[float | None, typer.Option(help="Size of a track's own weights, 0 to 10.")] = None,
    batch: Annotated[str | None, typer.Option(help="A column of batches: nested, crossed, confounded or none.")] = None,
    batch_dose: Annotated[float | None, typer.Option(help="Slope on G+C of a batch, 0 to 10 [default: 1].")] = None,
    hidden_batch: Annotated[bool | None, typer.Option("--hidden-batch", help="A batch that no column names.")] = None,
    mislabelled: Annotated[float | None, typer.Option(help="Share of tracks with a wrong target.")] = None,
    complete_confounding: Annotated[
        bool | None, typer.Option("--complete-confounding", help="One lab and one year per assay.")
    ] = None,
    depth: Annotated[float | None, typer.Option(help="Peak calling depends on depth, 0 to 1.")] = None,
    spread: Annotated[float | None, typer.Option(help="Noise of neighbouring bins is alike, 0 to 1.")] = None,
    overdispersion: Annotated[float | None, typer.Option(help="Noise of a bin's tracks is alike, 0 to 1.")] = None,
    force: Force = False,
    quiet: Quiet = False,
    as_json: Json = False,
) -> None:
    """Plant known causes in a genome and write a whole project, with the truth beside it.

    Without the options from --correlation on, the world is what the model assumes. They say what stands in the genome, what
    tracks respond to, what their table tells, and how peaks are called.
    """
    from mfd_cli.cli.console import Display
    from mfd_cli.simulate.options import world_options
    from mfd_cli.simulate.simulate import simulate

    changes = {
        "correlation": correlation,
        "overlap": overlap,
        "shared_letters": shared_letters,
        "gc_correlated": gc_correlated,
        "distance": distance,
        "saturating": saturating,
        "interaction": interaction,
        "technique_interaction": technique_interaction,
        "residual": residual,
        "batch": batch,
        "batch_dose": batch_dose,
        "hidden_batch": hidden_batch,
        "mislabelled": mislabelled,
        "complete_confounding": complete_confounding,
        "depth": depth,
        "spread": spread,
        "overdispersion": overdispersion,
    }
    options, size = world_options(world, changes), size or world or "small"
    with Display(quiet) as display:
        report = simulate(output, size=size, seed=seed, options=options, force=force, progress=display)
    say_result(report, as_json)


def preprocess_command(
    context: typer.Context,
    config: ConfigFile = None,
    sets: Sets = None,
    fasta: Fasta = None,
    metadata: Metadata = None,
    dataset: DatasetFolder = None,
    seed: Seed = None,
    threads: Threads = None,
    shard: Shard = None,
    force: Force = False,
    dry_run: DryRun = False,
    quiet: Quiet = False,
    as_json: Json = False,
) -> None:
    """Turn FASTA, BED and bigWig files into the dataset folder (Arrow shards)."""
    from mfd_cli.cli.console import Display, warn
    from mfd_cli.dataset.preprocess import plan_preprocess, preprocess

    flags = {"data.fasta": fasta, "data.metadata": metadata, "data.dataset": dataset, "train.seed": seed}
    project = load(config, sets, flags)
    if dry_run:
        say_result(plan_preprocess(project, force=force, warn=warn), as_json)
        return
    workplace, _ = workplace_of(context, shard=shard)
    with Display(quiet) as display:
        summary = preprocess(project, force=force, threads=threads, workplace=workplace, progress=display, warn=warn)
    if as_json:
        say_json({"folder": project.dataset, **summary.to_json()})
    else:
        say_all([*summary.lines(), f"dataset: {project.dataset}"])
