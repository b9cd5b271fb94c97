"""What `--fix` and `--experiment` mean: factors replaced by a level, or by the mean over the conditions that were used."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from mfd_cli.base.errors import ConfigError, MetadataError, nearest
from mfd_cli.core.metadata import NumberEncoder
from mfd_cli.runs.folder import Run
from mfd_cli.settings.names import TECHNICAL

AVERAGE = "average"


@dataclass(frozen=True)
class Fix:
    """Factors that are replaced together, by a level or (None) by the mean over the combinations that were used."""

    factors: tuple[str, ...]
    level: str | None


def parse_fix(run: Run, text: str) -> Fix:
    """Return the fix that a text such as `assay=ATAC-seq`, `lab=average` or `technical=average` asks for.

    `technical` is every technical group (model.technical). ConfigError where a name or level is unknown, and for a group
    without factors.
    """
    asked, groups = f"--fix {text!r}", factors_of_groups(run)
    name, level = parse_assignment(asked, text, "FACTOR=LEVEL or GROUP=average", "--fix technical=average")
    if name in run.model.factors:
        if means_average(run, name, level):
            return Fix((name,), None)
        check_level(asked, run, name, level)
        return Fix((name,), level)
    if name not in groups:
        near = nearest(name, [*run.model.factors, *groups])
        raise ConfigError(f"{asked}: there is no factor or group {name!r}{near}")
    if level != AVERAGE:
        raise ConfigError(f"{asked}: a group can only be fixed at its average", hint=f"--fix {name}=average")
    if not groups[name]:
        raise ConfigError(
            f"{asked}: no factor is in the group {name!r}", hint="model.technical says which groups are technical"
        )
    return Fix(groups[name], None)


def parse_assignment(asked: str, text: str, form: str, example: str) -> tuple[str, str]:
    """Return the two halves of NAME=VALUE. ConfigError where one is missing; `asked` is the option as it was written."""
    name, _, value = (part.strip() for part in text.partition("="))
    if not name or not value:
        raise ConfigError(f"{asked}: expected {form}", hint=example)
    return name, value


def means_average(run: Run, factor: str, level: str) -> bool:
    """Return whether a level is the word `average`, and not a level of that name."""
    return level == AVERAGE and level not in run.model.metadata.levels(factor)


def check_level(asked: str, run: Run, factor: str, cell: str) -> None:
    """Raise ConfigError where a cell holds a level that the factor does not have: any one of several with commas."""
    encoder = run.model.metadata.encoders[factor]
    try:
        levels = [] if isinstance(encoder, NumberEncoder) else encoder.split(cell)
        encoder.encode([cell], "mean")  # a number that is none
    except MetadataError as error:
        raise ConfigError(f"{asked}: {error.message}", hint=error.hint) from error
    unknown = next((level for level in levels if level not in encoder.levels), None)
    if unknown is not None:
        raise ConfigError(f"{asked}: {factor} has no level {unknown!r}{nearest(unknown, encoder.levels)}")


def factors_of_groups(run: Run) -> dict[str, tuple[str, ...]]:
    """Return the factors of every group, and of all technical groups together under the name `technical`."""
    group_of = {name: factor.group for name, factor in run.model.factors.items()}
    members = {group: {group} for group in run.model.groups} | {TECHNICAL: set(run.model.settings.technical)}
    return {name: tuple(factor for factor, group in group_of.items() if group in own) for name, own in members.items()}


def combinations_of(run: Run, fixes: Sequence[Fix]) -> list[dict[str, str]]:
    """Return what the fixed columns are replaced by: the fixed levels, with each combination of averaged ones that was used."""
    columns = run.model.metadata.columns
    levels = {columns[fix.factors[0]]: fix.level for fix in fixes if fix.level is not None}
    averaged = [columns[factor] for fix in fixes if fix.level is None for factor in fix.factors]
    used = [row for row, keep in zip(run.model.rows, run.model.trained) if keep]
    distinct = dict.fromkeys(tuple(row[column] for column in averaged) for row in used)
    return [{**levels, **dict(zip(averaged, values))} for values in distinct]
