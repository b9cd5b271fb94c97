"""mfd contig: the second system, images of persons and their genetic data."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from mfd_cli.base.errors import ConfigError
from mfd_cli.cli.completion import words
from mfd_cli.cli.help import Listed, WithExamples
from mfd_cli.cli.shared import (
    Force,
    Gpus,
    Json,
    Quiet,
    Seed,
    Sets,
    Split,
    Threads,
    gpus_or_default,
    one_of,
    say_all,
    say_json,
    say_result,
    set_threads,
)

if TYPE_CHECKING:
    import torch

    from mfd_cli.contig.config import ContigProject
    from mfd_cli.contig.data.cohort import Cohort
    from mfd_cli.contig.run import ContigRun

ContigFile = Annotated[Path | None, typer.Option("-c", "--config", help="Project file [default: ./contig.toml].")]
CohortFolder = Annotated[Path | None, typer.Option("--cohort", help="Cohort folder.")]
ContigRunFolder = Annotated[Path | None, typer.Option("--run", help="Run folder of mfd contig train.")]
Beside = Annotated[
    list[Path] | None, typer.Option("--beside", help="Another run to show beside it, and its controls; repeatable.")
]
AllowTrained = Annotated[
    bool, typer.Option("--allow-trained", help="Go on though the run was trained on these persons.")
]
Modalities = Annotated[
    str | None, typer.Option("--modalities", help="Use these alone: A,B [default: all of contig.toml].")
]
Join = Annotated[
    str | None,
    typer.Option(
        "--join", help="outer: persons with any modality; inner: with all.", autocompletion=words("outer", "inner")
    ),
]
Part = Annotated[
    str,
    typer.Option(
        "--part",
        help="Slice of the features: biological, technical or all.",
        autocompletion=words("biological", "technical", "all"),
    ),
]
SplitOrAll = Annotated[
    str,
    typer.Option(
        "--split", help="all, test, validation or train.", autocompletion=words("all", "test", "validation", "train")
    ),
]

app = typer.Typer(
    cls=Listed,
    no_args_is_help=True,
    rich_markup_mode=None,
    help="Images and genetics: an image encoder that learns from each person's genetic data (ContIG).",
    epilog="mfd contig COMMAND --help lists a command's options.",
)


def load_project(
    config: Path | None, sets: list[str] | None, flags: Mapping[str, object] | None = None
) -> ContigProject:
    """Return the project of a file (default: ./contig.toml), with settings overridden by --set and then by flags."""
    from mfd_cli.contig.config import load_contig

    return load_contig(config, sets or [], dict(flags or {}))


def chosen_modalities(project: ContigProject, modalities: str | None) -> ContigProject:
    """Return the project with the modalities of --modalities alone, or as it is where that is not given."""
    from mfd_cli.contig.config import only_modalities

    names = [name.strip() for name in (modalities or "").split(",") if name.strip()]
    return only_modalities(project, names) if names else project


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


def embed_command(
    config: ContigFile = None,
    sets: Sets = None,
    cohort: CohortFolder = None,
    run: ContigRunFolder = None,
    output: Annotated[Path, typer.Option("-o", "--output", help="Parquet file to write.")] = Path("features.parquet"),
    split: SplitOrAll = "all",
    by: Annotated[
        str, typer.Option("--by", help="image or person.", autocompletion=words("image", "person"))
    ] = "image",
    projections: Annotated[bool, typer.Option("--projections", help="Also what is compared with the genes.")] = False,
    part: Part = "biological",
    gpus: Gpus = None,
    threads: Threads = None,
    force: Force = False,
    quiet: Quiet = False,
    as_json: Json = False,
) -> None:
    """Write the features of every image, or person, of a cohort."""
    from mfd_cli.cli.console import Display
    from mfd_cli.contig.data.persons import SPLITS
    from mfd_cli.contig.embed import embed
    from mfd_cli.formats.tables import parquet_name

    splits = SPLITS if one_of("--split", split, ("all", *SPLITS)) == "all" else (split,)
    one_of("--by", by, ("image", "person"))
    opened_run, opened_cohort, device = opened(
        load_project(config, sets, {"data.cohort": cohort, "data.run": run}), threads, gpus, quiet
    )
    with Display(quiet) as display:
        report = embed(
            opened_run,
            opened_cohort,
            parquet_name(output),
            splits=splits,
            by=by,
            projections=projections,
            part=_part(part),
            device=device,
            force=force,
            progress=display,
        )
    say_result(report, as_json)


def retrieve_command(
    config: ContigFile = None,
    sets: Sets = None,
    cohort: CohortFolder = None,
    run: ContigRunFolder = None,
    output: Annotated[Path, typer.Option("-o", "--output", help="Folder to write.")] = Path("retrieve"),
    split: Split = "test",
    join: Join = None,
    beside: Beside = None,
    allow_trained: AllowTrained = False,
    gpus: Gpus = None,
    threads: Threads = None,
    force: Force = False,
    quiet: Quiet = False,
    as_json: Json = False,
) -> None:
    """Say how well persons are found by their pictures among their genetic data, and the other way round."""
    from mfd_cli.cli.console import Display
    from mfd_cli.contig.retrieve import retrieve

    opened_run, opened_cohort, device = opened(
        load_project(config, sets, {"data.cohort": cohort, "data.run": run}), threads, gpus, quiet
    )
    others = _beside(opened_run, beside, quiet)
    with Display(quiet) as display:
        report = retrieve(
            opened_run,
            opened_cohort,
            output,
            split=_split(split),
            join=one_of("--join", join or "outer", ("outer", "inner")),
            beside=others,
            allow_trained=allow_trained,
            device=device,
            force=force,
            progress=display,
        )
    say_result(report, as_json)


def explain_command(
    config: ContigFile = None,
    sets: Sets = None,
    cohort: CohortFolder = None,
    run: ContigRunFolder = None,
    output: Annotated[Path, typer.Option("-o", "--output", help="Folder to write.")] = Path("explain/contig"),
    split: Split = "test",
    allow_trained: AllowTrained = False,
    gpus: Gpus = None,
    threads: Threads = None,
    force: Force = False,
    quiet: Quiet = False,
    as_json: Json = False,
) -> None:
    """Say which variants make persons' genetic data fit their pictures."""
    from mfd_cli.cli.console import Display, warn
    from mfd_cli.contig.explain import explain

    opened_run, opened_cohort, device = opened(
        load_project(config, sets, {"data.cohort": cohort, "data.run": run}), threads, gpus, quiet
    )
    others = _beside(opened_run, None, quiet)
    with Display(quiet) as display:
        report = explain(
            opened_run,
            opened_cohort,
            output,
            split=_split(split),
            beside=others,
            allow_trained=allow_trained,
            device=device,
            force=force,
            progress=display,
        )
    for warning in report.warnings:
        warn(warning)
    say_result(report, as_json)


def gwas_command(
    config: ContigFile = None,
    sets: Sets = None,
    cohort: CohortFolder = None,
    run: ContigRunFolder = None,
    genotypes: Annotated[
        Path | None, typer.Option("--genotypes", help="PLINK .bed to test [default: data.genotypes].")
    ] = None,
    output: Annotated[Path, typer.Option("-o", "--output", help="Folder to write.")] = Path("gwas"),
    split: Split = "test",
    regions: Annotated[Path | None, typer.Option("--bed", help="Known loci at which runs are compared.")] = None,
    part: Part = "biological",
    related: Annotated[bool, typer.Option("--related", help="Test all members of a family.")] = False,
    beside: Beside = None,
    allow_trained: AllowTrained = False,
    gpus: Gpus = None,
    threads: Threads = None,
    force: Force = False,
    quiet: Quiet = False,
    as_json: Json = False,
) -> None:
    """Test which variants go with what the encoder sees of persons."""
    from mfd_cli.cli.console import Display, warn
    from mfd_cli.contig.run_gwas import run_gwas

    project = load_project(config, sets, {"data.cohort": cohort, "data.run": run, "data.genotypes": genotypes})
    opened_run, opened_cohort, device = opened(project, threads, gpus, quiet)
    others = _beside(opened_run, beside, quiet)
    with Display(quiet) as display:
        result = run_gwas(
            project,
            opened_run,
            opened_cohort,
            output,
            split=_split(split),
            beside=others,
            regions=regions,
            part=_part(part),
            related=related,
            allow_trained=allow_trained,
            device=device,
            workers=threads,
            force=force,
            progress=display,
            warn=warn,
        )
    say_result(result, as_json)


def finetune_command(
    labels: Annotated[Path, typer.Argument(help="Table with the column person or image, and labels.")],
    config: ContigFile = None,
    sets: Sets = None,
    cohort: CohortFolder = None,
    run: ContigRunFolder = None,
    output: Annotated[
        Path | None, typer.Option("-o", "--output", help="Folder to write [default: finetune/COLUMN, or /TABLE].")
    ] = None,
    task: Annotated[
        str,
        typer.Option(
            "--task",
            help="auto (words: classification, numbers: regression), classification, multilabel, ordinal or regression.",
            autocompletion=words("auto", "classification", "multilabel", "ordinal", "regression"),
        ),
    ] = "auto",
    columns: Annotated[
        list[str] | None, typer.Option("--column", help="A column that is a label; repeatable [default: all].")
    ] = None,
    mode: Annotated[
        str,
        typer.Option(
            "--mode",
            help="probe: the features stay; full: the network learns too.",
            autocompletion=words("probe", "full"),
        ),
    ] = "probe",
    part: Part = "biological",
    fraction: Annotated[
        str, typer.Option("--fraction", help="Shares of the training persons, such as 0.01,0.1,1.")
    ] = "1",
    beside: Beside = None,
    allow_trained: AllowTrained = False,
    gpus: Gpus = None,
    threads: Threads = None,
    force: Force = False,
    quiet: Quiet = False,
    as_json: Json = False,
) -> None:
    """Learn labels from what the encoder sees, and say how well beside its controls: finetune/NAME."""
    from mfd_cli.cli.console import Display, warn
    from mfd_cli.contig.finetune.finetune import MODES, finetune
    from mfd_cli.contig.finetune.tasks import TASKS

    one_of("--task", task, ("auto", *TASKS))
    one_of("--mode", mode, MODES)
    fractions = _shares(fraction)
    project = load_project(config, sets, {"data.cohort": cohort, "data.run": run})
    opened_run, opened_cohort, device = opened(project, threads, gpus, quiet)
    others = _beside(opened_run, beside, quiet)
    with Display(quiet) as display:
        report = finetune(
            project,
            opened_run,
            opened_cohort,
            labels,
            output,
            task=task,
            columns=columns or ("*",),
            mode=mode,
            part=_part(part),
            fractions=fractions,
            beside=others,
            allow_trained=allow_trained,
            device=device,
            force=force,
            progress=display,
        )
    for warning in report.warnings:
        warn(warning)
    say_result(report, as_json)


def _shares(text: str) -> list[float]:
    """The numbers of --fraction. ConfigError where one is none."""
    shares = []
    for word in text.split(","):
        try:
            shares.append(float(word))
        except ValueError as error:
            raise ConfigError(
                f"--fraction has {word[:40]!r}, which is no number", hint="--fraction 0.01,0.1,1"
            ) from error
    return shares


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


def opened(
    project: ContigProject, threads: int | None, gpus: int | None, quiet: bool
) -> tuple[ContigRun, Cohort, torch.device]:
    """Read a project's run and its cohort, and choose the device; what the run's training came to is told."""
    from mfd_cli.cli.console import warn
    from mfd_cli.contig.data.cohort import open_cohort
    from mfd_cli.contig.run import load_run
    from mfd_cli.contig.train import check_finished
    from mfd_cli.core.device import device_of

    set_threads(threads)
    trained = load_run(project.run)
    check_finished(trained, None if quiet else warn)
    return trained, open_cohort(project.cohort), device_of(gpus_or_default(gpus))


def _beside(run: ContigRun, others: list[Path] | None, quiet: bool) -> Mapping[str, Any]:
    """The controls of a run and the runs of --beside; that there is no control is told."""
    from mfd_cli.cli.console import warn
    from mfd_cli.contig.seen import NO_CONTROLS, controls_of, runs_beside

    if not quiet and not controls_of(run):
        warn(NO_CONTROLS)
    return runs_beside(run, others or [])


def _part(part: str) -> str:
    """The slice of the features that is used, or all."""
    from mfd_cli.contig.seen import PARTS

    return one_of("--part", part, PARTS)


def _split(split: str) -> str:
    """The split that is used, of the three."""
    from mfd_cli.contig.data.persons import SPLITS

    if split not in SPLITS:
        raise ConfigError(f"--split is {split!r}, not one of {', '.join(SPLITS)}")
    return split
