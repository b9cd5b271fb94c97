"""What the commands of mfd contig share: options, and what they open."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from mfd_cli.base.errors import ConfigError
from mfd_cli.cli.completion import words
from mfd_cli.cli.shared import (
    gpus_or_default,
    one_of,
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


def opened(
    project: ContigProject, threads: int | None, gpus: int | None, quiet: bool
) -> tuple[ContigRun, Cohort, torch.device]:
    """Return a project's run, its cohort and the device; what the run's training came to is told."""
    from mfd_cli.cli.console import warn
    from mfd_cli.contig.data.cohort import open_cohort
    from mfd_cli.contig.run import load_run
    from mfd_cli.contig.train import check_finished
    from mfd_cli.core.device import device_of

    set_threads(threads)
    trained = load_run(project.run)
    check_finished(trained, None if quiet else warn)
    return trained, open_cohort(project.cohort), device_of(gpus_or_default(gpus))


def beside_of(run: ContigRun, others: list[Path] | None, quiet: bool) -> Mapping[str, Any]:
    """Return the controls of a run and the runs of --beside; that there is no control is told."""
    from mfd_cli.cli.console import warn
    from mfd_cli.contig.seen import NO_CONTROLS, controls_of, runs_beside

    if not quiet and not controls_of(run):
        warn(NO_CONTROLS)
    return runs_beside(run, others or [])


def part_of(part: str) -> str:
    """Return the slice of the features that --part names, or all. ConfigError for another."""
    from mfd_cli.contig.seen import PARTS

    return one_of("--part", part, PARTS)


def split_of(split: str) -> str:
    """Return the split that --split names, of the three. ConfigError for another."""
    from mfd_cli.contig.data.persons import SPLITS

    if split not in SPLITS:
        raise ConfigError(f"--split is {split!r}, not one of {', '.join(SPLITS)}")
    return split
