"""What the commands share: options named once, and the few steps that most of them begin and end with."""

from __future__ import annotations

import os
import re
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, Protocol

import typer

from mfd_cli.base.errors import ConfigError
from mfd_cli.base.threads import usable_cores
from mfd_cli.cli.completion import datasets, fixes, overrides, runs, words

if TYPE_CHECKING:
    import torch

    from mfd_cli.dataset.folder import Dataset
    from mfd_cli.genome.sequence import Genome
    from mfd_cli.runs.folder import Run
    from mfd_cli.settings.project import Project

ConfigFile = Annotated[Path | None, typer.Option("-c", "--config", help="Project file [default: ./mfd.toml].")]
Sets = Annotated[
    list[str] | None,
    typer.Option("--set", metavar="A.B=C", help="Override any setting; repeatable.", autocompletion=overrides),
]
Force = Annotated[bool, typer.Option("--force", help="Replace what is there already.")]
DryRun = Annotated[bool, typer.Option("--dry-run", help="Check the inputs, say what would be done, write nothing.")]
Quiet = Annotated[bool, typer.Option("-q", "--quiet", help="No progress, no remarks.")]
Json = Annotated[bool, typer.Option("--json", help="Print the result as JSON.")]
Gpus = Annotated[
    int | None, typer.Option("--gpus", min=0, help="How many GPUs; 0: the CPU [default: 1 if there is one].")
]
Threads = Annotated[
    int | None, typer.Option("--threads", min=1, help="CPU cores to use [default: OMP_NUM_THREADS, or all].")
]
Fasta = Annotated[Path | None, typer.Option("--fasta", help="Reference genome.")]
Metadata = Annotated[Path | None, typer.Option("--metadata", help="Table of tracks.")]
DatasetFolder = Annotated[Path | None, typer.Option("--dataset", help="Dataset folder.", autocompletion=datasets)]
RunFolder = Annotated[Path | None, typer.Option("--run", help="Run folder.", autocompletion=runs)]
Split = Annotated[
    str, typer.Option("--split", help="test, validation or train.", autocompletion=words("test", "validation", "train"))
]
H5adFile = Annotated[
    Path | None,
    typer.Option("--h5ad", help="AnnData file to write as well (pip install 'mfd-cli[h5ad]')."),
]
RegionsFile = Annotated[Path | None, typer.Option("-R", "--regions-file", help="The same from a BED file.")]
Tracks = Annotated[
    str | None,
    typer.Option("--tracks", metavar="QUERY", help="Only tracks such as 'target == \"CTCF\" and biosample ~ liver'."),
]
Fixed = Annotated[
    list[str] | None,
    typer.Option(
        "--fix", metavar="A=B", help="FACTOR=LEVEL, FACTOR=average or GROUP=average; repeatable.", autocompletion=fixes
    ),
]
Seed = Annotated[int | None, typer.Option("--seed", min=0, help="Seed of everything random.")]
ExperimentKind = Annotated[
    str | None,
    typer.Option(
        "--kind",
        help="Of an experiment that nobody did: peaks or signal [default: peaks if any were trained on].",
        autocompletion=words("peaks", "signal"),
    ),
]
BatchSize = Annotated[int, typer.Option("--batch-size", min=1, help="Windows that go through the model at once.")]


def load(config: Path | None, sets: list[str] | None, flags: Mapping[str, object] | None = None) -> Project:
    """Return the project of a file (default: ./mfd.toml), with settings overridden by --set and then by flags."""
    from mfd_cli.settings.project import load_project

    return load_project(config, sets or (), flags)


def folders(project: Project) -> list[Path]:
    """Return the project's dataset and run, those of them that exist. ConfigError where neither does."""
    folders = [folder for folder in (project.dataset, project.run) if folder.exists()]
    if not folders:
        raise ConfigError("there is neither a dataset nor a run here", hint="mfd info FOLDER, or mfd preprocess first")
    return folders


@dataclass(frozen=True)
class Opened:
    """What a command that uses a trained model begins with: the project, its runs (one, or every seed's), and the device."""

    project: Project
    runs: list[Run]
    device: torch.device

    @property
    def run(self) -> Run:
        """Return the run; the first one of several seeds."""
        return self.runs[0]

    def dataset(self) -> Dataset:
        """Open the project's dataset."""
        from mfd_cli.dataset.folder import dataset_of

        return dataset_of(self.project)

    def genome(self, fasta: Path | None) -> tuple[Genome, str]:
        """Return the genome to apply the model to, and a remark where it is not the model's (see `choose_genome`)."""
        from mfd_cli.runs.choose_genome import choose_genome

        return choose_genome(self.project, self.run, fasta)


def named_folder(path: Path | None, run: Path | None) -> Path | None:
    """Return the folder that is named, as an argument or by --run as other commands take it; ConfigError for both."""
    if path is not None and run is not None:
        raise ConfigError(f"{path} and --run {run} name two folders", hint="name one")
    return path if path is not None else run


def opened(
    config: Path | None,
    sets: list[str] | None,
    dataset: Path | None,
    run: Path | None,
    threads: int | None,
    gpus: int | None,
    ensemble: bool = False,
) -> Opened:
    """Read the project and its run, or with `ensemble` every seed's, and choose the device."""
    from mfd_cli.core.device import device_of

    project = load(config, sets, {"data.dataset": dataset, "data.run": run})
    runs = open_runs(project, threads, ensemble)
    return Opened(project, runs, device_of(gpus_or_default(gpus)))


def open_runs(project: Project, threads: int | None, every: bool) -> list[Run]:
    """Read the project's runs: every seed's, or only the first. ConfigError where `every` finds no several seeds."""
    from mfd_cli.runs.folder import GO_ON, load_run, run_folders

    set_threads(threads)
    seeds = run_folders(project.run)
    if every and len(seeds) < 2:
        raise ConfigError(
            f"{project.run} holds no runs of several seeds to average",
            hint="mfd train --seeds 1,2,3 --run FOLDER makes them; name the same --run FOLDER here",
        )
    if len(seeds) > 1 and not every:
        from mfd_cli.cli.console import note

        note(f"{project.run} holds {len(seeds)} runs: the first is used, {seeds[0].name}")
    runs = [load_run(folder) for folder in (seeds if every else seeds[:1])]
    for run in runs:
        if run.unfinished:
            from mfd_cli.cli.console import warn

            warn(
                f"the training of {run.path} has not finished: these are its best weights so far, and parts of a mixed head "
                f"are found at its end ({GO_ON})"
            )
    return runs


def note_sole_levels(run: Run, levels: Sequence[str], quiet: bool) -> None:
    """Say, unless `quiet`, which of the levels asked for (`lab=A`) are of factors that contribute nothing."""
    from mfd_cli.cli.console import note
    from mfd_cli.runs.panel import sole_level_remarks

    for remark in [] if quiet else sole_level_remarks(run, levels):
        note(remark)


def note_trunk(run: Run, quiet: bool) -> None:
    """Say, unless `quiet`, that on another package's trunk a variant takes passes over all of a block."""
    settings = run.model.settings
    if settings.architecture and not quiet:
        from mfd_cli.cli.console import note

        note(
            f"the backbone is the trunk of {settings.backbone}, which has no short cut: every variant takes whole passes"
        )


def split_named(split: str) -> str:
    """Return the name of a split. ConfigError for another word."""
    from mfd_cli.dataset.manifest import SPLITS

    return one_of("--split", split, SPLITS)


def one_of(option: str, value: str, known: tuple[str, ...]) -> Any:
    """Return the value of an option that takes one of a few words. ConfigError for another."""
    if value not in known:
        raise ConfigError(f"{option} is {value!r}, not one of {', '.join(known)}")
    return value


def kind_or_default(kind: str | None) -> Any:
    """Return the kind that --kind names, if it names one. ConfigError for another word."""
    return one_of("--kind", kind, ("peaks", "signal")) if kind is not None else None


def gpus_or_default(gpus: int | None) -> int:
    """Return how many GPUs a command that uses one at most takes: as told, or 1 if there is one. ConfigError for several."""
    import torch

    if (gpus or 0) > 1:
        raise ConfigError(f"--gpus {gpus}: this command uses one GPU", hint="mfd train uses several")
    return int(torch.cuda.is_available()) if gpus is None else gpus


def process_number() -> int:
    """Return this process's number among those of a training."""
    return int(os.environ.get("RANK", "0"))


def set_threads(threads: int | None) -> None:
    """Let torch use this many CPU threads; as many as there are usable cores where none are named."""
    import torch

    torch.set_num_threads(threads or usable_cores())


def say_all(lines: Iterable[str]) -> None:
    """Print lines of a result on stdout."""
    from mfd_cli.cli.console import say

    for line in lines:
        say(line)


def say_json(value: object) -> None:
    """Print a result as one JSON document on stdout; what JSON does not know, such as a path, as text, NaN as null."""
    import json

    from mfd_cli.base.stored_json import without_nan

    print(json.dumps(without_nan(value), indent=1, ensure_ascii=False, default=_plain))


def _plain(value: Any) -> object:
    """Return settings as a tree of plain values, a number of numpy's as a number, anything else as text."""
    if hasattr(value, "model_dump"):
        return value.model_dump(mode="json")
    return value.item() if hasattr(value, "item") else str(value)


class Result(Protocol):
    """What a command has come to: a dataclass that can say it in words, and may say itself what it is as JSON (`to_json`)."""

    def lines(self) -> list[str]:
        """Return it as lines for the terminal."""


def fields_of(result: Any) -> dict[str, Any]:
    """Return a result for JSON: what it says itself, otherwise its fields."""
    plain: dict[str, Any] = result.to_json() if hasattr(result, "to_json") else asdict(result)
    return plain


def say_result(result: Result, as_json: bool) -> None:
    """Print what a command has come to, in words or as one JSON document."""
    say_json(fields_of(result)) if as_json else say_all(result.lines())


def parse_named_file(text: str) -> tuple[str, Path]:
    """Return the two halves of NAME=FILE. ConfigError where it is something else.

    >>> parse_named_file("enhancers=cCRE.bed")
    ('enhancers', PosixPath('cCRE.bed'))
    """
    match = re.fullmatch(r"([A-Za-z][A-Za-z0-9_.-]*)=(.+)", text, re.DOTALL)
    if match is None:
        raise ConfigError(
            f"{text!r} is not NAME=FILE",
            hint="for example enhancers=enhancers.bed; a name is a letter, then letters, digits and _ . -",
        )
    return match[1], Path(match[2])
