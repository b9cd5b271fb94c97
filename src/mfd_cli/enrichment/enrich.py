"""`mfd enrich`: which scores tell two classes of variants apart, such as rare from common, or causal from matched ones.

Every feature (a numeric column of the scores) is ranked, fitted and cut; what a cut selects is compared with what it leaves.
A signed feature has a direction; its size alone is a second question, so both are answered: AUROC of the score and of |score|.
With direction `absolute` only the size counts, in every number and in the list of selected variants alike. Quantile tables and
the logistic model do not know of a matched design; the conditional model and the AUROC within sets do.
"""

from __future__ import annotations

import fnmatch
import math
import time
from collections import deque
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

import numpy as np

from mfd_cli import __version__
from mfd_cli.base.arrays import Bools, Doubles, Ints
from mfd_cli.base.errors import ConfigError, OutputError, few
from mfd_cli.base.files import check_output, whole_folder, write_json
from mfd_cli.base.progress import Progress
from mfd_cli.base.threads import usable_cores
from mfd_cli.enrichment import models
from mfd_cli.enrichment import statistics as st
from mfd_cli.enrichment.labels import Joined, join, read_labels, summary_of
from mfd_cli.enrichment.models import Fit
from mfd_cli.enrichment.score_table import ScoreTable
from mfd_cli.enrichment.selected import enriched, write_selected
from mfd_cli.enrichment.statistics import Estimate
from mfd_cli.formats.tables import write_tsv

Direction = Literal["both", "absolute"]
DIRECTIONS = ("both", "absolute")
QUANTILES = (0.0001, 0.001, 0.01, 0.1, 0.9, 0.99, 0.999, 0.9999)
FORMAT, VERSION = "variant-enrichment", 1
COMPARED = ("max", "shared", "group", "debiased")
"""Kinds of features that stand beside MFD_DEBIASED."""
REFERENCE = "MFD_DEBIASED"
KINDS = {
    "MFD_MAX_DLOGIT": "max", "MFD_SHARED": "shared", "MFD_DEBIASED": "debiased", "MFD_": "group",
    "level.": "level", "track.": "track", "ref_probability": "probability", "alt_probability": "probability",
}  # fmt: skip
"""Kind of a feature by how its name begins; the first that fits."""
MANY_UNMATCHED = 0.05
"""Share of the labelled variants from which those that are not scored are worth a warning."""
MOST_THREADS = 16
"""More would only hold more columns in memory."""
HEADLINES = 5
"""Features that are shown at the end."""


@dataclass(frozen=True)
class EnrichResult:
    """One row per feature, and what was counted."""

    output: Path
    rows: Sequence[Mapping[str, Any]]
    summary: Mapping[str, Any]
    seconds: float

    @property
    def warnings(self) -> Sequence[str]:
        """What a reader of the tables should know, in sentences."""
        return list(self.summary["warnings"])

    def lines(self) -> list[str]:
        """Return what was counted, and the features that rank the classes best, in words."""
        labels, found = self.summary["labels"], self.summary["found"]
        sets = f", {labels['sets']:,} sets" if "sets" in labels else ""
        best = sorted(self.rows, key=lambda row: -strength(row))[:HEADLINES]
        return [
            f"{labels['variants']:,} labelled variants: {labels['positive']:,} {labels['positive_label']}, "
            f"{labels['negative']:,} {labels['negative_label']}{sets}; {labels['not_scored']:,} of the table are not scored",
            f"{len(self.rows):,} features: {self._ranking():,} rank the classes, {found['quantile_features']:,} are enriched "
            f"at a cut (q < {self.summary['settings']['fdr']:g}); {found['selected_variants']:,} variants selected "
            f"({self.seconds:.1f} s)",
            *map(headline, best),
            f"wrote {self.output}",
        ]

    def _ranking(self) -> int:
        """Return how many features rank the classes, by their sign or by their size."""
        fdr = self.summary["settings"]["fdr"]
        return sum(row["auroc_q"] < fdr or row.get("auroc_absolute_q", math.nan) < fdr for row in self.rows)


def headline(row: Mapping[str, Any]) -> str:
    """Return one line on a feature: its AUROC, and for a signed one that of its size, the larger one first.

    A score that falls where the classes differ has a signed AUROC near 0 though its size tells them apart.
    """

    def written(name: str, what: str) -> str:
        return f"AUROC{what} {row[name]:.4f} (standard error {row[f'{name}_se']:.4f})"

    if row["score"] == "absolute":
        return f"{row['feature']}: {written('auroc', ' of the size')}"
    if row["auroc"] == row["auroc_absolute"] or math.isnan(row["auroc"]):
        return f"{row['feature']}: {written('auroc', '')}"
    both = [written("auroc_absolute", " of the size"), written("auroc", " of the signed score")]
    return f"{row['feature']}: {', '.join(both if row['auroc_absolute'] > row['auroc'] else both[::-1])}"


def strength(row: Mapping[str, Any]) -> float:
    """Return how far a feature ranks the classes, by its sign or its size: from 0 to 0.5, -1 where nothing is known."""
    away = [abs(row[name] - 0.5) for name in ("auroc", "auroc_absolute") if not math.isnan(row.get(name, math.nan))]
    return max(away, default=-1.0)


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


def enrich(
    scores: Path,
    labels: Path,
    output: Path,
    *,
    label_column: str | None = None,
    positive: str | None = None,
    match_column: str | None = None,
    features: Sequence[str] | None = None,
    quantiles: Sequence[float] = QUANTILES,
    direction: Direction = "both",
    fdr: float = 0.05,
    force: bool = False,
    progress: Progress | None = None,
) -> EnrichResult:
    """Compare the scores of two classes of variants, feature by feature, and write a folder of tables.

    `scores` is the Parquet table of `mfd score-variants`, `labels` a table with a header (see labels.py),
    `features` are patterns such as `level.*`. Raises InputError and MetadataError where they cannot be read or joined.
    """
    started = time.monotonic()
    settings = EnrichSettings(tuple(sorted(set(quantiles))), direction, fdr)
    check_folder(output, force, (scores, labels))
    table = ScoreTable(scores)
    names = chosen(table.features, features, scores)
    known = read_labels(labels, label_column, positive, match_column)
    joined = join(known, table.batches(table.naming(known.by)))
    rows, cuts = measured(table, names, joined, settings, progress)
    with whole_folder(output) as folder:
        write_tsv(folder / "features.tsv", rows)
        write_tsv(folder / "quantiles.tsv", [with_exact_cut(row) for row in cuts])
        compared = compare(table, joined, settings)
        write_tsv(folder / "raw_vs_debiased.tsv", compared, None if compared else ("feature", "score"))
        selected = write_selected(
            folder / "selected.parquet", table, joined, known.classes, cuts, settings.fdr, settings.used, progress
        )
        about = summary_of(known, joined)
        summary = summarise(table, about, joined, settings, rows, cuts, selected)
        write_json(folder / "summary.json", summary)
    return EnrichResult(output, rows, summary, time.monotonic() - started)


def check_folder(output: Path, force: bool, inputs: Iterable[Path]) -> None:
    """Raise OutputError where the folder may not be written, or where replacing it would remove an input."""
    check_output(output, force)
    if output.exists() and not output.is_dir():
        raise OutputError("is a file; the tables are written to a folder", path=output)
    for path in inputs:
        if output.exists() and path.exists() and output.resolve() in path.resolve().parents:
            raise OutputError(f"holds the input {path.name}, which would be replaced", path=output)


def chosen(features: Sequence[str], patterns: Sequence[str] | None, path: Path) -> list[str]:
    """Return the features that a pattern fits (all without patterns), in the order of the file. ConfigError for one of none."""
    if patterns is None:
        return list(features)
    for pattern in patterns:
        if not fnmatch.filter(features, pattern):
            raise ConfigError(f"no feature of {path.name} is called {pattern!r}", hint=f"there are {few(features)}")
    return [name for name in features if any(fnmatch.fnmatchcase(name, pattern) for pattern in patterns)]


def kind_of(feature: str) -> str:
    """Return what a feature is, by its name.

    >>> kind_of("MFD_DEBIASED"), kind_of("MFD_BIO"), kind_of("level.target=CTCF"), kind_of("CADD")
    ('debiased', 'group', 'level', 'other')
    """
    return next((kind for start, kind in KINDS.items() if feature.startswith(start)), "other")


# -- measuring ---------------------------------------------------------------------------------------------------------

Row = dict[str, Any]


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


# -- raw against debiased ----------------------------------------------------------------------------------------------


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


# -- summary -----------------------------------------------------------------------------------------------------------


def summarise(
    table: ScoreTable,
    labels: Row,
    joined: Joined,
    settings: EnrichSettings,
    rows: Sequence[Row],
    cuts: Sequence[Row],
    selected: int,
) -> Row:
    """Return what summary.json holds: what was read, joined, set and found, and what to be wary of."""
    families = [name for name in rows[0] if name.endswith("_q")]
    found: Row = {family.removesuffix("_q"): sum(row[family] < settings.fdr for row in rows) for family in families}
    found |= {
        "quantile_tests": sum(row["fisher_q"] < settings.fdr for row in cuts),
        "quantile_features": len(enriched(cuts, settings.fdr)),
        "selected_variants": selected,
    }
    return {
        "format": FORMAT,
        "version": VERSION,
        "mfd_version": __version__,
        "scores": table.about,
        "labels": labels,
        "settings": {"quantiles": settings.quantiles, "direction": settings.direction, "fdr": settings.fdr},
        "features": len(rows),
        "found": found,
        "warnings": warnings_of(table, labels, joined, rows),
    }


def warnings_of(table: ScoreTable, labels: Row, joined: Joined, rows: Sequence[Row]) -> list[str]:
    """Return what a reader of the tables should know, in sentences."""
    total, missing = labels["variants"] + labels["not_scored"], labels["not_scored"]
    warnings = []
    if missing > MANY_UNMATCHED * total:
        warnings.append(f"{missing:,} of {total:,} labelled variants are not among the scores")
    of_counts = {
        "labelled_both_ways": "rows were left out because their variants are labelled both ways",
        "repeated": "rows of the table repeat another one",
        "without_label": "rows have no label",
        "without_name": "rows name no variant",
        "without_set": "rows belong to no set and count in unmatched numbers only",
        "scores_repeated": "rows of the scores repeat a variant; the first one counts",
        "ambiguous_ids": "ids were left out because several scores have them",
        "sets_incomplete": "sets lack a scored variant of one class and were left out",
        "in_several_sets": "variants are in several sets, which are treated as independent",
    }
    warnings += [f"{labels[name]:,} {text}" for name, text in of_counts.items() if labels.get(name)]
    if joined.sets is not None:
        warnings.append("quantile tables, AUROC and the plain logistic model ignore the matching")
        large = int((joined.sets.rarer > models.MOST_CASES).sum())
        if large:
            warnings.append(
                f"{large:,} sets have more than {models.MOST_CASES} of both classes: no conditional model was fitted"
            )
    if table.half:
        warnings.append(f"{len(table.half)} columns are float16: effects smaller than its steps are tied")
    incomplete = sum(row["n_missing"] > 0 for row in rows)
    if incomplete:
        warnings.append(f"{incomplete:,} features lack the score of some variants (n_missing)")
    return warnings
