"""mfd contig: the second system, images of persons and their genetic data."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from mfd_cli.cli.completion import words
from mfd_cli.cli.help import Listed, WithExamples
from mfd_cli.cli.shared import (
    Force,
    Gpus,
    Json,
    Quiet,
    Seed,
    Sets,
    Threads,
    gpus_or_default,
    one_of,
    say_all,
    say_json,
    say_result,
    set_threads,
)

if TYPE_CHECKING:
    pass

from mfd_cli.cli.contig_results import embed_command, explain_command, finetune_command, gwas_command, retrieve_command
from mfd_cli.cli.contig_shared import (
    CohortFolder,
    ContigFile,
    ContigRunFolder,
    Join,
    Modalities,
    chosen_modalities,
    load_project,
)

app = typer.Typer(
    cls=Listed,
    no_args_is_help=True,
    rich_markup_mode=None,
    help="Images and genetics: an image encoder that learns from each person's genetic data (ContIG).",
    epilog="mfd contig COMMAND --help lists a command's options.",
)


def simulate_command(
    folder: Annotated[Path, typer.Argument(help="Folder of the new project.")] = Path("planted-cohort"),
    size: Annotated[
        str, typer.Option("--size", help="tiny, small or medium.", autocompletion=words("tiny", "small", "medium"))
    ] = "tiny",
    seed: Annotated[int, typer.Option("--seed", min=0, help="Seed of everything random.")] = 1,
    h2: Annotated[float, typer.Option("--h2", help="Share of a trait that genes explain.")] = 0.49,
    nuisance: Annotated[float, typer.Option("--nuisance", help="Strength of what cameras do.")] = 1.0,
    null: Annotated[bool, typer.Option("--null", help="No genetic effect at all.")] = False,
    modalities: Annotated[
        str | None,
        typer.Option("--modalities", help="snps,pgs,burden,table or some of them [default: snps; for medium all]."),
    ] = None,
    missing: Annotated[float, typer.Option("--missing", help="Share of persons who lack each of them.")] = 0.0,
    confounding: Annotated[
        float | None,
        typer.Option("--confounding", help="Share of persons whose camera goes with their disc, or their population."),
    ] = None,
    structure: Annotated[
        float, typer.Option("--structure", help="F_ST of three populations, each with a centre and its camera.")
    ] = 0.0,
    force: Force = False,
    quiet: Quiet = False,
    as_json: Json = False,
) -> None:
    """Write a project with pictures of eyes, genotypes and a planted truth."""
    from mfd_cli.cli.console import Display
    from mfd_cli.contig.simulate.options import CohortOptions, kinds_of
    from mfd_cli.contig.simulate.simulate import simulate

    kinds = tuple(name.strip() for name in modalities.split(",")) if modalities else kinds_of(size)
    options = CohortOptions(
        h2=h2,
        nuisance=nuisance,
        null=null,
        modalities=kinds,
        absent=missing,
        confounding=confounding,
        structure=structure,
    )
    with Display(quiet) as display:
        report = simulate(folder, size=size, seed=seed, options=options, force=force, progress=display)
    say_result(report, as_json)


def check_command(
    config: ContigFile = None,
    sets: Sets = None,
    images: Annotated[int | None, typer.Option("--images", min=1, help="Look at so many pictures only.")] = None,
    quiet: Quiet = False,
    as_json: Json = False,
) -> None:
    """Read all inputs and say what a cohort would have; nothing is written."""
    from mfd_cli.cli.console import Display
    from mfd_cli.contig.prepare import check

    with Display(quiet) as display:
        report = check(load_project(config, sets), images=images, progress=display)
    say_result(report, as_json)


def prepare_command(
    config: ContigFile = None,
    sets: Sets = None,
    cohort: CohortFolder = None,
    modalities: Modalities = None,
    force: Force = False,
    quiet: Quiet = False,
    as_json: Json = False,
) -> None:
    """Make a cohort of pictures and genotypes: the folder cohort, and cohort-report."""
    from mfd_cli.cli.console import Display
    from mfd_cli.contig.prepare import prepare

    with Display(quiet) as display:
        project = chosen_modalities(load_project(config, sets, {"data.cohort": cohort}), modalities)
        report = prepare(project, force=force, progress=display)
    say_result(report, as_json)


def train_command(
    config: ContigFile = None,
    sets: Sets = None,
    cohort: CohortFolder = None,
    run: ContigRunFolder = None,
    epochs: Annotated[int | None, typer.Option("--epochs", min=1, help="Passes over the training persons.")] = None,
    seed: Seed = None,
    modalities: Modalities = None,
    join: Join = None,
    objective: Annotated[
        str | None,
        typer.Option(
            "--objective",
            help="contig, or a rival of it: simclr, simclr-eyes, supervised.",
            autocompletion=words("contig", "simclr", "simclr-eyes", "supervised"),
        ),
    ] = None,
    controls: Annotated[
        str | None,
        typer.Option(
            "--controls", help="Train beside it: random,shuffled,simclr,simclr-eyes, each in RUN/control-NAME."
        ),
    ] = None,
    gpus: Gpus = None,
    threads: Threads = None,
    resume: Annotated[bool, typer.Option("--resume", help="Go on where an interrupted training stopped.")] = False,
    force: Force = False,
    quiet: Quiet = False,
    as_json: Json = False,
) -> None:
    """Train an image encoder on a cohort, and with --controls what it is compared with.

    With --json: a list of an object for each run."""
    from mfd_cli.cli.console import Display, note, warn
    from mfd_cli.contig.run import CONTROLS
    from mfd_cli.contig.train import check_controls, train, trained_to_its_end

    wanted = [one_of("--controls", name.strip(), CONTROLS) for name in (controls or "").split(",") if name.strip()]
    flags = {"data.cohort": cohort, "data.run": run, "train.epochs": epochs, "train.seed": seed, "objective.join": join}
    project = chosen_modalities(load_project(config, sets, flags | {"objective.kind": objective}), modalities)
    check_controls(project, wanted)
    set_threads(threads)
    device_gpus, trained = gpus_or_default(gpus), []
    for control in ["", *wanted]:
        # What was interrupted in a control goes on there.
        if resume and (done := trained_to_its_end(project, control)) is not None:
            trained.append(done)
            continue
        with Display(quiet) as display:
            trained.append(
                train(
                    project,
                    control=control,
                    gpus=device_gpus,
                    resume=resume,
                    force=force,
                    progress=display,
                    warn=warn,
                    note=None if quiet else note,
                )
            )
    rows = [
        {"run": str(one.path), "skill": one.about["skill"], "learned": one.learned, "weights_sha256": one.digest}
        for one in trained
    ]
    if as_json:
        say_json(rows)
        return
    say_all(f"{one.path}: skill {one.about['skill'][0]:.3f} +- {one.about['skill'][1]:.3f} nats" for one in trained)


COMMANDS: dict[str, Callable[..., None]] = {
    "simulate": simulate_command,
    "check": check_command,
    "prepare": prepare_command,
    "train": train_command,
    "embed": embed_command,
    "retrieve": retrieve_command,
    "explain": explain_command,
    "gwas": gwas_command,
    "finetune": finetune_command,
}
"""In the order of a project's life."""
for name, command in COMMANDS.items():
    app.command(name, cls=WithExamples)(command)
