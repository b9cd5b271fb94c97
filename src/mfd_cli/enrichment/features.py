"""What is measured of a feature, such as a score: ranks, fits and cuts, and how it does beside MFD_DEBIASED.

A signed feature has a direction; its size alone is a second question, so both are answered: AUROC of the score and of |score|.
With direction `absolute` only the size counts, in every number and in the list of selected variants alike. Quantile tables and
the logistic model do not know of a matched design; the conditional model and the AUROC within sets do. Standard errors and p
are over blocks of the genome.
"""

from __future__ import annotations

import math
from collections import deque
from collections.abc import Callable, Iterable, Iterator, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import dataclass
from functools import partial
from typing import Any, Literal, NamedTuple

import numpy as np

from mfd_cli.base.arrays import Bools, Doubles, Ints
from mfd_cli.base.errors import ConfigError
from mfd_cli.base.progress import Progress
from mfd_cli.base.threads import usable_cores
from mfd_cli.enrichment import models
from mfd_cli.enrichment import statistics as st
from mfd_cli.enrichment.blocks import Blocks
from mfd_cli.enrichment.contexts import Contexts
from mfd_cli.enrichment.jackknife import Estimate, mean_over_blocks
from mfd_cli.enrichment.labels import Joined
from mfd_cli.enrichment.models import Fit, Sets
from mfd_cli.enrichment.score_table import ScoreTable

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


@dataclass(frozen=True)
class Design:
    """What is known of the labelled variants besides their scores: (n,) `rows` of the table, classes and blocks; and sets.

    `contexts` (n,) are numbers of trinucleotide changes, negative where there is none; without a genome they are not known.
    """

    rows: Ints
    positive: Bools
    sets: Sets | None
    blocks: Ints
    block_count: int
    contexts: Ints | None = None

    @property
    def halves(self) -> tuple[Bools, Bools]:
        """Return (n,) whether each variant is in the first half of the blocks, and whether in the second: every other one."""
        first = self.blocks % 2 == 0
        return first, ~first


def design_of(joined: Joined, blocks: Blocks, contexts: Contexts | None) -> Design:
    """Return the design of joined variants in these blocks, with their trinucleotide changes if those are known."""
    number = None if contexts is None else contexts.number
    return Design(joined.rows, joined.positive, joined.sets, blocks.number, blocks.count, number)


def kind_of(feature: str) -> str:
    """Return what a feature is, by its name.

    >>> kind_of("MFD_DEBIASED"), kind_of("MFD_BIO"), kind_of("level.target=CTCF"), kind_of("CADD")
    ('debiased', 'group', 'level', 'other')
    """
    return next((kind for start, kind in KINDS.items() if feature.startswith(start)), "other")


class Measured(NamedTuple):
    """Rows of one feature or of all: of features.tsv, of quantiles.tsv, and cuts of each half of the blocks."""

    features: list[Row]
    cuts: list[Row]
    half_cuts: list[Row]


def measured(
    table: ScoreTable, names: Sequence[str], design: Design, settings: EnrichSettings, progress: Progress | None
) -> Measured:
    """Return all rows of these features, with q-values over all features, over all cuts, and over all cuts of halves."""
    all_rows = Measured([], [], [])

    def jobs() -> Iterator[Callable[[], Measured]]:
        for name in names:
            yield partial(measure_with_halves, name, table.column(name, design.rows), design, settings)

    for done, own in enumerate(in_threads(jobs()), start=1):
        for rows, further in zip(all_rows, own):
            rows += further
        if progress:
            progress("measuring features", done, len(names))
    return Measured(*map(with_q, all_rows))


def in_threads(jobs: Iterable[Callable[[], Measured]]) -> Iterator[Measured]:
    """Yield the results of the jobs, in order. Few of them wait at a time, because each holds a column."""
    threads = min(usable_cores(), MOST_THREADS)
    waiting: deque[Future[Measured]] = deque()
    with ThreadPoolExecutor(threads) as pool:
        for job in jobs:
            waiting.append(pool.submit(job))
            if len(waiting) > threads:
                yield waiting.popleft().result()
        while waiting:
            yield waiting.popleft().result()


def measure_with_halves(name: str, values: Doubles, design: Design, settings: EnrichSettings) -> Measured:
    """Return all about one feature, without q-values: its row, its cuts, and its cuts in each half of the blocks."""
    row, cuts = measure(name, values, design, settings)
    used, halves = settings.used(values), list[Row]()
    for number, half in enumerate(design.halves, start=1):
        known = half & ~np.isnan(values)
        positive, blocks = design.positive[known], design.blocks[known]
        ranking, everything = st.rank(used[known], positive), st.class_counts(positive, blocks, design.block_count)
        begins = {"feature": name, "score": row["score"], "half": number}
        halves += [
            begins | cut_row(ranking, quantile, positive, blocks, everything)
            for quantile in settings.quantiles
            if len(positive)
        ]
    return Measured([row], cuts, halves)


def measure(name: str, values: Doubles, design: Design, settings: EnrichSettings) -> tuple[Row, list[Row]]:
    """Return a feature's row of features.tsv and its rows of quantiles.tsv, without q-values."""
    known = ~np.isnan(values)
    used, positive, blocks = settings.used(values[known]), design.positive[known], design.blocks[known]
    ranking = st.rank(used, positive)
    row = {"feature": name, "kind": kind_of(name), "score": _score_name(settings), **class_row(used, positive, known)}
    everything = st.class_counts(positive, blocks, design.block_count)
    row["blocks"] = int(everything.any(0).sum())
    contexts = None if design.contexts is None else design.contexts[known]
    row |= area_row("auroc", ranking, positive, blocks, design.block_count)
    if contexts is not None:
        row |= context_row("auroc", used, positive, contexts, blocks, design.block_count)
    if settings.direction == "both":
        if (used < 0).any():
            size = st.rank(np.abs(used), positive)
            row |= area_row("auroc_absolute", size, positive, blocks, design.block_count)
            if contexts is not None:
                row |= context_row("auroc_absolute", np.abs(used), positive, contexts, blocks, design.block_count)
        else:
            size = ranking
            row |= {name.replace("auroc", "auroc_absolute"): row[name] for name in row if name.startswith("auroc")}
    row["auprc"] = st.average_precision(ranking)
    if settings.direction == "both":
        row["auprc_absolute"] = st.average_precision(size)
    row |= fitted("logistic", models.logistic(_scaled(used, row["sd"]), positive, blocks))
    row |= matched_row(used, st.ranks(ranking), known, design, row["sd"])
    return row, [
        {"feature": name, "score": row["score"], **cut_row(ranking, quantile, positive, blocks, everything)}
        for quantile in settings.quantiles
        if len(used)
    ]


def area_row(name: str, ranking: st.Ranking, positive: Bools, blocks: Ints, count: int) -> Row:
    """Return the AUROC as columns, with how many times larger its variance is than that of independent variants."""
    found, independent = st.count_pairs(ranking, positive, blocks, count).area(), st.auroc(ranking)
    ratio = (found.se / independent.se) ** 2 if independent.se else math.nan
    return {**spread(name, found), f"{name}_variance_ratio": ratio}


def context_row(name: str, values: Doubles, positive: Bools, contexts: Ints, blocks: Ints, count: int) -> Row:
    """Return the AUROC within trinucleotide changes as columns: pairs of the same change alone are compared."""
    pairs = st.count_pairs_within(values, positive, contexts, blocks, count)
    return spread(f"{name}_within_context", pairs.area())


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


def matched_row(values: Doubles, ranks: Ints, known: Bools, design: Design, sd: float) -> Row:
    """Return statistics within the sets of a matched design; nothing without one. Scores and ranks are those of the `known`."""
    if design.sets is None:
        return {}
    sets, place = design.sets.only(known[design.sets.members]), np.cumsum(known) - 1
    inside, blocks = place[sets.members], sets.blocks(design.blocks)
    fit = models.conditional_logistic(_scaled(values[inside], sd), sets, blocks)
    area = mean_over_blocks(models.areas_within(ranks[inside], sets), blocks, 0.5)
    return {"sets": len(sets), **spread("within_set_auroc", area), **fitted("conditional", fit)}


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
        f"{name}_t": fit.t,
        f"{name}_p": fit.p,
        f"{name}_q": math.nan,
        f"{name}_low": fit.low,
        f"{name}_high": fit.high,
        f"{name}_pseudo_r2": fit.pseudo_r2,
        f"{name}_outcome": fit.outcome,
    }


def cut_row(ranking: st.Ranking, quantile: float, positive: Bools, blocks: Ints, everything: Ints) -> Row:
    """Return what a cut at a quantile selects, by class, and the odds ratio; `everything`: `class_counts` of all variants."""
    cut, places = st.cut_at(ranking, quantile)
    return {
        "quantile": quantile,
        "tail": "upper" if quantile >= 0.5 else "lower",
        "cut": cut,
        **selected_row(st.block_table(places, positive, blocks, everything)),
        "q": math.nan,
    }


def selected_row(table: st.BlockTable) -> Row:
    """Return how many variants of each class are selected, the odds ratio, and p.

    Fisher's test is exact where variants are independent, and the p of the shares' difference over blocks holds where they are
    not but there are many: `p` is the larger of the two.
    """
    whole, ratio, over_blocks = table.whole, st.odds_ratio(table), st.share_difference(table)
    fisher = st.fisher_exact(whole)
    return {
        "n_selected": whole.selected_positive + whole.selected_negative,
        **whole._asdict(),
        "odds_ratio": ratio.value,
        "odds_ratio_low": ratio.low,
        "odds_ratio_high": ratio.high,
        "haldane_corrected_interval": "yes" if ratio.corrected else "no",
        "fisher_p": fisher,
        "block_p": over_blocks.p,
        "p": max(over_blocks.p, fisher),  # unknown where that over blocks is
    }


def with_exact_cut(row: Row) -> Row:
    """Return a row whose cut is written with all its digits: a rounded one would select other variants."""
    return {**row, "cut": repr(row["cut"])}


def with_q(rows: list[Row]) -> list[Row]:
    """Fill in every `q` from its `p`, over all rows of a table, and return them: one family of tests per column."""
    for name in [name for name in (rows[0] if rows else ()) if name == "q" or name.endswith("_q")]:
        q = st.benjamini_hochberg([row.get(f"{name.removesuffix('q')}p", math.nan) for row in rows])
        for row, value in zip(rows, q.tolist()):
            row[name] = value
    return rows


def compare(table: ScoreTable, design: Design, settings: EnrichSettings) -> list[Row]:
    """Return the fields of the model side by side, each against MFD_DEBIASED on the variants with both; none without it.

    The debiased score is a size, so that the sizes of signed fields are its equals; their signed versions stand beside.
    """
    if REFERENCE not in table.features:
        return []
    reference = np.abs(table.column(REFERENCE, design.rows))
    absolute = EnrichSettings(settings.quantiles, "absolute", settings.fdr)
    rows = []
    for name in (name for name in table.features if kind_of(name) in COMPARED):
        values = table.column(name, design.rows)
        signed = settings.direction == "both" and bool((values < 0).any())
        for how in (settings, absolute) if signed else (absolute,):
            row, cuts = measure(name, values, design, how)
            shown = {key: value for key, value in row.items() if key != "kind" and "absolute" not in key}
            ratios = {f"odds_ratio_{cut['quantile']:g}": cut["odds_ratio"] for cut in cuts}
            beside = differences(how.used(values), reference, design) if name != REFERENCE else {}
            rows.append({**shown, **ratios, **beside})
    return with_q(rows)


def differences(values: Doubles, reference: Doubles, design: Design) -> Row:
    """Return AUROC minus that of the reference on the same variants, and the same within sets."""
    known = ~(np.isnan(values) | np.isnan(reference))
    positive = design.positive[known]
    rankings = [st.rank(score[known], positive) for score in (values, reference)]
    pairs = [st.count_pairs(ranking, positive, design.blocks[known], design.block_count) for ranking in rankings]
    row = {"n_paired": int(known.sum()), **spread("auroc_difference", st.area_difference(*pairs))}
    if design.sets is None:
        return row
    sets, place = design.sets.only(known[design.sets.members]), np.cumsum(known) - 1
    one, other = (models.areas_within(st.ranks(ranking)[place[sets.members]], sets) for ranking in rankings)
    return row | spread("within_set_difference", mean_over_blocks(one - other, sets.blocks(design.blocks)))
