"""mfd contig embed, retrieve, explain, gwas and finetune: what a trained encoder is asked."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from mfd_cli.base.errors import ConfigError
from mfd_cli.cli.completion import words
from mfd_cli.cli.shared import (
    Force,
    Gpus,
    Json,
    Quiet,
    Sets,
    Split,
    Threads,
    one_of,
    say_result,
)

if TYPE_CHECKING:
    pass

from mfd_cli.cli.contig_shared import (
    AllowTrained,
    Beside,
    CohortFolder,
    ContigFile,
    ContigRunFolder,
    Join,
    Part,
    SplitOrAll,
    beside_of,
    load_project,
    opened,
    part_of,
    split_of,
)


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
            part=part_of(part),
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
    others = beside_of(opened_run, beside, quiet)
    with Display(quiet) as display:
        report = retrieve(
            opened_run,
            opened_cohort,
            output,
            split=split_of(split),
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
    others = beside_of(opened_run, None, quiet)
    with Display(quiet) as display:
        report = explain(
            opened_run,
            opened_cohort,
            output,
            split=split_of(split),
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
    others = beside_of(opened_run, beside, quiet)
    with Display(quiet) as display:
        result = run_gwas(
            project,
            opened_run,
            opened_cohort,
            output,
            split=split_of(split),
            beside=others,
            regions=regions,
            part=part_of(part),
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
    others = beside_of(opened_run, beside, quiet)
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
            part=part_of(part),
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
