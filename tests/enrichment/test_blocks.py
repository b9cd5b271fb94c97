"""Standard errors over blocks: the blocks themselves, estimates without each of them, and what dependent variants do to p."""

from __future__ import annotations

import json
import math
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from hypothesis import given, settings
from hypothesis import strategies as some
from scipy import stats
from sklearn.metrics import roc_auc_score

from kit.harm import in_process
from mfd_cli.base.errors import ConfigError, RegionError
from mfd_cli.enrichment import statistics as st
from mfd_cli.enrichment.blocks import Blocks, blocks_by_distance, blocks_of_intervals, remarks
from mfd_cli.enrichment.enrich import enrich
from mfd_cli.enrichment.jackknife import jackknife, mean_over_blocks
from mfd_cli.enrichment.score_table import Places
from mfd_cli.formats.bed import read_intervals

PLACES = Places(("1", "2"), np.array([0, 0, 1, 0, 1, 0]), np.array([5, 1_999_999, 5, 2_000_000, 12, 999_999]))


def bed(path: Path, text: str) -> Path:
    path.write_text(text)
    return path


# -- blocks ------------------------------------------------------------------------------------------------------------


def test_blocks_by_distance_begin_with_each_contig() -> None:
    blocks = blocks_by_distance(PLACES)
    assert blocks.number.tolist() == [0, 1, 3, 2, 3, 0] and (blocks.count, blocks.outside) == (4, 0)
    assert blocks.made_of == "1,000,000 bp of a contig"
    assert blocks_by_distance(PLACES, 10).number.tolist() == [0, 2, 4, 3, 5, 1]
    with pytest.raises(ConfigError, match="the size of a block is 0 bp"):
        blocks_by_distance(PLACES, 0)


def test_blocks_of_a_file_hold_their_ends_and_gaps_are_blocks(tmp_path: Path) -> None:
    path = bed(tmp_path / "ld.bed", "chr2\t6\t13\nchr1\t999999\t2000000\nchr1\t0\t6\nchrX\t0\t9\n")
    blocks = blocks_of_intervals(PLACES, read_intervals(path))
    # In order: chr1 0-6; chr1 999,999-2,000,000, twice; beyond it; chr2 before its block; in it.
    assert blocks.number.tolist() == [0, 1, 3, 2, 4, 1] and (blocks.count, blocks.outside) == (5, 2)
    assert blocks.made_of == "blocks of ld.bed"
    assert "2 variants lie between the blocks of the file" in remarks(blocks)[1]


def test_complaints_about_blocks(tmp_path: Path) -> None:
    overlapping = bed(tmp_path / "a.bed", "chr1\t0\t6\nchr1\t9\t30\nchr1\t5\t8\n")
    with pytest.raises(RegionError, match=r"a\.bed:3: this block overlaps the one of line 1"):
        blocks_of_intervals(PLACES, read_intervals(overlapping))
    elsewhere = bed(tmp_path / "b.bed", "chr9\t0\t6\n")
    with pytest.raises(RegionError, match="none of the labelled variants lies in a block"):
        blocks_of_intervals(PLACES, read_intervals(elsewhere))


def test_few_blocks_are_remarked_on() -> None:
    assert not remarks(Blocks(np.arange(20), 20, "1 bp"))
    assert "lie in 19 blocks only (1 bp)" in remarks(Blocks(np.arange(19), 19, "1 bp"))[0]
    assert "of one block there are none" in remarks(Blocks(np.zeros(5, int), 1, "1 bp"))[0]


# -- estimates without each block --------------------------------------------------------------------------------------


def correlated(rng: np.random.Generator, blocks: int, spread: float) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Scores, classes and blocks of about 1,000 variants: both are alike within blocks, and have nothing to do with each other.

    `spread` is the standard deviation of the logarithm of the blocks' sizes.
    """
    size = np.exp(spread * rng.normal(size=blocks))
    number = np.repeat(np.arange(blocks), np.maximum(1, 1000 * size / size.sum()).astype(int))
    values = math.sqrt(0.3) * rng.normal(size=blocks)[number] + math.sqrt(0.7) * rng.normal(size=len(number))
    positive = rng.random(len(number)) < 1 / (1 + np.exp(0.8 - rng.normal(size=blocks)[number]))
    return values, positive, number


@pytest.mark.parametrize("levels", [None, 2.0])
def test_areas_without_a_block_are_those_of_scikit_learn(levels: float | None) -> None:
    values, positive, blocks = correlated(np.random.default_rng(0), 25, 0.7)
    values = values if levels is None else np.round(values * levels)
    values, positive, blocks = (part[blocks != 3] for part in (values, positive, blocks))  # a block without variants
    found = st.count_pairs(st.rank(values, positive), positive, blocks, 25)
    others = [block for block in range(25) if block != 3]
    left_out = np.array([roc_auc_score(positive[blocks != i], values[blocks != i]) for i in others])
    assert found.left_out == pytest.approx(left_out, abs=1e-12)
    area = found.area()
    assert area.value == pytest.approx(roc_auc_score(positive, values), abs=1e-12)
    se = math.sqrt(23 / 24 * np.square(left_out - left_out.mean()).sum())
    assert area.se == pytest.approx(se, rel=1e-9)
    assert area.p == pytest.approx(2 * stats.t.sf(abs(area.value - 0.5) / se, 23), rel=1e-6)
    assert (area.low, area.high) == pytest.approx(stats.t.interval(0.95, 23, area.value, se), rel=1e-9)


@settings(max_examples=60, deadline=None)
@given(values=some.lists(some.integers(-3, 3), min_size=8, max_size=40), seed=some.integers(0, 99))
def test_any_few_variants_without_a_block(values: list[int], seed: int) -> None:
    rng = np.random.default_rng(seed)
    scores, positive = np.array(values, float), rng.random(len(values)) < 0.5
    blocks = rng.integers(0, 4, len(values))
    positive[:4], blocks[:4] = [True, False, True, False], [0, 0, 1, 1]  # every block can be left out
    found = st.count_pairs(st.rank(scores, positive), positive, blocks, 4)
    expected = [roc_auc_score(positive[blocks != i], scores[blocks != i]) for i in np.unique(blocks)]
    assert found.left_out == pytest.approx(expected)


def test_a_block_with_all_of_a_class_leaves_no_standard_error() -> None:
    values, blocks = np.random.default_rng(1).normal(size=60), np.arange(60) // 6
    positive = np.isin(np.arange(60), (12, 13, 14))
    found = st.count_pairs(st.rank(values, positive), positive, blocks, 10).area()
    assert (
        found.value == pytest.approx(roc_auc_score(positive, values)) and math.isnan(found.se) and math.isnan(found.p)
    )
    assert math.isnan(jackknife(1.0, np.ones(1)).p)


def test_differences_and_means_without_a_block() -> None:
    rng = np.random.default_rng(2)
    one, positive, blocks = correlated(rng, 12, 0.5)
    other = one + rng.normal(size=len(one))
    pairs = [st.count_pairs(st.rank(values, positive), positive, blocks, 12) for values in (one, other)]
    areas = [np.array([roc_auc_score(positive[blocks != i], x[blocks != i]) for i in range(12)]) for x in (one, other)]
    left_out, found = areas[0] - areas[1], st.area_difference(*pairs)
    assert found.value == pytest.approx(roc_auc_score(positive, one) - roc_auc_score(positive, other))
    assert found.se == pytest.approx(math.sqrt(11 / 12 * np.square(left_out - left_out.mean()).sum()))
    same = st.area_difference(pairs[0], pairs[0])
    assert (same.value, same.se, same.p) == (0, 0, 1)
    mean = mean_over_blocks(one, blocks)
    means = np.array([one[blocks != i].mean() for i in range(12)])
    assert mean.value == pytest.approx(one.mean())
    assert mean.se == pytest.approx(math.sqrt(11 / 12 * np.square(means - means.mean()).sum()))


def test_cuts_without_a_block() -> None:
    values, positive, blocks = correlated(np.random.default_rng(3), 10, 0.5)
    chosen, everything = values > 0.8, st.class_counts(positive, blocks, 10)
    table = st.block_table(np.flatnonzero(chosen), positive, blocks, everything)
    shares, logs = [], []
    for i in range(10):
        selected, hits = chosen[blocks != i], positive[blocks != i]
        shares.append(selected[hits].mean() - selected[~hits].mean())
        a, b, c, d = (
            (selected & hits).sum(),
            (selected & ~hits).sum(),
            (~selected & hits).sum(),
            (~selected & ~hits).sum(),
        )
        logs.append(math.log(a * d / b / c))
    error_of = lambda left_out: math.sqrt(9 / 10 * np.square(left_out - np.mean(left_out)).sum())  # noqa: E731
    assert st.share_difference(table).se == pytest.approx(error_of(shares))
    ratio = st.odds_ratio(table)
    wald = math.sqrt(sum(1 / cell for cell in table.whole))
    assert error_of(logs) > wald and not ratio.corrected
    assert math.log(ratio.high / ratio.value) == pytest.approx(stats.t.ppf(0.975, 9) * error_of(logs))
    whole = st.block_table(
        np.flatnonzero(positive), positive, blocks, everything
    )  # no block changes the difference of 1
    assert st.share_difference(whole).p == pytest.approx(stats.fisher_exact([[10, 0], [0, 10]]).pvalue)


@pytest.mark.parametrize("spread", [0.0, 1.2])
def test_independent_variants_have_too_small_p_and_blocks_have_not(spread: float) -> None:
    """Nothing is there, but variants of a block are alike: of 400 tests at 5 %, 20 should reject, give or take 4."""
    rng = np.random.default_rng(4)
    independent, over_blocks, cuts, fisher = (np.zeros(400) for _ in range(4))
    for i in range(400):
        values, positive, blocks = correlated(rng, 60, spread)
        ranking = st.rank(values, positive)
        area = st.auroc(ranking)
        independent[i] = 2 * stats.norm.sf(abs(area.value - 0.5) / area.se)
        over_blocks[i] = st.count_pairs(ranking, positive, blocks, 60).area().p
        table = st.block_table(st.cut_at(ranking, 0.9)[1], positive, blocks, st.class_counts(positive, blocks, 60))
        cuts[i], fisher[i] = st.share_difference(table).p, st.fisher_exact(table.whole)
    assert (independent < 0.05).sum() > 50 and (over_blocks < 0.05).sum() <= 34
    assert (fisher < 0.05).sum() > (cuts < 0.05).sum() and (cuts < 0.05).sum() <= 34
    if not spread:
        assert stats.kstest(over_blocks, "uniform").pvalue > 0.01


# -- the verb ----------------------------------------------------------------------------------------------------------


def write_inputs(folder: Path, values: np.ndarray, positive: np.ndarray, blocks: np.ndarray) -> None:
    """Scores and labels of variants whose blocks are 1,000 bp long and lie 100 kb apart."""
    position = 100_000 * blocks + 1 + np.arange(len(blocks)) % 1000
    n, alleles = len(blocks), {"ref": ["A"] * len(blocks), "alt": ["G"] * len(blocks)}
    key = [f"chr1:{place}:A>G" for place in position]
    columns = {"contig": ["chr1"] * n, "position": position, **alleles, "key": key, "MFD_BIO": values}
    pq.write_table(pa.table(columns), folder / "scores.parquet")
    rows = [f"chr1\t{place}\tA\tG\t{int(one)}\n" for place, one in zip(position, positive)]
    (folder / "labels.tsv").write_text("chrom\tpos\tref\talt\tlabel\n" + "".join(rows))


def test_blocks_come_from_an_option_and_are_told(tmp_path: Path) -> None:
    rng = np.random.default_rng(5)
    values, positive, blocks = correlated(rng, 30, 0.3)
    write_inputs(tmp_path, values, positive, blocks)
    bed(tmp_path / "ld.bed", "".join(f"chr1\t{100_000 * i}\t{100_000 * i + 1000}\n" for i in range(30)))
    words = ["enrich", "scores.parquet", "--labels", "labels.tsv"]
    results = {}
    for name, options in (("distance", ["--block-size", "100000"]), ("file", ["--blocks", "ld.bed"]), ("default", [])):
        done = in_process([*words, *options, "-o", name], tmp_path)
        assert done.code == 0, done.told
        results[name] = done
    features = [(tmp_path / name / "features.tsv").read_text() for name in ("distance", "file")]
    assert features[0] == features[1]
    found = dict(zip(*(line.split("\t") for line in features[0].splitlines())))
    area = st.count_pairs(st.rank(values, positive), positive, blocks, 30).area()
    assert found["blocks"] == "30" and float(found["auroc_se"]) == pytest.approx(area.se, rel=1e-4)
    independent = st.auroc(st.rank(values, positive))
    assert float(found["auroc_variance_ratio"]) == pytest.approx((area.se / independent.se) ** 2, rel=1e-3)
    lines = [line.split("\t") for line in (tmp_path / "file/quantiles.tsv").read_text().splitlines()]
    p = np.array([[float(row[lines[0].index(name)]) for name in ("p", "fisher_p", "block_p")] for row in lines[1:]])
    assert (p[:, 0] == p[:, 1:].max(1)).all() and (p[:, 1] < p[:, 2]).any() and (p[:, 1] > p[:, 2]).any()
    assert "standard errors and p are over 30 blocks (100,000 bp of a contig)" in results["distance"].said
    assert "over 30 blocks (blocks of ld.bed)" in results["file"].said
    assert json.loads((tmp_path / "file/summary.json").read_text())["blocks"]["count"] == 30
    assert "the variants lie in 3 blocks only (1,000,000 bp of a contig)" in results["default"].told
    both = in_process([*words, "--blocks", "ld.bed", "--block-size", "9", "-o", "both"], tmp_path)
    assert both.code == 2 and "blocks come from a file or have a size, not both" in both.told


def test_variants_of_one_block_are_not_selected_by_it(tmp_path: Path) -> None:
    """Scores tell the classes apart in every other block only: a cut from there selects nothing there."""
    rng = np.random.default_rng(6)
    blocks = np.repeat(np.arange(60), 20)
    positive = rng.random(1200) < 0.5
    values = rng.normal(size=1200) + 2.0 * (positive & (blocks % 2 == 0))
    write_inputs(tmp_path, values, positive, blocks)
    result = enrich(
        tmp_path / "scores.parquet", tmp_path / "labels.tsv", tmp_path / "out", block_size=100_000, quantiles=(0.7,)
    )
    lines = [line.split("\t") for line in (tmp_path / "out/selected_cuts.tsv").read_text().splitlines()]
    (row,) = [dict(zip(lines[0], line)) for line in lines[1:]]
    first = blocks % 2 == 0
    cut = np.quantile(values[first], 0.7)
    assert row["half"] == "1" and float(row["cut"]) == pytest.approx(cut) and float(row["p"]) < 1e-6
    assert float(row["other_half_p"]) > 0.01  # where it had no say, the cut is worth nothing
    listed = pq.read_table(tmp_path / "out/selected.parquet")["position"].to_numpy()
    assert len(listed) == int((values[~first] >= cut).sum()) == result.summary["found"]["selected_variants"]
    assert ((listed - 1) // 100_000 % 2 == 1).all()


@pytest.mark.filterwarnings("error")
def test_a_block_that_takes_every_pair_with_it_leaves_no_area() -> None:
    """Rounding may leave wins of 1e-17 there, which are not infinitely many of no pairs."""
    counts = st.PairCounts(2.0, 4.0, np.array([1e-17, 1.0]), np.array([0.0, 2.0]), np.array([2, 1]), np.array([1, 1]))
    assert np.isnan(counts.left_out[0]) and counts.left_out[1] == 0.5
    assert math.isfinite(st.area_difference(counts, counts).value)
