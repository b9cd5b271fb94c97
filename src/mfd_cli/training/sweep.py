"""`mfd train --sweep KEY=V1,V2,...`: train once per value and seed, and weigh accuracy against leakage.

RUN/sweep/VALUE/seed-N/     a run folder each, with its evaluation on the validation bins
RUN/sweep/sweep.tsv         a row per value and seed
RUN/sweep/sweep.json        the means per value and the recommendation
RUN/sweep/sweep.png .svg    the curve
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from mfd_cli.base.errors import ConfigError, OutputError, RunError
from mfd_cli.base.files import write_json
from mfd_cli.base.stored_json import without_nan
from mfd_cli.dataset.folder import open_dataset
from mfd_cli.evaluation.evaluate import evaluate
from mfd_cli.formats.tables import write_tsv
from mfd_cli.runs.folder import DESCRIPTION, LAST, load_last, load_run
from mfd_cli.settings.project import Project, load_project
from mfd_cli.training.sweep_picture import draw_sweep
from mfd_cli.training.train import train

TOLERANCE = 0.003
SUMMARY = "sweep.json"


@dataclass(frozen=True)
class SweepResult:
    """`rows` per value and seed, `means` per value, the recommended value (text, as given) and why."""

    key: str
    rows: Sequence[Mapping[str, Any]]
    means: Sequence[Mapping[str, Any]]
    recommended: str
    reason: str


def parse_sweep(text: str) -> tuple[str, list[str]]:
    """`KEY=V1,V2,...` as the dotted key and its values; ConfigError where it is something else."""
    key, separator, values = text.partition("=")
    found = [value.strip() for value in values.split(",")]
    if not separator or not key.strip() or not all(found):
        raise ConfigError(
            f"--sweep {text}: expected KEY=VALUE,VALUE,...",
            hint="for example --sweep objective.penalties.covariance.weight=0,0.01,0.03,0.1",
        )
    if len(set(found)) < max(len(found), 2):
        raise ConfigError(f"--sweep {text}: at least two different values are needed, each once")
    return key.strip(), found


def sweep(
    project: Project,
    text: str,
    *,
    seeds: Sequence[int] = (),
    tolerance: float = TOLERANCE,
    gpus: int | None = None,
    resume: bool = False,
    force: bool = False,
    overrides: Sequence[str] = (),
    say: Callable[[str], None] | None = None,
    **callbacks: Any,
) -> SweepResult:
    """Train every value with every seed (default: the configuration's) and recommend one.

    A run that is finished is not trained again with `resume`; one that was interrupted goes on. `overrides` are the --set
    options that `project` was loaded with. The recommended value is the largest (or, where values are not numbers, the
    last) whose mean validation AUROC lies within `tolerance` of the best value's.
    """
    key, values = parse_sweep(text)
    seeds = list(seeds) or [project.config.train.seed]
    folder, rows = project.run / "sweep", []
    if (folder / SUMMARY).exists() and not (resume or force):
        raise OutputError("holds a sweep already", path=folder, hint="--resume goes on with it, --force replaces it")
    for value in values:
        for seed in seeds:
            place = folder / value.replace("/", "_") / f"seed-{seed}"
            one = load_project(
                project.file,
                [*overrides, f"{key}={value}"],
                {"data.dataset": project.dataset, "data.run": place, "train.seed": seed},
            )
            if say:
                say(f"{key} = {value}, seed {seed}")
            rows.append({"value": value, "seed": seed, **measured(one, gpus, resume, force, callbacks)})
    means = [mean_of(value, [row for row in rows if row["value"] == value]) for value in values]
    recommended, reason = recommend(means, tolerance)
    result = SweepResult(key, rows, means, recommended, reason)
    write_tsv(folder / "sweep.tsv", rows)
    summary = {"key": key, "recommended": recommended, "reason": reason, "means": means}
    write_json(folder / SUMMARY, without_nan(summary))
    draw_sweep(folder / "sweep", key, means, recommended, tolerance)
    return result


def measured(
    project: Project, gpus: int | None, resume: bool, force: bool, callbacks: Mapping[str, Any]
) -> dict[str, float]:
    """Train one run, unless it is finished, and measure it on the validation bins: accuracy and leakage."""
    if not (resume and finished(project)):
        going_on = resume and (project.run / LAST).exists()
        train(project, gpus=gpus, resume=going_on, force=force, **callbacks)
    run = load_run(project.run)
    if not run.about["validation"].get("auroc_mean"):
        raise RunError("has no validation AUROC to compare", path=run.path, hint="a sweep needs validation bins")
    found = evaluate(run, open_dataset(project.dataset, verify=False), split="validation")
    return {"auroc": float(run.about["validation"]["auroc_mean"]), **leakage(found.probes)}


def finished(project: Project) -> bool:
    """Whether the run was trained to its end: to its last step, or until nothing improved."""
    stored = load_last(project.run)
    if stored is None or not (project.run / DESCRIPTION).exists():
        return False
    state = stored[1]
    return bool(state["step"] >= state["total_steps"] or state["best"][2] >= project.config.train.patience)


def leakage(probes: Sequence[Mapping[str, Any]]) -> dict[str, float]:
    """What probes find beyond chance: the strongest of them, of what groups contribute and of their latents."""
    result = {}
    for of in ("contributions", "latents"):
        excess = [row["value"] - max(row["chance"], 0) for row in probes if row["of"] == of and row["measure"] == "r2"]
        result[f"leakage_{of}"] = max([0.0, *excess]) if excess else float("nan")
    return result


def mean_of(value: str, rows: Sequence[Mapping[str, Any]]) -> dict[str, Any]:
    """Means and spread over the seeds of one value."""
    result: dict[str, Any] = {"value": value, "seeds": len(rows)}
    for name in ("auroc", "leakage_contributions", "leakage_latents"):
        numbers = [row[name] for row in rows]
        result |= {name: float(np.mean(numbers)), f"{name}_sd": float(np.std(numbers))}
    return result


def recommend(means: Sequence[Mapping[str, Any]], tolerance: float) -> tuple[str, str]:
    """The largest value whose accuracy is within the tolerance of the best, and the reason in a sentence."""
    best = max(means, key=lambda row: row["auroc"])
    close = [row for row in means if row["auroc"] >= best["auroc"] - tolerance]
    try:
        chosen = max(close, key=lambda row: float(row["value"]))
    except ValueError:
        chosen = close[-1]
    loss, leaks = best["auroc"] - chosen["auroc"], chosen["leakage_contributions"]
    reason = (
        f"the largest value within {tolerance:g} of the best AUROC ({best['auroc']:.4f} at {best['value']}): it loses "
        f"{loss:.4f}, and probes explain {leaks:.3f} of one group's contributions from another's"
        if leaks == leaks  # NaN: too few validation bins for probes
        else f"the largest value within {tolerance:g} of the best AUROC; too few validation bins to measure leakage"
    )
    return str(chosen["value"]), reason


def describe(result: SweepResult, folder: Path) -> list[str]:
    """What a sweep ends with, for a person."""
    return [
        f"recommended: --set {result.key}={result.recommended}",
        f"  {result.reason}",
        f"curve: {folder / 'sweep' / 'sweep.png'}",
    ]
