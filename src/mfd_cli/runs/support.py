"""How far the training tracks back a combination of levels: what is known of an experiment that nobody did."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from itertools import combinations
from typing import Literal

import numpy as np

from mfd_cli.base.arrays import Bools
from mfd_cli.core.metadata import MISSING, MetadataEncoder

Support = Literal["measured", "pairwise", "extrapolated", "impossible"]
BEST_FIRST: tuple[Support, ...] = ("measured", "pairwise", "extrapolated", "impossible")
Row = Mapping[str, str]


class Backing:
    """The training tracks' metadata, asked about other rows.

    measured: a training track has all of a row's levels; pairwise: each two of them are seen together; extrapolated: some
    two are not, or a level is unknown; impossible: a factor does not apply to one of the levels (no track of the level has a
    value there, as the target of ATAC-seq), but the row names a value.
    """

    def __init__(self, metadata: MetadataEncoder, rows: Sequence[Row], trained: Bools) -> None:
        self.metadata = metadata
        used = [row for row, keep in zip(rows, trained) if keep]
        self.names = list(metadata.encoders)
        self.levels = {name: metadata.levels(name) for name in self.names}
        self.member = {name: metadata.membership(name, used) for name in self.names}
        self.known = set(self.combinations(used))
        self.unseen, self.impossible = dict[tuple[str, str], Bools](), dict[tuple[str, str], Bools]()
        for a, b in combinations(self.names, 2):
            unseen = (self.member[a].T.astype(np.int64) @ self.member[b]) == 0
            self.unseen[a, b] = unseen
            self.impossible[a, b] = unseen & (self._without(a, b) | self._without(b, a).T)

    def _without(self, a: str, b: str) -> Bools:
        """(levels of a, levels of b) where the level of `a` has no `b`, and the level of `b` is one."""
        is_value = np.array([level != MISSING for level in self.levels[b]])
        return np.outer(inapplicable(self.member[a], self.member[b], self.levels[b]), is_value)

    def of(self, row: Row) -> tuple[Support, str]:
        """Return the support of one row, and why in words."""
        own = {name: self.metadata.membership(name, [row])[0] for name in self.names}
        if self.combinations([row])[0] in self.known:
            return "measured", "training tracks with all of these levels exist"
        unseen = []
        for (a, b), never in self.unseen.items():
            for i, j in np.argwhere(never & np.outer(own[a], own[b])).tolist():
                if self.impossible[a, b][i, j]:
                    f, p, g, q = (a, i, b, j) if self._without(a, b)[i, j] else (b, j, a, i)
                    return (
                        "impossible",
                        f"no track of {f} = {self.levels[f][p]} has a {g}, here it is {self.levels[g][q]}",
                    )
                unseen.append(f"{a} = {self.levels[a][i]} with {b} = {self.levels[b][j]}")
        unknown = [name for name in self.names if not own[name].any()]
        if unseen or unknown:
            reasons = [f"the level of {name} is unknown" for name in unknown]
            return "extrapolated", "; ".join(
                reasons + (["never seen together: " + "; ".join(unseen)] if unseen else [])
            )
        return "pairwise", "each two of these levels are seen together, not all of them"

    def of_all(self, rows: Sequence[Row]) -> list[Support]:
        """Return the support of many rows, without the reasons."""
        own = {name: self.metadata.membership(name, rows) for name in self.names}
        combinations = self.combinations(rows)
        unseen = np.zeros(len(rows), bool)
        impossible = unseen.copy()
        for (a, b), never in self.unseen.items():
            unseen |= _meets(own[a], never, own[b])
            impossible |= _meets(own[a], self.impossible[a, b], own[b])
        for name in self.names:
            unseen |= ~own[name].any(1)
        result: list[Support] = []
        for i in range(len(rows)):
            if combinations[i] in self.known:
                result.append("measured")
            else:
                result.append("impossible" if impossible[i] else "extrapolated" if unseen[i] else "pairwise")
        return result

    def combinations(self, rows: Sequence[Row]) -> list[bytes]:
        """Return what is the same for two rows where they have the same levels of all factors."""
        own = [np.packbits(self.metadata.membership(name, rows), axis=1) for name in self.names]
        return [row.tobytes() for row in np.concatenate(own, 1)] if own else [b""] * len(rows)


def support_of_average(supports: Sequence[Support], others: Sequence[bool]) -> Support:
    """Return how far the training tracks back a mean over conditions, of which each has its support.

    `others` marks the conditions that are not the track's own. A mean is as well backed as the best of those: only they tell
    what the condition does apart from what the track is. Where the track's biology was seen under its own condition alone, the
    two cannot be told apart, and the mean is extrapolated. A mean over the own condition alone has the support of that.
    """
    judged = [support for support, other in zip(supports, others) if other] if any(others) else list(supports)
    return min(judged, key=BEST_FIRST.index)


def _meets(left: Bools, table: Bools, right: Bools) -> Bools:
    """(rows,) whether a level on the left and one on the right of the row are marked in the table."""
    return np.asarray(((left.astype(np.int64) @ table) * right).any(1), bool)


def inapplicable(member: Bools, other: Bools, names: Sequence[str], fewest: int = 2) -> Bools:
    """Return to which levels (levels,) another factor, whose levels are `names`, does not apply.

    At least `fewest` tracks have such a level, none of them has a value of the other factor, and in general the level decides
    whether there is one (as the assay does for the target). `member` is (tracks, levels), `other` (tracks, names).
    """
    if MISSING not in names:
        return np.zeros(member.shape[1], bool)
    missing, count = other[:, list(names).index(MISSING)], member.sum(0)
    without = (member & missing[:, None]).sum(0)
    decided = (without == 0)[count > 0] | (without == count)[count > 0]
    some_have = (without[count > 0] == 0).any()
    if not (decided.all() and some_have):
        return np.zeros(member.shape[1], bool)
    return np.asarray((count >= fewest) & (without == count), bool)
