"""Scoring files of the PGS Catalog: read, matched on either strand, and computed as plink2 does."""

from __future__ import annotations

import gzip
import shutil
import subprocess
from collections.abc import Sequence
from pathlib import Path

import numpy as np
import pytest

from mfd_cli.base.errors import InputError
from mfd_cli.contig.data.pgs_catalog import read_score, same_assembly
from mfd_cli.contig.data.pgs_match import Index, Matched, match
from mfd_cli.contig.data.plink import PlinkFile, Variants, open_plink, write_plink
from mfd_cli.contig.modalities.pgs import scores_of

COLUMNS = "rsID\tchr_name\tchr_position\teffect_allele\tother_allele\teffect_weight"
VARIANTS = [  # name, chromosome, position, effect, other
    ("rs1", "1", 100, "A", "G"), ("rs2", "1", 200, "C", "T"), ("rs3", "2", 300, "A", "T"), ("rs4", "3", 400, "G", "C"),
    ("rs5", "X", 500, "A", "G"), ("rs6", "4", 600, "A", "G"), ("rs6", "4", 600, "C", "G"),
]  # fmt: skip


def variants() -> Variants:
    name, chromosome, position, effect, other = zip(*VARIANTS)
    return Variants(chromosome, name, np.array(position, np.int64), effect, other)


def score_file(folder: Path, rows: Sequence[str], columns: str = COLUMNS, header: str = "#pgs_id=PGS1\n") -> Path:
    path = folder / "PGS1.txt"
    path.write_text(f"###PGS CATALOG SCORING FILE\n{header}{columns}\n" + "".join(f"{row}\n" for row in rows))
    return path


def matched(
    folder: Path, rows: Sequence[str], rule: str = "drop", assembly: str | None = None, **about: str
) -> Matched:
    score = read_score(score_file(folder, rows, **about), assembly)
    autosomes = np.array([row[1] != "X" for row in VARIANTS])
    frequency = np.array([0.3, 0.3, 0.2, 0.45, 0.3, 0.3, 0.3])
    return match(score, Index(variants(), autosomes), rule, frequency)


def test_a_file_is_read_as_it_is_written(tmp_path: Path) -> None:
    path = score_file(tmp_path, ["rs1\t1\t100\ta\tG\t0.5", "rs2\t1\t200\tT\t\t-1e-2"])
    score = read_score(path)
    assert (score.name, score.by_position, score.keys) == ("PGS1", False, ("rs1", "rs2"))
    assert score.effect_allele == ("A", "T") and score.other_allele == ("G", "")
    assert score.terms.tolist() == [[0, 0.5, 1], [0, -0.01, -0.02]]
    packed = tmp_path / "packed.txt.gz"
    packed.write_bytes(gzip.compress(path.read_bytes().replace(b"\n", b"\r\n").replace(b"#pgs_id=PGS1\r\n", b"")))
    again = read_score(packed)
    assert again.name == "packed" and again.keys == score.keys and np.array_equal(again.terms, score.terms)


def test_dominant_recessive_and_per_dosage_weights(tmp_path: Path) -> None:
    columns = f"{COLUMNS}\tis_dominant\tis_recessive"
    rows = [
        "rs1\t1\t100\tA\tG\t2\tTrue\tFalse", "rs2\t1\t200\tC\tT\t2\tFalse\tTrue", "rs4\t3\t400\tG\tC\t2\tFalse\tFalse",
    ]  # fmt: skip
    assert read_score(score_file(tmp_path, rows, columns)).terms.tolist() == [[0, 2, 2], [0, 0, 2], [0, 2, 4]]
    columns = "rsID\teffect_allele\tother_allele\tdosage_0_weight\tdosage_1_weight\tdosage_2_weight"
    assert read_score(score_file(tmp_path, ["rs1\tA\tG\t1\t0\t5"], columns)).terms.tolist() == [[1, 0, 5]]


def test_the_build_says_whether_positions_or_names_are_compared(tmp_path: Path) -> None:
    columns = f"{COLUMNS}\thm_rsID\thm_chr\thm_pos"
    header = "#genome_build=GRCh37\n#HmPOS_build=GRCh38\n"
    path = score_file(tmp_path, ["rs1\tchr1\t100\tA\tG\t1\trs11\t1\t111"], columns, header)
    assert read_score(path, "hg38").keys == (("1", 111),)
    assert read_score(path, "GRCh37").keys == (("1", 100),)
    assert read_score(path, "T2T").keys == read_score(path).keys == ("rs11",)
    assert (
        same_assembly("GRCh38.p14", "hg38") and not same_assembly("GRCh37", "GRCh38") and not same_assembly(None, None)
    )
    unknown = score_file(tmp_path, ["1\t100\tA\t1"], "chr_name\tchr_position\teffect_allele\teffect_weight", header)
    with pytest.raises(
        InputError, match=r"PGS1\.txt:4: has no rsID, and its positions \(HmPOS_build=GRCh38, genome_build"
    ):
        read_score(unknown)


def test_alleles_are_matched_on_either_strand(tmp_path: Path) -> None:
    """A1 of rs1 is A, of rs2 C: as written, the other allele, the other strand, both, and alleles that do not fit."""
    one = matched(tmp_path, ["rs1\t1\t1\tA\tG\t1", "rs2\t1\t1\tT\tC\t1"])
    assert one.rows.tolist() == [0, 1] and one.terms.tolist() == [[0, 1, 2], [2, 1, 0]] and one.flipped == 0
    two = matched(tmp_path, ["rs1\t1\t1\tT\tC\t1", "rs2\t1\t1\tA\tG\t1"])
    assert two.rows.tolist() == [0, 1] and two.terms.tolist() == [[0, 1, 2], [2, 1, 0]] and two.flipped == 2
    none = matched(tmp_path, ["rs1\t1\t1\tA\tC\t3", "rs9\t1\t1\tA\tG\t1", "rs5\tX\t1\tA\tG\t1"])
    assert not len(none.rows) and none.weight_matched == 0
    part = matched(tmp_path, ["rs1\t1\t1\tA\tG\t3", "rs9\t1\t1\tA\tG\t-1"])
    assert part.share == 0.5 and part.weight_matched == pytest.approx(0.75)
    unsaid = matched(tmp_path, ["rs1\t1\t1\tG\t\t1"])
    assert unsaid.terms.tolist() == [[2, 1, 0]]


def test_of_two_variants_of_one_name_that_is_meant_whose_alleles_fit(tmp_path: Path) -> None:
    assert matched(tmp_path, ["rs6\t4\t600\tA\tG\t1"]).rows.tolist() == [5]
    assert matched(tmp_path, ["rs6\t4\t600\tC\tG\t1"], "keep").rows.tolist() == [6]
    again = matched(tmp_path, ["rs1\t1\t1\tA\tG\t1", "rs1\t1\t1\tA\tG\t5"])
    assert again.rows.tolist() == [0] and again.repeated == 1 and again.terms.tolist() == [[0, 1, 2]]


@pytest.mark.parametrize(
    ("rule", "told", "expected"),
    [
        ("drop", "0.2", None), ("keep", "", False), ("frequency", "0.2", False), ("frequency", "0.85", True),
        ("frequency", "0.45", None), ("frequency", "", None),
    ],
)  # fmt: skip
def test_what_both_strands_agree_with_is_settled_by_a_rule(
    rule: str, told: str, expected: bool | None, tmp_path: Path
) -> None:
    """rs3 is A/T, and A has the frequency 0.2 in training persons."""
    columns = f"{COLUMNS}\tallelefrequency_effect"
    found = matched(tmp_path, [f"rs3\t2\t300\tA\tT\t1\t{told}"], rule, columns=columns)
    assert (len(found.rows), found.ambiguous) == ((0, 1) if expected is None else (1, 0))
    if expected is not None:
        assert found.terms.tolist() == [[2, 1, 0] if expected else [0, 1, 2]] and found.flipped == expected
    other = matched(tmp_path, ["rs4\t3\t400\tC\tG\t1\t0.9"], "frequency", columns=columns)
    assert other.ambiguous == 1  # 0.45 of G is too near to one half


BAD = {
    "no weight": (["rs1\t1\t1\tA\tG\tx"], COLUMNS, r"PGS1\.txt:4: effect_weight is 'x', no number"),
    "an infinite weight": (["rs1\t1\t1\tA\tG\tinf"], COLUMNS, "effect_weight is 'inf', no number"),
    "too few cells": (["rs1\t1"], COLUMNS, r":4: has 2 cells where the header has 6"),
    "no column of weights": (["rs1\tA"], "rsID\teffect_allele", r":3: has no column effect_weight"),
    "no effect allele": (["rs1\t1"], "rsID\teffect_weight", r":3: has no column effect_allele"),
    "an empty allele": (["rs1\t1\t1\t\tG\t1"], COLUMNS, r":4: effect_allele is empty"),
    "a haplotype": (["rs1\t1\t1\tA\tG\t1\tTrue"], f"{COLUMNS}\tis_haplotype", r":4: is_haplotype: a term of several"),
    "no rows": ([], COLUMNS, "has a header but no variants"),
    "a column twice": (["1\t2"], "rsID\trsID", r":3: has the columns rsID, rsID"),
}


@pytest.mark.parametrize("name", list(BAD))
def test_a_faulty_file_is_told_with_its_line(name: str, tmp_path: Path) -> None:
    rows, columns, says = BAD[name]
    with pytest.raises(InputError, match=says):
        read_score(score_file(tmp_path, rows, columns))


def test_a_position_that_is_none(tmp_path: Path) -> None:
    path = score_file(tmp_path, ["rs1\t1\t1e6\tA\tG\t1"], header="#genome_build=GRCh38\n")
    with pytest.raises(InputError, match=r"chr_position is '1e6', no position"):
        read_score(path, "GRCh38")
    path = score_file(tmp_path, ["rs1\t\t\tA\tG\t1"], header="#genome_build=GRCh38\n")
    assert read_score(path, "GRCh38").keys == (("", 0),)  # what could not be lifted over


# -- computed ------------------------------------------------------------------------------------------------------------


def genotypes(folder: Path, persons: int = 90, missing: float = 0.1) -> tuple[PlinkFile, np.ndarray]:
    rng = np.random.default_rng(3)
    calls = rng.binomial(2, 0.3, (40, persons)).astype(np.int8)
    calls[rng.random(calls.shape) < missing] = -1
    pairs = [("A", "G"), ("C", "T"), ("G", "T"), ("A", "C")]
    effect, other = zip(*(pairs[number % 4] for number in range(40)))
    those = Variants(
        tuple(str(1 + number // 2) for number in range(40)), tuple(f"rs{number}" for number in range(40)),
        np.arange(1, 41, dtype=np.int64) * 1000, effect, other,
    )  # fmt: skip
    ids = [f"P{number}" for number in range(persons)]
    write_plink(folder / "g.bed", ids, ids, those, calls)
    return open_plink(folder / "g.bed"), calls.astype(float)


def test_a_score_by_hand_with_missing_calls(tmp_path: Path) -> None:
    """Additive, recessive and turned terms; a missing call is the mean of training persons of what it would add."""
    file, calls = genotypes(tmp_path, 30)
    terms = np.array([[0, 0.5, 1.0], [0, 0, 2.0], [2, 1.0, 0]])
    rows, training = np.array([7, 3, 30]), np.arange(0, 20)
    found = scores_of(file, [Matched(rows, terms, 3, 0, 0, 0, 1.0)], training)[:, 0]
    expected = np.zeros(30)
    for row, term in zip(rows, terms):
        value = np.where(calls[row] < 0, np.nan, term[calls[row].astype(int)])
        expected += np.where(np.isnan(value), np.nanmean(value[:20]), value)
    assert (calls[rows] < 0).any() and np.allclose(found, expected, atol=1e-12)


@pytest.mark.skipif(shutil.which("plink2") is None, reason="plink2 is not there")
def test_scores_are_those_of_plink2(tmp_path: Path) -> None:
    """With 10 % of the calls missing, effect alleles of both kinds; plink2 takes frequencies of everybody."""
    file, _ = genotypes(tmp_path)
    rng = np.random.default_rng(5)
    weights = rng.normal(size=40)
    alleles = [
        (file.variants.effect_allele, file.variants.other_allele)[int(number)][row]
        for row, number in enumerate(rng.integers(0, 2, 40))
    ]
    lines = [f"rs{row}\t{allele}\t{weight:.17g}\n" for row, (allele, weight) in enumerate(zip(alleles, weights))]
    (tmp_path / "weights").write_text("".join(lines))
    catalog = score_file(tmp_path, [line.strip() for line in lines], "rsID\teffect_allele\teffect_weight")
    subprocess.run(
        ["plink2", "--bfile", "g", "--score", "weights", "1", "2", "3", "cols=+scoresums", "--out", "theirs"],
        cwd=tmp_path, check=True, capture_output=True,
    )  # fmt: skip
    header, *rows = [line.split() for line in (tmp_path / "theirs.sscore").read_text().splitlines()]
    theirs = np.array([float(row[header.index("SCORE1_SUM")]) for row in rows])
    one = match(read_score(catalog), Index(file.variants, np.ones(40, bool)), "drop", np.zeros(40))
    assert len(one.rows) == 40
    ours = scores_of(file, [one], np.arange(len(file.persons)))[:, 0]
    assert np.allclose(ours, theirs, atol=1e-5, rtol=1e-5)  # plink2 prints six digits
