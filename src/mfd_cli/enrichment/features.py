"""What is measured of a feature, such as a score: ranks, fits and cuts, and how it does beside MFD_DEBIASED.

A signed feature has a direction; its size alone is a second question, so both are answered: AUROC of the score and of |score|.
With direction `absolute` only the size counts, in every number and in the list of selected variants alike. Quantile tables and
the logistic model do not know of a matched design; the conditional model and the AUROC within sets do.
"""

from __future__ import annotations

import math
from collections import deque
from collections.abc import Callable, Iterable, Iterator, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import dataclass
from typing import Any, Literal

import numpy as np

from mfd_cli.base.arrays import Bools, Doubles, Ints
from mfd_cli.base.errors import ConfigError
from mfd_cli.base.progress import Progress
from mfd_cli.base.threads import usable_cores
from mfd_cli.enrichment import models
from mfd_cli.enrichment import statistics as st
from mfd_cli.enrichment.labels import Joined
from mfd_cli.enrichment.models import Fit
from mfd_cli.enrichment.score_table import ScoreTable
from mfd_cli.enrichment.statistics import Estimate

Row = dict[str, Any]
Direction = Literal["both", "absolute"]
DIRECTIONS = ("both", "absolute")
COMPARED = ("max", "shared", "group", "debiased")
"""Kinds of features that stand beside MFD_DEBIASED."""
REFERENCE = "MFD_DEBIASED"
KINDS = {
    "MFD_MAX_DLOGIT": "max", "MFD_SHARED": "shared", "MFD_DEBIASED": "debiased", "MFD_": "group",
    "level.": "level", "track.": "track", "ref_probability": "probability", "alt_probability": "probability",
}  # fmt: skip
"""Kind of a feature by how its name begins; the first that fits."""
MOST_THREADS = 16
"""More would only hold more columns in memory."""


@dataclass(frozen=True)
class EnrichSettings:
    """How the features are measured."""

    quantiles: tuple[float, ...]
    direction: Direction
    fdr: float

    def __post_init__(self) -> None:
        if not self.quantiles or not all(0 < quantile < 1 for quantile in self.quantiles):
            raise ConfigError("quantiles lie between 0 and 1, both ends excluded")
        if self.direction not in DIRECTIONS:
            raise ConfigError(f"the direction is {self.direction!r}, not one of {', '.join(DIRECTIONS)}")
        if not 0 < self.fdr < 1:
            raise ConfigError(f"the false discovery rate is {self.fdr:g}; it lies between 0 and 1")

    def used(self, values: Doubles) -> Doubles:
        """Return the score that is tested, and by which variants are selected."""
        return np.abs(values) if self.direction == "absolute" else values


def kind_of(feature: str) -> str:
    """Return what a feature is, by its name.

    >>> kind_of("MFD_DEBIASED"), kind_of("MFD_BIO"), kind_of("level.target=CTCF"), kind_of("CADD")
    ('debiased', 'group', 'level', 'other')
    """
    return next((kind for start, kind in KINDS.items() if feature.startswith(start)), "other")


def measured(
    table: ScoreTable, names: Sequence[str], joined: Joined, settings: EnrichSettings, progress: Progress | None
) -> tuple[list[Row], list[Row]]:
    """Return a row per feature and a row per feature and quantile, with q-values over all features, and over all cuts."""
    rows, cuts = list[Row](), list[Row]()

    def jobs() -> Iterator[Callable[[], tuple[Row, list[Row]]]]:
        for name in names:
            values = table.column(name, joined.rows)
            yield lambda name=name, values=values: measure(name, values, joined, settings)  # type: ignore[misc]

    for done, (row, own_cuts) in enumerate(in_threads(jobs()), start=1):
        rows.append(row)
        cuts += own_cuts
        if progress:
            progress("measuring features", done, len(names))
    return with_q(rows), with_q(cuts)


def in_threads(jobs: Iterable[Callable[[], tuple[Row, list[Row]]]]) -> Iterator[tuple[Row, list[Row]]]:
    """Yield the results of the jobs, in order. Few of them wait at a time, because each holds a column."""
    threads = min(usable_cores(), MOST_THREADS)
    waiting: deque[Future[tuple[Row, list[Row]]]] = deque()
    with ThreadPoolExecutor(threads) as pool:
        for job in jobs:
            waiting.append(pool.submit(job))
            if len(waiting) > threads:
                yield waiting.popleft().result()
        while waiting:
            yield waiting.popleft().result()


def measure(name: str, values: Doubles, joined: Joined, settings: EnrichSettings) -> tuple[Row, list[Row]]:
    """Return all about one feature: its row of features.tsv and its rows of quantiles.tsv, without q-values."""
    known = ~np.isnan(values)
    used, positive = settings.used(values[known]), joined.positive[known]
    ranking = st.rank(used, positive)
    row = {"feature": name, "kind": kind_of(name), "score": _score_name(settings), **class_row(used, positive, known)}
    row |= spread("auroc", st.auroc(ranking))
    size = ranking if settings.direction == "absolute" or not (used < 0).any() else st.rank(np.abs(used), positive)
    if settings.direction == "both":
        row |= spread("auroc_absolute", st.auroc(size))
    row["auprc"] = st.average_precision(ranking)
    if settings.direction == "both":
        row["auprc_absolute"] = st.average_precision(size)
    row |= fitted("logistic", models.logistic(_scaled(used, row["sd"]), positive))
    row |= matched_row(used, st.ranks(ranking), known, joined, row["sd"])
    return row, [
        {"feature": name, "score": row["score"], **cut_row(ranking, q)} for q in settings.quantiles if len(used)
    ]


def _score_name(settings: EnrichSettings) -> str:
    return "absolute" if settings.direction == "absolute" else "signed"


def class_row(values: Doubles, positive: Bools, known: Bools) -> Row:
    """Return how many variants have a score, and how the classes' means differ; `values` are those of the `known` ones."""
    count, hits = len(values), int(positive.sum())
    both = 0 < hits < count
    return {
        "n": count,
        "n_positive": hits,
        "n_negative": count - hits,
        "n_missing": len(known) - count,
        "prevalence": hits / count if count else math.nan,
        "mean_difference": float(values[positive].mean() - values[~positive].mean()) if both else math.nan,
        "sd": float(values.std(ddof=1)) if count > 1 else math.nan,
    }


def _scaled(values: Doubles, sd: float) -> Doubles:
    """Return scores in standard deviations; a constant one stays what it is."""
    return values / sd if sd > 0 else values


def matched_row(values: Doubles, ranks: Ints, known: Bools, joined: Joined, sd: float) -> Row:
    """Return statistics within the sets of a matched design; nothing without one. Scores and ranks are those of the `known`."""
    if joined.sets is None:
        return {}
    sets, place = joined.sets.only(known[joined.sets.members]), np.cumsum(known) - 1
    inside = place[sets.members]
    fit = models.conditional_logistic(_scaled(values[inside], sd), sets)
    areas = models.areas_within(ranks[inside], sets)
    return {"sets": len(sets), **spread("within_set_auroc", models.auroc_within(areas)), **fitted("conditional", fit)}


def spread(name: str, estimate: Estimate) -> Row:
    """Return an estimate as columns; the q-value comes later."""
    value, se, low, high, p = estimate
    return {
        name: value,
        f"{name}_se": se,
        f"{name}_low": low,
        f"{name}_high": high,
        f"{name}_p": p,
        f"{name}_q": math.nan,
    }


def fitted(name: str, fit: Fit) -> Row:
    """Return a model as columns, per standard deviation of the score."""
    return {
        f"{name}_coefficient": fit.coefficient,
        f"{name}_se": fit.se,
        f"{name}_z": fit.z,
        f"{name}_p": fit.p,
        f"{name}_q": math.nan,
        f"{name}_low": fit.low,
        f"{name}_high": fit.high,
        f"{name}_pseudo_r2": fit.pseudo_r2,
        f"{name}_outcome": fit.outcome,
    }


def cut_row(ranking: st.Ranking, quantile: float) -> Row:
    """Return what a cut at a quantile selects, by class, and the odds ratio."""
    cut, table = st.cut_at(ranking, quantile)
    ratio = st.odds_ratio(table)
    return {
        "quantile": quantile,
        "tail": "upper" if quantile >= 0.5 else "lower",
        "cut": cut,
        "n_selected": table.selected_positive + table.selected_negative,
        **table._asdict(),
        "odds_ratio": ratio.value,
        "odds_ratio_low": ratio.low,
        "odds_ratio_high": ratio.high,
        "haldane_corrected_interval": "yes" if ratio.corrected else "no",
        "fisher_p": st.fisher_exact(table),
        "fisher_q": math.nan,
    }


def with_exact_cut(row: Row) -> Row:
    """Return a row whose cut is written with all its digits: a rounded one would select other variants."""
    return {**row, "cut": repr(row["cut"])}


def with_q(rows: list[Row]) -> list[Row]:
    """Fill in every `_q` from its `_p`, over all rows of a table, and return them: one family of tests per column."""
    for name in [name for name in (rows[0] if rows else ()) if name.endswith("_q")]:
        q = st.benjamini_hochberg([row.get(f"{name.removesuffix('_q')}_p", math.nan) for row in rows])
        for row, value in zip(rows, q.tolist()):
            row[name] = value
    return rows


def compare(table: ScoreTable, joined: Joined, settings: EnrichSettings) -> list[Row]:
    """Return the fields of the model side by side, each against MFD_DEBIASED on the variants with both; none without it.

    The debiased score is a size, so that the sizes of signed fields are its equals; their signed versions stand beside.
    """
    if REFERENCE not in table.features:
        return []
    reference = np.abs(table.column(REFERENCE, joined.rows))
    absolute = EnrichSettings(settings.quantiles, "absolute", settings.fdr)
    rows = []
    for name in (name for name in table.features if kind_of(name) in COMPARED):
        values = table.column(name, joined.rows)
        signed = settings.direction == "both" and bool((values < 0).any())
        for how in (settings, absolute) if signed else (absolute,):
            row, cuts = measure(name, values, joined, how)
            shown = {key: value for key, value in row.items() if key != "kind" and "absolute" not in key}
            ratios = {f"odds_ratio_{cut['quantile']:g}": cut["odds_ratio"] for cut in cuts}
            beside = differences(how.used(values), reference, joined) if name != REFERENCE else {}
            rows.append({**shown, **ratios, **beside})
    return with_q(rows)


def differences(values: Doubles, reference: Doubles, joined: Joined) -> Row:
    """Return AUROC minus that of the reference on the same variants (DeLong, paired), and the same within sets."""
    known = ~(np.isnan(values) | np.isnan(reference))
    positive = joined.positive[known]
    rankings = [st.rank(score[known], positive) for score in (values, reference)]
    one, other = (st.placements(ranking, positive) for ranking in rankings)
    row = {"n_paired": int(known.sum()), **spread("auroc_difference", st.paired_difference(one, other, positive))}
    if joined.sets is None:
        return row
    sets, place = joined.sets.only(known[joined.sets.members]), np.cumsum(known) - 1
    areas = [models.areas_within(st.ranks(ranking)[place[sets.members]], sets) for ranking in rankings]
    return row | spread("within_set_difference", models.difference_within(*areas))
