"""Genetic components are of independent, frequent, autosomal variants with enough calls."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from kit.genetic_world import linked_dosages, variants_of
from mfd_cli.base.errors import InputError
from mfd_cli.contig.data.plink import Variants, open_plink, write_plink
from mfd_cli.contig.gwas.ancestry import genetic_pcs, independent_variants
from mfd_cli.contig.gwas.chromosomes import autosomal, codes_of, number_of


@pytest.mark.parametrize(
    ("name", "number"),
    [("1", 1), ("chr22", 22), ("CHR7", 7), ("X", 23), ("chrY", 24), ("MT", 25), ("chrM", 25), ("23", 23), ("24", 24),
     ("25", 23), ("26", 25), ("XY", 23), ("PAR1", 23), ("0", None), ("27", None), ("chrUn_1", None), ("², ", None),
     ("01", 1), ("", None)],
)  # fmt: skip
def test_chromosomes_have_the_number_of_the_format(name: str, number: int | None) -> None:
    assert number_of(name) == number


def test_chromosomes_are_drawn_in_their_order() -> None:
    assert codes_of(["10", "HLA", "2", "X", "10"]).tolist() == [1, 3, 0, 2, 1]
    assert autosomal(["10", "HLA", "2", "X", "10", "25"]).tolist() == [0, 2, 4]


def test_which_variants_are_chosen(tmp_path: Path) -> None:
    """The first of five independent ones is rare, the second on X, the third has few calls, the last repeats the fourth."""
    rng = np.random.default_rng(1)
    dosages = linked_dosages(600, 5, rng, per_block=1)
    dosages[0] = rng.random(600) < 0.04
    dosages[2, :100] = -1
    dosages[4] = dosages[3]
    made = variants_of(5)
    variants = Variants(
        ("1", "X", "1", "1", "1"), made.name, made.position, made.effect_allele, made.other_allele
    )  # fmt: skip
    ids = [f"p{number}" for number in range(600)]
    write_plink(tmp_path / "g.bed", ids, ids, variants, dosages)
    genotypes, everyone = open_plink(tmp_path / "g.bed"), np.arange(600)
    assert independent_variants(genotypes, everyone).tolist() == [3]
    assert independent_variants(genotypes, everyone[100:]).tolist() == [2, 3]  # those persons have the calls
    with pytest.raises(
        InputError, match="2 genetic components cannot be made of 1 independent variants and 600 persons"
    ):
        genetic_pcs(genotypes, everyone, everyone, 2, 64)


def test_who_is_tested_changes_no_axis(tmp_path: Path) -> None:
    """A person's components depend on the fitted persons alone, and come in the order that is asked for."""
    rng = np.random.default_rng(2)
    population = np.arange(300) % 2
    frequency = np.clip(0.5 + np.outer(rng.normal(0, 0.1, 500), population - 0.5), 0.05, 0.95)
    ids = [f"p{number}" for number in range(300)]
    write_plink(tmp_path / "g.bed", ids, ids, variants_of(500), rng.binomial(2, frequency).astype(np.int8))
    genotypes, fitted = open_plink(tmp_path / "g.bed"), np.arange(200)
    all_of_them, variants = genetic_pcs(genotypes, np.arange(200, 300), fitted, 2, 64)
    some, _ = genetic_pcs(genotypes, np.arange(250, 300), fitted, 2, 64)
    assert 400 < variants <= 500
    assert np.allclose(np.abs(all_of_them[50:]), np.abs(some), rtol=1e-3, atol=1e-3)
    assert abs(np.corrcoef(all_of_them[:, 0], population[200:])[0, 1]) > 0.9
