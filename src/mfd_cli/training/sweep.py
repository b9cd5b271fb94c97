"""`mfd train --sweep KEY=V1,V2,...`: train once per value and seed, and weigh accuracy against leakage.

Two trainings that differ in their seed alone differ too. So every value is trained with two seeds or more, and a value is
recommended in place of the first one only where it gains more than seeds alone would make between any two of so many values
(Tukey's honestly significant difference, from the deviation over seeds at the same value).

RUN/sweep/VALUE/seed-N/     a run folder each, with its evaluation on the validation bins
RUN/sweep/sweep.tsv         a row per value and seed
RUN/sweep/sweep.json        the means per value, the noise of seeds and the recommendation
RUN/sweep/sweep.png .svg    the curve
"""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping, Sequence
from dataclasses import asdict, dataclass
from functools import cache
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
from scipy.stats import studentized_range

from mfd_cli.base.errors import ConfigError, OutputError, RunError
from mfd_cli.base.files import write_json
from mfd_cli.base.stored_json import without_nan
from mfd_cli.dataset.folder import open_dataset
from mfd_cli.engine.checkpoint import DESCRIPTION, LAST
from mfd_cli.evaluation.evaluate import evaluate
from mfd_cli.formats.tables import write_tsv
from mfd_cli.runs.folder import Run, load_last, load_run
from mfd_cli.settings.project import Project, load_project
from mfd_cli.training.resume import plan_of
from mfd_cli.training.start import started
from mfd_cli.training.sweep_picture import draw_sweep
from mfd_cli.training.train import train

TOLERANCE = 0.003
"""How much of the accuracy the recommended value may lose."""
MEASURES = {"auroc": "AUROC", "pearson": "correlation"}
"""What measures accuracy, by the first of these that there is, and what it is called: AUROC of peaks, or signals alone."""
LEAKAGES = ("leakage_contributions", "leakage_latents")
SUMMARY = "sweep.json"
FEWEST_SEEDS = 2
"""Of one seed nobody knows what another would have made of the same value."""
CONFIDENCE = 0.95
"""Share of sweeps in which seeds alone make no two values differ by more than `SeedNoise.least`."""


class SeedNoise(NamedTuple):
    """The standard deviation over seeds at one value, and the least difference of two values' means that is beyond it."""

    deviation: float
    least: float


@dataclass(frozen=True)
class SweepResult:
    """`rows` per value and seed, `means` per value, the recommended value (text, as it was written) and why.

    `recommended` is None where no value can be told from the first one. `measure` is the column of both that holds the
    accuracy: one of MEASURES. `noise` is that of this column and of those of LEAKAGES.
    """

    key: str
    measure: str
    rows: Sequence[Mapping[str, Any]]
    means: Sequence[Mapping[str, Any]]
    noise: Mapping[str, SeedNoise]
    recommended: str | None
    reason: str

    def to_json(self) -> dict[str, Any]:
        """Return the same as plain values."""
        return {**asdict(self), "noise": {name: noise._asdict() for name, noise in self.noise.items()}}

    def lines(self, folder: Path) -> list[str]:
        """Return what a sweep ends with, for a person; `folder` is the project's run."""
        first = self.means[0]["value"]
        change = f"recommended: --set {self.key}={self.recommended}"
        return [
            change if self.recommended is not None else f"no change is recommended from --set {self.key}={first}",
            f"  {self.reason}",
            f"curve: {folder / 'sweep' / 'sweep.png'}",
        ]


def parse_sweep(text: str) -> tuple[str, list[str]]:
    """Return the dotted key and the values of `KEY=V1,V2,...`; ConfigError where it is something else."""
    key, separator, listed = text.partition("=")
    values = [value.strip() for value in listed.split(",")]
    if not separator or not key.strip() or not all(values):
        raise ConfigError(
            f"--sweep {text}: expected KEY=VALUE,VALUE,...",
            hint="for example --sweep objective.penalties.covariance.weight=0,0.01,0.03,0.1",
        )
    if len(set(values)) < max(len(values), 2):
        raise ConfigError(f"--sweep {text}: at least two different values are needed, each once")
    return key.strip(), values


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
    """Train every value with every seed (default: the configuration's) and recommend one, or none.

    Fewer than FEWEST_SEEDS seeds are made up by the numbers that follow. A run that is finished is not trained again with
    `resume`; one that was interrupted goes on. `overrides` are the --set options that `project` was loaded with.

    The recommended value is the largest (or, where values are not numbers, the last) whose mean accuracy on the validation bins
    lies within `tolerance` of the best value's, and which gains more than the noise of seeds over the first value, in accuracy
    or in leakage. Accuracy is the AUROC of the peak tracks, or the correlation of signals where there are no peaks. RunError
    where a run has neither, ConfigError where the key is a penalty and the head has no subspaces.
    """
    key, values = parse_sweep(text)
    seeds = list(seeds) or [project.config.train.seed]
    seeds += [max(seeds) + more for more in range(1, 1 + FEWEST_SEEDS - len(seeds))]
    folder, rows = project.run / "sweep", []
    if (folder / SUMMARY).exists() and not (resume or force):
        raise OutputError("holds a sweep already", path=folder, hint="--resume goes on with it, --force replaces it")
    for value in values:
        for seed in seeds:
            one = load_project(
                project.file,
                [*overrides, f"{key}={value}"],
                {
                    "data.dataset": project.dataset,
                    "data.run": folder / value.replace("/", "_") / f"seed-{seed}",
                    "train.seed": seed,
                },
            )
            if key.startswith("objective.penalties.") and not one.config.has_subspaces:
                raise ConfigError(
                    f"--sweep {key}: penalties do nothing, the groups have no latents of their own",
                    hint="--head conditioned gives them some",
                )
            if say:
                say(f"{key} = {value}, seed {seed}")
            rows.append({"value": value, "seed": seed, **measured(one, gpus, resume, force, callbacks)})
    measure = next(name for name in MEASURES if name in rows[0])
    means = [mean_of(value, [row for row in rows if row["value"] == value], measure) for value in values]
    noise = {name: seed_noise(rows, name) for name in (measure, *LEAKAGES)}
    recommended, reason = recommend(means, noise, tolerance, measure)
    result = SweepResult(key, measure, rows, means, noise, recommended, reason)
    write_tsv(folder / "sweep.tsv", rows)
    summary = {
        "key": key,
        "measure": measure,
        "recommended": recommended,
        "reason": reason,
        "noise": {name: of._asdict() for name, of in noise.items()},
        "means": means,
    }
    write_json(folder / SUMMARY, without_nan(summary))
    draw_sweep(folder / "sweep", key, means, recommended, tolerance, measure, MEASURES[measure])
    return result


def measured(
    project: Project, gpus: int | None, resume: bool, force: bool, callbacks: Mapping[str, Any]
) -> dict[str, float]:
    """Train one run, unless it is finished, and measure it on the validation bins: accuracy and leakage."""
    if not (resume and finished(project)):
        going_on = resume and (project.run / LAST).exists()
        train(project, gpus=gpus, resume=going_on, force=force, **callbacks)
    run = load_run(project.run)
    accuracy = accuracy_of(run)
    evaluation = evaluate(run, open_dataset(project.dataset, verify=False), split="validation")
    return {**accuracy, **leakage(evaluation.probes)}


def accuracy_of(run: Run) -> dict[str, float]:
    """Return the first of MEASURES that the run's best validation has; RunError where it has none."""
    validation = run.about["validation"]
    for name in MEASURES:
        if f"{name}_mean" in validation:
            return {name: float(validation[f"{name}_mean"])}
    raise RunError(
        "has no validation AUROC or correlation to compare",
        path=run.path,
        hint="a sweep needs validation bins, with peaks or with a signal that varies",
    )


def finished(project: Project) -> bool:
    """Return whether the run was trained to its end with these settings: to its last step, or until nothing improved."""
    stored = load_last(project.run)
    if stored is None or not (project.run / DESCRIPTION).exists():
        return False
    state = stored[1]
    project, _ = started(project, state)
    if state["plan"] != plan_of(project.config):  # more epochs are trained; anything else is refused with its name
        return False
    return bool(state["step"] >= state["total_steps"] or state["best"][2] >= project.config.train.patience)


def leakage(probes: Sequence[Mapping[str, Any]]) -> dict[str, float]:
    """Return what the strongest probe finds beyond chance, of what groups contribute and of their latents; NaN without one."""
    result = {}
    for name in LEAKAGES:
        of = name.removeprefix("leakage_")
        excess = [row["value"] - max(row["chance"], 0) for row in probes if row["of"] == of and row["measure"] == "r2"]
        result[name] = max([0.0, *excess]) if excess else float("nan")
    return result


def mean_of(value: str, rows: Sequence[Mapping[str, Any]], measure: str) -> dict[str, Any]:
    """Return means and standard deviations over the seeds of one value; NaN where there are no probes of leakage."""
    result: dict[str, Any] = {"value": value, "seeds": len(rows)}
    for name in (measure, *LEAKAGES):
        numbers = [row[name] for row in rows]
        result |= {name: float(np.mean(numbers)), f"{name}_sd": float(np.std(numbers, ddof=1))}
    return result


def seed_noise(rows: Sequence[Mapping[str, Any]], name: str) -> SeedNoise:
    """Return the noise of seeds in one column of the rows, which hold every value with the same number of seeds, two or more.

    The deviation is pooled over the values. The least difference is that of Tukey's test: in a sweep in which no value matters,
    the highest and the lowest of all means are further apart in one of twenty cases.
    """
    of_value: dict[str, list[float]] = {}
    for row in rows:
        of_value.setdefault(row["value"], []).append(row[name])
    table = np.array(list(of_value.values()))  # (values, seeds)
    values, seeds = table.shape
    deviation = float(np.sqrt(table.var(axis=1, ddof=1).mean()))
    return SeedNoise(deviation, widest_range(values, values * (seeds - 1)) * deviation / math.sqrt(seeds))


@cache
def widest_range(values: int, freedom: int) -> float:
    """Return the CONFIDENCE quantile of the studentised range of so many means with so many degrees of freedom."""
    return float(studentized_range.ppf(CONFIDENCE, values, freedom))


def recommend(
    means: Sequence[Mapping[str, Any]], noise: Mapping[str, SeedNoise], tolerance: float, measure: str = "auroc"
) -> tuple[str | None, str]:
    """Return the value to take in place of the first one, or None, and the reason in a sentence.

    It is the largest value whose accuracy is within the tolerance of the best and that gains more than `noise` over the first.
    """
    first, best = means[0], max(means, key=lambda row: row[measure])
    close = [row for row in means if row[measure] >= best[measure] - tolerance and gains(row, first, noise, measure)]
    accuracy, leakage = noise[measure], noise[LEAKAGES[0]]
    no_probes = math.isnan(leakage.deviation)
    name = MEASURES[measure]
    seeds = f"seeds alone make differences of {accuracy.least:.4f} in {name}" + (
        "; there are no probes of leakage: too few bins, or one group"
        if no_probes
        else f" and of {leakage.least:.3f} in leakage"
    )
    if not close:
        return None, (
            f"with {first['seeds']} seeds no value within {tolerance:g} of the best {name} can be told from {first['value']}: "
            f"{seeds}"
        )
    try:
        chosen = max(close, key=lambda row: float(row["value"]))
    except ValueError:
        chosen = close[-1]
    leaks = "" if no_probes else f", leakage of {chosen[LEAKAGES[0]]:.3f} after {first[LEAKAGES[0]]:.3f}"
    return str(chosen["value"]), (
        f"the largest value within {tolerance:g} of the best {name} ({best[measure]:.4f} at {best['value']}) that can be told "
        f"from {first['value']}: {name} {chosen[measure]:.4f} after {first[measure]:.4f}{leaks}; {seeds}"
    )


def gains(row: Mapping[str, Any], first: Mapping[str, Any], noise: Mapping[str, SeedNoise], measure: str) -> bool:
    """Return whether a value's mean accuracy is higher, or its leakage lower, than the first one's by more than seeds make."""
    leakage = LEAKAGES[0]
    more, less = (
        row[measure] - first[measure],
        first[leakage] - row[leakage],
    )  # NaN, where there are no probes, is no gain
    return bool(more > noise[measure].least or less > noise[leakage].least)
