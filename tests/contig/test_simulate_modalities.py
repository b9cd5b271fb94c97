"""Planted modalities: their truth is as declared, and worlds without them are what they were."""

from __future__ import annotations

import csv
from pathlib import Path

import numpy as np
import pytest

from kit.harm import snapshot
from mfd_cli.base.errors import ConfigError
from mfd_cli.contig.data.pgs_catalog import read_score
from mfd_cli.contig.simulate.fundus import Eyes, drawn
from mfd_cli.contig.simulate.lesions import MOST, spots_of, with_spots
from mfd_cli.contig.simulate.options import KINDS, SIZES, CohortOptions, kinds_of
from mfd_cli.contig.simulate.people import LATENTS, born
from mfd_cli.contig.simulate.rare import CAUSAL_GENES, CLASSES, EXPLAINED, GENES, exome_of
from mfd_cli.contig.simulate.scores import planted_scores
from mfd_cli.contig.simulate.simulate import simulate

EVERYTHING = CohortOptions(modalities=KINDS)


def rows_of(path: Path) -> list[dict[str, str]]:
    with path.open() as file:
        return list(csv.DictReader(file, delimiter="\t"))


def test_three_genes_make_lesions_and_explain_what_they_are_said_to() -> None:
    exome = exome_of(SIZES["small"], EVERYTHING, np.random.default_rng(1))
    assert exome.causal.sum() == CAUSAL_GENES and len(exome.names) == GENES and abs(exome.lesions.var() - 1) < 0.1
    damaging = np.array(exome.classes) != CLASSES[2]
    for gene in range(GENES):
        carrier = (exome.copies[(exome.gene == gene) & damaging] > 0).any(0)
        explained = np.corrcoef(carrier, exome.lesions)[0, 1] ** 2
        assert abs(explained - EXPLAINED) < 0.03 if exome.causal[gene] else explained < 0.003
        silent = (exome.copies[(exome.gene == gene) & ~damaging] > 0).any(0)
        assert not silent.any() or np.corrcoef(silent, exome.lesions)[0, 1] ** 2 < 0.003
    frequency = exome.copies.mean(1) / 2
    assert frequency.max() < 0.015 and frequency.mean() == pytest.approx(0.0055, abs=0.001)
    siblings = exome.copies[:, : 2 * 600].astype(float)
    centred = siblings - siblings.mean(1, keepdims=True)
    alike = (centred[:, ::2] * centred[:, 1::2]).sum() / (centred**2).sum() * 2
    assert abs(alike - 0.5) < 0.1
    nobody = exome_of(SIZES["tiny"], CohortOptions(null=True, modalities=KINDS), np.random.default_rng(1))
    assert not nobody.causal.any() and not nobody.effects.any()


def test_lesions_are_counted_by_their_latent_and_seen() -> None:
    rng = np.random.default_rng(2)
    spots = spots_of(np.repeat([-2.0, 0.0, 1.0], 400), rng)
    count = np.isfinite(spots[..., 0]).sum(1).reshape(3, -1).mean(1)
    expected = np.exp(1 + 0.9 * np.array([-2.0, 0.0, 1.0]))
    assert spots.shape == (2400, MOST, 2) and np.allclose(count, expected, rtol=0.08)
    assert np.nanmax(np.hypot(spots[..., 0], spots[..., 1])) <= 0.85
    dark = np.zeros((2, 32, 32, 3))
    one = np.full((2, MOST, 2), np.nan)
    one[0, 3] = [0.5, -0.25]  # across to the right, up
    seen = with_spots(dark, one)
    row, column = np.unravel_index(seen[0].sum(2).argmax(), (32, 32))
    assert abs(row - 11.5) < 1 and abs(column - 23.5) < 1
    assert not seen[1].any() and seen.max() <= 1
    eyes = Eyes(np.zeros((2, 3)), np.array([False, True]), np.array([0, 0]), one[[0, 0]])
    left, right = drawn(eyes, 32, 0.0, rng)
    assert np.array_equal(left, right[:, ::-1])


def test_scores_know_the_traits_that_they_are_of() -> None:
    people = born(SIZES["small"], CohortOptions(h2=0.49), np.random.default_rng(3))
    scores = planted_scores(people, np.random.default_rng(4))
    assert [score.trait for score in scores[:4]] == [*LATENTS, LATENTS[0]]
    for number, score in enumerate(scores):
        value = score.weights @ people.copies
        r2 = [np.corrcoef(value, latent)[0, 1] ** 2 for latent in people.latents.T]
        own = LATENTS.index(score.trait) if score.trait in LATENTS else None
        assert all(0.1 < r < 0.45 if place == own else r < 0.1 for place, r in enumerate(r2)), (number, r2)


def test_a_world_without_them_is_what_it_was_and_the_snps_of_a_world_with_them(tmp_path: Path) -> None:
    simulate(tmp_path / "snps", size="tiny")
    simulate(tmp_path / "many", size="tiny", options=EVERYTHING)
    one, two = snapshot(tmp_path / "snps"), snapshot(tmp_path / "many")
    same = ("genotypes.bed", "genotypes.bim", "genotypes.fam", "families.tsv", "truth/latents.tsv", "truth/causal.tsv")
    assert all(one[name] == two[name] for name in same)
    assert not any(name.startswith(("scores", "exome", "truth/genes")) for name in one)
    new = {"annotation.txt", "exome.bed", "exome.bim", "exome.fam", "masks.txt", "measurements.tsv", "sets.txt"}
    assert new <= set(two) - set(one) and not new & set(one)
    simulate(tmp_path / "again", size="tiny", options=EVERYTHING)
    assert snapshot(tmp_path / "again") == two
    score = read_score(tmp_path / "many" / "scores" / "PGS900001.txt.gz")
    assert len(score) == 50 and score.name == "PGS900001"


def test_who_is_missing_is_written_down_and_nobody_is_in_no_file(tmp_path: Path) -> None:
    simulate(tmp_path / "p", size="tiny", options=CohortOptions(modalities=KINDS, absent=0.4))
    rows = rows_of(tmp_path / "p" / "truth" / "present.tsv")
    assert len(rows) == 400 and all("yes" in row.values() for row in rows)
    for name, file in (("genotypes", "genotypes.fam"), ("exome", "exome.fam")):
        persons = [line.split()[1] for line in (tmp_path / "p" / file).read_text().splitlines()]
        assert persons == [row["person"] for row in rows if row[name] == "yes"]
    there = [row["person"] for row in rows_of(tmp_path / "p" / "measurements.tsv")]
    assert there == [row["person"] for row in rows if row["measurements"] == "yes"] and abs(len(there) - 240) < 40


def test_which_modalities_a_size_has() -> None:
    assert kinds_of("small") == ("snps",) and kinds_of("medium") == KINDS == EVERYTHING.modalities
    for wrong, says in (((), "none is named"), (("snp",), r"there is no 'snp'; did you mean snps\?")):
        with pytest.raises(ConfigError, match=says):
            CohortOptions(modalities=wrong)
