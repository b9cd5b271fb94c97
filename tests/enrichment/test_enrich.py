"""Enrichment of labelled variants: the numbers against others' code and brute force, the join, every complaint."""

from __future__ import annotations

import gzip
import json
import math
from collections.abc import Mapping, Sequence
from itertools import combinations, product
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from hypothesis import given, settings
from hypothesis import strategies as some
from scipy import optimize, stats
from sklearn.metrics import average_precision_score, roc_auc_score

from kit.harm import in_process
from mfd_cli.base.errors import ConfigError, InputError, MetadataError, MfdError, OutputError
from mfd_cli.enrichment import models
from mfd_cli.enrichment import statistics as st
from mfd_cli.enrichment.enrich import EnrichResult, chosen, enrich
from mfd_cli.enrichment.features import kind_of
from mfd_cli.enrichment.jackknife import mean_over_blocks

QUANTILES = (0.01, 0.1, 0.5, 0.9, 0.99)
BLOCK = 84
"""Bases of a block: `write_scores` puts four variants into it."""


# -- statistics --------------------------------------------------------------------------------------------------------


def example(seed: int, n: int = 200, levels: int | None = None) -> tuple[np.ndarray, np.ndarray]:
    """Scores, with ties where `levels` is given, and classes that they tell a little."""
    rng = np.random.default_rng(seed)
    values = rng.normal(size=n)
    positive = rng.random(n) < 1 / (1 + np.exp(-0.7 * values))
    return (values if levels is None else np.round(values * levels)), positive


def brute_force_delong(values: np.ndarray, positive: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Placements of positives and of negatives by comparing all pairs."""
    one, other = values[positive][:, None], values[~positive][None]
    wins = (one > other) + 0.5 * (one == other)
    return wins.mean(1), wins.mean(0)


@pytest.mark.parametrize("levels", [None, 3, 1])
def test_areas_are_those_of_scikit_learn_and_of_all_pairs(levels: int | None) -> None:
    values, positive = example(1, levels=levels)
    ranking = st.rank(values, positive)
    area = st.auroc(ranking)
    over, under = brute_force_delong(values, positive)
    assert area.value == pytest.approx(roc_auc_score(positive, values), abs=1e-12)
    assert st.average_precision(ranking) == pytest.approx(average_precision_score(positive, values), abs=1e-12)
    variance = over.var(ddof=1) / len(over) + under.var(ddof=1) / len(under)
    assert area.se == pytest.approx(math.sqrt(variance), rel=1e-10)
    placements = st.placements(ranking, positive)
    assert placements[positive] == pytest.approx(over) and placements[~positive] == pytest.approx(under)


def test_areas_without_a_width_or_without_a_class() -> None:
    positive, blocks = np.arange(20) >= 12, np.arange(20) // 2
    perfect = st.count_pairs(st.rank(np.arange(20.0), positive), positive, blocks, 10).area()
    assert perfect.value == 1 and perfect.se == 0 and math.isnan(perfect.low)
    # Four blocks have positives and six have negatives: a Mann-Whitney test of ten.
    assert perfect.p == pytest.approx(2 * stats.t.sf(0.5 / math.sqrt(11 / (12 * 4 * 6)), 9))
    tied = st.count_pairs(st.rank(np.zeros(20), positive), positive, blocks, 10).area()
    assert (tied.value, tied.se, tied.p) == (0.5, 0, 1)
    none = np.zeros(20, bool)
    assert all(math.isnan(x) for x in st.count_pairs(st.rank(np.arange(20.0), none), none, blocks, 10).area())
    assert math.isnan(st.auroc(st.rank(np.arange(20.0), np.arange(20) == 3)).se)
    assert math.isnan(st.average_precision(st.rank(np.arange(20.0), none)))


@settings(max_examples=60, deadline=None)
@given(values=some.lists(some.integers(-4, 4), min_size=4, max_size=40), seed=some.integers(0, 99))
def test_the_area_of_the_opposite_score_is_the_rest(values: list[int], seed: int) -> None:
    scores = np.array(values, float)
    positive = np.random.default_rng(seed).random(len(scores)) < 0.5
    positive[:2], positive[2:4] = True, False
    one, other = (st.auroc(st.rank(sign * scores, positive)) for sign in (1, -1))
    swapped = st.auroc(st.rank(scores, ~positive))
    assert one.value == pytest.approx(1 - other.value) and one.se == pytest.approx(other.se, abs=1e-12)
    assert swapped.value == pytest.approx(other.value) and swapped.se == pytest.approx(one.se, abs=1e-12)


@settings(max_examples=150, deadline=None)
@given(cells=some.tuples(*[some.integers(0, 60)] * 4))
def test_fisher_and_odds_ratio_are_those_of_scipy(cells: tuple[int, int, int, int]) -> None:
    expected = stats.fisher_exact([cells[:2], cells[2:]])
    assert st.fisher_exact(st.Fourfold(*cells)) == pytest.approx(expected.pvalue, rel=1e-6, abs=1e-300)
    positive, chosen = np.repeat([True, False, True, False], cells), np.arange(cells[0] + cells[1])
    # Every variant is a block of its own.
    blocks = np.arange(len(positive))
    table = st.block_table(chosen, positive, blocks, st.class_counts(positive, blocks, len(positive)))
    assert table.whole == cells
    ratio = st.odds_ratio(table)
    assert ratio.value == pytest.approx(expected.statistic, nan_ok=True)
    if min(cells) > 1:
        interval = stats.contingency.odds_ratio([cells[:2], cells[2:]], kind="sample").confidence_interval(0.95)
        assert 0 < ratio.low <= interval.low and interval.high <= ratio.high and not ratio.corrected
        if min(cells) > 20:  # one variant a block: the error over blocks is Wald's
            assert (ratio.low, ratio.high) == pytest.approx((interval.low, interval.high), rel=0.06)
    elif not math.isnan(ratio.value):
        assert ratio.corrected and 0 < ratio.low < ratio.high < math.inf


@pytest.mark.parametrize(
    "cells",
    [
        (60, 40, 518_000, 481_900),
        (56_000, 44_000, 463_000, 437_000),
        (0, 900, 519_000, 480_100),
        (3, 97, 12, 999_888),
        (100, 0, 0, 999_900),
    ],
)
def test_fisher_of_a_million(cells: tuple[int, int, int, int]) -> None:
    p = stats.fisher_exact([cells[:2], cells[2:]]).pvalue
    assert st.fisher_exact(st.Fourfold(*cells)) == pytest.approx(p, rel=1e-6, abs=1e-300)


@pytest.mark.parametrize("levels", [None, 2])
def test_cuts_are_quantiles_and_count_every_tie(levels: int | None) -> None:
    values, positive = example(4, levels=levels)
    ranking = st.rank(values, positive)
    for quantile in (*QUANTILES, 0.0001, 0.9999):
        cut, places = st.cut_at(ranking, quantile)
        chosen = values >= cut if quantile >= 0.5 else values <= cut
        assert cut == pytest.approx(np.quantile(values, quantile))
        assert (chosen == st.selects(values, cut, quantile)).all()
        assert np.array_equal(np.sort(places), np.flatnonzero(chosen))
    assert not st.selects(np.array([math.nan]), 0.0, 0.9).any()


def test_q_values_are_those_of_scipy_and_leave_out_what_was_not_tested() -> None:
    p = np.random.default_rng(5).random(50) ** 2
    assert st.benjamini_hochberg(p) == pytest.approx(stats.false_discovery_control(p))
    gaps = np.insert(p, [0, 20], math.nan)
    assert st.benjamini_hochberg(gaps)[~np.isnan(gaps)] == pytest.approx(stats.false_discovery_control(p))
    assert np.isnan(st.benjamini_hochberg([math.nan])).all() and len(st.benjamini_hochberg([])) == 0


@pytest.mark.parametrize("scale", [1e-6, 1.0, 40.0])
def test_logistic_regression_is_the_maximum_of_the_likelihood(scale: float) -> None:
    values, positive = example(6)
    values = values * scale + 3 * scale
    blocks = np.random.default_rng(60).integers(0, 12, len(values))
    fit = models.logistic(values, positive, blocks)

    def best_slope(kept: np.ndarray) -> optimize.OptimizeResult:
        def loss(at: np.ndarray) -> float:
            return float(np.logaddexp(0, np.where(positive, -1, 1) * (at[0] + at[1] * values / scale))[kept].sum())

        return optimize.minimize(loss, [0.0, 0.0], tol=1e-12)

    best = best_slope(np.ones(len(values), bool))
    assert fit.coefficient * scale == pytest.approx(best.x[1], abs=1e-4) and fit.outcome == "converged"
    share = positive.mean()
    null = len(values) * (share * math.log(share) + (1 - share) * math.log(1 - share))
    assert fit.pseudo_r2 == pytest.approx(1 + best.fun / null, abs=1e-6)
    without = np.array([best_slope(blocks != block).x[1] for block in range(12)])
    se = math.sqrt(11 / 12 * np.square(without - without.mean()).sum())
    assert fit.se * scale == pytest.approx(se, rel=0.02) and fit.t == pytest.approx(fit.coefficient / fit.se)
    assert fit.p == pytest.approx(2 * stats.t.sf(abs(fit.t), 11)) and fit.low < fit.coefficient < fit.high


def test_logistic_regression_copes_with_outliers_and_says_what_has_no_slope() -> None:
    rng = np.random.default_rng(7)
    values, positive = rng.standard_t(1, 3000), rng.random(3000) < 0.01
    assert models.logistic(values / values.std(), positive, np.arange(3000) // 30).outcome == "converged"
    line, own = np.arange(10.0), np.arange(10)
    assert models.logistic(line, line > 4, own).outcome == "separated" and math.isnan(
        models.logistic(line, line > 4, own).coefficient
    )
    assert models.logistic(np.minimum(line, 5), line > 4, own).outcome == "separated"
    touching = np.array([0.0, 1, 1, 2])  # the classes tie at 1: the best slope is still infinite
    assert models.logistic(touching, np.array([False, False, True, True]), own[:4]).outcome == "separated"
    assert models.logistic(np.ones(10), line > 4, own).outcome == "constant"
    assert (
        models.logistic(line, line > 99, own).outcome
        == models.logistic(line[:0], line[:0] > 0, own[:0]).outcome
        == "too few"
    )


# -- matched designs ---------------------------------------------------------------------------------------------------


def design(seed: int, shape: Sequence[tuple[int, int]], levels: float | None = None) -> tuple[np.ndarray, models.Sets]:
    """Scores of members and sets with (positives, negatives)."""
    rng = np.random.default_rng(seed)
    positive = np.concatenate([np.repeat([True, False], counts) for counts in shape])
    number = np.repeat(np.arange(len(shape)), [sum(counts) for counts in shape])
    values = rng.normal(size=len(positive)) + 0.6 * positive + rng.normal(size=len(shape))[number]
    if levels:
        values = np.round(values * levels)
    order = rng.permutation(len(positive))
    sets = models.sets_of(np.arange(len(positive)), positive[order], number[order])
    return values[order][sets.members], sets


def conditional_by_enumeration(slope: float, values: np.ndarray, sets: models.Sets) -> float:
    """Log likelihood of the conditional model, by adding up all choices of as many members."""
    total = 0.0
    for start, size in zip(sets.starts, sets.sizes):
        x, positive = values[start : start + size], sets.positive[start : start + size]
        choices = [x[list(choice)].sum() for choice in combinations(range(size), int(positive.sum()))]
        total += slope * x[positive].sum() - np.logaddexp.reduce(slope * np.array(choices))
    return total


SHAPES = {
    "one to one": [(1, 1)] * 40,
    "one to several": [(1, 3)] * 20 + [(1, 5)] * 10,
    "several to one": [(4, 1)] * 25,
    "several": [(2, 3)] * 10 + [(3, 2)] * 8 + [(2, 6)] * 4 + [(1, 2)] * 9,
}


@pytest.mark.parametrize("shape", SHAPES.values(), ids=SHAPES)
@pytest.mark.parametrize("levels", [None, 2.0])
def test_conditional_logistic_regression_is_exact(shape: Sequence[tuple[int, int]], levels: float | None) -> None:
    values, sets = design(8, shape, levels)
    blocks = np.arange(len(sets)) % 7
    fit = models.conditional_logistic(values, sets, blocks)
    best = optimize.minimize_scalar(lambda slope: -conditional_by_enumeration(slope, values, sets), tol=1e-12)
    assert fit.outcome == "converged" and fit.coefficient == pytest.approx(best.x, abs=1e-5)
    assert fit.pseudo_r2 == pytest.approx(1 + best.fun / conditional_by_enumeration(0.0, values, sets), abs=1e-9)
    without = []
    for block in range(7):
        kept = (blocks != block)[sets.number]
        rest = sets.only(kept)
        without.append(models.conditional_logistic(values[kept], rest, np.zeros(len(rest), int)).coefficient)
    se = math.sqrt(6 / 7 * np.square(np.array(without) - np.mean(without)).sum())
    assert fit.se == pytest.approx(se, rel=0.05)  # one step of Newton's method against a new fit, of 16 to 40 sets
    turned = models.conditional_logistic(-values, sets, blocks)
    assert turned.coefficient == pytest.approx(-fit.coefficient) and turned.se == pytest.approx(fit.se)


@pytest.mark.parametrize("shape", SHAPES.values(), ids=SHAPES)
@pytest.mark.parametrize("levels", [None, 1.0])
def test_areas_within_sets_are_those_of_all_pairs(shape: Sequence[tuple[int, int]], levels: float | None) -> None:
    values, sets = design(9, shape, levels)
    expected = []
    for start, size in zip(sets.starts, sets.sizes):
        x, positive = values[start : start + size], sets.positive[start : start + size]
        pairs = [(a > b) + 0.5 * (a == b) for a, b in product(x[positive], x[~positive])]
        expected.append(np.mean(pairs))
    areas = models.areas_within(st.ranks(st.rank(values, sets.positive)), sets)
    assert areas == pytest.approx(np.array(expected))
    found = mean_over_blocks(areas, np.arange(len(areas)), 0.5)  # a set a block: the error of a mean
    assert found.value == pytest.approx(np.mean(expected))
    assert found.se == pytest.approx(np.std(expected, ddof=1) / math.sqrt(len(expected)))


def test_sets_that_say_nothing() -> None:
    values, sets = design(10, [(1, 2)] * 6 + [(3, 3)])
    own = np.arange(len(sets))
    assert models.conditional_logistic(sets.positive.astype(float), sets, own).outcome == "separated"
    assert models.conditional_logistic(np.zeros(len(values)), sets, own).outcome == "constant"
    assert models.conditional_logistic(values[:0], sets.only(np.zeros(len(values), bool)), own[:0]).outcome == "too few"
    assert len(models.areas_within(np.zeros(0, np.int64), sets.only(np.zeros(len(values), bool)))) == 0
    assert all(math.isnan(x) for x in mean_over_blocks(np.ones(1), own[:1], 0.5))
    perfect = mean_over_blocks(np.ones(9), np.arange(9), 0.5)
    assert perfect.value == 1 and math.isnan(perfect.low) and perfect.p == 2.0**-8
    crowd, large = design(11, [(150, 150)] * 2)
    assert models.conditional_logistic(crowd, large, own[:2]).outcome == "sets too large"
    alone = sets.only(np.arange(len(values)) != int(np.flatnonzero(sets.positive)[0]))
    assert len(alone) == len(sets) - 1 and (alone.positives > 0).all()  # its only positive has gone
    assert (sets.members[np.isin(sets.members, alone.members)] == alone.members).all()


def test_many_cases_stay_within_a_float() -> None:
    values, sets = design(12, [(60, 900)] * 3)
    fit = models.conditional_logistic(values, sets, np.arange(3))
    within = values - (np.bincount(sets.number, values) / sets.sizes)[sets.number]
    plain = models.logistic(within, sets.positive, sets.number)
    assert fit.outcome == "converged" and fit.coefficient == pytest.approx(plain.coefficient, abs=3 * fit.se)


# -- the verb ----------------------------------------------------------------------------------------------------------

FEATURES = (
    "MFD_MAX_DLOGIT",
    "MFD_SHARED",
    "MFD_BIO",
    "MFD_TECH",
    "MFD_DEBIASED",
    "ref_probability",
    "level.target=A",
    "level.target=B",
    "track.T1",
)


def write_scores(path: Path, n: int = 400, seed: int = 0, **columns: Any) -> dict[str, Any]:
    """A table as score-variants writes it; `columns` replace or add some."""
    rng = np.random.default_rng(seed)
    table: dict[str, Any] = {
        "line": np.arange(2, n + 2),
        "contig": [f"chr{1 + i % 3}" for i in range(n)],
        "position": 1000 + 7 * np.arange(n),
        "id": [f"rs{i}" for i in range(n)],
        "ref": ["A"] * n,
        "alt": ["G"] * n,
    }
    table["key"] = [f"{c}:{p}:A>G" for c, p in zip(table["contig"], table["position"])]
    table["MFD_TRACK"] = ["T1"] * n
    for name in FEATURES:
        values = rng.normal(size=n).astype(np.float32)
        table[name] = np.abs(values) if kind_of(name) in ("group", "debiased", "probability") else values
    table |= columns
    pq.write_table(pa.table({k: v for k, v in table.items() if v is not None}), path, row_group_size=37)
    return table


def label_rows(table: Mapping[str, Any], positive: Sequence[Any], **extra: Sequence[Any]) -> list[list[str]]:
    """Rows of a table of labels, with its header."""
    rows = [["chrom", "pos", "ref", "alt", "label", *extra]]
    for i, label in enumerate(positive):
        where = [table[name][i] for name in ("contig", "position", "ref", "alt")]
        rows.append([str(cell) for cell in (*where, label, *(values[i] for values in extra.values()))])
    return rows


def write_labels(path: Path, rows: Sequence[Sequence[str]]) -> Path:
    text = "".join("\t".join(row) + "\n" for row in rows)
    path.write_bytes(gzip.compress(text.encode()) if path.suffix == ".gz" else text.encode())
    return path


def tsv(path: Path) -> list[dict[str, str]]:
    lines = path.read_text().splitlines()
    return [dict(zip(lines[0].split("\t"), line.split("\t"))) for line in lines[1:]]


@pytest.fixture
def here(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.chdir(tmp_path)
    return tmp_path


def classes(n: int = 400, seed: int = 1) -> np.ndarray:
    return np.random.default_rng(seed).random(n) < 0.4


def run(table: Mapping[str, Any], positive: Sequence[Any], output: str = "out", **options: Any) -> EnrichResult:
    write_labels(Path("labels.tsv"), label_rows(table, positive))
    return enrich(
        Path("scores.parquet"),
        Path("labels.tsv"),
        Path(output),
        **{"quantiles": QUANTILES, "block_size": BLOCK, **options},
    )


def halves_of(table: Mapping[str, Any]) -> np.ndarray:
    """In which half of the blocks of BLOCK bp each variant lies, 0 or 1: every other one, contig by contig."""
    places = [(contig, (position - 1) // BLOCK) for contig, position in zip(table["contig"], table["position"])]
    number = {place: i for i, place in enumerate(sorted(set(places)))}
    return np.array([number[place] % 2 for place in places])


def test_a_planted_feature_is_found_and_its_variants_are_listed(here: Path) -> None:
    positive = classes(2000)
    planted = np.random.default_rng(2).normal(size=2000) + 0.8 * positive
    table = write_scores(Path("scores.parquet"), 2000, **{"level.target=B": planted.astype(np.float32)})
    result = run(table, np.where(positive, "Rare", "Common").tolist())
    rows = {row["feature"]: row for row in tsv(here / "out" / "features.tsv")}
    assert list(rows) == list(FEATURES) and rows["level.target=B"]["kind"] == "level"
    found = rows["level.target=B"]
    assert float(found["auroc"]) == pytest.approx(roc_auc_score(positive, planted.astype(np.float32)), abs=1e-5)
    assert float(found["auprc"]) == pytest.approx(
        average_precision_score(positive, planted.astype(np.float32)), abs=1e-5
    )
    assert float(found["auroc_q"]) < 1e-20 and float(found["logistic_coefficient"]) > 0.5
    scaled = np.float64(planted.astype(np.float32))
    assert float(found["auroc_absolute"]) == pytest.approx(roc_auc_score(positive, np.abs(scaled)), abs=1e-5)
    assert sum(float(row["auroc_q"]) < 0.05 for row in rows.values()) == 1
    cuts = tsv(here / "out" / "selected_cuts.tsv")
    assert {row["feature"] for row in cuts} == {"level.target=B"} and {row["tail"] for row in cuts} == {"upper"}
    assert {row["half"] for row in cuts} == {"1", "2"} and all(float(row["q"]) < 0.05 for row in cuts)
    # A cut of one half, as it stands in the file, selects exactly these of the other half.
    half = 1 + halves_of(table)
    loosest = {which: min(float(row["cut"]) for row in cuts if row["half"] == str(3 - which)) for which in (1, 2)}
    listed = pq.read_table("out/selected.parquet").to_pylist()
    expected = [key for key, value, which in zip(table["key"], scaled, half) if value >= loosest[which]]
    assert [row["key"] for row in listed] == expected and len(expected) == result.summary["found"]["selected_variants"]
    assert result.summary["found"]["selecting_cuts"] == len(cuts)
    for row in cuts:
        other = half != int(row["half"])
        assert float(row["cut"]) == pytest.approx(np.quantile(scaled[~other], float(row["quantile"])))
        chosen_there = other & (scaled >= float(row["cut"]))
        cells = (chosen_there & positive).sum(), (chosen_there & ~positive).sum()
        rest = (other & positive).sum() - cells[0], (other & ~positive).sum() - cells[1]
        assert [int(row[f"other_half_selected_{name}"]) for name in ("positive", "negative")] == list(cells)
        assert float(row["other_half_odds_ratio"]) == pytest.approx(cells[0] * rest[1] / cells[1] / rest[0], rel=1e-4)
    assert all(row["features"] == ["level.target=B"] and row["n_features"] == 1 for row in listed)
    assert {row["label"] for row in listed} == {"Rare", "Common"}
    told = dict(zip(table["key"], positive))
    assert all((row["label"] == "Rare") == told[row["key"]] for row in listed)
    assert json.loads((here / "out" / "summary.json").read_text())["format"] == "variant-enrichment"
    assert "2,000 labelled variants" in result.lines()[0] and result.lines()[3].startswith(
        "level.target=B: AUROC of the signed score 0.7"
    )


def test_what_breaks_motifs_is_headlined_by_its_size(here: Path) -> None:
    """Positives lower a signed score, so that its AUROC is near 0: what the first line shows is that of the size."""
    positive = classes()
    rng = np.random.default_rng(3)
    broken = np.where(positive, -3.0, 0.1) + 0.02 * rng.normal(size=len(positive))
    table = write_scores(here / "scores.parquet", MFD_BIO=broken.astype(np.float32), level_up=np.abs(broken))
    write_labels(here / "labels.tsv", label_rows(table, ["yes" if is_one else "no" for is_one in positive]))
    words = ["enrich", "scores.parquet", "--labels", "labels.tsv", "--positive", "yes", "-o", "out"]
    done = in_process(words, here)
    assert done.code == 0, done.told
    lines = {line.partition(":")[0]: line for line in done.said.splitlines()}
    assert lines["MFD_BIO"].startswith("MFD_BIO: AUROC of the size 1.0000 ")
    assert lines["MFD_BIO"].endswith(", AUROC of the signed score 0.0000 (standard error 0.0000)")
    assert lines["level_up"].startswith("level_up: AUROC 1.0000")  # never below zero: one number
    done = in_process([*words, "--direction", "absolute", "--force"], here)
    assert "MFD_BIO: AUROC of the size 1.0000 (standard error 0.0000)\n" in done.said


def test_absolute_selects_by_the_score_that_was_tested(here: Path) -> None:
    """Upstream tests |score| and exports by the signed one."""
    positive = classes(2000)
    rng = np.random.default_rng(3)
    effect = (np.abs(rng.normal(size=2000)) + 0.8 * positive) * rng.choice([-1, 1], 2000)
    table = write_scores(Path("scores.parquet"), 2000, **{"level.target=A": effect.astype(np.float32)})
    result = run(table, positive.astype(int).tolist(), direction="absolute", features=["level.*"])
    row = next(row for row in result.rows if row["feature"] == "level.target=A")
    size = np.abs(effect.astype(np.float32))
    assert row["auroc"] == pytest.approx(roc_auc_score(positive, size)) and "auroc_absolute" not in row
    assert row["score"] == "absolute" and row["logistic_coefficient"] > 0.5
    assert row["sd"] == pytest.approx(size.std(ddof=1), rel=1e-5)
    listed = {row["key"] for row in pq.read_table("out/selected.parquet").to_pylist()}
    cuts, half = tsv(here / "out" / "selected_cuts.tsv"), 1 + halves_of(table)
    loosest = {which: min(float(row["cut"]) for row in cuts if row["half"] == str(3 - which)) for which in (1, 2)}
    assert listed == {key for key, value, which in zip(table["key"], size, half) if value >= loosest[which]}
    assert any(effect[i] < 0 for i, key in enumerate(table["key"]) if key in listed)


def test_null_features_give_uniform_p_and_no_discoveries(here: Path) -> None:
    positive = classes(600)
    noise = np.random.default_rng(4).normal(size=(300, 600)).astype(np.float32)
    table = write_scores(Path("scores.parquet"), 600, **{f"level.f={i}": noise[i] for i in range(300)})
    sets = np.arange(600) // 4
    write_labels(Path("l.tsv"), label_rows(table, positive.astype(int).tolist(), set=sets.tolist()))
    result = enrich(
        Path("scores.parquet"),
        Path("l.tsv"),
        Path("out"),
        features=["level.f=*"],
        match_column="set",
        label_column="label",
        quantiles=(0.9,),
        block_size=BLOCK,
    )
    for name in ("auroc_p", "auroc_absolute_p", "logistic_p", "conditional_p", "within_set_auroc_p"):
        assert stats.kstest([row[name] for row in result.rows], "uniform").pvalue > 0.01, name
    assert sum(row["auroc_q"] < 0.05 for row in result.rows) <= 2 and len(result.rows) == 300


def test_the_order_of_labels_does_not_matter_and_swapping_classes_inverts(here: Path) -> None:
    table = write_scores(Path("scores.parquet"))
    positive = classes()
    rows = label_rows(table, np.where(positive, "a", "b").tolist(), set=[f"s{i // 5}" for i in range(400)])
    shuffled = [rows[0], *(rows[1 + i] for i in np.random.default_rng(0).permutation(400))]
    for name, some_rows, which in (("one", rows, "a"), ("two", shuffled, "a"), ("swapped", rows, "b")):
        enrich(
            Path("scores.parquet"),
            write_labels(Path(f"{name}.tsv"), some_rows),
            Path(name),
            positive=which,
            match_column="set",
            label_column="label",
            quantiles=QUANTILES,
        )
    for name in ("features.tsv", "quantiles.tsv", "raw_vs_debiased.tsv", "selected.parquet"):
        assert Path("one", name).read_bytes() == Path("two", name).read_bytes()
    for one, other in zip(tsv(Path("one/features.tsv")), tsv(Path("swapped/features.tsv"))):
        assert float(one["auroc"]) == pytest.approx(1 - float(other["auroc"]), abs=2e-6)
        assert float(one["within_set_auroc"]) == pytest.approx(1 - float(other["within_set_auroc"]), abs=2e-6)
        for name in ("logistic_coefficient", "conditional_coefficient"):
            assert float(one[name]) == pytest.approx(-float(other[name]), rel=1e-4, abs=1e-7)
    for one, other in zip(tsv(Path("one/quantiles.tsv")), tsv(Path("swapped/quantiles.tsv"))):
        ratio = float(one["odds_ratio"])
        assert float(other["odds_ratio"]) == pytest.approx(1 / ratio if ratio else math.inf, rel=1e-4)
        assert one["fisher_p"] == other["fisher_p"]


def test_raw_and_debiased_are_compared_on_the_same_variants(here: Path) -> None:
    raw = np.random.default_rng(5).normal(size=400).astype(np.float32)
    raw[:9] = math.nan
    table = write_scores(Path("scores.parquet"), MFD_MAX_DLOGIT=raw)
    positive = classes()
    write_labels(Path("l.tsv"), label_rows(table, positive.astype(int).tolist(), set=(np.arange(400) // 4).tolist()))
    enrich(
        Path("scores.parquet"), Path("l.tsv"), Path("out"), label_column="label", match_column="set", quantiles=(0.9,)
    )
    rows = {(row["feature"], row["score"]): row for row in tsv(Path("out/raw_vs_debiased.tsv"))}
    assert [name for name, _ in rows] == ["MFD_MAX_DLOGIT"] * 2 + ["MFD_SHARED"] * 2 + [
        "MFD_BIO",
        "MFD_TECH",
        "MFD_DEBIASED",
    ]
    row = rows["MFD_MAX_DLOGIT", "absolute"]
    assert (row["n"], row["n_missing"], row["n_paired"]) == ("391", "9", "391")
    areas = [roc_auc_score(positive[9:], values[9:]) for values in (np.abs(raw), table["MFD_DEBIASED"])]
    assert float(row["auroc_difference"]) == pytest.approx(areas[0] - areas[1], abs=1e-6)
    assert float(row["auroc_difference_se"]) > 0 and row["odds_ratio_0.9"] and row["within_set_difference_p"]
    same = rows["MFD_DEBIASED", "absolute"]
    assert (
        same["auroc"] and not same["auroc_difference"] and not same["auroc_difference_p"]
    )  # it is not compared with itself


def test_unknown_scores_are_left_out_feature_by_feature(here: Path) -> None:
    values = np.random.default_rng(6).normal(size=400)
    values[[0, 7, 9]] = math.nan, math.inf, -math.inf
    table = write_scores(Path("scores.parquet"), **{"level.target=A": values, "track.T1": np.full(400, math.nan)})
    result = run(table, classes().astype(int).tolist())
    rows = {row["feature"]: row for row in result.rows}
    assert (rows["level.target=A"]["n"], rows["level.target=A"]["n_missing"]) == (397, 3)
    known = np.isfinite(values)
    assert rows["level.target=A"]["auroc"] == pytest.approx(roc_auc_score(classes()[known], values[known]))
    assert rows["track.T1"]["n"] == 0 and math.isnan(rows["track.T1"]["auroc_q"])
    assert rows["track.T1"]["logistic_outcome"] == "too few" and rows["MFD_BIO"]["n"] == 400
    assert any("2 features lack the score" in text for text in result.warnings)


def test_labels_stay_with_their_variants_whatever_was_not_scored(here: Path) -> None:
    """Upstream joins by row number: one variant that fails the reference check shifts all labels after it."""
    table = write_scores(Path("scores.parquet"))
    positive = classes()
    rows = label_rows(table, positive.astype(int).tolist())
    lost = [["chr1", "5", "A", "G", "1"], ["chr9", "1000", "A", "G", "1"]]
    rows = [rows[0], *lost, *rows[1:]]
    rows[50][4], rows[51][4] = "NA", ""
    rows += [rows[60], rows[61], [*rows[70][:4], "0" if rows[70][4] == "1" else "1"]]
    rows = [[row[0].removeprefix("chr"), *row[1:]] for row in rows]
    rows[0][0] = "#CHROM"
    result = enrich(Path("scores.parquet"), write_labels(Path("labels.tsv.gz"), rows), Path("out"), quantiles=QUANTILES)
    labels = result.summary["labels"]
    assert {
        name: labels[name] for name in ("table_rows", "without_label", "labelled_both_ways", "repeated", "not_scored")
    } == {"table_rows": 405, "without_label": 2, "labelled_both_ways": 2, "repeated": 2, "not_scored": 2}
    kept = np.ones(400, bool)
    kept[[47, 48, 67]] = False
    assert labels["variants"] == 397 == result.rows[0]["n"]
    for row in result.rows:
        assert row["auroc"] == pytest.approx(roc_auc_score(positive[kept], table[row["feature"]][kept]), abs=1e-9)
    assert any("2 rows were left out because their variants are labelled both ways" in text for text in result.warnings)


def test_one_variant_written_in_several_ways_is_one(here: Path) -> None:
    n = 12
    ref, alt = ["CAT"] * n, ["CT"] * n
    key = [f"chr1:{100 + i}:A>-" for i in range(n)]
    key[3] = "chr1:50:A>-"  # moved to the left in a repeat
    table = write_scores(
        Path("scores.parquet"), n, contig=["chr1"] * n, position=99 + np.arange(n), ref=ref, alt=alt, key=key
    )
    told = [["Chromosome", "Position", "REF", "ALT", "class"]]
    told += [
        ["1", str(100 + i), "a", "-", "yn"[i % 2]] if i % 3 else ["1", str(98 + i), "ACAT", "ACT", "yn"[i % 2]]
        for i in range(n)
    ]
    told[1 + 3] = ["1", "50", "A", "-", "n"]
    by_place = enrich(
        Path("scores.parquet"), write_labels(Path("l.tsv"), told), Path("out"), positive="y", quantiles=(0.9,)
    )
    assert by_place.summary["labels"]["variants"] == n and by_place.summary["labels"]["column"] == "class"
    expected = np.array([i % 2 == 0 for i in range(n)])
    rows = [["key", "label"], *([name, str(int(expected[i]))] for i, name in enumerate(table["key"]))]
    by_key = enrich(Path("scores.parquet"), write_labels(Path("k.tsv"), rows), Path("out2"), quantiles=(0.9,))
    rows = [["ID", "label"], *([name, str(int(expected[i]))] for i, name in enumerate(table["id"]))]
    by_id = enrich(Path("scores.parquet"), write_labels(Path("i.tsv"), rows), Path("out3"), quantiles=(0.9,))
    for result in (by_place, by_key, by_id):
        assert [row["auroc"] for row in result.rows] == [
            pytest.approx(roc_auc_score(expected, table[name])) for name in FEATURES
        ]
    assert by_id.summary["labels"]["joined_by"] == "id"


def test_scores_that_repeat_a_variant_or_share_an_id(here: Path) -> None:
    positive = classes()
    table = write_scores(Path("scores.parquet"))
    for name in ("contig", "position", "key"):
        table[name] = list(table[name])
        table[name][20] = table[name][10]
    table["id"][30] = table["id"][31] = "rsX"
    table["id"][32] = "."
    write_scores(Path("scores.parquet"), **{name: table[name] for name in ("contig", "position", "key", "id")})
    rows = label_rows(table, positive.astype(int).tolist())
    del rows[1 + 20]
    result = enrich(Path("scores.parquet"), write_labels(Path("l.tsv"), rows), Path("out"))
    assert result.summary["labels"]["scores_repeated"] == 1 and result.summary["labels"]["variants"] == 399
    kept = np.arange(400) != 20
    assert result.rows[0]["auroc"] == pytest.approx(roc_auc_score(positive[kept], table["MFD_MAX_DLOGIT"][kept]))
    rows = [["id", "label"], *([table["id"][i], str(int(positive[i]))] for i in range(400) if i != 31)]
    result = enrich(Path("scores.parquet"), write_labels(Path("i.tsv"), rows), Path("out2"))
    labels = result.summary["labels"]
    assert (labels["ambiguous_ids"], labels["without_name"], labels["variants"]) == (1, 1, 397)


def test_matched_sets_lose_what_was_not_scored_and_may_share_a_variant(here: Path) -> None:
    positive = np.arange(400) % 4 == 0
    table = write_scores(Path("scores.parquet"))
    rows = label_rows(table, positive.astype(int).tolist(), set=[f"set {i // 4}" for i in range(400)])
    rows[1][1] = "3"  # the positive of the first set is not scored
    rows[6][5] = "."
    rows += [[*rows[20][:5], "set 0"], [*rows[21][:5], "set 9"], rows[22]]
    path = write_labels(Path("l.tsv"), rows)
    result = enrich(Path("scores.parquet"), path, Path("out"), match_column="set", label_column="label")
    labels = result.summary["labels"]
    assert {
        name: labels[name]
        for name in ("sets", "sets_incomplete", "in_several_sets", "without_set", "repeated", "variants", "not_scored")
    } == {
        "sets": 99,
        "sets_incomplete": 1,
        "in_several_sets": 1,
        "without_set": 1,
        "repeated": 1,
        "variants": 399,
        "not_scored": 1,
    }
    row, values = result.rows[1], table[FEATURES[1]]
    members = {s: list(range(4 * s, 4 * s + 4)) for s in range(1, 100)}
    members[1].remove(5)
    members[9].append(20)
    areas = []
    for places in members.values():
        x, y = values[places], positive[places]
        areas.append(np.mean([a > b for a, b in product(x[y], x[~y])]))
    assert row["sets"] == 99 and row["within_set_auroc"] == pytest.approx(np.mean(areas))
    # A set is in the block of its first positive, and blocks of 1 Mb are whole contigs here.
    contig = np.array([min(i for i in places if positive[i]) % 3 for places in members.values()])
    without = np.array([np.mean(np.array(areas)[contig != i]) for i in range(3)])
    assert row["within_set_auroc_se"] == pytest.approx(math.sqrt(2 / 3 * np.square(without - without.mean()).sum()))
    assert row["conditional_outcome"] == "converged" and row["n"] == 399
    assert any("ignore the matching" in text for text in result.warnings)


def test_a_feature_without_scores_has_no_matched_numbers_either(here: Path) -> None:
    nothing = np.full(400, math.nan)
    table = write_scores(Path("scores.parquet"), **{"MFD_DEBIASED": nothing, "track.T1": nothing})
    rows = label_rows(table, (np.arange(400) % 4 == 0).astype(int).tolist(), set=(np.arange(400) // 4).tolist())
    path = write_labels(Path("l.tsv"), rows)
    result = enrich(Path("scores.parquet"), path, Path("out"), match_column="set", label_column="label")
    row = result.rows[-1]
    assert row["sets"] == 0 and row["conditional_outcome"] == "too few" and math.isnan(row["within_set_auroc"])
    assert not any(row["feature"] == "track.T1" for row in tsv(Path("out/quantiles.tsv")))
    compared = tsv(Path("out/raw_vs_debiased.tsv"))
    assert all(row["n_paired"] == "0" and not row["auroc_difference"] for row in compared[:-1])


def test_kinds_and_patterns() -> None:
    assert [kind_of(name) for name in FEATURES] == [
        "max",
        "shared",
        "group",
        "group",
        "debiased",
        "probability",
        "level",
        "level",
        "track",
    ]
    assert chosen(FEATURES, ["level.*", "MFD_BIO"], Path("x")) == ["MFD_BIO", "level.target=A", "level.target=B"]
    with pytest.raises(ConfigError, match=r"no feature of x is called 'levels\.\*'"):
        chosen(FEATURES, ["levels.*"], Path("x"))


def test_tables_without_ids_or_debiased_scores(here: Path) -> None:
    """What --saturate and a free head write."""
    gone = dict.fromkeys(("line", "id", "key", "MFD_SHARED", "MFD_BIO", "MFD_TECH", "MFD_DEBIASED"))
    table = write_scores(Path("scores.parquet"), **gone, CADD=np.arange(400), small=np.zeros(400, np.float16))
    rows = label_rows(table, classes().astype(int).tolist())
    result = enrich(Path("scores.parquet"), write_labels(Path("l.tsv"), rows), Path("out"))
    assert result.rows[-2]["kind"] == "other" and result.rows[-1]["logistic_outcome"] == "constant"
    assert Path("out/raw_vs_debiased.tsv").read_text() == "feature\tscore\n"
    assert any("1 columns are float16" in text for text in result.warnings)
    rows = [["id", "label"], ["rs1", "0"], ["rs2", "1"]]
    with pytest.raises(InputError, match=r"scores\.parquet: has no column 'id'"):
        enrich(Path("scores.parquet"), write_labels(Path("i.tsv"), rows), Path("out2"))


# -- complaints --------------------------------------------------------------------------------------------------------

HEADER = "chrom\tpos\tref\talt\tlabel\n"
ROWS = "".join(f"chr{1 + i % 3}\t{1000 + 7 * i}\tA\tG\t{int(i % 3 == 0)}\n" for i in range(30))
BROKEN: dict[str, tuple[bytes, dict[str, Any], str]] = {
    "one column": (b"chrom pos\n1 2\n", {}, r"labels\.tsv:1: has one column only"),
    "twice": (b"chrom\tpos\tpos\n", {}, r":1: has the column 'pos' twice"),
    "nameless": (b"chrom\t\tpos\n", {}, r":1: has a column without a name"),
    "no names": (b"gene\tlabel\na\t1\n", {}, r":1: has no columns that name a variant \(gene, label\)"),
    "cells": ((HEADER + "chr1\t5\tA\tG\t1\n\nchr1\t6\tA\tG\n").encode(), {}, r"labels\.tsv:4: has 4 cells where .* 5"),
    "bytes": (HEADER.encode() + b"chr1\t5\tA\tG\t1\nchr1\t6\t\xff\tG\t1\n", {}, r":3: is not UTF-8 text"),
    "header bytes": (b"chrom\tp\xffs\n", {}, r":1: is not UTF-8 text"),
    "position": (
        (HEADER + "\nchr1\t5\tA\tG\t1\nchr1\t6x\tA\tG\t0\n").encode(),
        {},
        r":4: the position '6x' is not a whole",
    ),
    "zero": (
        (HEADER + "chr1\t5\tA\tG\t1\nchr1\t0\tA\tG\t0\n").encode(),
        {},
        r":3: the position '0' is not a whole number",
    ),
    "no rows": (HEADER.encode(), {}, r"has a header but no rows"),
    "comments only": (b"##a\n", {}, r"has no header"),
    "empty": (b"", {}, r"is empty"),
    "cut gzip": (gzip.compress((HEADER + ROWS).encode())[:-9], {}, r"damaged or was cut short \(gzip\)"),
    "no such column": ((HEADER + ROWS).encode(), {"label_column": "rare"}, r":1: has no column 'rare'"),
    "no such sets": ((HEADER + ROWS).encode(), {"match_column": "set"}, r":1: has no column 'set'"),
    "three classes": (
        (HEADER + "chr1\t5\tA\tG\t1\nchr1\t6\tA\tG\t0\nchr1\t7\tA\tG\t2\n").encode(),
        {},
        r"3 values \(0, 1, 2\)",
    ),
    "one class": (
        (HEADER + "chr1\t5\tA\tG\t1\nchr1\t6\tA\tG\t1\n").encode(),
        {},
        r"'label' has 1 values \(1\), where two",
    ),
    "no class": ((HEADER + "chr1\t5\tA\tG\tNA\n").encode(), {}, r"'label' has no values"),
    "which class": (
        (HEADER + "chr1\t5\tA\tG\tup\nchr1\t6\tA\tG\tdown\n").encode(),
        {},
        r"the labels 'down' and 'up': it is not plain which",
    ),
    "wrong class": ((HEADER + ROWS).encode(), {"positive": "rare"}, r"the labels '0' and '1': 'rare' is not a label"),
    "which column": (
        (HEADER.replace("label", "a\tb") + "chr1\t5\tA\tG\t1\t0\nchr1\t6\tA\tG\t0\t1\n").encode(),
        {},
        r"several columns have two values \(a, b\)",
    ),
    "no label column": (
        (HEADER.replace("label", "gene") + "chr1\t5\tA\tG\tx\n").encode(),
        {},
        r"no column has two values \(gene\)",
    ),
    "elsewhere": (
        (HEADER + "chr1\t5\tA\tG\t1\nchr1\t6\tA\tG\t0\n").encode(),
        {},
        r"none of its 2 variants is among the scores \(for example 1:5:A:G against 1:1000:A:G\)",
    ),
    "too few": ((HEADER + ROWS.replace("\t1\n", "\t0\n", 9)).encode(), {}, r"1 scored variants are '1' and 29 are '0'"),
    "no sets": (
        (HEADER.replace("label", "label\tset") + ROWS.replace("\n", "\ts\n")).encode(),
        {"match_column": "set"},
        r"1 of 1 sets have a scored variant of each class",
    ),
}


@pytest.mark.parametrize("content,options,message", BROKEN.values(), ids=BROKEN)
def test_complaints_about_labels(here: Path, content: bytes, options: dict[str, Any], message: str) -> None:
    write_scores(Path("scores.parquet"))
    Path("labels.tsv").write_bytes(content)
    with pytest.raises(MetadataError, match=message):
        enrich(Path("scores.parquet"), Path("labels.tsv"), Path("out"), **options)
    assert sorted(path.name for path in here.iterdir()) == ["labels.tsv", "scores.parquet"]


def test_complaints_about_scores(here: Path) -> None:
    Path("labels.tsv").write_text(HEADER + ROWS)

    def complaint() -> MfdError:
        with pytest.raises(InputError) as caught:
            enrich(Path("scores.parquet"), Path("labels.tsv"), Path("out"))
        return caught.value

    assert "no such file" in str(complaint())
    Path("scores.parquet").write_text("PAR1 this is none")
    assert "is damaged, or is not a Parquet file" in str(complaint())
    write_scores(Path("scores.parquet"), alt=None)
    assert "has no column 'alt': it is not a table of scores" in str(complaint()) and complaint().hint
    write_scores(Path("scores.parquet"), position=["1"] * 400)
    assert "positions that are no whole numbers" in str(complaint())
    write_scores(Path("scores.parquet"), **dict.fromkeys(FEATURES))
    assert "has no numeric features" in str(complaint())
    write_scores(Path("scores.parquet"), 0)
    assert "has no scored variants" in str(complaint())
    write_scores(Path("scores.parquet"))
    raw = bytearray(Path("scores.parquet").read_bytes())
    raw[200:6000] = b"\xff" * 5800
    Path("scores.parquet").write_bytes(raw)
    assert "is damaged" in str(complaint())


@pytest.mark.parametrize(
    "options,message",
    [
        ({"quantiles": (0.5, 1.0)}, "quantiles lie between 0 and 1"),
        ({"quantiles": ()}, "quantiles lie between"),
        ({"fdr": 0.0}, "the false discovery rate is 0"),
        ({"direction": "up"}, "the direction is 'up', not one of both, absolute"),
        ({"features": ["nothing*"]}, "no feature of scores.parquet is called"),
    ],
)
def test_complaints_about_settings(here: Path, options: dict[str, Any], message: str) -> None:
    table = write_scores(Path("scores.parquet"))
    with pytest.raises(ConfigError, match=message):
        run(table, classes().astype(int).tolist(), **options)


def test_an_older_result_or_an_input_is_not_lost(here: Path) -> None:
    table = write_scores(Path("scores.parquet"))
    run(table, classes().astype(int).tolist())
    with pytest.raises(OutputError, match="out: exists already"):
        run(table, classes().astype(int).tolist())
    run(table, classes().astype(int).tolist(), force=True)
    with pytest.raises(OutputError, match="a folder that mfd did not write"):
        run(table, classes().astype(int).tolist(), output=str(here), force=True)
    inside = Path("out/scores.parquet")
    inside.write_bytes(Path("scores.parquet").read_bytes())
    with pytest.raises(OutputError, match=r"holds the input scores\.parquet"):
        enrich(inside, Path("labels.tsv"), Path("out"), force=True)
    Path("file").write_text("")
    with pytest.raises(OutputError, match="is a file; the tables are written to a folder"):
        run(table, classes().astype(int).tolist(), output="file", force=True)


def test_progress_is_told(here: Path) -> None:
    table, seen = write_scores(Path("scores.parquet")), []
    run(table, classes().astype(int).tolist(), progress=lambda *step: seen.append(step))
    assert ("measuring features", len(FEATURES), len(FEATURES)) in seen


def test_labels_from_a_spreadsheet_are_read(here: Path) -> None:
    """A byte order mark, Windows line ends, comments, blank lines and spaces around cells."""
    table, positive = write_scores(Path("scores.parquet")), classes()
    rows = ["\t".join(f"{cell} " for cell in row) for row in label_rows(table, positive.astype(int).tolist())]
    text = "\ufeff" + "\r\n".join(["## made by hand", rows[0], "", *rows[1:200], "", *rows[200:], ""])
    Path("l.tsv").write_bytes(text.encode())
    result = enrich(Path("scores.parquet"), Path("l.tsv"), Path("out"), block_size=BLOCK)
    assert (
        result.rows[0]["auroc"] == pytest.approx(roc_auc_score(positive, table["MFD_MAX_DLOGIT"]))
        and not result.warnings
    )


def test_places_and_ranks_are_no_features() -> None:
    from mfd_cli.enrichment.score_table import is_no_score

    for name in (
        "line",
        "position",
        "tss_distance",
        "haplotype",
        "MFD_BG_QUANTILE",
        "MFD_BIO_SD",
        "quantile.MFD_BIO",
        "p.MFD_DEBIASED",
    ):
        assert is_no_score(name)
    for name in ("MFD_BIO", "level.target=p.x", "track.quantile.x", "ref_probability", "spread.MFD_BIO"):
        assert not is_no_score(name)
