"""PLINK files: the calls are those that others read, what is written is read back, and what is wrong is named."""

from __future__ import annotations

import re
import shutil
import subprocess
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from kit.genetic_world import linked_dosages, variants_of
from mfd_cli.base.errors import GenotypeError
from mfd_cli.contig.data.plink import PlinkFile, open_plink, write_plink

PERSONS, COUNT = 13, 9
"""The last byte of a variant holds one person alone."""


@pytest.fixture
def dosages() -> np.ndarray:
    return linked_dosages(PERSONS, COUNT, np.random.default_rng(4), missing=0.2)


@pytest.fixture
def bed(tmp_path: Path, dosages: np.ndarray) -> Path:
    ids = [f"i{number}" for number in range(PERSONS)]
    write_plink(tmp_path / "g.bed", ids, [f"f{number // 2}" for number in range(PERSONS)], variants_of(COUNT), dosages)
    return tmp_path / "g.bed"


def whole(genotypes: PlinkFile, **how: object) -> np.ndarray:
    return np.concatenate([block for _, block in genotypes.blocks(**how)])  # type: ignore[arg-type]


def test_the_bytes_are_those_of_the_format(tmp_path: Path) -> None:
    """By hand: codes 00, 01, 10, 11 are 2, missing, 1, 0 copies of A1, the lowest bits first."""
    write_plink(tmp_path / "g.bed", list("abcde"), list("abcde"), variants_of(1), np.array([[2, -1, 1, 0, 1]], np.int8))
    assert (tmp_path / "g.bed").read_bytes() == bytes([0x6C, 0x1B, 1, 0b11_10_01_00, 0b10])
    assert (tmp_path / "g.bim").read_text() == "1\trs1\t0\t1000000\tA\tC\n"
    assert (tmp_path / "g.fam").read_text().splitlines()[0] == "a\ta\t0\t0\t0\t-9"


def test_what_is_written_is_read(bed: Path, dosages: np.ndarray) -> None:
    read = open_plink(bed)
    assert read.persons[:2] == ("i0", "i1") and read.families[:3] == ("f0", "f0", "f1")
    assert read.names() == read.persons and read.names("fid_iid")[2] == "f1_i2"
    written = variants_of(COUNT)
    for column in ("chromosome", "name", "effect_allele", "other_allele"):
        assert getattr(read.variants, column) == getattr(written, column)
    assert read.variants.position.tolist() == written.position.tolist()
    assert np.array_equal(whole(read), dosages) and whole(read).dtype == np.int8


@given(
    rows=st.lists(st.integers(0, COUNT - 1), min_size=1, max_size=20),
    persons=st.lists(st.integers(0, PERSONS - 1), min_size=1, max_size=20),
)
def test_any_rows_and_persons_in_any_order(
    tmp_path_factory: pytest.TempPathFactory, rows: list[int], persons: list[int]
) -> None:
    made = linked_dosages(PERSONS, COUNT, np.random.default_rng(4), missing=0.2)
    path = tmp_path_factory.getbasetemp() / "any.bed"
    if not path.exists():
        write_plink(path, [f"p{number}" for number in range(PERSONS)], ["0"] * PERSONS, variants_of(COUNT), made)
    chosen, people = np.array(rows), np.array(persons)
    assert np.array_equal(whole(open_plink(path), rows=chosen, persons=people), made[chosen][:, people])


def test_blocks_are_as_small_as_asked(tmp_path: Path) -> None:
    people, count = 200_000, 12
    made = np.random.default_rng(1).integers(-1, 3, (count, people)).astype(np.int8)
    ids = [str(number) for number in range(1, people + 1)]
    write_plink(tmp_path / "g.bed", ids, ids, variants_of(count), (made[row : row + 5] for row in range(0, count, 5)))
    blocks = list(open_plink(tmp_path / "g.bed").blocks(mib=1))
    assert [rows.tolist() for rows, _ in blocks] == [[0, 1, 2, 3, 4], [5, 6, 7, 8, 9], [10, 11]]
    assert np.array_equal(np.concatenate([block for _, block in blocks]), made)


def test_bed_reader_reads_the_same(bed: Path, dosages: np.ndarray) -> None:
    bed_reader = pytest.importorskip("bed_reader")
    with bed_reader.open_bed(bed) as other:  # which counts A1, by default
        values = other.read(dtype="int8", num_threads=1).T
        assert list(other.iid) == list(open_plink(bed).persons)
    values[values == -127] = -1
    assert np.array_equal(values, dosages) and np.array_equal(whole(open_plink(bed)), dosages)


def test_bed_reader_writes_the_same_bytes(bed: Path, dosages: np.ndarray, tmp_path: Path) -> None:
    bed_reader = pytest.importorskip("bed_reader")
    values = np.where(dosages < 0, -127, dosages).astype(np.int8).T
    bed_reader.to_bed(tmp_path / "other.bed", values, num_threads=1)
    assert (tmp_path / "other.bed").read_bytes() == bed.read_bytes()


@pytest.mark.skipif(not shutil.which("plink2"), reason="no plink2")
def test_plink2_reads_the_same(bed: Path, dosages: np.ndarray) -> None:
    stem = str(bed.with_suffix(""))
    (bed.parent / "a1").write_text("".join(f"rs{row + 1}\t{'ACGT'[row % 4]}\n" for row in range(COUNT)))
    subprocess.run(
        [
            "plink2",
            "--bfile",
            stem,
            "--export",
            "A",
            "--export-allele",
            bed.parent / "a1",
            "--out",
            stem,
            "--threads",
            "1",
        ],
        check=True,
        capture_output=True,
    )
    lines = [line.split("\t")[6:] for line in bed.with_suffix(".raw").read_text().splitlines()]
    assert lines[0] == [f"rs{row + 1}_{'ACGT'[row % 4]}" for row in range(COUNT)]
    values = [[-1 if cell == "NA" else int(cell) for cell in line] for line in lines[1:]]
    assert np.array_equal(np.array(values).T, dosages)


@pytest.mark.skipif(not shutil.which("plink2"), reason="no plink2")
def test_the_hint_for_sample_major_files_works(bed: Path, dosages: np.ndarray) -> None:
    by_person = np.array([0b11, 0b10, 0, 0b01], np.uint8)[np.array([0, 1, 2, -1])]
    codes = np.zeros((PERSONS, 4 * 3), np.uint8)
    codes[:, :COUNT] = by_person[dosages.T]
    quarters = codes.reshape(PERSONS, -1, 4)
    packed = sum((quarters[:, :, place] << 2 * place for place in range(4)), np.zeros((PERSONS, 3), np.uint8))
    bed.write_bytes(b"\x6c\x1b\x00" + packed.astype(np.uint8).tobytes())
    with pytest.raises(GenotypeError, match="sample-major") as caught:
        open_plink(bed)
    assert caught.value.hint and caught.value.hint.startswith("plink2 ")
    subprocess.run(caught.value.hint.split(), check=True, capture_output=True)
    assert np.array_equal(whole(open_plink(bed.with_name("g-by-variant.bed"))), dosages)


def edit(path: Path, change: Callable[[str], str]) -> None:
    path.write_text(change(path.read_text()))


HARM: dict[str, tuple[Callable[[Path], None], str]] = {
    "no bed": (lambda bed: bed.unlink(), r"g.bed: no such file"),
    "no bim": (lambda bed: bed.with_suffix(".bim").unlink(), r"g.bim: no such file"),
    "no fam": (lambda bed: bed.with_suffix(".fam").unlink(), r"g.fam: no such file"),
    "another kind": (lambda bed: bed.write_bytes(b"PGEN" * 20), r"g.bed: is no PLINK 1 .bed: it begins with 50 47 45"),
    "a third order": (lambda bed: bed.write_bytes(b"\x6c\x1b\x02" + bytes(36)), r"g.bed: is no PLINK 1 .bed.*6c 1b 02"),
    "cut short": (lambda bed: bed.write_bytes(bed.read_bytes()[:-1]), r"g.bed: has 38 bytes, and 9 variants of 13 .* 39"),
    "too long": (lambda bed: bed.write_bytes(bed.read_bytes() + b"\0"), r"g.bed: has 40 bytes"),
    "a person less": (lambda b: edit(b.with_suffix(".fam"), lambda t: "\n".join(t.split("\n")[:8])), r"g.bed: has 39 bytes"),
    "no persons": (lambda bed: bed.with_suffix(".fam").write_text("\n\n"), r"g.fam: names no person"),
    "no variants": (lambda bed: bed.with_suffix(".bim").write_text(" \n"), r"g.bim: names no variant"),
    "fam columns": (lambda b: edit(b.with_suffix(".fam"), lambda t: t.replace("i3\t0\t0\t0\t-9", "i3")), r"g.fam:4: has 2 col"),
    "nobody": (lambda b: edit(b.with_suffix(".fam"), lambda t: t.replace("i3\t", "0\t")), r"g.fam:4: the individual id is 0"),
    "a person twice": (lambda b: edit(b.with_suffix(".fam"), lambda t: t.replace("i3\t", "i2\t")), r"g.fam:4: .* line 3 again"),
    "bim columns": (lambda b: edit(b.with_suffix(".bim"), lambda t: t.replace("rs2\t0\t", "rs2\t")), r"g.bim:2: has 5 columns"),
    "a position of words": (lambda b: edit(b.with_suffix(".bim"), lambda t: t.replace("1001000", "1e6")), r"g.bim:2:.*'1e6'"),
    "a negative one": (lambda b: edit(b.with_suffix(".bim"), lambda t: t.replace("1001000", "-7")), r"g.bim:2: position.*'-7'"),
    "a huge one": (lambda b: edit(b.with_suffix(".bim"), lambda t: t.replace("1001000", "9" * 10)), r"g.bim:2: position"),
    "other letters": (lambda b: edit(b.with_suffix(".bim"), lambda t: t.replace("C\tG", "C\tQ")), r"g.bim:2: .*'Q'"),
    "equal alleles": (lambda b: edit(b.with_suffix(".bim"), lambda t: t.replace("C\tG", "C\tC")), r"g.bim:2: both alleles"),
    "bytes that are no text": (lambda b: b.with_suffix(".bim").write_bytes(b"1\t\xff\t0\t1\tA\tC\n"), r"g.bim:1: is not UTF-8"),
    "zero bytes": (lambda b: b.with_suffix(".fam").write_bytes(b"a\0b\n"), r"g.fam: is not text, or damaged"),
}  # fmt: skip


@pytest.mark.parametrize("name", HARM)
def test_what_is_wrong_is_named(bed: Path, name: str) -> None:
    harm, message = HARM[name]
    harm(bed)
    with pytest.raises(GenotypeError, match=message) as caught:
        open_plink(bed)
    assert "\n" not in str(caught.value)


def test_another_name_says_what_makes_a_bed(tmp_path: Path) -> None:
    with pytest.raises(GenotypeError, match=re.escape("is no .bed file by its name")) as caught:
        open_plink(tmp_path / "x.vcf.gz")
    assert caught.value.hint and "--make-bed" in caught.value.hint


def test_one_iid_in_two_families_is_said_where_iids_are_names(bed: Path) -> None:
    edit(bed.with_suffix(".fam"), lambda text: text.replace("f1\ti3", "f9\ti2"))
    read = open_plink(bed)
    with pytest.raises(GenotypeError, match="persons 3 and 4 have the same IID") as caught:
        read.names()
    assert "i2" not in str(caught.value) and caught.value.hint and "fid_iid" in caught.value.hint
    assert len(set(read.names("fid_iid"))) == PERSONS


def test_odd_but_right_tables_are_read(bed: Path, dosages: np.ndarray) -> None:
    """Blanks for tabs, five columns, Windows line ends, long and missing alleles, a blank line at the end."""
    edit(
        bed.with_suffix(".fam"), lambda text: text.replace("\t-9", "").replace("\t", "  ").replace("\n", "\r\n") + "\n"
    )
    edit(bed.with_suffix(".bim"), lambda text: text.replace("C\tG", "<INS:ME>\tacgt").replace("A\tC", "0\tC"))
    read = open_plink(bed)
    assert read.variants.effect_allele[:2] == ("0", "<INS:ME>")
    assert np.array_equal(whole(read), dosages)


def test_a_file_that_shrinks_while_it_is_read_is_said(bed: Path) -> None:
    read = open_plink(bed)
    bed.write_bytes(bed.read_bytes()[:-2])
    with pytest.raises(GenotypeError, match="has become shorter"):
        whole(read)


@pytest.mark.parametrize(
    "wrong", [np.full((COUNT, PERSONS), 3), np.full((COUNT, PERSONS), -2), np.zeros((COUNT, 2)), np.zeros((2, PERSONS))]
)
def test_what_fits_nothing_is_not_written(tmp_path: Path, wrong: np.ndarray) -> None:
    ids = [f"p{number}" for number in range(PERSONS)]
    with pytest.raises(ValueError, match="dosage"):
        write_plink(tmp_path / "g.bed", ids, ids, variants_of(COUNT), wrong.astype(np.int8))
    assert not list(tmp_path.iterdir())


def test_ids_with_blanks_are_not_written(tmp_path: Path, dosages: np.ndarray) -> None:
    with pytest.raises(GenotypeError, match="the id of a person is 'a b'"):
        write_plink(tmp_path / "g.bed", ["a b"] * PERSONS, ["0"] * PERSONS, variants_of(COUNT), dosages)
