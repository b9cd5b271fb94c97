"""What factors and groups can be called, and what is called after them: names of columns, of fields, of parts of a logit."""

from __future__ import annotations

import re
from collections.abc import Sequence

BIOLOGICAL, TECHNICAL = "biological", "technical"
TOTAL, SHARED, DEBIASED, RESIDUAL = "total", "shared", "debiased", "residual"
"""Parts of a logit beside those of groups and factors."""
ALL = "all"
"""Every factor, on the command line."""


SCORES = (
    "bins", "positives", "prevalence", "auroc", "auroc_occupied", "auprc", "auprc_over_prevalence", "calibration", "pearson",
    "spearman", "deviance_explained",
)  # fmt: skip
"""Columns of scores, in the table of tracks."""
OTHER_COLUMNS = frozenset(
    ("track", "kind", "trained", "id", *SCORES)
    + ("experiment", "bias", "support", "why", "most_like", "deviation", "error", "reliability")
    + ("output", "file", "part", "scale")
)
"""What tables of tracks, of experiments and of outputs, and queries, have beside one column per factor."""


def wrong_factor_name(name: str) -> str:
    """Return why a factor cannot have a name; empty where it can."""
    if not re.fullmatch(r"[A-Za-z][A-Za-z0-9_-]*", name):
        return "the name of a factor is letters, digits, - and _, starting with a letter"
    plain = name.lower()
    if plain in (TOTAL, SHARED, DEBIASED, ALL):
        return f"no factor can be called {name!r}, which means something else in tables and on the command line"
    if plain in OTHER_COLUMNS or plain.startswith("share_"):
        return f"no factor can be called {name!r}: tables have another column of that name (write [factors.my_{plain}])"
    return ""


def factor_name(name: str) -> str:
    """Return a name that a factor can have; ValueError for another."""
    if wrong := wrong_factor_name(name):
        raise ValueError(wrong)
    return name


SHORT_GROUPS = {BIOLOGICAL: "BIO", TECHNICAL: "TECH"}
"""Groups whose field of the scores has a short name: MFD_BIO, MFD_TECH."""
FIELDS_OF_NO_PART = ("MAX_DLOGIT", "TRACK", "FLAGS", "BG_QUANTILE", "BG_DEBIASED")
"""Fields of the scores (MFD_MAX_DLOGIT ...) that belong to no part of a logit."""
SURE = "_SD"
"""End of the fields that say how sure the split between parts is, behind the name of the field that it is about."""
SURE_COLUMN = ".sd"
"""End of the columns of predictions that say how sure a part is, behind the name of the column that it is about."""
TECHNICAL_BY_NAME = re.compile("tech|batch|protocol|platform|lab(oratory)?s?$|nuisance", re.IGNORECASE)
"""What a group of technical factors is often called."""


def field_name(group: str) -> str:
    """Return what a group's field of the scores is called, without MFD_: letters, digits and _ in upper case.

    >>> field_name("technical"), field_name("my batch")
    ('TECH', 'MY_BATCH')
    """
    return SHORT_GROUPS.get(group) or re.sub("[^A-Z0-9]", "_", group.upper())


def check_group_names(names: Sequence[str]) -> None:
    """Raise ValueError where a group is called as another part of a logit, or its field of the scores as another field."""
    taken = {**{name: f"MFD_{name}" for name in FIELDS_OF_NO_PART}, **{s: repr(g) for g, s in SHORT_GROUPS.items()}}
    groups: dict[str, str] = {}
    for name in names:
        if name.lower() in (TOTAL, SHARED, DEBIASED, RESIDUAL):
            raise ValueError(f"model.groups: no group can be called {name!r}, which is another part of a logit")
        field = field_name(name)
        if field in taken and name not in SHORT_GROUPS:
            raise ValueError(
                f"model.groups: no group can be called {name!r}: its field of the scores would be that of {taken[field]}"
            )
        if field.endswith(SURE):
            raise ValueError(
                f"model.groups: no group can be called {name!r}: MFD_{field} would say how sure another score is"
            )
        other = groups.setdefault(field, name)
        if other != name:
            raise ValueError(f"model.groups: the names {other!r} and {name!r} are too much alike")
