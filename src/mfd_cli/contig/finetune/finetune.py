"""`mfd contig finetune`: what a network is worth for labels that somebody gave, beside its controls.

finetune/NAME/metrics.tsv          every measure of every run, share of the labels and draw, with its interval; and differences
              predictions.parquet  what is said of each test person, or image
              model.json           what was asked, and how each model was chosen; model.LABEL.safetensors has the run's own
              curve.png            the main measure of each run, along the number of labelled persons
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch

from mfd_cli.base.arrays import Bools, Doubles
from mfd_cli.base.errors import ConfigError
from mfd_cli.base.files import check_output, names_of_files, whole_folder, write_json
from mfd_cli.base.notebook import Told
from mfd_cli.base.progress import Progress
from mfd_cli.contig.config import ContigProject
from mfd_cli.contig.data.cohort import Cohort
from mfd_cli.contig.data.labels import read_labels
from mfd_cli.contig.data.persons import SPLITS
from mfd_cli.contig.finetune.compared import COLUMNS, Sampled, difference, draws_of, rows_of, sampled
from mfd_cli.contig.finetune.full import TunedModel, outputs_of, tune
from mfd_cli.contig.finetune.known_labels import known_labels
from mfd_cli.contig.finetune.probe import Probe, fit_probe
from mfd_cli.contig.finetune.target import Target, targets_of, task_of
from mfd_cli.contig.finetune.tasks import TASKS
from mfd_cli.contig.finetune.units import subset, units_of
from mfd_cli.contig.run import ContigRun, new_persons
from mfd_cli.contig.seen import part_of, see
from mfd_cli.engine.store import save_tensors
from mfd_cli.formats.tables import write_parquet, write_tsv
from mfd_cli.settings.names import BIOLOGICAL

MODES = ("probe", "full")


@dataclass(frozen=True, repr=False)
class FinetuneReport(Told):
    """What was found; `rows` are those of metrics.tsv."""

    output: Path
    task: str
    rows: list[dict[str, Any]]
    warnings: list[str]

    def value(self, run: str, measure: str, label: str | None = None, fraction: float = 1.0) -> float:
        """Return a measure of a run, the mean over draws; of the first label where none is named."""
        label = label or str(self.rows[0]["label"])
        wanted = {"run": run, "measure": measure, "label": label, "fraction": fraction}
        return float(np.mean([row["value"] for row in self.rows if all(row[k] == v for k, v in wanted.items())]))

    def lines(self) -> list[str]:
        """Return a line for each run and difference: the main measure, with all labels that were used."""
        main = TASKS[self.task].main
        most = max(row["fraction"] for row in self.rows)
        lines = []
        for row in self.rows:
            if row["measure"] == main and row["fraction"] == most and row["draw"] == 1:
                between = "" if row["low"] is None else f" ({row['low']:.3f} to {row['high']:.3f})"
                lines.append(f"{row['run']}, {row['label']}: {main} {row['value']:.3f}{between}")
        return [*lines, f"wrote {self.output}"]


@dataclass(frozen=True)
class _Fit:
    """One model: whose, of what, with how many labels; what it says of the test units."""

    run: str
    target: Target
    facts: dict[str, Any]
    outputs: Doubles
    model: Probe | TunedModel
    chosen: dict[str, Any]


def finetune(
    project: ContigProject,
    run: ContigRun,
    cohort: Cohort,
    labels: Path,
    output: Path | None = None,
    *,
    task: str = "auto",
    columns: Sequence[str] = ("*",),
    mode: str = "probe",
    part: str = BIOLOGICAL,
    fractions: Sequence[float] = (1.0,),
    beside: Mapping[str, ContigRun] | None = None,
    allow_trained: bool = False,
    device: torch.device | str = "cpu",
    force: bool = False,
    progress: Progress | None = None,
) -> FinetuneReport:
    """Learn labels of training persons from what runs see of them, choose on validation persons, and measure on test persons.

    `part` is the slice of the features, or all of them. Default output: finetune/ and the column's name, or the table's. Raises
    ConfigError and TableError for labels that do not fit the task, ConfigError where a run was trained on the test persons,
    unless `allow_trained`, or has no such slice, OutputError where a folder is in the way.
    """
    check_shares(fractions)
    table = read_labels(labels, columns, project.config.persons.missing)
    task = task_of(table, task)
    name = table.names[0] if len(table.names) == 1 else labels.name.split(".")[0]
    output = output or Path("finetune") / names_of_files([name])[0]
    check_output(output, force)
    units = {split: units_of(table, cohort.share(split), cohort.people, split) for split in SPLITS}
    targets = targets_of(table, task, units)
    settings, seed = project.config.finetune, project.config.train.seed
    runs, device = {run.name: run, **(beside or {})}, torch.device(device)
    for one in runs.values():
        new_persons(one, tested_persons(cohort), allow_trained)
    places = {name: part_of(one, part) for name, one in runs.items()}
    features = {
        name: {split: see(one, cohort, split, device, progress).features[:, places[name]] for split in SPLITS}
        for name, one in runs.items()
    }
    rows: list[dict[str, Any]] = []
    said: list[dict[str, Any]] = []
    kept_models: dict[str, _Fit] = {}
    chosen: list[dict[str, Any]] = []
    for target in targets:
        weights = draws_of(target, settings.bootstrap, seed)
        for facts, kept in _shares(target, fractions, settings.draws, seed):
            found: dict[str, dict[str, Sampled]] = {}
            for name, one in runs.items():
                of = {split: target.units[split].features(features[name][split]) for split in SPLITS}
                fit = _fitted(mode, name, one, places[name], target, facts, kept, of, project, device, progress)
                found[name] = sampled(target, fit.outputs, weights)
                rows += rows_of(target, name, facts, found[name])
                said += _said(fit, table.key)
                chosen.append({"run": name, "label": target.label, **facts, **fit.chosen})
                if name == run.name:
                    kept_models[target.label] = fit
            for name in list(found)[1:]:
                rows += rows_of(target, f"{run.name} - {name}", facts, difference(found[run.name], found[name]))
    warnings = [text for target in targets for text in known_labels(project, run, target.columns)]
    warnings += [
        f"{target.unseen:,} test {table.key}s are left out: no training {table.key} has their {target.label}"
        for target in targets
        if target.unseen
    ]
    with whole_folder(output) as folder:
        folder.chmod(0o700)
        write_tsv(folder / "metrics.tsv", rows, COLUMNS)
        write_parquet(folder / "predictions.parquet", _even(said))
        for file, fit in zip(names_of_files(list(kept_models)), kept_models.values()):
            save_tensors(folder / f"model.{file}.safetensors", _tensors(fit.model))
        about = {
            "task": task,
            "mode": mode,
            "part": part,
            "run": run.digest,
            "cohort": cohort.digest,
            "learned": run.learned,
        }
        targets_told = [
            {"label": t.label, "columns": t.columns, "levels": t.levels, "mean": t.mean, "sd": t.sd} for t in targets
        ]
        write_json(folder / "model.json", {**about, "warnings": warnings, "targets": targets_told, "models": chosen})
        _draw(folder / "curve.png", rows, task)
    return FinetuneReport(output, task, rows, warnings)


def check_shares(fractions: Sequence[float]) -> None:
    """Raise ConfigError where a share of the labels is none."""
    for share in fractions:
        if not 0 < share <= 1:
            raise ConfigError(f"--fraction has {share:g}: shares of the training persons are above 0 and at most 1")
    if not fractions or len(set(fractions)) < len(fractions):
        raise ConfigError("--fraction names no share, or one twice", hint="--fraction 0.01,0.1,1")


def tested_persons(cohort: Cohort) -> list[str]:
    """Return who is in the test split."""
    return [cohort.people.persons[place] for place in cohort.people.of("test").tolist()]


def _shares(
    target: Target, fractions: Sequence[float], draws: int, seed: int
) -> Iterator[tuple[dict[str, Any], Bools]]:
    """Each share of the training persons, each draw of it: what rows say of it, and which units (units,) it has."""
    units = target.units["train"]
    for fraction in sorted(fractions):
        for draw in range(1, 1 + (draws if fraction < 1 else 1)):
            kept = subset(units, fraction, seed, draw)
            yield {"fraction": fraction, "draw": draw, "labelled": len(np.unique(units.person[kept]))}, kept


def _fitted(
    mode: str,
    name: str,
    run: ContigRun,
    place: slice,
    target: Target,
    facts: dict[str, Any],
    kept: Bools,
    features: dict[str, Doubles],
    project: ContigProject,
    device: torch.device,
    progress: Progress | None,
) -> _Fit:
    """A model of some training units, and what it says of the test units."""
    if mode == "probe":
        probe = fit_probe(features, target, kept)
        if progress:
            progress(f"probing {target.label} ({name})", facts["labelled"], facts["labelled"])
        told = {"strength": probe.strength, "validation loss": probe.validation}
        return _Fit(name, target, facts, probe.outputs(features["test"]), probe, told)
    tuned = tune(run, place, target, kept, features["train"], project.config, device, progress)
    outputs = outputs_of(tuned.model, target.units["test"], device)
    return _Fit(name, target, facts, outputs, tuned.model, {"epoch": tuned.epoch, "validation loss": tuned.validation})


def _said(fit: _Fit, key: str) -> Iterator[dict[str, Any]]:
    """The rows of predictions.parquet of a model."""
    target, units = fit.target, fit.target.units["test"]
    columns = {"truth": _truth(target), **TASKS[target.task].told(fit.outputs, target)}
    for place, name in enumerate(units.names):
        facts = {"run": fit.run, "label": target.label, "fraction": fit.facts["fraction"], "draw": fit.facts["draw"]}
        yield {**facts, key: name, **{column: cells[place] for column, cells in columns.items()}}


def _truth(target: Target) -> list[object]:
    """The answers of the test units, as the table has them; of several questions those that are yes."""
    values = target.values["test"]
    if target.levels:
        return [target.levels[int(value)] for value in values[:, 0].tolist()]
    if len(target.columns) > 1 or target.task == "multilabel":
        return [", ".join(name for name, value in zip(target.columns, row) if value == 1) for row in values.tolist()]
    return [f"{value:g}" for value in (values[:, 0] * target.sd + target.mean).tolist()]


def _even(rows: Sequence[dict[str, Any]]) -> list[dict[str, Any]]:
    """Rows with the same columns: labels have classes of their own."""
    names = dict.fromkeys(name for row in rows for name in row)
    return [{name: row.get(name) for name in names} for row in rows]


def _tensors(model: Probe | TunedModel) -> dict[str, torch.Tensor]:
    """A model as tensors by name."""
    if isinstance(model, Probe):
        return {name: torch.from_numpy(np.asarray(getattr(model, name))) for name in ("mean", "sd", "weight", "bias")}
    return dict(model.state_dict())


def _draw(path: Path, rows: Sequence[Mapping[str, Any]], task: str) -> None:
    """Draw the main measure."""
    from mfd_cli.contig.finetune.picture import draw_curve

    draw_curve(path, [row for row in rows if row["measure"] == TASKS[task].main and " - " not in row["run"]])
