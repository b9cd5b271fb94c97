"""How far two factors go together, against computations by hand, scipy and scikit-learn; and what check-design says of it."""

from __future__ import annotations

import csv
import json
import re
from itertools import combinations
from pathlib import Path

import numpy as np
import pytest
from scipy import stats
from sklearn.linear_model import LinearRegression
from sklearn.preprocessing import OneHotEncoder

from kit.harm import METADATA, good_project, in_process
from mfd_cli.core.association import (
    FactorValues,
    associate,
    correlation_ratio,
    cramers_v,
    is_nested,
    moving_together,
    rank_correlation,
)
from mfd_cli.core.metadata import MISSING
from mfd_cli.experiments.confounds import Pair, confounds_of


def test_moving_together_and_cramers_v_by_hand() -> None:
    a, b = list("xxyyzz"), list("ppqqqr")
    assert moving_together(a, b).tolist() == [True, True, False, False, False, False]
    assert cramers_v(list("xyxyxyxy"), list("pqpqpqpq")).value == pytest.approx(1, abs=0.02)
    assert cramers_v(list("xxyy" * 20), list("pqpq" * 20)).value == 0


def test_cramers_v_has_the_p_of_scipy() -> None:
    rng = np.random.default_rng(0)
    a, b = rng.choice(list("xyz"), 50).tolist(), rng.choice(list("pqrs"), 50).tolist()
    table = stats.contingency.crosstab(a, b).count
    assert cramers_v(a, b).chance == pytest.approx(stats.chi2_contingency(table, correction=False).pvalue)


def test_correlation_ratio_by_hand() -> None:
    """Means 2 and 6, total sum of squares 4 + 16 + 2 * 2 = 20 around 4: eta squared 16 / 20, corrected 1 - 0.2 * 3 / 2."""
    found = correlation_ratio(np.array([1.0, 3.0, 5.0, 7.0]), list("aabb"))
    assert found.value == pytest.approx(np.sqrt(1 - 0.2 * 3 / 2))
    assert (
        correlation_ratio(np.array([1.0, 3.0, np.nan, 5.0, 7.0]), list("aabbb")) == found
    )  # a missing one says nothing
    assert correlation_ratio(np.array([36.0, 36, 100, 100]), list("aabb")).value == 1
    assert correlation_ratio(np.array([36.0, 36, 36]), list("aab")).value == 0
    assert correlation_ratio(np.array([1.0, 2, 3]), list("abc")).value == 0  # a level each


def test_correlation_ratio_against_scipy_and_scikit_learn() -> None:
    rng = np.random.default_rng(1)
    levels = rng.choice(list("abcd"), 60).tolist()
    numbers = rng.normal(size=60) + [{"a": 0.0, "b": 1.0, "c": 2.0, "d": 0.0}[level] for level in levels]
    found = correlation_ratio(numbers, levels)
    columns = OneHotEncoder(sparse_output=False).fit_transform(np.array(levels)[:, None])
    eta_squared = LinearRegression().fit(columns, numbers).score(columns, numbers)
    assert found.value**2 == pytest.approx(1 - (1 - eta_squared) * 59 / 56)
    groups = [numbers[np.array(levels) == level] for level in "abcd"]
    assert found.chance == pytest.approx(stats.f_oneway(*groups).pvalue)


def test_many_levels_of_few_tracks_do_not_look_confounded() -> None:
    """25 levels of two tracks each have an eta squared of about a half by chance; corrected it is 0 on average."""
    rng, plain, corrected = np.random.default_rng(2), [], []
    levels = [str(i // 2) for i in range(50)]
    for _ in range(200):
        numbers = rng.normal(size=50)
        within = ((numbers.reshape(25, 2) - numbers.reshape(25, 2).mean(1, keepdims=True)) ** 2).sum()
        plain.append(1 - within / ((numbers - numbers.mean()) ** 2).sum())
        corrected.append(1 - (1 - plain[-1]) * 49 / 25)
        assert correlation_ratio(numbers, levels).value == pytest.approx(np.sqrt(max(0, corrected[-1])))
    assert np.mean(plain) == pytest.approx(24 / 49, abs=0.02) and abs(np.mean(corrected)) < 0.04


def test_rank_correlation_against_scipy() -> None:
    rng = np.random.default_rng(3)
    a = rng.normal(size=40)
    b = -np.exp(3 * a) + rng.normal(size=40)
    found, expected = rank_correlation(a, b), stats.spearmanr(a, b)
    assert found.value**2 == pytest.approx(1 - (1 - expected.statistic**2) * 39 / 38)
    assert found.chance == pytest.approx(expected.pvalue)
    assert rank_correlation(np.arange(5.0), np.arange(5.0) ** 3).value == pytest.approx(1)
    assert rank_correlation(np.arange(2.0), np.arange(2.0)).value == 0


def test_the_measure_that_suits_two_factors() -> None:
    years = ["2001", "2002", "2003", "2004", "2011", "2012", "2013", "2014"]
    year = FactorValues(years, np.array([float(y) for y in years]))
    labs = FactorValues(list("aaaabbbb"))
    depth = FactorValues([str(i) for i in range(8)], np.arange(8.0), ordered_only=True)
    gaps = FactorValues(list("1111") + [MISSING] * 4, np.array([1.0, 2, 1, 2, *[np.nan] * 4]), ordered_only=True)
    assert associate(year, labs).measure == "correlation ratio" and associate(labs, year).value > 0.9
    assert associate(year, depth).measure == "rank correlation"
    assert associate(depth, labs).measure == associate(labs, depth).measure == "correlation ratio"
    assert associate(labs, FactorValues(list("ppppqqqq"))).measure == "Cramer's V"
    assert associate(gaps, labs).measure == "missing values' Cramer's V" and associate(gaps, labs).value > 0.9


def test_nested_factors() -> None:
    antibodies, targets = [f"ab{i // 4}" for i in range(24)], [f"t{i // 8}" for i in range(24)]
    assert is_nested(antibodies, targets) and not is_nested(targets, antibodies)
    assert not is_nested(antibodies, antibodies)  # the same, one to one
    assert not is_nested([str(i) for i in range(24)], targets)  # a level each: by chance
    assert not is_nested(antibodies, ["t1"] * 23 + ["t2"])
    assert is_nested([*antibodies, MISSING, MISSING], [*targets, "t0", "t1"])


def numeric_project(folder: Path, tracks: int = 24) -> None:
    """Read length goes with the lab, FRiP with the assay, the year with the lab, and antibodies are within targets."""
    good_project(folder)
    rng = np.random.default_rng(5)
    lines = ["File accession\tFile path\tTarget\tAssay\tLab\tYear\tRead length\tfrip\tAntibody"]
    for i in range(tracks):
        target, assay, lab = f"T{i // 8}", ("ChIP-seq", "CUT&RUN")[i % 2], ("North", "South")[i // 2 % 2]
        length = (36, 50)[i % 2] if lab == "North" else (100, 150)[i // 4 % 2]
        frip = (0.05 if assay == "ChIP-seq" else 0.4) + rng.uniform(0, 0.05)
        year = (2010 if lab == "North" else 2018) + int(rng.integers(3))
        file = f"tracks/t{i}.bed"
        (folder / file).write_text("chr1\t0\t200\n")
        lines.append(f"t{i}\t{file}\t{target}\t{assay}\t{lab}\t{year}\t{length}\t{frip:.4f}\tab{i // 4}")
    (folder / "metadata.tsv").write_text("\n".join(lines) + "\n")


def test_numeric_confounds_and_nested_factors_are_told(tmp_path: Path, whole_pictures: None) -> None:
    folder = tmp_path / "p"
    numeric_project(folder)
    init = in_process(["init", "--fasta", "genome.fa", "--metadata", "metadata.tsv", "--force"], folder)
    assert init.code == 0, init.told
    design = in_process(["check-design", "-o", "design"], folder)
    assert design.code == 0, design.told
    for said in (init.said, design.said):
        assert "assay and frip go together (correlation ratio 1.00 over 24 tracks)" in said
        assert "lab and year go together (correlation ratio 0.9" in said
        assert "lab and read_length go together (correlation ratio 0.9" in said
        assert "antibody is nested within target (each of its levels occurs with one level of that only, so" in said
        assert "assay and lab" not in said  # these two cross
    assert "lab = North with read_length near 1" in design.said and "(so far 36 to 50)" in design.said
    with (folder / "design/design.tsv").open(newline="") as file:
        rows = {frozenset((row["first"], row["second"])): row for row in csv.DictReader(file, delimiter="\t")}
    assert rows[frozenset(("target", "antibody"))]["nested"] == "antibody"
    assert rows[frozenset(("assay", "frip"))]["measure"] == "correlation ratio"
    pairs = json.loads((folder / "design/design.json").read_text())["pairs"]
    assert {pair["measure"] for pair in pairs} >= {"Cramer's V", "correlation ratio"}
    assert (folder / "design/design.png").stat().st_size > 10_000


NAMES = ("target", "assay", "lab", "year", "read_length", "antibody", "frip", "caller", "batch")


def pairs_told(line: str) -> set[frozenset[str]]:
    """Return every pair of factors that a line on them names."""
    names = [name for name in NAMES if re.search(rf"\b{name}\b", line)]
    return {frozenset(pair) for pair in combinations(names, 2)}


def test_a_pair_is_told_once(tmp_path: Path) -> None:
    """The caller goes with the assay, numbers with both, antibodies are within targets: no pair is in two lines."""
    folder = tmp_path / "p"
    numeric_project(folder)
    lines = (folder / "metadata.tsv").read_text().splitlines()
    callers = {"ChIP-seq": "MACS 2.1", "CUT&RUN": "SEACR 1.3"}
    table = [f"{lines[0]}\tPeak caller", *(f"{line}\t{callers[line.split(chr(9))[3]]}" for line in lines[1:])]
    (folder / "metadata.tsv").write_text("\n".join(table) + "\n")
    assert in_process(["init", "--fasta", "genome.fa", "--metadata", "metadata.tsv", "--force"], folder).code == 0
    said = in_process(["check-design"], folder).said.split("\n\n")[3]
    assert "assay and caller cannot be told apart on 24 of 24 tracks" in said
    told = [pair for line in said.splitlines() for pair in pairs_told(line)]
    assert len(told) >= 6 and len(told) == len(set(told)), said
    left = re.search(r"the other (\d+) pairs of factors", said)
    assert left and len(told) + int(left[1]) == 28  # of the eight factors


def test_a_set_is_told_with_those_that_hold_it() -> None:
    sets = [(("a", "b"), 9), (("a", "b", "c"), 8), (("d", "e"), 8), (("a", "b", "c", "d"), 2)]
    pairs = [Pair("a", "c", "Cramer's V", 0.9, 0.0, 8, "a", True), Pair("d", "e", "Cramer's V", 0.9, 0.0, 8, "", False)]
    first, second = (confound.sentence for confound in confounds_of(sets, pairs, 10))
    assert first == "a and b cannot be told apart on 9 of 10 tracks (with c: 8; with c and d: 2); a is nested within c"
    assert second == "d and e cannot be told apart on 8 of 10 tracks"


def test_the_picture_says_which_factor_is_nested_within_which() -> None:
    from matplotlib.figure import Figure

    from mfd_cli.experiments.confounds_picture import draw_matrix

    axes = Figure().subplots()
    draw_matrix(axes, ["target", "antibody"], [Pair("target", "antibody", "Cramer's V", 0.9, 0.0, 0, "antibody", True)])
    marks = {text.get_position(): text.get_text()[-1] for text in axes.texts}
    assert marks == {
        (0, 1): "⊂",
        (1, 0): "⊃",
    }  # (column, row): the row of the antibody is nested within the target's column


def test_training_warns_of_a_numeric_confound(tmp_path: Path) -> None:
    folder = tmp_path / "p"
    good_project(folder)
    header, *rows = METADATA
    lengths = ("36", "36", "100", "100", "100")  # as the assay
    table = [(*header, "Read length"), *((*row, length) for row, length in zip(rows, lengths))]
    (folder / "metadata.tsv").write_text("\n".join("\t".join(row) for row in table) + "\n")
    text = (folder / "mfd.toml").read_text()
    factor = '[factors.read_length]\ncolumn = "Read length"\ngroup = "biological"\ntype = "number"\n\n'
    (folder / "mfd.toml").write_text(text.replace("[model]\n", f"{factor}[model]\n"))
    for words in (["preprocess", "-q"], ["train", "--gpus", "0", "--threads", "1"]):
        done = in_process(words, folder)
        assert done.code == 0, done.told
    assert (
        "not to be trusted: assay and read_length cannot be told apart on 5 of 5 tracks (mfd check-design" in done.told
    )
    assert done.told.count("told apart") == 1
    table = [table[0], *((*row[:-1], f"{float(row[-1]) + number}") for number, row in enumerate(table[1:]))]
    (folder / "metadata.tsv").write_text("\n".join("\t".join(row) for row in table) + "\n")
    for words in (["preprocess", "-q", "--force"], ["train", "--gpus", "0", "--threads", "1", "--force"]):
        done = in_process(words, folder)
        assert done.code == 0, done.told
    assert "not to be trusted: assay and read_length go together (correlation ratio 1.00 over 5 tracks)" in done.told


def test_a_constant_with_the_rounding_of_its_mean_goes_with_nothing() -> None:
    """0.1 twelve times has a mean that is off by its last digit: no spread for levels to explain."""
    values = np.full(12, 0.1)
    assert correlation_ratio(values, ["A", "B", "C"] * 4).value == 0
