"""Alleles of one haplotype: read from genotypes, scored together as one change."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pyarrow.parquet as pq
import pytest

from mfd_cli.base.errors import VariantError
from mfd_cli.dataset.folder import Dataset
from mfd_cli.formats.vcf_reader import Record
from mfd_cli.genome.alleles import Variant
from mfd_cli.runs.folder import Run
from mfd_cli.variants.options import ScoreOptions
from mfd_cli.variants.phasing import Group, carried_by, groups_of, haplotypes_of, neighbours, sample_column
from mfd_cli.variants.score import score_variants

HEADER = "##fileformat=VCFv4.2\n#CHROM\tPOS\tID\tREF\tALT\tQUAL\tFILTER\tINFO\tFORMAT\t"


def record(genotype: str, keys: str = "GT", line: int = 1) -> Record:
    cells = [b"c", b"5", b".", b"A", b"C,G", b".", b".", b".", keys.encode(), genotype.encode()]
    return Record(line, cells, "c", 5, "A", ("C", "G"))


@pytest.mark.parametrize(
    ("genotype", "keys", "expected"),
    [
        ("0|1", "GT", [(0, (2, b""))]),
        ("1|2", "GT", [(0, (1, b"")), (1, (2, b""))]),
        ("0/1", "GT", []),
        ("1/1", "GT", [(0, (1, b"*")), (0, (2, b"*"))]),
        ("1", "GT", [(0, (1, b"*"))]),
        ("./.", "GT", []),
        (".|1", "GT", [(0, (2, b""))]),
        ("0|1:7", "GT:PS", [(0, (2, b"7"))]),
        ("1|1:7", "GT:PS", [(0, (1, b"*")), (0, (2, b"*"))]),
        ("3:0|1", "DP:GT", []),
        ("0|1", "GT:PS", [(0, (2, b""))]),
    ],
)
def test_genotypes(genotype: str, keys: str, expected: list[object]) -> None:
    assert list(haplotypes_of(record(genotype, keys), 9)) == expected


def test_samples() -> None:
    header = b"#CHROM\tPOS\tID\tREF\tALT\tQUAL\tFILTER\tINFO\tFORMAT\tone\ttwo"
    assert sample_column(header, "two", "x") == 10
    for name, message in ((None, "has 2 samples"), ("three", "has no sample 'three'")):
        with pytest.raises(VariantError, match=message):
            sample_column(header, name, "x")
    with pytest.raises(VariantError, match="has no samples"):
        sample_column(header[:38], None, "x")


def test_groups_by_hand() -> None:
    variants = [Variant("c", p, "A", "C") for p in (10, 40, 130, 300, 301)] + [Variant("d", 305, "A", "C")]
    everything = {(1, b""): [0, 1, 2, 3, 4, 5], (2, b""): [0, 3]}
    assert groups_of(variants, everything) == {
        0: Group((0, 1, 2), 1),
        1: Group((0, 1, 2), 1),
        2: Group((0, 1, 2), 1),
        3: Group((3, 4), 1),
        4: Group((3, 4), 1),
    }
    assert neighbours(variants, [5, 3, 4, 0, 1, 2], 50) == {0, 3} and neighbours(variants, [0, 2], 50) == set()
    apart = {(1, b"a"): [0], (1, b"b"): [1]}  # two phase sets are two haplotypes
    assert groups_of(variants, apart) == {}
    overlapping = [Variant("c", 10, "ACG", ""), Variant("c", 11, "C", "T")]
    assert groups_of(overlapping, {(1, b""): [0, 1]}) == {}
    pairs = [(record("1|2", line=7), 0), (record("1|2", line=7), 1)]
    assert carried_by(pairs, 9) == {(1, b""): [0], (2, b""): [1]}


def test_a_homozygous_allele_lies_in_every_phase_set() -> None:
    three = [(record("0|1:7", "GT:PS", 1), 0), (record("1/1", "GT", 2), 0), (record("0|1:9", "GT:PS", 3), 0)]
    assert carried_by(three, 9) == {(2, b"7"): [0, 1], (2, b"9"): [2, 1], (1, b"7"): [1], (1, b"9"): [1]}


def rows(genome: object, positions: list[int]) -> list[tuple[int, str, str]]:
    found = []
    for position in positions:
        ref = genome.bases("chr2", position - 1, position)  # type: ignore[attr-defined]
        found.append((position, ref, "ACGT"["ACGT".index(ref) - 1]))
    return found


def scored(
    run: Run, dataset: Dataset, folder: Path, lines: list[str], **options: object
) -> tuple[dict[str, list[object]], list[str]]:
    (folder / "a.vcf").write_text(HEADER + "S\n" + "".join(lines))
    made = ScoreOptions(folder / "o.vcf", force=True, **options)  # type: ignore[arg-type]
    summary = score_variants(run, dataset.genome, folder / "a.vcf", made)
    return pq.read_table(folder / "o.parquet").to_pydict(), summary.warnings


def test_split_spellings_of_a_substitution_score_as_one(trained: tuple[Run, Dataset], tmp_path: Path) -> None:
    """Three records in cis are the record that holds them all; in trans each is scored alone."""
    run, dataset = trained
    parts = rows(dataset.genome, [5000, 5001, 5004])
    refs = dataset.genome.bases("chr2", 4999, 5004)
    alts = "".join({p: alt for p, _, alt in parts}.get(p, ref) for p, ref in zip(range(5000, 5005), refs))
    whole = f"chr2\t5000\t.\t{refs}\t{alts}\t.\t.\t.\tGT\t0|1\n"
    split = [f"chr2\t{p}\t.\t{ref}\t{alt}\t.\t.\t.\tGT\t0|1\n" for p, ref, alt in parts]
    one, _ = scored(run, dataset, tmp_path, [whole])
    cis, _ = scored(run, dataset, tmp_path, split, phased=True)
    alone, warnings = scored(run, dataset, tmp_path, split)
    for name in ("MFD_MAX_DLOGIT", "MFD_BIO", "MFD_SHARED"):
        assert np.allclose(cis[name], one[name][0], atol=1e-6)
        assert len(set(np.round(alone[name], 7))) == 3
    assert [str(keys).count(",") for keys in cis["phased_with"]] == [1, 1, 1] and cis["haplotype"] == [2, 2, 2]
    assert any("2 alleles have another of their haplotype within a window" in line for line in warnings)
    trans = [line.replace("0|1", gt) for line, gt in zip(split, ("0|1", "1|0", "0/1"))]
    apart, _ = scored(run, dataset, tmp_path, trans, phased=True)
    assert np.allclose(apart["MFD_BIO"], alone["MFD_BIO"], atol=1e-6) and apart["phased_with"] == ["", "", ""]


def test_an_indel_and_a_substitution_in_cis(trained: tuple[Run, Dataset], tmp_path: Path) -> None:
    run, dataset = trained
    genome = dataset.genome
    (position, ref, alt), base = rows(genome, [6000])[0], genome.bases("chr2", 6009, 6010)
    split = [
        f"chr2\t{position}\t.\t{ref}\t{alt}\t.\t.\t.\tGT\t1|0\n",
        f"chr2\t6010\t.\t{base}\t{base}TTAC\t.\t.\t.\tGT\t1|0\n",
    ]
    text = genome.bases("chr2", 5999, 6010)
    whole = f"chr2\t{position}\t.\t{text}\t{alt}{text[1:]}TTAC\t.\t.\t.\tGT\t1|0\n"
    one, _ = scored(run, dataset, tmp_path, [whole])
    cis, _ = scored(run, dataset, tmp_path, split, phased=True)
    assert np.allclose(cis["MFD_MAX_DLOGIT"], one["MFD_MAX_DLOGIT"][0], atol=1e-6)


def test_a_group_that_is_too_long_or_changes_nothing(trained: tuple[Run, Dataset], tmp_path: Path) -> None:
    run, dataset = trained
    base = dataset.genome.bases("chr2", 4999, 5012)
    long = "ACGT" * 25
    lines = [f"chr2\t{5000 + i}\t.\t{base[i]}\t{base[i]}{long}\t.\t.\t.\tGT\t0|1\n" for i in (0, 10)]
    alone, _ = scored(run, dataset, tmp_path, lines)
    kept, _ = scored(run, dataset, tmp_path, lines, phased=True)
    assert kept["MFD_BIO"] == alone["MFD_BIO"] and kept["phased_with"] == ["", ""]
    # A base taken away and the same one put back in the next place: the haplotype is the reference.
    at = next(p for p in range(6000, 7000) if len(set(dataset.genome.bases("chr2", p - 1, p + 2))) == 3)
    text = dataset.genome.bases("chr2", at - 1, at + 2)
    undone = [
        f"chr2\t{at}\t.\t{text[:2]}\t{text[0]}\t.\t.\t.\tGT\t0|1\n",
        f"chr2\t{at + 2}\t.\t{text[2]}\t{text[1]}{text[2]}\t.\t.\t.\tGT\t0|1\n",
    ]
    table, _ = scored(run, dataset, tmp_path, undone, phased=True)
    if table["phased_with"] != ["", ""]:
        assert np.allclose(table["MFD_MAX_DLOGIT"], 0, atol=1e-6)


def test_what_stands_between_is_where_the_file_says(trained: tuple[Run, Dataset], tmp_path: Path) -> None:
    """In a run of A the third one is changed and the last taken away: not the same as the first taken away."""
    run, dataset = trained
    bases = dataset.genome.bases("chr2", 0, 29_000)
    at = bases.index("AAAA", 2000)
    lines = [f"chr2\t{at + 2}\t.\tA\tC\t.\t.\t.\tGT\t0|1\n", f"chr2\t{at + 3}\t.\tAA\tA\t.\t.\t.\tGT\t0|1\n"]
    whole = f"chr2\t{at + 1}\t.\tAAAA\tACA\t.\t.\t.\tGT\t0|1\n"
    one, _ = scored(run, dataset, tmp_path, [whole])
    cis, _ = scored(run, dataset, tmp_path, lines, phased=True)
    assert np.allclose(cis["MFD_MAX_DLOGIT"], one["MFD_MAX_DLOGIT"][0], atol=1e-6)
