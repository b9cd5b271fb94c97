"""A tiny simulated cohort of mfd contig, made once in a process and copied: as a project, prepared, and trained."""

from __future__ import annotations

import atexit
import shutil
import tempfile
from functools import cache
from pathlib import Path

from mfd_cli.contig.config import ContigProject, load_contig
from mfd_cli.contig.prepare import prepare
from mfd_cli.contig.simulate.options import CohortOptions
from mfd_cli.contig.simulate.simulate import simulate
from mfd_cli.contig.train import train


@cache
def _templates() -> Path:
    folder = Path(tempfile.mkdtemp(prefix="mfd-cohorts-"))
    atexit.register(shutil.rmtree, folder, ignore_errors=True)
    return folder


@cache
def _planted() -> Path:
    """A project whose genes explain most of what is seen: a network of this size learns from so few persons."""
    folder = _templates() / "planted"
    simulate(folder, size="tiny", options=CohortOptions(h2=0.85, nuisance=0.2))
    return folder


@cache
def _planted_many() -> Path:
    """A project with four modalities, each of which some persons lack."""
    folder = _templates() / "many"
    everything = CohortOptions(h2=0.85, nuisance=0.2, modalities=("snps", "pgs", "burden", "table"), absent=0.3)
    simulate(folder, size="tiny", options=everything)
    return folder


@cache
def _prepared_many() -> Path:
    folder = Path(shutil.copytree(_planted_many(), _templates() / "prepared-many"))
    prepare(load_contig(folder / "contig.toml"))
    return folder


@cache
def _prepared() -> Path:
    folder = Path(shutil.copytree(_planted(), _templates() / "prepared"))
    prepare(load_contig(folder / "contig.toml"))
    return folder


@cache
def _trained() -> Path:
    folder = Path(shutil.copytree(_prepared(), _templates() / "trained"))
    project = load_contig(folder / "contig.toml", ["train.epochs=3"])
    for control in ("", "random", "shuffled"):
        train(project, control=control, gpus=0)
    return folder


@cache
def _sliced() -> Path:
    folder = Path(shutil.copytree(_planted(), _templates() / "sliced"))
    file = folder / "contig.toml"
    file.write_text(file.read_text() + '\n[factors.camera]\ncolumn = "camera"\n')
    prepare(load_contig(file))
    project = load_contig(file, ["train.epochs=3", "train.batch_size=50"])
    for control in ("", "random"):
        train(project, control=control, gpus=0)
    return folder


def planted(folder: Path) -> ContigProject:
    """A simulated project in a folder that does not exist yet."""
    return load_contig(Path(shutil.copytree(_planted(), folder)) / "contig.toml")


def prepared(folder: Path, *settings: str) -> ContigProject:
    """The same with its cohort."""
    return load_contig(Path(shutil.copytree(_prepared(), folder)) / "contig.toml", list(settings))


def trained(folder: Path) -> ContigProject:
    """The same with a run of three epochs, and its controls."""
    return load_contig(Path(shutil.copytree(_trained(), folder)) / "contig.toml")


def planted_many(folder: Path, *settings: str) -> ContigProject:
    """A simulated project with four modalities, each of which some persons lack."""
    return load_contig(Path(shutil.copytree(_planted_many(), folder)) / "contig.toml", list(settings))


def prepared_many(folder: Path, *settings: str) -> ContigProject:
    """The same with its cohort."""
    return load_contig(Path(shutil.copytree(_prepared_many(), folder)) / "contig.toml", list(settings))


def sliced(folder: Path, *settings: str) -> ContigProject:
    """A project with the camera as a technical factor, its cohort, a run of three epochs and an untrained network."""
    return load_contig(Path(shutil.copytree(_sliced(), folder)) / "contig.toml", list(settings))
