"""Whether a training that goes on is the one that was begun: its settings, compared one by one."""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

from mfd_cli.base.errors import ConfigError

SHOWN = 4
"""Settings that an error names; of more it says how many."""


def check_plan(
    then: Mapping[str, Any], now: Mapping[str, Any], file: Path, may_change: Sequence[str], hint: str
) -> None:
    """Raise ConfigError, which names the settings with both values, where a plan is not that which `file` holds.

    Those that `may_change` may be others.
    """
    before, present = dict(dotted(then)), dict(dotted(now))
    changed = [key for key in {**before, **present} if before.get(key) != present.get(key) and key not in may_change]
    if not changed:
        return
    sentences = [f"{key} was {shown(before, key)} and is {shown(present, key)} now" for key in changed[:SHOWN]]
    more = [f"{len(changed) - SHOWN} more"] if len(changed) > SHOWN else []
    raise ConfigError(
        f"the run was started with other settings: {'; '.join(sentences + more)}",
        path=file,
        hint=hint,
    )


def dotted(tree: Mapping[str, Any], prefix: str = "") -> Iterator[tuple[str, Any]]:
    """Yield every value of a tree of settings with its dotted name.

    >>> dict(dotted({"train": {"lr": 0.1, "seed": 1}}))
    {'train.lr': 0.1, 'train.seed': 1}
    """
    for key, value in tree.items():
        if isinstance(value, Mapping) and value:
            yield from dotted(value, f"{prefix}{key}.")
        else:
            yield f"{prefix}{key}", value


def shown(settings: Mapping[str, Any], key: str) -> str:
    """Return the value of a setting as mfd.toml would have it, or that it is not set."""
    value = settings.get(key)
    return "not set" if value is None else json.dumps(value)[:80]
