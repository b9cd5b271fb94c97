"""Loci are those of plink1.9 --clump."""

from __future__ import annotations

import shutil
import subprocess
from pathlib import Path

import numpy as np
import pytest

from kit.genetic_world import linked_dosages, variants_of
from mfd_cli.contig.data.plink import Variants, write_plink
from mfd_cli.contig.gwas.chromosomes import codes_of
from mfd_cli.contig.gwas.clump import Clump, clumps, squared_correlations


def clumped(
    p: list[float], dosages: list[list[int]], position: list[int], chromosome: list[int] | None = None, **limits
):
    made = np.array(dosages, np.int8)
    settings = {"p1": 1e-5, "p2": 1e-3, "r2": 0.1, "kb": 150.0, **limits}
    places = np.array(chromosome or [1] * len(p))
    return clumps(np.array(p), places, np.array(position), lambda rows: made[rows], **settings)


ALIKE = [[0, 1, 2, 1, 0, 2]] * 4


def members(found: list[Clump]) -> list[tuple[int, list[int]]]:
    return [(clump.index, clump.members.tolist()) for clump in found]


def test_the_strongest_takes_what_is_near_and_alike() -> None:
    assert members(clumped([4, 9, 3.5, 2], ALIKE, [1, 2, 3, 4])) == [(1, [0, 1, 2])]  # the last one has P > p2


def test_distance_counts_to_the_last_base() -> None:
    assert members(clumped([9, 8, 7, 6], ALIKE, [1000, 151_000, 151_001, 301_001])) == [(0, [0, 1]), (2, [2, 3])]


def test_chromosomes_are_apart() -> None:
    assert members(clumped([9, 8, 7, 6], ALIKE, [1, 2, 3, 4], [1, 2, 1, 2])) == [(0, [0, 2]), (1, [1, 3])]


def test_equal_p_is_settled_by_the_order_of_the_file() -> None:
    assert members(clumped([9, 9, 9, 9], ALIKE, [4, 3, 2, 1])) == [(0, [0, 1, 2, 3])]


def test_what_does_not_correlate_stays_alone() -> None:
    dosages = [[0, 2, 0, 2], [0, 0, 2, 2], [2, 0, 2, 0]]
    assert members(clumped([9, 8, 7], dosages, [1, 2, 3])) == [(0, [0, 2]), (1, [1])]


def test_nothing_is_a_locus_where_nothing_is_known() -> None:
    assert clumped([np.nan, 2, np.nan, 3], ALIKE, [1, 2, 3, 4]) == []


def test_r2_is_of_the_persons_with_both_calls() -> None:
    rng = np.random.default_rng(2)
    dosages = linked_dosages(200, 10, rng, per_block=10, missing=0.1)
    found = squared_correlations(dosages[0], dosages, rows=3)
    for row, other in enumerate(dosages):
        both = (dosages[0] >= 0) & (other >= 0)
        assert found[row] == pytest.approx(np.corrcoef(dosages[0][both], other[both])[0, 1] ** 2, abs=1e-12)
    assert squared_correlations(dosages[0], np.ones((1, 200), np.int8)).tolist() == [0]


@pytest.mark.skipif(not shutil.which("plink1.9"), reason="no plink1.9")
def test_plink_finds_the_same(tmp_path: Path) -> None:
    """Blocks of LD a few hundred kb apart; P are random, half of them small. plink takes r2 from estimated haplotypes, and may
    differ where the two r2 lie on both sides of the threshold: here none does."""
    rng = np.random.default_rng(6)
    count, persons = 300, 1500
    dosages = linked_dosages(persons, count, rng, per_block=6, missing=0.01)
    block = np.arange(count) // 6
    made = variants_of(count)
    position = 1_000_000 + 90_000 * (block % 10) + 20_000 * (np.arange(count) % 6) + np.arange(count)
    order = np.lexsort((position, block // 10))
    variants = Variants(
        tuple(str(1 + number // 10) for number in block), made.name, position, made.effect_allele, made.other_allele
    ).take(order)
    dosages = dosages[order]
    p = np.where(rng.random(count) < 0.5, 10.0 ** -rng.uniform(2, 12, count), rng.random(count))
    ids = [f"p{number}" for number in range(persons)]
    write_plink(tmp_path / "g.bed", ids, ids, variants, dosages)
    rows = "".join(f"{name} {value!r}\n" for name, value in zip(variants.name, p.tolist()))
    (tmp_path / "p").write_text("SNP P\n" + rows)
    command = (
        "plink1.9 --bfile g --clump p --clump-p1 1e-5 --clump-p2 1e-3 --clump-r2 0.1 --clump-kb 150 --allow-no-sex "
        "--threads 1 --out o"
    )
    subprocess.run(command.split(), cwd=tmp_path, check=True, capture_output=True)
    theirs = {}
    for line in (tmp_path / "o.clumped").read_text().splitlines()[1:]:
        if cells := line.split():
            others = [] if cells[-1] == "NONE" else [name.partition("(")[0] for name in cells[-1].split(",")]
            theirs[cells[2]] = {cells[2], *others}
    found = clumps(
        -np.log10(p),
        codes_of(variants.chromosome),
        variants.position,
        lambda rows: dosages[rows],
        p1=1e-5,
        p2=1e-3,
        r2=0.1,
        kb=150,
    )
    assert len(found) > 40 and sum(len(clump.members) > 1 for clump in found) > 20
    ours = {variants.name[clump.index]: {variants.name[row] for row in clump.members} for clump in found}
    assert list(ours) == list(theirs)
    assert ours == theirs
