"""Genotypes of VCF and BCF: the same calls as the .bed, alleles one by one, and what is refused with its line."""

from __future__ import annotations

import shutil
import subprocess
from collections.abc import Sequence
from pathlib import Path

import numpy as np
import pysam
import pytest

from mfd_cli.base.errors import GenotypeError, InputError, VariantError
from mfd_cli.contig.data.plink import open_plink
from mfd_cli.contig.data.vcf_genotypes import open_genotypes, read_vcf

HEAD = """##fileformat=VCFv4.2
##contig=<ID=1>
##contig=<ID=X>
##FORMAT=<ID=GT,Number=1,Type=String,Description="g">
##FORMAT=<ID=DS,Number=A,Type=Float,Description="d">
"""
PERSONS = ("A", "B", "C", "D")


def vcf(folder: Path, rows: Sequence[str], persons: Sequence[str] = PERSONS, name: str = "x.vcf") -> Path:
    columns = [
        "#CHROM",
        "POS",
        "ID",
        "REF",
        "ALT",
        "QUAL",
        "FILTER",
        "INFO",
        *(["FORMAT"] if persons else []),
        *persons,
    ]
    lines = [row.replace(" ", "\t") for row in rows]
    (folder / name).write_text(HEAD + "\t".join(columns) + "\n" + "".join(f"{line}\n" for line in lines))
    return folder / name


def line(calls: str, alt: str = "T", chromosome: str = "1", name: str = "rs1", keys: str = "GT") -> str:
    return f"{chromosome} 100 {name} C {alt} . . . {keys} {calls}"


def dosages(path: Path, field: str = "GT") -> np.ndarray:
    file = read_vcf(path, "DS" if field == "DS" else "GT")
    return np.concatenate([block for _, block in file.blocks()])


def test_calls_by_hand(tmp_path: Path) -> None:
    """Copies of ALT; phase does not matter, half a call is missing, and further fields are passed over."""
    path = vcf(tmp_path, [line("0/0 0|1 1/1 ./."), line("1|0 ./1 . 0/0"), line("0/1:9 1/1:8 ./.:. 0/0", keys="GT:GQ")])
    assert dosages(path).tolist() == [[0, 1, 2, -1], [1, -1, -1, 0], [1, 2, -1, 0]]
    other = vcf(tmp_path, [line("9:0/1 8:1/1 7 6:0/0", keys="GQ:GT")], name="other.vcf")
    assert dosages(other).tolist() == [[1, 2, -1, 0]]
    file = read_vcf(path)
    assert file.persons == file.names("fid_iid") == PERSONS and file.called
    assert file.variants.effect_allele == ("T",) * 3 and file.variants.other_allele == ("C",) * 3


def test_every_alt_allele_is_a_variant_of_its_own(tmp_path: Path) -> None:
    path = vcf(
        tmp_path, [line("0/1 1/2 2/2 ./2", alt="T,CA", name="."), line("0/0 0/0 0/0 0/0", alt="."), line("0/1 . . .")]
    )
    assert dosages(path).tolist() == [[1, 1, 0, -1], [0, 1, 2, -1], [1, -1, -1, -1]]
    those = read_vcf(path).variants
    assert those.name == ("1:100:C:T", "1:100:C:CA", "rs1") and those.effect_allele == ("T", "CA", "T")


def test_dosages_are_read_where_they_are_asked_for(tmp_path: Path) -> None:
    path = vcf(
        tmp_path,
        [line("0/0:0.2 0/1:1.5 .:. 1/1:2", keys="GT:DS"), line("0/0:0,1 0/0:0.5,0.5 .:. ./.:.,2", "T,G", keys="GT:DS")],
    )
    expected = [[0.2, 1.5, -1, 2], [0, 0.5, -1, -1], [1, 0.5, -1, 2]]
    assert np.allclose(dosages(path, "DS"), expected)
    file = read_vcf(path, "DS")
    assert not file.called
    ((some, block),) = file.blocks(np.array([2, 0]), np.array([3, 1]))
    assert some.tolist() == [2, 0] and np.allclose(block, [[2, 0.5], [2, 1.5]])


def test_a_man_has_one_x_as_plink_counts_it(tmp_path: Path) -> None:
    assert dosages(vcf(tmp_path, [line("0 1 0/1 .", chromosome="X")])).tolist() == [[0, 2, 1, -1]]


def test_packed_files_and_bcf_are_the_same(tmp_path: Path) -> None:
    path = vcf(tmp_path, [line("0/0 0|1 1/1 ./."), line("0/1 1/2 2/2 ./2", alt="T,CA")])
    expected = dosages(path)
    pysam.tabix_compress(str(path), str(tmp_path / "y.vcf.gz"))
    with (
        pysam.VariantFile(str(path)) as source,
        pysam.VariantFile(str(tmp_path / "z.bcf"), "wb", header=source.header) as to,
    ):
        for record in source:
            to.write(record)
    for name in ("y.vcf.gz", "z.bcf"):
        assert np.array_equal(dosages(tmp_path / name), expected)
        assert open_genotypes(tmp_path / name).variants.effect_allele == ("T", "T", "CA")


@pytest.mark.skipif(shutil.which("plink2") is None, reason="plink2 is not there")
def test_plink2_makes_the_same_of_it(tmp_path: Path) -> None:
    rng = np.random.default_rng(1)
    persons = [f"P{number}" for number in range(23)]
    calls = [" ".join(rng.choice(["0/0", "0|1", "1/1", "./."], 23)) for _ in range(30)]
    rows = [line(each, name=f"rs{number}").replace(" 100 ", f" {100 + number} ") for number, each in enumerate(calls)]
    path = vcf(tmp_path, rows, persons)
    command = ["plink2", "--vcf", path.name, "--make-bed", "--out", "theirs"]
    subprocess.run(command, cwd=tmp_path, check=True, capture_output=True)
    theirs, ours = open_plink(tmp_path / "theirs.bed"), read_vcf(path)
    assert theirs.persons == ours.persons and theirs.families == ours.families
    assert theirs.variants.effect_allele == ours.variants.effect_allele
    (_, one), (_, two) = next(theirs.blocks()), next(ours.blocks())
    assert np.array_equal(one, two)


BAD = {
    "one allele": ([line("0 0/1 0/0 1/1")], GenotypeError, r"x\.vcf:7: GT is '0': one allele, on chromosome 1"),
    "three alleles": ([line("0/0/1 0/1 0/0 1/1")], GenotypeError, r":7: GT is '0/0/1', no call of two alleles"),
    "no call": ([line("0/0 x 0/0 1/1")], GenotypeError, r":7: GT is 'x', no call"),
    "an allele that is not there": ([line("0/0 0/2 0/0 1/1")], GenotypeError, r":7: GT is '0/2', and there are 1 ALT"),
    "no GT": ([line("1 2 3 4", keys="GQ")], GenotypeError, r":7: has no GT in FORMAT"),
    "too few columns": ([line("0/0 0/1")], VariantError, r":7: has 11 columns where the #CHROM line has 13"),
    "no variant": ([], GenotypeError, "names no variant"),
}


@pytest.mark.parametrize("name", list(BAD))
def test_a_faulty_file_is_told_with_its_line(name: str, tmp_path: Path) -> None:
    rows, error, says = BAD[name]
    with pytest.raises(error, match=says):
        read_vcf(vcf(tmp_path, rows))


def test_persons_and_dosages_that_are_none(tmp_path: Path) -> None:
    with pytest.raises(GenotypeError, match="has no genotypes"):
        read_vcf(vcf(tmp_path, ["1 100 rs1 C T . . ."], ()))
    with pytest.raises(InputError, match="has 1 persons twice in its header"):
        read_vcf(vcf(tmp_path, [line("0/0 0/0 0/0 0/0")], ("A", "B", "A", "C")))
    for text in ("2.5", "x", "0.1,0.2", "-1"):
        with pytest.raises(GenotypeError, match=r"x\.vcf:7: DS is '.*', not a number from 0 to 2 for each ALT allele"):
            read_vcf(vcf(tmp_path, [line(f"{text} 0 0 0", keys="DS")]), "DS")
