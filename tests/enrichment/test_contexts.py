"""Trinucleotide changes: the class of a substitution by hand, and areas that compare within one class."""

from __future__ import annotations

import json
from itertools import product
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from kit.harm import in_process
from mfd_cli.base.errors import GenomeError
from mfd_cli.enrichment import statistics as st
from mfd_cli.enrichment.contexts import Contexts, contexts_of
from mfd_cli.enrichment.score_table import Places
from mfd_cli.genome.sequence import Genome

#         0123456789012
BASES = b"TACGTNAGATCGA"
GENOME = Genome({"chr1": np.frombuffer(BASES, np.uint8), "chr2": np.frombuffer(b"CCC", np.uint8)})


def contexts(rows: list[tuple[str, int, str, str]]) -> Contexts:
    """The contexts of variants: contig without chr, 1-based position, alleles."""
    contig, position, ref, alt = zip(*rows)
    names = tuple(dict.fromkeys(contig))
    places = Places(names, np.array([names.index(name) for name in contig]), np.array(position) - 1)
    return contexts_of(places, pa.array(ref), pa.array(alt), GENOME)


def name_of(found: Contexts) -> list[str | None]:
    return [found.names[number] if number >= 0 else None for number in found.number]


def test_changes_are_named_on_the_strand_of_the_pyrimidine() -> None:
    found = contexts(
        [
            ("1", 3, "C", "T"),  # A C G
            ("1", 4, "G", "A"),  # C G T: on the other strand A C G, and C becomes T
            ("1", 2, "a", "c"),  # T A C: on the other strand G T A, and T becomes G
            ("2", 2, "C", "G"),  # C C C
            ("1", 11, "C", "T"),  # T C G
            ("1", 9, "A", "T"),  # G A T: on the other strand A T C, and T becomes A
        ]
    )
    assert name_of(found) == ["A[C>T]G", "A[C>T]G", "G[T>G]A", "C[C>G]C", "T[C>T]G", "A[T>A]C"]
    assert found.without == 0 and list(found.names) == sorted(set(name_of(found)), key=list(found.names).index)


def test_what_is_no_substitution_between_known_bases_has_none() -> None:
    found = contexts(
        [
            ("1", 1, "T", "A"),  # at the end of the contig
            ("1", 13, "A", "C"),  # at its other end
            ("1", 5, "T", "A"),  # beside N
            ("1", 6, "N", "A"),
            ("1", 3, "CG", "C"),
            ("1", 3, "CG", "TA"),  # two bases change
            ("1", 3, "CGT", "CAT"),  # one does, written with its neighbours
            ("9", 3, "C", "T"),  # on a contig that the genome lacks
            ("1", 3, "C", "*"),
        ]
    )
    assert name_of(found) == [None] * 6 + ["A[C>T]G"] + [None] * 2 and found.without == 8


def test_another_assembly_is_noticed() -> None:
    with pytest.raises(GenomeError, match="has C at 1:3, where the scores have REF G") as caught:
        contexts([("1", 4, "G", "A"), ("1", 3, "G", "A")])
    assert caught.value.hint == "the scores are of another assembly"
    with pytest.raises(GenomeError, match="no contig of the scores is in the genome"):
        contexts([("scaffold", 3, "C", "T")])


def test_areas_within_classes_compare_pairs_of_one_class_alone() -> None:
    """By hand: class 0 has one positive (3) above one of two negatives; class 1 ties once; the last two have no class."""
    values = np.array([3.0, 1.0, 4.0, 2.0, 2.0, 9.0, 0.0, 9.0])
    positive = np.array([True, False, False, True, False, True, False, True])
    strata = np.array([0, 0, 0, 1, 1, 2, -1, -1])
    blocks = np.array([0, 0, 1, 1, 2, 2, 3, 3])
    found = st.count_pairs_within(values, positive, strata, blocks, 4)
    assert (found.wins, found.pairs) == (1.5, 3.0)
    # Without block 0 the tie is left; without 1 the pair (3, 1); without 2 two pairs of class 0; block 3 has no pair.
    assert found.left_out.tolist() == pytest.approx([0.5, 1.0, 0.5])
    assert found.area().value == 0.5
    assert np.isnan(st.count_pairs_within(values, positive, np.full(8, -1), blocks, 4).area().value)


def test_areas_within_classes_are_those_of_all_pairs_without_each_block() -> None:
    rng = np.random.default_rng(0)
    n = 300
    strata, blocks, positive = rng.integers(-1, 5, n), rng.integers(0, 8, n), rng.random(n) < 0.4
    values = np.round(rng.normal(size=n) + 0.5 * positive, 1)

    def by_pairs(kept: np.ndarray) -> float:
        won = []
        for stratum in range(5):
            x, y = values[kept & (strata == stratum)], positive[kept & (strata == stratum)]
            won += [(a > b) + 0.5 * (a == b) for a, b in product(x[y], x[~y])]
        return float(np.mean(won))

    found = st.count_pairs_within(values, positive, strata, blocks, 8)
    assert found.area().value == pytest.approx(by_pairs(np.ones(n, bool)))
    assert found.left_out == pytest.approx([by_pairs(blocks != block) for block in range(8)])


def test_a_score_that_knows_the_change_alone_ranks_nothing_within_it(tmp_path: Path) -> None:
    """Positives are more often C>T at CpG, and the score is higher there, whatever the class."""
    rng = np.random.default_rng(1)
    n = 3000
    sequence = np.frombuffer(b"TTACGTTTATGT" * n, np.uint8)  # ACG in the middle of one half, ATG in that of the other
    (tmp_path / "genome.fa").write_bytes(b">chr1\n" + sequence.tobytes() + b"\n")
    positive = rng.random(n) < 0.5
    at_cpg = rng.random(n) < np.where(positive, 0.8, 0.3)
    position = 12 * np.arange(n) + np.where(at_cpg, 4, 10)
    ref, alt = np.where(at_cpg, "C", "T"), np.where(at_cpg, "T", "G")
    ref[0], alt[0] = sequence[position[0] - 1 : position[0] + 1].tobytes().decode(), ref[0]  # a deletion
    score = (rng.normal(size=n) - 1.5 + 3.0 * at_cpg).astype(np.float32)
    columns = {"contig": ["chr1"] * n, "position": position, "ref": ref, "alt": alt, "MFD_BIO": score}
    pq.write_table(pa.table(columns), tmp_path / "scores.parquet")
    rows = [f"1\t{place}\t{a}\t{b}\t{int(one)}\n" for place, a, b, one in zip(position, ref, alt, positive)]
    (tmp_path / "labels.tsv").write_text("chrom\tpos\tref\talt\tlabel\n" + "".join(rows))
    words = ["enrich", "scores.parquet", "--labels", "labels.tsv", "--block-size", "600", "-o", "out"]
    done = in_process([*words, "--fasta", "genome.fa"], tmp_path)
    assert done.code == 0, done.told
    assert "1 variants are no substitution of one base" in done.told
    lines = [line.split("\t") for line in (tmp_path / "out/features.tsv").read_text().splitlines()]
    row = dict(zip(*lines))
    assert float(row["auroc"]) > 0.65 and float(row["auroc_p"]) < 1e-20
    known = np.arange(n) > 0
    pairs = [
        a > b
        for here in (known & at_cpg, known & ~at_cpg)
        for a, b in product(score[here & positive], score[here & ~positive])
    ]
    assert float(row["auroc_within_context"]) == pytest.approx(np.mean(pairs), abs=1e-5)
    assert float(row["auroc_within_context_p"]) > 0.01 and row["auroc_absolute_within_context_q"]
    summary = json.loads((tmp_path / "out/summary.json").read_text())
    assert summary["contexts"] == {"count": 2, "variants_without": 1}
    assert in_process([*words, "--force"], tmp_path).code == 0
    assert "within_context" not in (tmp_path / "out/features.tsv").read_text()
