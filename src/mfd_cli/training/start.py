"""A training that starts from another run: what fits is taken, and said; everything else starts as it always does."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Any

import numpy as np

from mfd_cli.base.errors import ConfigError, RunError, few
from mfd_cli.core.inherit import inherit_backbone, inherit_networks, inherit_rows, level_pairs
from mfd_cli.core.metadata import LevelEncoder
from mfd_cli.core.model import MfdModel
from mfd_cli.dataset.folder import Dataset
from mfd_cli.engine.checkpoint import runs_of_seeds
from mfd_cli.experiments.track import Track
from mfd_cli.runs.folder import Run, load_run
from mfd_cli.settings.config import Config, SplitConfig
from mfd_cli.settings.project import Project
from mfd_cli.training.start_trunk import StartFromTrunk, trunk_to_start_from

SHAPE = ("backbone", "width", "window", "kmer", "latent", "filters", "block", "architecture")
"""Settings of [model] that have to be the same for a backbone to be taken."""
HELD = ("test", "validation")
"""Splits that a training does not learn from."""
Setting = int | str | Mapping[str, bool | int | float]
Shape = Mapping[str, Setting]
"""Settings of [model] by name."""
FEW = 8
"""Names of tracks or levels in a line, at most."""


@dataclass(frozen=True)
class Names:
    """Things by name: those that both runs have, and those that the new one alone has."""

    known: tuple[str, ...]
    new: tuple[str, ...]

    def line(self, one: str, several: str) -> str:
        """Return how many of each there are, with the names of the new ones."""
        count, names = len(self.new), f": {few(self.new, FEW)}" if self.new else ""
        return (
            f"{len(self.known)} {one if len(self.known) == 1 else several} as in that run, {count or 'none'} new{names}"
        )


@dataclass(frozen=True)
class Taken:
    """What a model was begun with: rows of tracks or networks of groups, and which levels the other run knows."""

    path: str
    shape: Shape
    rows: Names | None
    """Tracks whose output weights were taken; None where the head has none of its own."""
    networks: tuple[str, ...]
    """Groups whose metadata networks were taken."""
    levels: Mapping[str, Names]
    """Levels by factor; of a number none."""
    seen: tuple[str, ...]
    """Held-out tracks on which the other run was trained."""

    def lines(self) -> list[str]:
        """Return it in words, one fact a line."""
        lines = [f"from {self.path}: the backbone and the norm of its latents"]
        if self.shape:
            values = ", ".join(f"model.{name} = {value}" for name, value in self.shape.items())
            lines.append(f"the network has the shape of that run, as no setting says another: {values}")
        if self.rows is not None:
            lines.append(f"output weights: {self.rows.line('track', 'tracks')}")
        elif self.networks:
            lines.append(f"metadata networks of {', '.join(self.networks)}, for the levels of that run")
        else:
            lines.append("output weights: all new, as no metadata network of that run fits")
        lines += [f"levels of {factor}: {names.line('level', 'levels')}" for factor, names in self.levels.items()]
        if self.seen:
            lines.append(
                f"that run was trained on {few(self.seen, FEW)}: "
                "its backbone has seen what is held out here, and figures of it are too good"
            )
        return lines


@dataclass(frozen=True)
class Start:
    """The run that a training starts from. `path` is how it was named, `shape` what of the network no setting says."""

    run: Run
    path: str
    shape: Shape

    @cached_property
    def source(self) -> dict[str, Any]:
        """What the new run's description and its state say of it."""
        return {"path": self.path, "weights_sha256": self.run.digest, "shape": dict(self.shape)}

    def seen_in(self, dataset: Dataset, split: SplitConfig) -> dict[str, list[str]]:
        """Return, for test and validation, the contigs of a dataset's bins on which this run was trained. A contig is the same
        one where name and length are. Of one that is divided here, where `split` keeps shares, nothing is told where the
        run's settings are the same: it kept the same blocks."""
        about = self.run.about
        lengths, before = about["contigs"], (about.get("source") or {}).get("seen", {})
        trained = {*about["trained_on"], *(name for names in before.values() for name in names)}
        seen_there = {name for name in trained if lengths.get(name) == dataset.genome.lengths.get(name)}
        if split == self.run.config.split and dataset.manifest["genome_digest"] == about["genome_digest"]:
            seen_there -= set(contigs_of(dataset, "train"))
        seen = {held: [name for name in contigs_of(dataset, held) if name in seen_there] for held in HELD}
        return {held: names for held, names in seen.items() if names}

    @property
    def split_words(self) -> str:
        """How the run's contigs were divided, as mfd.toml says it."""
        settings = self.run.config.split.model_dump(mode="json", exclude_defaults=True)
        return ", ".join(f"split.{name} = {json.dumps(value)}" for name, value in settings.items())

    def put_into(self, model: MfdModel, tracks: Sequence[Track]) -> Taken:
        """Set a model on the CPU to what fits of this run's, and return what that was. `tracks` are those of the model's
        outputs: one is the other run's where it has the same id and kind, and took part in both trainings."""
        source = self.run.model
        there = {(track.id, track.kind): place for place, track in enumerate(self.run.tracks) if source.trained[place]}
        both = [
            (place, there[track.id, track.kind])
            for place, track in enumerate(tracks)
            if (track.id, track.kind) in there
        ]
        pairs = [(own, other) for own, other in both if model.trained[own]]
        inherit_backbone(model, source)
        networks = inherit_networks(model, source, pairs)
        with_rows = inherit_rows(model, source, pairs)
        own = {place for place, _ in pairs}
        trained = [place for place in range(len(tracks)) if model.trained[place]]
        return Taken(
            self.path,
            self.shape,
            named([tracks[place].id for place in trained], [place in own for place in trained]) if with_rows else None,
            tuple(networks),
            levels_by_name(model, source),
            tuple(tracks[place].id for place, _ in both if place not in own),
        )


def contigs_of(dataset: Dataset, split: str) -> list[str]:
    """Return the contigs on which a split has bins."""
    return [dataset.contigs[place] for place in np.unique(dataset.split(split).contig)]


def named(names: Sequence[str], known: Sequence[bool]) -> Names:
    """Return names, told apart by whether the other run has them."""
    return Names(
        tuple(name for name, of_both in zip(names, known) if of_both),
        tuple(name for name, of_both in zip(names, known) if not of_both),
    )


def levels_by_name(model: MfdModel, source: MfdModel) -> dict[str, Names]:
    """Return the levels of each factor of a model, told apart by whether the source has them; numbers have none."""
    result = {}
    for name, encoder in model.metadata.encoders.items():
        if isinstance(encoder, LevelEncoder):
            known = {own for own, _ in level_pairs(model.metadata, source.metadata, name)}
            result[name] = named(encoder.vocabulary, [column in known for column in range(encoder.size)])
    return result


def started(project: Project, state: Mapping[str, Any] | None) -> tuple[Project, Start | StartFromTrunk | None]:
    """Return the project with the shape of the network that it starts from, and the run or the trunk to take weights from, if
    there is one.

    A training that goes on (`state` is its last/state.json) has everything in its own folder: the other run is not read.
    Raises ConfigError where settings do not fit that run, RunError where it is none.
    """
    config, named_run = project.config, project.config.data.start_from
    source = None if state is None else state.get("source")
    if state is not None and source is None and named_run is not None:
        raise ConfigError(
            f"the run was not started from another one, and data.start_from is {named_run!r} now",
            hint="go on without it, or train a run of its own with --run FOLDER",
        )
    trunk = config.model.trunk
    if config.thaw > 0 and source is None and ((named_run is None and trunk is None) or state is not None):
        raise ConfigError(
            f"train.thaw is {config.thaw:g}, and the backbone would stay at its random first weights so long",
            hint="mfd train --from RUN takes another run's",
        )
    if source is not None:
        return with_shape(project, source["shape"]), None
    if named_run is not None and trunk is not None:
        raise ConfigError(
            "data.start_from (--from) names a run to start from, and model.trunk a trunk: only one can be taken"
        )
    if trunk is not None:
        kind = config.resolved_model().backbone
        from_trunk = trunk_to_start_from(project.path(trunk), trunk, kind, config.thaw)
        return with_shape(project, from_trunk.shape), from_trunk
    if named_run is None:
        return project, None
    folder = project.path(named_run)
    if folder.resolve() == project.run.resolve():
        raise ConfigError(f"{shown(folder)} is both the run to start from and the one to write", hint="--run FOLDER")
    run = run_to_start_from(folder)
    shape = shape_of(config, run, shown(folder))
    return with_shape(project, shape), Start(run, shown(folder), shape)


def run_to_start_from(folder: Path) -> Run:
    """Open a run; RunError where there is none, with the nearest thing where there are those of several seeds."""
    if seeds := runs_of_seeds(folder):
        raise RunError(
            f"holds runs of several seeds ({few([run.name for run in seeds])})",
            path=folder,
            hint=f"name one of them: {seeds[0]}",
        )
    return load_run(folder)


def shape_of(config: Config, run: Run, path: str) -> dict[str, Setting]:
    """Return what of a run's network the settings leave open. ConfigError where they say something else than it is.

    A preset that is set says all that it has.
    """
    wanted, theirs = config.resolved_model(), run.model.settings
    by_preset = "preset" in config.model.model_fields_set
    open_settings = dict[str, Setting]()
    for name in SHAPE:
        own, other = getattr(wanted, name), getattr(theirs, name)
        alone = getattr(config.model, name) is not None
        if own == other:
            continue
        if not (alone or by_preset):
            open_settings[name] = other
            continue
        why = "" if alone else f", as the preset {config.model.preset} has it"
        raise ConfigError(
            f"model.{name} is {own}{why}, and that of {path} is {other}: its backbone does not fit",
            hint=f"model.{name} = {json_of(other)}, or no preset and no model.{name}: then it is taken from the run",
        )
    networks = wanted.head == theirs.head == "conditioned"  # they have a width of their own, which may be another one
    if networks and wanted.hidden != theirs.hidden and config.model.hidden is None and not by_preset:
        open_settings["hidden"] = theirs.hidden
    return open_settings


def json_of(value: Setting) -> str:
    """Return a value as mfd.toml has it."""
    if isinstance(value, Mapping):
        return "{ " + ", ".join(f"{name} = {json.dumps(number)}" for name, number in value.items()) + " }"
    return f'"{value}"' if isinstance(value, str) else str(value)


def with_shape(project: Project, shape: Shape) -> Project:
    """Return the project with those of these settings of [model] that it leaves open. ConfigError where they do not go with
    its others."""
    left_open = {name: value for name, value in shape.items() if getattr(project.config.model, name) is None}
    if not left_open:
        return project
    model = project.config.model.model_copy(update=left_open)
    config = project.config.model_copy(update={"model": model})
    try:
        config.resolved_model()
    except ValueError as error:
        raise ConfigError(f"{error}, with the shape of the run to start from") from error
    return project.model_copy(update={"config": config})


def shown(path: Path) -> str:
    """Return a path as it was given, or as it is seen from the present folder if that is shorter."""
    present = Path.cwd()
    return str(path.relative_to(present)) if path.is_absolute() and path.is_relative_to(present) else str(path)
