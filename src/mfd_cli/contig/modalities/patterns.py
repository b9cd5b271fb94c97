"""Which persons have which modalities, counted."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import numpy as np

from mfd_cli.base.arrays import Bools
from mfd_cli.contig.data.persons import SPLITS, People

PATTERNS = ("modalities", "persons", *SPLITS)
"""The columns of patterns.tsv."""
NOTHING = "none of them"


def patterns_of(has: Mapping[str, Bools], people: People) -> list[dict[str, Any]]:
    """Return, for each set of modalities that persons have, how many have it, in all and in each split; the most first.

    `has` says of each modality who (people,) has it.
    """
    number = sum(who.astype(np.int64) << place for place, who in enumerate(has.values()))
    rows = []
    for pattern in np.unique(number).tolist():
        own = number == pattern
        names = [name for place, name in enumerate(has) if pattern >> place & 1]
        counts = {split: int((own & (people.split == code)).sum()) for code, split in enumerate(SPLITS)}
        rows.append({"modalities": " + ".join(names) or NOTHING, "persons": int(own.sum()), **counts})
    return sorted(rows, key=lambda row: -row["persons"])
